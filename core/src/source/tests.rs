use super::*;

#[test]
fn source_ids_read_back() {
    for kind in SourceKind::ALL {
        let id = SourceId::new(kind, "flux-system", "podinfo");
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    assert_eq!("ocirepository/a/b".parse(), Ok(SourceId::new(SourceKind::OciRepository, "a", "b")));
    for bad in ["", "a/b", "Deployment/a/b", "Bucket//b", "Bucket/a/", "Bucket/a/b/c"] {
        assert!(bad.parse::<SourceId>().is_err(), "{bad}");
    }
}

#[test]
fn addresses_fit_their_kind_and_hold_no_password() {
    use Scheme::{File, Http, Https, Oci, Ssh};
    let git = [Http, Https, Ssh, File];
    for (text, allowed, expected) in [
        ("https://github.com/x/y", &git[..], Ok(Https)),
        ("ssh://git@github.com/x/y", &git, Ok(Ssh)),
        ("file:///srv/git/x", &git, Ok(File)),
        ("oci://ghcr.io/x/y", &[Oci], Ok(Oci)),
        (
            "git@github.com:x/y",
            &git,
            Err("'git@github.com:x/y' must begin with one of http://, https://, ssh://, file://"),
        ),
        ("oci://ghcr.io/x", &[Https], Err("'oci://ghcr.io/x' must begin with one of https://")),
        ("https://", &git, Err("'https://' names no host")),
        (
            "https://me:secret@host/x",
            &git,
            Err("the address holds a password; put credentials into a Secret and name it by spec.secretRef"),
        ),
        ("ftp://me:secret@host/x", &[Https], Err("'…@host/x' must begin with one of https://")),
    ] {
        let got = SourceUrl::parse(text, allowed).map(|url| url.scheme()).map_err(|e| e.to_string());
        assert_eq!(got, expected.map_err(str::to_owned), "{text}");
    }
}

#[test]
fn aliases_and_their_paths() {
    let read = |text: &str| text.parse::<AliasPath>().map(|p| (p.alias, p.path));
    assert_eq!(read("@repo/apps/**"), Ok(("repo".into(), "apps/**".into())));
    assert_eq!(read("@a_b-c/"), Ok(("a_b-c".into(), String::new())));
    for bad in ["repo/x", "@repo", "@-x/y", "@X/y", "@/y"] {
        assert!(read(bad).is_err(), "{bad}");
    }
}
