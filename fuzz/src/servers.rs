//! What registries, indexes of charts and buckets answer, through the fetch of a source. The first letter of an input says
//! which one; a part for each answer follows: its status, headers until an empty line, and its body. `@N@` is the SHA-256 of
//! another part's body.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::inputs::{linked, parts};
use crate::server;
use flotilla_core::source::{
    Bucket, HelmChart, HelmRepository, OciLayer, OciReference, OciRepository, ReconcileStrategy, Scheme,
    SourceId, SourceKind, SourceSpec, SourceUrl,
};
use flotilla_kustomize::files::TreePath;
use flotilla_source::Reach;
use flotilla_source::flux::{Fetcher, Policy, Secrets, SourceLimits, Wanted};
use ring::digest::{SHA256, digest};

pub fn run(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    let sum = |part: &[u8]| {
        let sum = digest(&SHA256, body(part));
        let text: String = sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        (text, sum.as_ref().to_vec())
    };
    let answers = linked(parts(rest), sum);
    let asked = AtomicUsize::new(0);
    let address = server::answer(move |_| {
        let number = asked.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
        (head(&answers[number]), body(&answers[number]).to_vec())
    });
    let url = |scheme: &str, allowed| {
        SourceUrl::parse(&format!("{scheme}://{address}/charts"), &[allowed]).expect("an address")
    };
    let helm = |url: SourceUrl| HelmRepository {
        url,
        secret: None,
        cert_secret: None,
        pass_credentials: false,
        insecure: true,
    };
    let chart = || {
        SourceSpec::HelmChart(HelmChart {
            chart: "demo".into(),
            version: ">=1.0.0".into(),
            source: SourceId::new(SourceKind::HelmRepository, "a", "b"),
            reconcile: ReconcileStrategy::ChartVersion,
            values_files: vec!["values.yaml".into()],
            ignore_missing_values_files: true,
            verify: false,
        })
    };
    let registry = |reference| {
        SourceSpec::Oci(OciRepository {
            url: url("oci", Scheme::Oci),
            reference,
            layer: OciLayer::default(),
            ignore: None,
            insecure: true,
            secret: None,
            cert_secret: None,
            proxy_secret: None,
            verify: false,
        })
    };
    let (spec, repository) = match kind {
        b'o' => (registry(OciReference::Tag("latest".into())), None),
        b't' => {
            (registry(OciReference::Semver { range: "*".into(), filter: Some("^v?[0-9.]+$".into()) }), None)
        }
        b'i' => (SourceSpec::HelmRepository(helm(url("http", Scheme::Http))), None),
        b'c' => (chart(), Some(helm(url("http", Scheme::Http)))),
        b'r' => (chart(), Some(helm(url("oci", Scheme::Oci)))),
        _ => {
            let bucket = Bucket {
                bucket: "b".into(),
                endpoint: address.to_string(),
                region: None,
                prefix: None,
                ignore: None,
                insecure: true,
                secret: None,
                cert_secret: None,
                proxy_secret: None,
            };
            (SourceSpec::Bucket(bucket), None)
        }
    };
    let limits = SourceLimits { file_bytes: 1 << 16, bytes: 1 << 20, files: 100 };
    let policy = Policy { limits, ..Policy::new(Reach::Anything) };
    let wanted = Wanted { spec, repository, secrets: Secrets::default(), timeout: Duration::from_secs(5) };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut fetcher = Fetcher::open(dir.path().join("source"), wanted, &policy).expect("a source");
    if let Ok(fetched) = fetcher.fetch(&AtomicBool::new(false)) {
        assert!(fetched.files.list(&TreePath::root()).is_ok(), "what was fetched can be listed");
        assert_eq!(fetcher.last().map(|last| last.revision), Some(fetched.revision));
    }
    assert!(std::fs::read_dir(dir.path()).expect("it is there").count() <= 1, "nothing leaves the folder");
}

fn split(part: &[u8]) -> (&[u8], &[u8]) {
    let end = part.windows(2).position(|window| window == b"\n\n");
    end.map_or((part, &[]), |end| (&part[..end], &part[end + 2..]))
}

fn body(part: &[u8]) -> &[u8] {
    split(part).1
}

fn head(part: &[u8]) -> String {
    let head = String::from_utf8_lossy(split(part).0).into_owned();
    head.lines().map(|line| format!("{line}\r\n")).collect()
}
