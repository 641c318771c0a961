//! ArtifactGenerators: which files land where.

use std::collections::BTreeMap;
use std::sync::Arc;

use flotilla_core::source::{AliasPath, ArtifactGenerator, CopyRule, CopyStrategy, GeneratedArtifact};
use flotilla_kustomize::files::{Files, Kind, MemoryFiles, TreePath};
use flotilla_render::Artifact;
use flotilla_render::generate::generate;

use crate::world::tree;

fn repo() -> Artifact {
    let files = [
        "apps/base/a.yaml",
        "apps/base/deep/b.yaml",
        "apps/prod/c.yaml",
        "apps/README.md",
        "top.yaml",
        "values.yaml",
    ];
    let files: Vec<(&str, String)> = files.iter().map(|path| (*path, format!("from: {path}\n"))).collect();
    tree(&files, "repo")
}

fn rule(from: &str, to: &str) -> CopyRule {
    CopyRule {
        from: AliasPath { alias: "repo".into(), path: from.into() },
        to: to.into(),
        exclude: Vec::new(),
        strategy: CopyStrategy::Overwrite,
    }
}

fn made(rules: &[CopyRule], inputs: &[(&str, Artifact)]) -> Result<Artifact, String> {
    let artifact = GeneratedArtifact {
        name: "out".into(),
        revision: None,
        origin_revision: Some("repo".into()),
        copy: rules.to_vec(),
    };
    let generator = ArtifactGenerator { inputs: Vec::new(), path_pattern: None, artifacts: vec![artifact] };
    let inputs = inputs.iter().map(|(alias, artifact)| ((*alias).to_owned(), artifact.clone())).collect();
    generate(&generator, &inputs)
        .map(|mut made| made.remove("out").unwrap())
        .map_err(|error| error.to_string())
}

fn below(files: &dyn Files, folder: &TreePath, found: &mut BTreeMap<String, String>) {
    for (name, entry) in files.list(folder).unwrap() {
        let path = folder.join(&name).unwrap();
        assert_eq!(files.entry(&path).unwrap(), Some(entry));
        match entry.kind {
            Kind::Folder => below(files, &path, found),
            _ => {
                let content = files.read(&path).unwrap();
                found.insert(path.as_str().to_owned(), String::from_utf8(content.to_vec()).unwrap());
            }
        }
    }
}

fn paths(rules: &[CopyRule]) -> Result<Vec<String>, String> {
    let artifact = made(rules, &[("repo", repo())])?;
    let mut found = BTreeMap::new();
    below(&*artifact.files, &TreePath::root(), &mut found);
    Ok(found.into_keys().collect())
}

#[test]
fn rules_copy_as_cp_does() {
    for (from, to, expected) in [
        ("apps/**", "", &["README.md", "base/a.yaml", "base/deep/b.yaml", "prod/c.yaml"][..]),
        ("apps/base/**", "base/", &["base/a.yaml", "base/deep/b.yaml"]),
        ("apps/base", "", &["base/a.yaml", "base/deep/b.yaml"]),
        ("apps/base/", "x", &["x/base/a.yaml", "x/base/deep/b.yaml"]),
        ("apps/*/*.yaml", "", &["apps/base/a.yaml", "apps/prod/c.yaml"]),
        ("*.yaml", "all/", &["all/top.yaml", "all/values.yaml"]),
        ("top.yaml", "", &["top.yaml"]),
        ("top.yaml", "x/", &["x/top.yaml"]),
        ("top.yaml", "x/y.yaml", &["x/y.yaml"]),
        ("apps/[bp]*/?.yaml", "", &["apps/base/a.yaml", "apps/prod/c.yaml"]),
    ] {
        assert_eq!(paths(&[rule(from, to)]).unwrap(), expected, "{from} to {to}");
    }
    let twice = [rule("apps/prod/**", "x"), rule("top.yaml", "x")];
    assert_eq!(paths(&twice).unwrap(), ["x/c.yaml", "x/top.yaml"], "a folder that is there takes the file");
}

#[test]
fn what_is_excluded_stays_away() {
    for (exclude, expected) in [
        ("*.md", &["base/a.yaml", "base/deep/b.yaml", "prod/c.yaml"][..]),
        ("apps/base/**", &["README.md", "prod/c.yaml"]),
        ("base/deep", &["README.md", "base/a.yaml", "prod/c.yaml"]),
        ("**/*.yaml", &["README.md"]),
        ("deep", &["README.md", "base/a.yaml", "prod/c.yaml"]),
    ] {
        let rule = CopyRule { exclude: vec![exclude.to_owned()], ..rule("apps/**", "") };
        assert_eq!(paths(&[rule]).unwrap(), expected, "{exclude}");
    }
}

#[test]
fn what_cannot_be_copied_is_named() {
    let excluded = CopyRule { exclude: vec!["*".to_owned()], ..rule("apps/**", "") };
    for (rule, expected) in [
        (rule("nope/**", ""), "artifact out: copying @repo/nope/** to @artifact/: nothing matches"),
        (rule("nope", ""), "artifact out: copying @repo/nope to @artifact/: there is no such file or folder"),
        (
            rule("top.yaml", "../x"),
            "artifact out: copying @repo/top.yaml to @artifact/../x: '../x' leads out of the root of the source",
        ),
        (excluded, "artifact out: copying @repo/apps/** to @artifact/: everything that matches is excluded"),
        (
            CopyRule { strategy: CopyStrategy::Extract, ..rule("top.yaml", "") },
            "artifact out: copying @repo/top.yaml to @artifact/: only an archive can be extracted; this is not a .tar.gz \
             or .tgz file",
        ),
    ] {
        assert_eq!(paths(&[rule]).unwrap_err(), expected);
    }
}

#[test]
fn later_rules_overwrite_or_merge() {
    let over = tree(&[("values.yaml", "from: over\nmore: {a: 1}\n".to_owned())], "over");
    let from_over = |strategy| CopyRule {
        from: AliasPath { alias: "over".into(), path: "values.yaml".into() },
        strategy,
        ..rule("", "values.yaml")
    };
    let base = tree(&[("values.yaml", "from: base\nkept: true\nmore: {b: 2}\n".to_owned())], "base");
    let read = |strategy| {
        let artifact = made(
            &[rule("values.yaml", ""), from_over(strategy)],
            &[("repo", base.clone()), ("over", over.clone())],
        );
        let mut found = BTreeMap::new();
        below(&*artifact.unwrap().files, &TreePath::root(), &mut found);
        flotilla_yaml::parse(&found["values.yaml"]).unwrap()[0].to_json().unwrap()
    };
    assert_eq!(read(CopyStrategy::Overwrite), serde_json::json!({"from": "over", "more": {"a": 1}}));
    assert_eq!(
        read(CopyStrategy::Merge),
        serde_json::json!({"from": "over", "kept": true, "more": {"a": 1, "b": 2}})
    );
}

#[test]
fn content_decides_the_identity_and_the_origin_is_told() {
    let one = made(&[rule("apps/**", "")], &[("repo", repo())]).unwrap();
    let same = made(&[rule("apps", ""), rule("apps/**", "")], &[("repo", repo())]).unwrap();
    let root = |artifact: &Artifact| artifact.files.entry(&TreePath::root()).unwrap().unwrap().id;
    let of = |artifact: &Artifact, path: &str| {
        artifact.files.entry(&TreePath::from_root(path).unwrap()).unwrap().unwrap().id
    };
    assert_eq!(of(&one, "base"), of(&same, "apps/base"));
    assert_ne!(root(&one), root(&same));
    assert_eq!(one.origin_revision.as_deref(), Some("repo@sha1:1"));
    assert!(one.revision.starts_with("latest@blake3:"));
}

/// A tree with archives in it.
fn packed() -> Artifact {
    let pack = |files: &[(&str, &str)]| {
        let mut tar =
            tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    };
    let web = pack(&[("web/a.yaml", "a: 1"), ("web/b.yaml", "b: 1")]);
    let db = pack(&[("./db/a.yaml", "a: 2"), ("web/b.yaml", "b: 2")]);
    let damaged = web[..web.len() / 2].to_vec();
    let files = MemoryFiles::new([
        ("packs/web.tgz", web),
        ("packs/deep/db.TAR.GZ", db),
        ("packs/readme.md", b"x".to_vec()),
        ("bad/damaged.tgz", damaged),
    ]);
    Artifact::new(Arc::new(files), "v1", "packed")
}

#[test]
fn archives_are_taken_apart() {
    let extract = |from: &str, to: &str, exclude: &str| {
        let exclude = exclude.split_whitespace().map(str::to_owned).collect();
        let rule = CopyRule { strategy: CopyStrategy::Extract, exclude, ..rule(from, to) };
        let artifact = made(&[rule], &[("repo", packed())])?;
        let mut found = BTreeMap::new();
        below(&*artifact.files, &TreePath::root(), &mut found);
        Ok::<_, String>(found)
    };
    let all = extract("packs/**", "all", "").unwrap();
    assert_eq!(all.keys().collect::<Vec<_>>(), ["all/db/a.yaml", "all/web/a.yaml", "all/web/b.yaml"]);
    assert_eq!(all["all/web/b.yaml"], "b: 1", "the later one by name");
    assert_eq!(
        extract("packs/*.tgz", "", "").unwrap().into_keys().collect::<Vec<_>>(),
        ["web/a.yaml", "web/b.yaml"]
    );
    assert_eq!(extract("packs/web.tgz", "x/", "").unwrap().len(), 2);
    assert_eq!(extract("packs/**", "", "deep/**").unwrap().len(), 2);
    assert!(extract("packs/web.tgz", "", "*.tgz").unwrap().is_empty());
    for (from, says) in [
        ("packs", "this is a folder"),
        ("packs/readme.md", "this is not a .tar.gz or .tgz file"),
        ("bad/*", "bad/damaged.tgz: the archive cannot be read"),
        ("none/**", "nothing matches"),
    ] {
        let error = extract(from, "", "").unwrap_err();
        assert!(error.contains(says), "{from}: {error}");
    }
}

#[test]
fn a_pattern_makes_an_artifact_for_each_folder() {
    let copy = rule("apps/{env}/**", "{env}/");
    let named = |name: &str| GeneratedArtifact {
        name: name.into(),
        revision: None,
        origin_revision: None,
        copy: vec![copy.clone()],
    };
    let generate = |pattern: &str, name: &str| {
        let generator = ArtifactGenerator {
            inputs: Vec::new(),
            path_pattern: Some(AliasPath { alias: "repo".into(), path: pattern.into() }),
            artifacts: vec![named(name)],
        };
        flotilla_render::generate::generate(&generator, &BTreeMap::from([("repo".to_owned(), repo())]))
    };
    let made = generate("apps/{env}", "app-{env}").unwrap();
    assert_eq!(made.keys().collect::<Vec<_>>(), ["app-base", "app-prod"]);
    let mut found = BTreeMap::new();
    below(&*made["app-prod"].files, &TreePath::root(), &mut found);
    assert_eq!(found.into_keys().collect::<Vec<_>>(), ["prod/c.yaml"]);
    assert!(generate("none/{env}", "app-{env}").unwrap().is_empty());
    let error = generate("apps/{env}", "app").unwrap_err().to_string();
    assert!(error.starts_with("spec.pathPattern: apps/base and apps/prod both"), "{error}");
}
