//! `OCIRepository` objects against a real registry.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Result;
use flotilla_core::source::{OciLayer, OciReference, OciRepository, Scheme, SourceSpec, SourceUrl};
use flotilla_kustomize::files::{Files, TreePath};
use flotilla_source::Reach;
use flotilla_source::flux::{Fetcher, Policy, Secret, Secrets, SourceError, Wanted};

use crate::support::{Front, Gate, Registry, archive};

pub(crate) const LAYER: &str = "application/vnd.cncf.flux.content.v1.tar+gzip";

pub(crate) fn spec(host: &str, repository: &str, reference: OciReference) -> OciRepository {
    OciRepository {
        url: SourceUrl::parse(&format!("oci://{host}/{repository}"), &[Scheme::Oci]).unwrap(),
        reference,
        layer: OciLayer::default(),
        ignore: None,
        insecure: true,
        secret: None,
        cert_secret: None,
        proxy_secret: None,
        verify: false,
    }
}

pub(crate) fn wanted(spec: OciRepository) -> Wanted {
    Wanted {
        spec: SourceSpec::Oci(spec),
        repository: None,
        secrets: Secrets::default(),
        timeout: Duration::from_secs(30),
    }
}

fn policy() -> Policy {
    Policy::new(Reach::Anything)
}

fn names(files: &dyn Files) -> Vec<String> {
    files.list(&TreePath::root()).unwrap().into_iter().map(|(name, _)| name).collect()
}

fn fetch(dir: &Path, wanted: &Wanted) -> Result<(String, Vec<String>), SourceError> {
    let mut fetcher = Fetcher::open(dir.to_owned(), wanted.clone(), &policy())?;
    let fetched = fetcher.fetch(&AtomicBool::new(false))?;
    Ok((fetched.revision, names(&*fetched.files)))
}

#[test]
fn tags_ranges_digests_and_layers() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let registry = Registry::start()?;
    let push = |tag: &str, name: &str| {
        registry.push("team/app", tag, &[(LAYER, &archive(&[(name, "x"), ("logo.png", "x")]))])
    };
    let old = push("1.0.0", "old.yaml")?;
    let new = push("1.4.0", "new.yaml")?;
    push("2.0.0-rc.1", "rc.yaml")?;
    let arm = push("1.9.0-arm", "arm.yaml")?;
    let latest = registry.push(
        "team/app",
        "latest",
        &[
            ("application/other", &archive(&[("first.yaml", "x")])),
            (LAYER, &archive(&[("second.yaml", "x")])),
        ],
    )?;
    let index = format!(
        r#"{{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
            {{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "{old}", "size": 1,
              "platform": {{"os": "linux", "architecture": "arm64"}}}},
            {{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "{new}", "size": 1,
              "platform": {{"os": "linux", "architecture": "amd64"}}}}]}}"#
    );
    let index = registry.manifest("team/app", "multi", "application/vnd.oci.image.index.v1+json", &index)?;
    let tag = |tag: &str| OciReference::Tag(tag.into());
    let range = |range: &str, filter: Option<&str>| OciReference::Semver {
        range: range.into(),
        filter: filter.map(str::to_owned),
    };
    for (n, (reference, layer, revision, files)) in [
        (tag("1.0.0"), None, format!("1.0.0@{old}"), &["old.yaml"][..]),
        (OciReference::Digest(old.clone()), None, old.clone(), &["old.yaml"]),
        (range("1.x", None), None, format!("1.4.0@{new}"), &["new.yaml"]),
        (range(">=1.0.0-0", Some("-arm$")), None, format!("1.9.0-arm@{arm}"), &["arm.yaml"]),
        (tag("latest"), None, format!("latest@{latest}"), &["first.yaml"]),
        (tag("latest"), Some(LAYER), format!("latest@{latest}"), &["second.yaml"]),
        (tag("multi"), None, format!("multi@{index}"), &["new.yaml"]),
    ]
    .into_iter()
    .enumerate()
    {
        let mut source = spec(&registry.host, "team/app", reference);
        source.layer.media_type = layer.map(str::to_owned);
        let (dir, wanted) = (tmp.path().join(n.to_string()), wanted(source));
        let expected: Vec<String> = files.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(fetch(&dir, &wanted)?, (revision.clone(), expected.clone()));
        let last = Fetcher::open(dir, wanted, &policy())?.last();
        assert_eq!(last.map(|last| (last.revision.clone(), names(&*last.files))), Some((revision, expected)));
    }
    let missing = format!("sha256:{}", "0".repeat(64));
    for (reference, layer, reason) in [
        (tag("none"), None, "there is nothing at"),
        (OciReference::Digest(missing), None, "there is nothing at"),
        (range("9.x", None), None, "no tag in the range 9.x"),
        (range("1.x", Some("[")), None, "semverFilter"),
        (tag("1.0.0"), Some("application/none"), "no layer of application/none; it has application/vnd.cncf"),
    ] {
        let mut source = spec(&registry.host, "team/app", reference);
        source.layer.media_type = layer.map(str::to_owned);
        let error = fetch(&tmp.path().join("bad"), &wanted(source)).unwrap_err();
        assert!(error.to_string().contains(reason), "{reason}: {error}");
    }
    let plain = OciRepository { insecure: false, ..spec(&registry.host, "team/app", tag("1.0.0")) };
    assert!(fetch(&tmp.path().join("tls"), &wanted(plain)).is_err(), "https, where the server speaks http");
    let fenced = Policy { reach: Reach::Public(Vec::new()), ..policy() };
    let source = wanted(spec(&registry.host, "team/app", tag("1.0.0")));
    let error = Fetcher::open(tmp.path().join("fenced"), source, &fenced)?.fetch(&AtomicBool::new(false));
    assert!(error.unwrap_err().to_string().contains("--allow-source"));
    Ok(())
}

#[test]
fn a_look_at_what_did_not_change_is_one_request() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let registry = Registry::start()?;
    registry.push("app", "v1", &[(LAYER, &archive(&[("a.yaml", "1")]))])?;
    let front = Front::start(&registry.host, Gate::Open)?;
    let source = wanted(spec(&front.host, "app", OciReference::Tag("v1".into())));
    let mut fetcher = Fetcher::open(tmp.path().join("s"), source.clone(), &policy())?;
    let never = AtomicBool::new(false);
    let first = fetcher.fetch(&never)?;
    assert!(front.requests().len() > 1);
    assert_eq!(fetcher.fetch(&never)?.revision, first.revision);
    assert_eq!(front.requests(), ["HEAD /v2/app/manifests/v1"]);
    drop(fetcher);
    let mut fetcher = Fetcher::open(tmp.path().join("s"), source, &policy())?;
    assert_eq!(fetcher.fetch(&never)?.revision, first.revision);
    assert_eq!(front.requests(), ["HEAD /v2/app/manifests/v1"], "after a restart too");

    registry.push("app", "v1", &[(LAYER, &archive(&[("a.yaml", "2")]))])?;
    let second = fetcher.fetch(&never)?;
    assert_ne!(second.revision, first.revision);
    let path = TreePath::from_root("a.yaml")?;
    assert_eq!((&*first.files.read(&path)?, &*second.files.read(&path)?), (&b"1"[..], &b"2"[..]));
    Ok(())
}

#[test]
fn registries_that_ask_who_asks() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let registry = Registry::start()?;
    registry.push("app", "v1", &[(LAYER, &archive(&[("a.yaml", "1")]))])?;
    for gate in [Gate::Basic, Gate::Token] {
        let front = Front::start(&registry.host, gate)?;
        let config =
            |host: &str, auth: &str| format!("{{\"auths\": {{\"{host}\": {{\"auth\": \"{auth}\"}}}}}}");
        let good = config(&front.host, "am86czNjcmV0");
        for (n, (key, value, said)) in [
            ("", "", Some("asks for credentials")),
            (".dockerconfigjson", &*good, None),
            (".dockerconfigjson", &config(&front.host, "am86d3JvbmcK"), Some("asks for credentials")),
            (
                ".dockerconfigjson",
                &config("other.example", "am86czNjcmV0"),
                Some("no credentials for the registry's host"),
            ),
            (".dockerconfigjson", "{", Some("cannot be read")),
            ("other", "x", Some("has no .dockerconfigjson")),
        ]
        .into_iter()
        .enumerate()
        {
            let mut source = wanted(spec(&front.host, "app", OciReference::Tag("v1".into())));
            if !key.is_empty() {
                let data = [(key.to_owned(), value.as_bytes().to_vec())].into();
                source.secrets.secret = Some(Secret { name: "ns/creds".into(), data });
            }
            let got = fetch(&tmp.path().join(format!("{n}-{}", gate as u8)), &source);
            match (got, said) {
                (Ok((revision, _)), None) => assert!(revision.starts_with("v1@sha256:"), "{revision}"),
                (Err(error), Some(said)) => {
                    assert!(error.to_string().contains(said), "{value}: {error}");
                    assert!(!error.to_string().contains("s3cret"), "{error}");
                }
                (got, said) => panic!("{value}: {got:?}, expected {said:?}"),
            }
        }
    }
    Ok(())
}

#[test]
fn a_proxy_is_asked_in_place_of_the_server() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let registry = Registry::start()?;
    registry.push("app", "v1", &[(LAYER, &archive(&[("a.yaml", "1")]))])?;
    let proxy = Front::start(&registry.host, Gate::Open)?;
    // Nobody but the proxy knows this name.
    let mut source = wanted(spec("registry.invalid", "app", OciReference::Tag("v1".into())));
    assert!(fetch(&tmp.path().join("direct"), &source).is_err());
    let secret = |address: String| {
        Some(Secret { name: "ns/proxy".into(), data: [("address".to_owned(), address.into_bytes())].into() })
    };
    source.secrets.proxy = secret(format!("http://{}", proxy.host));
    assert!(fetch(&tmp.path().join("proxied"), &source)?.0.starts_with("v1@sha256:"));
    let requests = proxy.requests();
    assert!(requests[0].contains("http://registry.invalid/v2/app/manifests/v1"), "{requests:?}");
    // The proxy itself has to be within reach.
    let fenced = Policy { reach: Reach::Public(Vec::new()), ..policy() };
    let error =
        Fetcher::open(tmp.path().join("fenced"), source.clone(), &fenced)?.fetch(&AtomicBool::new(false));
    assert!(error.is_err());
    source.secrets.proxy = secret("socks5://x".into());
    let error = fetch(&tmp.path().join("bad"), &source).unwrap_err().to_string();
    assert!(error.contains("address of the secret ns/proxy cannot be used"), "{error}");
    Ok(())
}
