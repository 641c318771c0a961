use std::path::PathBuf;
use std::process::Command;

use super::*;
use crate::image::tests::static_program;

fn origin() -> Origin {
    Origin { version: "0.1.0".to_owned(), revision: "c0ffee".to_owned(), seconds: 1_700_000_000 }
}

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

fn made() -> Files {
    let names = ["flotilla", "flotilla-agent", "flotilla-hub", "helm"];
    let built = Architecture::ALL.map(|architecture| {
        (architecture, names.map(|name| (name.to_owned(), static_program(architecture, name))).to_vec())
    });
    let more = Files::from([("flotilla-0.1.0.cdx.json".to_owned(), b"{}".to_vec())]);
    files(&origin(), &built, &deploy(), "registry.example.com/fleet", more).unwrap()
}

fn entries(archive: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap().map(Result::unwrap);
    let files = entries.filter(|entry| entry.header().entry_type().is_file());
    files.map(|entry| entry.path().unwrap().display().to_string()).collect()
}

fn gunzipped(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(content), &mut out).unwrap();
    out
}

#[test]
fn a_release_has_every_file_once_and_the_same_bytes_again() {
    let made = made();
    let names: Vec<&str> = made.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "flotilla-0.1.0-airgap.tar",
            "flotilla-0.1.0-linux-amd64.tar.gz",
            "flotilla-0.1.0-linux-arm64.tar.gz",
            "flotilla-0.1.0-manifests.tar.gz",
            "flotilla-0.1.0.cdx.json",
            "flotilla-0.1.0.oci.tar",
            "flotilla-agent-0.1.0.oci.tar",
            "flotilla-agent_0.1.0_amd64.deb",
            "flotilla-agent_0.1.0_arm64.deb",
            "flotilla-hub-0.1.0.oci.tar",
            "flotilla-hub-0.1.0.tgz",
            "flotilla-hub_0.1.0_amd64.deb",
            "flotilla-hub_0.1.0_arm64.deb",
            "flotilla_0.1.0_amd64.deb",
            "flotilla_0.1.0_arm64.deb",
        ]
    );
    assert!(made == self::made(), "the same arguments make the same bytes");
    let chart = entries(&gunzipped(&made["flotilla-hub-0.1.0.tgz"]));
    for file in ["Chart.yaml", "values.schema.json", "templates/statefulset.yaml", "monitoring/rules.yaml"] {
        assert!(chart.contains(&format!("flotilla-hub/{file}")), "{chart:?}");
    }
    let manifests = entries(&gunzipped(&made["flotilla-0.1.0-manifests.tar.gz"]));
    assert!(manifests.contains(&"flotilla-0.1.0/agent.yaml".to_owned()), "{manifests:?}");
    assert!(manifests.iter().all(|name| !name.contains("chart")), "{manifests:?}");
    // All of it, and how to tell that it is whole.
    let bundle = entries(&made["flotilla-0.1.0-airgap.tar"]);
    let missing = names[1..]
        .iter()
        .chain(&[SUMS])
        .filter(|name| !bundle.contains(&format!("flotilla-0.1.0-airgap/{name}")));
    assert_eq!(missing.collect::<Vec<_>>(), [&""; 0], "{bundle:?}");
}

#[test]
fn the_sums_are_what_sha256sum_says_and_the_signature_what_openssl_takes() {
    let folder = tempfile::tempdir().unwrap();
    let files = Files::from([("a b".to_owned(), b"1".to_vec()), ("c".to_owned(), Vec::new())]);
    for (name, content) in &files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let sums = sums(&files);
    std::fs::write(folder.path().join(SUMS), &sums).unwrap();
    let run = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).current_dir(folder.path()).output();
        let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run("sha256sum", &["--check", "--strict", SUMS]);

    if Command::new("openssl").arg("version").output().is_err() {
        flotilla_leftout::note("openssl", "install openssl");
        return;
    }
    run("openssl", &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "key"]);
    run("openssl", &["pkey", "-in", "key", "-pubout", "-out", "key.pub"]);
    let signature = sign(&std::fs::read(folder.path().join("key")).unwrap(), &sums).unwrap();
    std::fs::write(folder.path().join(SIGNATURE), STANDARD.decode(signature.trim()).unwrap()).unwrap();
    run("openssl", &["dgst", "-sha256", "-verify", "key.pub", "-signature", SIGNATURE, SUMS]);
    for key in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
        assert!(sign(key.as_bytes(), &sums).is_err(), "{key}");
    }
}
