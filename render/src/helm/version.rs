//! Which versions of helm have faults that are known and mended. <https://github.com/helm/helm/security/advisories>

use semver::Version;

/// The first versions without CVE-2025-53547 (code run through a linked Chart.lock), CVE-2026-35204 and -35205 (plugins
/// that write anywhere, or are not verified) and CVE-2026-35206 (a chart that writes outside of its folder).
const MENDED: [(u64, Version); 2] = [(3, Version::new(3, 20, 2)), (4, Version::new(4, 1, 4))];

/// What `helm version --template {{.Version}}` says: `v4.1.4`, maybe with build metadata; `v4.3` where it was built from
/// its source.
pub(super) fn read(said: &str) -> Option<Version> {
    let said = said.trim();
    let said = said.strip_prefix('v').unwrap_or(said);
    Version::parse(said).or_else(|_| Version::parse(&format!("{said}.0"))).ok()
}

/// What is wrong with a version, and what to do. `None`: nothing that is known.
pub(super) fn faults(version: &Version) -> Option<String> {
    let mended = MENDED.into_iter().find(|(major, _)| *major == version.major).map(|(_, mended)| mended);
    let known = match mended {
        Some(mended) if *version >= mended => return None,
        None if version.major > 4 => return None,
        Some(mended) => format!("has known vulnerabilities that {mended} mends"),
        None => "is not supported any more".to_owned(),
    };
    let newer: Vec<String> = MENDED.iter().map(|(_, version)| version.to_string()).collect();
    Some(format!("helm {version} {known}; install helm {} or newer", newer.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_with_known_faults_are_told_from_others() {
        for (said, is_safe) in [
            ("v4.1.4", true),
            ("v4.3.0\n", true),
            ("v4.3", true),
            ("v4.1.3", false),
            ("v4.0.0", false),
            ("v4.1.4-rc.1", false),
            ("v3.20.2+gabcdef", true),
            ("3.21.0", true),
            ("v3.20.1", false),
            ("v3.17.4", false),
            ("v2.17.0", false),
            ("v5.0.0", true),
        ] {
            let faults = faults(&read(said).unwrap());
            assert_eq!(faults.is_none(), is_safe, "{said}: {faults:?}");
        }
        for said in ["", "helm", "{{.Version}}", "v4"] {
            assert_eq!(read(said), None, "{said}");
        }
    }
}
