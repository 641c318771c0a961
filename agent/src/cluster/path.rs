//! Paths of requests. Names, namespaces and selectors come from repositories and from the cluster: each is encoded, so that
//! it cannot end the path, begin a query or name another object.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::request::Failure;

/// All but what RFC 3986 calls unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A text as a part of a path or a query.
pub(crate) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// A name or a namespace as a segment of a path.
///
/// # Errors
/// For what the API server takes for no kind as a name (`path.IsValidPathSegmentName`): it decodes a path before it looks
/// at it, so an encoded slash would lead to another object.
pub(crate) fn segment(name: &str) -> Result<String, Failure> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '%']) {
        return Err(Failure::Name(name.to_owned()));
    }
    Ok(encoded(name))
}

/// The query for the objects of which a field has this value.
pub(crate) fn field_is(field: &str, value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        // As the syntax of field selectors has it.
        if [',', '=', '\\'].contains(&c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    format!("fieldSelector={}", encoded(&format!("{field}={escaped}")))
}

/// The query for the objects that a label selector chooses.
pub(crate) fn labels(selector: &str) -> String {
    format!("labelSelector={}", encoded(selector))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_a_name() {
        for (name, expected) in [
            ("web-1.example_x~", "web-1.example_x~"),
            ("admin?case17", "admin%3Fcase17"),
            ("view#case17", "view%23case17"),
            ("with space", "with%20space"),
            ("system:a:b@example.com", "system%3Aa%3Ab%40example.com"),
            ("x;y=1&z+", "x%3By%3D1%26z%2B"),
            ("rôle-日", "r%C3%B4le-%E6%97%A5"),
            ("a\\b\n", "a%5Cb%0A"),
            ("...", "..."),
        ] {
            assert_eq!(segment(name).ok().as_deref(), Some(expected), "{name}");
        }
        for name in ["", ".", "..", "a/b", "../secrets/x", "50%", "a%2Fb"] {
            let error = segment(name).unwrap_err().to_string();
            assert!(error.contains(&format!("'{name}' is not a valid name")), "{error}");
        }
    }

    #[test]
    fn a_value_cannot_end_its_selector() {
        for (name, expected) in [
            ("web", "fieldSelector=metadata.name%3Dweb"),
            ("a,metadata.namespace=b", "fieldSelector=metadata.name%3Da%5C%2Cmetadata.namespace%5C%3Db"),
            ("a&limit=1#", "fieldSelector=metadata.name%3Da%26limit%5C%3D1%23"),
            ("a\\", "fieldSelector=metadata.name%3Da%5C%5C"),
        ] {
            assert_eq!(field_is("metadata.name", name), expected);
        }
        assert_eq!(labels("app=web,x/y=z"), "labelSelector=app%3Dweb%2Cx%2Fy%3Dz");
    }
}
