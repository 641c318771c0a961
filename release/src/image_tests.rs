use std::io::Read;

use flate2::read::GzDecoder;
use serde_json::Value;

use super::*;

/// As little of an ELF program as can be told from others, with something in it.
pub(crate) fn static_program(architecture: Architecture, content: &str) -> Vec<u8> {
    let machine: u16 = if architecture == Architecture::X86_64 { 62 } else { 183 };
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    elf.extend(2u16.to_le_bytes());
    elf.extend(machine.to_le_bytes());
    elf.extend(1u32.to_le_bytes());
    // The entry, where the program headers and the section headers are, the flags; then sizes and numbers of these.
    elf.extend([0; 8 + 8 + 8 + 4]);
    for number in [64u16, 56, 0, 64, 0, 0] {
        elf.extend(number.to_le_bytes());
    }
    elf.extend(content.as_bytes());
    elf
}

fn origin(seconds: u64) -> Origin {
    Origin { version: "0.1.0".to_owned(), revision: "c0ffee".to_owned(), seconds }
}

fn built(architecture: Architecture, content: &str) -> (Architecture, Vec<Program>) {
    let names = ["flotilla", "flotilla-agent", "flotilla-hub", "helm"];
    (architecture, names.map(|name| (name.to_owned(), static_program(architecture, content))).to_vec())
}

fn both(content: &str) -> [(Architecture, Vec<Program>); 2] {
    Architecture::ALL.map(|architecture| built(architecture, content))
}

fn archive(layout: &Layout) -> Vec<u8> {
    layout.write(Vec::new(), "docker.io/library/flotilla-hub:0.1.0", 7).unwrap()
}

/// Follows a descriptor in an archive, and holds the content against what it says.
fn follow(archive: &[u8], descriptor: &Value) -> Vec<u8> {
    let digest_ = descriptor["digest"].as_str().unwrap();
    let content = read(archive, &format!("blobs/{}", digest_.replace(':', "/")));
    assert_eq!(
        (digest(&content).as_str(), content.len() as u64),
        (digest_, descriptor["size"].as_u64().unwrap())
    );
    content
}

fn read(archive: &[u8], path: &str) -> Vec<u8> {
    let mut archive = tar::Archive::new(archive);
    let mut entries = archive.entries().unwrap().map(Result::unwrap);
    let mut entry = entries.find(|entry| entry.path().unwrap().to_str() == Some(path)).expect(path);
    let mut content = Vec::new();
    entry.read_to_end(&mut content).unwrap();
    content
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// Paths of all layers of an image, without folders.
fn files(archive: &[u8], manifest: &Value, config: &Value) -> Vec<String> {
    let mut files = Vec::new();
    for (layer, diff_id) in
        manifest["layers"].as_array().unwrap().iter().zip(config["rootfs"]["diff_ids"].as_array().unwrap())
    {
        let mut tar = Vec::new();
        GzDecoder::new(follow(archive, layer).as_slice()).read_to_end(&mut tar).unwrap();
        assert_eq!(digest(&tar), diff_id.as_str().unwrap());
        let mut tar = tar::Archive::new(tar.as_slice());
        let entries =
            tar.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string());
        files.extend(entries.filter(|path| !path.ends_with('/')));
    }
    files
}

#[test]
fn an_archive_leads_to_every_architecture_and_everything_in_it_has_the_digest_it_is_named_by() {
    for (image, expected) in [
        (Image::Agent, &["usr/local/bin/flotilla-agent"][..]),
        (
            Image::Hub,
            &[
                "etc/group",
                "etc/passwd",
                "etc/ssl/certs/ca-certificates.crt",
                "usr/local/bin/helm",
                "usr/local/bin/flotilla-hub",
            ],
        ),
        (
            Image::Cli,
            &[
                "etc/group",
                "etc/passwd",
                "etc/ssl/certs/ca-certificates.crt",
                "usr/local/bin/helm",
                "usr/local/bin/flotilla",
            ],
        ),
    ] {
        let layout = image.build(&origin(7), &both("")).unwrap();
        let archive = archive(&layout);
        let top = json(&read(&archive, "index.json"));
        assert_eq!(
            top["manifests"][0]["annotations"],
            json!({
                "io.containerd.image.name": "docker.io/library/flotilla-hub:0.1.0",
                "org.opencontainers.image.ref.name": "0.1.0",
            })
        );
        let index = json(&follow(&archive, &top["manifests"][0]));
        let architectures = index["manifests"].as_array().unwrap().iter().map(|descriptor| {
            let manifest = json(&follow(&archive, descriptor));
            let config = json(&follow(&archive, &manifest["config"]));
            assert_eq!(config["architecture"], descriptor["platform"]["architecture"]);
            assert_eq!(config["created"], "1970-01-01T00:00:07Z");
            assert_eq!(config["config"]["User"], "65532:65532");
            assert_eq!(config["config"]["Entrypoint"], json!([format!("/usr/local/bin/{}", image.name())]));
            assert_eq!(files(&archive, &manifest, &config), expected, "{image:?}");
            config["architecture"].as_str().unwrap().to_owned()
        });
        assert_eq!(architectures.collect::<Vec<_>>(), ["amd64", "arm64"]);
    }
}

#[test]
fn the_same_programs_and_commit_make_the_same_bytes_and_others_make_others() {
    let make = |seconds, content| archive(&Image::Hub.build(&origin(seconds), &both(content)).unwrap());
    let (one, again) = (make(7, "a"), make(7, "a"));
    assert!(one == again);
    assert!(one != make(8, "a") && one != make(7, "b"));
}

#[test]
fn a_change_of_the_program_leaves_the_other_layers_as_they_are() {
    let layers = |content| {
        let mut built = built(Architecture::X86_64, "");
        built.1.iter_mut().find(|(name, _)| name == "flotilla-hub").unwrap().1.extend(content);
        let layout = Image::Hub.build(&origin(7), &[built]).unwrap();
        let index = json(layout.blob(layout.digest()).unwrap());
        let manifest = json(layout.blob(index["manifests"][0]["digest"].as_str().unwrap()).unwrap());
        manifest["layers"].as_array().unwrap().clone()
    };
    let (one, other) = (layers(b"1"), layers(b"2"));
    assert_eq!(one[..2], other[..2]);
    assert_ne!(one[2], other[2]);
}

#[test]
fn a_hub_without_helm_has_none_and_one_without_its_program_is_refused() {
    let without = |name: &str| {
        let mut built = built(Architecture::X86_64, "");
        built.1.retain(|(known, _)| known != name);
        Image::Hub.build(&origin(7), &[built])
    };
    let layout = without("helm").unwrap();
    let archive = archive(&layout);
    let index = json(layout.blob(layout.digest()).unwrap());
    let manifest = json(&follow(&archive, &index["manifests"][0]));
    let files = files(&archive, &manifest, &json(&follow(&archive, &manifest["config"])));
    assert!(files.iter().any(|path| path.ends_with("flotilla-hub")), "{files:?}");
    assert!(!files.iter().any(|path| path.ends_with("helm")), "{files:?}");
    let error = without("flotilla-hub").unwrap_err().to_string();
    assert_eq!(error, "there is no program flotilla-hub");
}

#[test]
fn a_program_that_the_image_could_not_run_is_refused_by_name() {
    let mut built = built(Architecture::X86_64, "");
    built.1[3].1 = static_program(Architecture::Aarch64, "");
    let error = format!("{:#}", Image::Hub.build(&origin(7), &[built]).unwrap_err());
    assert_eq!(error, "helm cannot be in an image: it is not for x86_64");
}

#[test]
fn the_roots_are_certificates() {
    let text = roots();
    let found = pem::parse_many(&text).unwrap();
    assert!(found.len() > 50 && found.iter().all(|it| it.tag() == "CERTIFICATE"), "{}", found.len());
}

#[test]
fn the_manifests_of_deploy_run_the_images_as_they_are_named_and_as_their_user() {
    for (image, manifest) in [
        (Image::Agent, include_str!("../../deploy/agent.yaml")),
        (Image::Hub, include_str!("../../deploy/hub.yaml")),
    ] {
        assert!(
            manifest.contains(&format!("image: {}:{}\n", image.name(), env!("CARGO_PKG_VERSION"))),
            "{image:?}"
        );
        assert!(
            manifest.contains("runAsUser: 65532\n") && manifest.contains("runAsGroup: 65532\n"),
            "{image:?}"
        );
    }
}
