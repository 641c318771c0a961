//! What reaches helm's argument list and is not ours: parsed where it comes in, so that nothing of it can be a flag, a
//! path or an address.

use std::fmt;
use std::str::FromStr;

use flotilla_core::names::{is_dns_label, is_dns_subdomain};

/// Helm's limit on the name of a release.
const MAX_RELEASE_NAME: usize = 53;
/// No version of Kubernetes, of any distribution, is longer.
const MAX_VERSION: usize = 64;
/// An API server's limit on the name of a kind.
const MAX_KIND: usize = 63;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $is_valid:expr, $wrong:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let is_valid: fn(&str) -> bool = $is_valid;
                if is_valid(text) {
                    return Ok(Self(text.to_owned()));
                }
                // A stranger's text may be of any length.
                Err(InvalidName { name: text.chars().take(100).collect(), wanted: $wrong })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

/// A text that helm is not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{name}' is not {wanted}")]
pub struct InvalidName {
    name: String,
    wanted: &'static str,
}

name! {
    /// The name of a release, as helm itself takes it: a DNS name of at most 53 characters.
    ReleaseName,
    |text| text.len() <= MAX_RELEASE_NAME && is_dns_subdomain(text),
    "a valid release name: use 1 to 53 lower-case letters, digits, '-' and '.', beginning and ending with a letter or \
     digit"
}

name! {
    /// The name of a namespace: a DNS label.
    Namespace,
    is_dns_label,
    "a valid namespace: use 1 to 63 lower-case letters, digits and '-', beginning and ending with a letter or digit"
}

name! {
    /// A version of Kubernetes, as agents report it: `v1.36.3`, `v1.33.4-gke.1172000`, `v1.32.1+k3s1`.
    KubeVersion,
    is_version,
    "a version of Kubernetes such as v1.36.3"
}

name! {
    /// An API that a cluster serves: `apps/v1` or `apps/v1/Deployment`; `v1/Pod` of the core group.
    ApiVersion,
    is_api,
    "an API version such as apps/v1 or apps/v1/Deployment"
}

impl ReleaseName {
    /// As helm-controller shortens a name that it put together itself: the first 40 bytes, and 12 hexadecimal digits
    /// of the SHA-256 of the whole.
    ///
    /// # Errors
    /// Where what comes of it is still no name that helm takes.
    pub fn shortened(name: &str) -> Result<Self, InvalidName> {
        const HASH: usize = 12;
        if name.len() <= MAX_RELEASE_NAME {
            return name.parse();
        }
        // One that is not ASCII is not a name anyway.
        let Some(start) = name.get(..MAX_RELEASE_NAME - HASH - 1) else { return name.parse() };
        let sum = ring::digest::digest(&ring::digest::SHA256, name.as_bytes());
        let hash: String = sum.as_ref()[..HASH / 2].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{start}-{hash}").parse()
    }
}

/// `v`, two or three numbers, and what a distribution adds.
fn is_version(text: &str) -> bool {
    let numbers = text.strip_prefix('v').unwrap_or(text);
    let (numbers, suffix) = numbers.split_at(numbers.find(['-', '+']).unwrap_or(numbers.len()));
    let is_number = |part: &str| (1..=4).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    text.len() <= MAX_VERSION
        && (2..=3).contains(&numbers.split('.').count())
        && numbers.split('.').all(is_number)
        && suffix.bytes().all(|b| b.is_ascii_alphanumeric() || b"-+.".contains(&b))
}

fn is_api(text: &str) -> bool {
    let is_kind = |kind: &str| {
        kind.len() <= MAX_KIND
            && kind.starts_with(|c: char| c.is_ascii_uppercase())
            && kind.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    match text.split('/').collect::<Vec<_>>()[..] {
        [version] => is_dns_label(version),
        [version, kind] if is_kind(kind) => is_dns_label(version),
        [group, version] => is_dns_subdomain(group) && is_dns_label(version),
        [group, version, kind] => is_dns_subdomain(group) && is_dns_label(version) && is_kind(kind),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_cannot_be_anything_else_reach_helm() {
        let long = "x".repeat(54);
        for name in ["web", "web-1", "a.b", "0", &long[1..]] {
            assert!(name.parse::<ReleaseName>().is_ok(), "{name}");
        }
        for name in [
            "",
            "-",
            "--set-file=a=/x",
            "-f",
            "Web",
            "web-",
            "a..b",
            ".",
            "..",
            "../x",
            "a b",
            "a=b",
            "wéb",
            "a\n",
            "http://x",
            &long,
        ] {
            assert!(name.parse::<ReleaseName>().is_err(), "{name}");
            assert!(name.len() == 54 || name.parse::<Namespace>().is_err(), "{name}");
        }
        for version in ["v1.36.3", "1.36", "v1.33.4-gke.1172000", "v1.32.1+k3s1", "v1.30.0-eks-036c24b"] {
            assert!(version.parse::<KubeVersion>().is_ok(), "{version}");
        }
        for version in
            ["", "v", "1", "v1.x", "--debug", "v1.36.3 -f", "v1.36.3=", "v1..2", "v1.2.3.4", "v1.36.3-\n"]
        {
            assert!(version.parse::<KubeVersion>().is_err(), "{version}");
        }
        for api in ["v1", "v1/Pod", "apps/v1", "apps/v1/Deployment", "a.b.example.org/v1beta1/X509Thing"] {
            assert!(api.parse::<ApiVersion>().is_ok(), "{api}");
        }
        for api in
            ["", "/", "--x", "a,b/v1", "apps/v1/", "apps/v1/x y", "\"/v1", "a/b/C/d", "-a/v1", "apps/v1/--f"]
        {
            assert!(api.parse::<ApiVersion>().is_err(), "{api}");
        }
    }

    #[test]
    fn names_that_are_too_long_are_shortened_as_helm_controller_does() {
        // printf %s NAME | sha256sum
        for (name, expected) in [
            ("web", "web"),
            (
                "a-namespace-of-a-team-with-a-long-name-the-release-of-the-application",
                "a-namespace-of-a-team-with-a-long-name-t-99155fefb49e",
            ),
        ] {
            assert_eq!(ReleaseName::shortened(name).unwrap().as_str(), expected);
        }
        assert!(ReleaseName::shortened(&format!("--{}", "a".repeat(60))).is_err());
        assert!(ReleaseName::shortened(&"é".repeat(60)).is_err());
    }
}
