//! A chart's files as helm is given them. Charts that stand in a chart as archives (`charts/*.tgz`) are read like any
//! other.

use std::borrow::Cow;
use std::io::{self, Read};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use tar::{Archive, Builder, EntryType, Header};

use super::lookup::without_lookup;
use super::request::HelmError;
use super::schema;

/// How deep archives may stand in each other.
const DEPTH: u32 = 8;

/// Whether helm takes a file of a chart for a chart of its own. `path` is in the chart, or in an archive.
fn is_chart(path: &str) -> bool {
    let mut parts = path.rsplit('/');
    let (name, folder) = (parts.next().unwrap_or_default(), parts.next());
    folder == Some("charts") && name.ends_with(".tgz") && !name.starts_with(['.', '_'])
}

/// Whether a file holds templates: every file of `templates/` may.
fn is_template(path: &str) -> bool {
    path.contains("templates/")
}

/// A file of a chart: itself, or without what must not be done at the hub, also in archives. `budget` is what the files
/// of archives may come to.
///
/// # Errors
/// Where it cannot be read: what helm made of it nobody could tell.
pub(super) fn given<'a>(content: &'a [u8], path: &str, budget: &mut u64) -> Result<Cow<'a, [u8]>, HelmError> {
    given_at(content, path, path, budget, 0)
}

/// `path` is for people; `name` is in the chart or the archive.
fn given_at<'a>(
    content: &'a [u8],
    path: &str,
    name: &str,
    budget: &mut u64,
    depth: u32,
) -> Result<Cow<'a, [u8]>, HelmError> {
    if is_chart(name) {
        return rewritten(content, path, budget, depth);
    }
    if schema::is_schema(name) {
        return schema::within(content).map_err(|error| HelmError::Chart(format!("{path}: {error}")));
    }
    match std::str::from_utf8(content) {
        Ok(text) if is_template(name) => Ok(match without_lookup(text) {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        }),
        _ => Ok(Cow::Borrowed(content)),
    }
}

/// An archive with its files as helm is given them.
fn rewritten<'a>(
    packed: &'a [u8],
    path: &str,
    budget: &mut u64,
    depth: u32,
) -> Result<Cow<'a, [u8]>, HelmError> {
    if depth == DEPTH {
        return Err(HelmError::Chart(format!("{path}: archives stand in each other more than {DEPTH} deep")));
    }
    let wrong = |error: io::Error| HelmError::Chart(format!("{path}: {error}"));
    let mut out = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut is_other = false;
    // Entries without content take time too.
    let unzipped = MultiGzDecoder::new(packed).take(budget.saturating_mul(2));
    for entry in Archive::new(unzipped).entries().map_err(wrong)? {
        let mut entry = entry.map_err(wrong)?;
        // Helm takes nothing else out of an archive.
        if !matches!(entry.header().entry_type(), EntryType::Regular | EntryType::Continuous) {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mut content = Vec::new();
        (&mut entry).take(budget.saturating_add(1)).read_to_end(&mut content).map_err(wrong)?;
        *budget = budget
            .checked_sub(content.len() as u64)
            .ok_or_else(|| HelmError::Limit("the chart's files are too large".into()))?;
        let said = given_at(&content, &format!("{path}:{name}"), &name, budget, depth + 1)?;
        is_other |= *said != *content;
        let mut header = Header::new_gnu();
        header.set_size(said.len() as u64);
        header.set_mode(0o644);
        out.append_data(&mut header, &name, &*said).map_err(wrong)?;
    }
    if !is_other {
        return Ok(Cow::Borrowed(packed));
    }
    let packed = out.into_inner().and_then(GzEncoder::finish).map_err(wrong)?;
    Ok(Cow::Owned(packed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (path, content) in files {
            let mut header = Header::new_gnu();
            header.set_size(content.len() as u64);
            out.append_data(&mut header, path, *content).unwrap();
        }
        out.into_inner().unwrap().finish().unwrap()
    }

    fn files(packed: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut archive = Archive::new(MultiGzDecoder::new(packed));
        let read = |entry: io::Result<tar::Entry<_>>| {
            let mut entry: tar::Entry<MultiGzDecoder<&[u8]>> = entry.unwrap();
            let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (path, content)
        };
        archive.entries().unwrap().map(read).collect()
    }

    #[test]
    fn archives_of_archives_are_looked_through() {
        let call = &br#"a: {{ lookup "v1" "Secret" "n" "x" }}"#[..];
        let inner = packed(&[("inner/Chart.yaml", b"name: inner"), ("inner/templates/a.yaml", call)]);
        let outer = packed(&[
            ("outer/values.yaml", b"lookup: {{ lookup }}"),
            ("outer/charts/inner-1.0.0.tgz", &inner),
            ("outer/values.schema.json", br#"{"$ref": "http://inside.example.com"}"#),
        ]);
        let mut budget = 1 << 20;
        let read = files(&given(&outer, "charts/outer.tgz", &mut budget).unwrap());
        assert_eq!(read[0], ("outer/values.yaml".into(), b"lookup: {{ lookup }}".to_vec()), "no template");
        assert_eq!(read[2].1, b"{}");
        let inner = files(&read[1].1);
        assert_eq!(inner[1].1, br#"a: {{ fail "v1" "Secret" "n" "x" }}"#);

        let plain = packed(&[("x/templates/a.yaml", b"a: {{ .Values.a }}")]);
        assert_eq!(*given(&plain, "charts/x.tgz", &mut budget).unwrap(), *plain, "nothing to replace");
    }

    #[test]
    fn what_cannot_be_read_or_is_too_large_is_refused() {
        let large = packed(&[("x/templates/a.yaml", &[b'a'; 1000])]);
        assert!(matches!(given(&large, "charts/x.tgz", &mut 999), Err(HelmError::Limit(_))));
        for broken in [&b"no archive"[..], &large[..large.len() / 2]] {
            assert!(matches!(given(broken, "charts/x.tgz", &mut 5000), Err(HelmError::Chart(_))));
        }
        let mut deep = packed(&[("x/templates/a.yaml", b"a")]);
        for _ in 0..DEPTH {
            deep = packed(&[("x/charts/x.tgz", &deep)]);
        }
        assert!(matches!(given(&deep, "charts/x.tgz", &mut (1 << 20)), Err(HelmError::Chart(_))));
    }

    #[test]
    fn only_what_helm_takes_for_a_chart_is_one() {
        for (path, expected) in [
            ("charts/a.tgz", true),
            ("web/charts/a-1.2.tgz", true),
            ("charts/_a.tgz", false),
            ("charts/a.zip", false),
            ("files/a.tgz", false),
            ("charts/a/b.tgz", false),
        ] {
            assert_eq!(is_chart(path), expected, "{path}");
        }
    }
}
