//! The bill of materials of what is shipped, as CycloneDX 1.6: every crate that is built into a program, of which version, from where,
//! under which licence, and which uses which. From `cargo metadata` and the checksums of `Cargo.lock`. Pure.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};
use serde_json::{Value, json};

/// The bill for these packages of ours and all that they are built from.
///
/// # Errors
/// Where the metadata is not what cargo writes.
pub(crate) fn bill(metadata: &Value, lock: &str, shipped: &[&str]) -> anyhow::Result<Value> {
    let packages = by_id(&metadata["packages"], "the packages")?;
    let nodes = by_id(&metadata["resolve"]["nodes"], "the resolved packages")?;
    let checksums = checksums(lock);
    let mut roots = Vec::new();
    for name in shipped {
        let found = packages.iter().find(|(_, package)| package["name"] == **name);
        let (id, _) = found.with_context(|| format!("there is no package {name}"))?;
        roots.push(*id);
    }
    let mut uses: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut open = roots.clone();
    while let Some(id) = open.pop() {
        if uses.contains_key(id) {
            continue;
        }
        let node = nodes.get(id).with_context(|| format!("{id} is not resolved"))?;
        let used: BTreeSet<&str> = built_in(node).collect();
        open.extend(used.iter().copied());
        uses.insert(id, used);
    }
    let mut components = Vec::new();
    let mut dependencies = Vec::new();
    for (id, used) in &uses {
        let package = packages.get(id).with_context(|| format!("{id} is not described"))?;
        let reference = reference(package)?;
        let mut component = json!({
            "type": if roots.contains(id) { "application" } else { "library" },
            "bom-ref": reference,
            "name": package["name"],
            "version": package["version"],
            "purl": reference,
        });
        if let Some(licence) = package["license"].as_str() {
            component["licenses"] = json!([{"expression": licence.replace('/', " OR ")}]);
        }
        let key = (text(&package["name"]).to_owned(), text(&package["version"]).to_owned());
        if let Some(checksum) = checksums.get(&key) {
            component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
        }
        components.push(component);
        let used = used.iter().map(|id| packages.get(id).with_context(|| format!("{id} is not described")));
        let used =
            used.map(|package| package.and_then(reference_of)).collect::<anyhow::Result<BTreeSet<_>>>()?;
        dependencies.push(json!({"ref": reference, "dependsOn": used}));
    }
    let version = &packages[roots[0]]["version"];
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {"type": "application", "bom-ref": "flotilla", "name": "flotilla", "version": version},
        },
        "components": components,
        "dependencies": dependencies,
    }))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn by_id<'a>(list: &'a Value, what: &str) -> anyhow::Result<BTreeMap<&'a str, &'a Value>> {
    let list = list.as_array().with_context(|| format!("cargo metadata does not tell {what}"))?;
    Ok(list.iter().map(|entry| (text(&entry["id"]), entry)).collect())
}

/// What is built into a package, or runs while it is built: all but what only its tests use.
fn built_in(node: &Value) -> impl Iterator<Item = &str> {
    let dependencies = node["deps"].as_array().into_iter().flatten();
    let is_built = |dependency: &&Value| {
        dependency["dep_kinds"].as_array().into_iter().flatten().any(|kind| kind["kind"] != "dev")
    };
    dependencies.filter(is_built).map(|dependency| text(&dependency["pkg"]))
}

/// A package URL; packages of ours are in no registry.
fn reference(package: &Value) -> anyhow::Result<String> {
    let (name, version) = (text(&package["name"]), text(&package["version"]));
    if name.is_empty() || version.is_empty() {
        bail!("a package without a name or a version: {package}");
    }
    Ok(format!("pkg:cargo/{name}@{version}"))
}

fn reference_of(package: &&Value) -> anyhow::Result<String> {
    reference(package)
}

/// By name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let field = |package: &str, name: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(&format!("{name} = \"")))?;
        line.strip_suffix('"').map(str::to_owned)
    };
    let packages = lock.split("[[package]]").skip(1);
    let known = packages.filter_map(|package| {
        Some(((field(package, "name")?, field(package, "version")?), field(package, "checksum")?))
    });
    known.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{build, workspace};

    #[test]
    fn the_bill_names_all_that_is_built_in_and_nothing_that_only_tests_use() {
        let metadata = workspace::metadata(true).unwrap();
        let lock = std::fs::read_to_string(workspace::root().join("Cargo.lock")).unwrap();
        let bill = bill(&metadata, &lock, &build::SHIPPED).unwrap();
        let components = bill["components"].as_array().unwrap();
        let component = |name: &str| components.iter().find(|component| component["name"] == name);
        for (name, kind) in
            [("flotilla-hub", "application"), ("flotilla-core", "library"), ("rustls", "library")]
        {
            assert_eq!(component(name).unwrap()["type"], kind, "{name}");
        }
        for name in ["flotilla-tests", "flotilla-release", "proptest", "xtask"] {
            assert!(component(name).is_none(), "{name}");
        }
        let ring = component("ring").unwrap();
        assert_eq!(ring["hashes"][0]["content"].as_str().unwrap().len(), 64, "{ring}");
        assert!(ring["licenses"][0]["expression"].is_string(), "{ring}");

        let references: BTreeSet<&str> = components.iter().map(|it| text(&it["bom-ref"])).collect();
        assert_eq!(references.len(), components.len(), "each has a name of its own");
        let uses = bill["dependencies"].as_array().unwrap();
        assert_eq!(uses.len(), components.len());
        for entry in uses {
            let used = entry["dependsOn"].as_array().unwrap().iter().map(text);
            let unknown: Vec<&str> =
                used.chain([text(&entry["ref"])]).filter(|name| !references.contains(name)).collect();
            assert!(unknown.is_empty(), "{entry}: {unknown:?}");
        }
    }

    #[test]
    fn a_package_that_nobody_describes_is_an_error() {
        let metadata = json!({"packages": [{"id": "a", "name": "a", "version": "1"}],
            "resolve": {"nodes": [{"id": "a", "deps": [{"pkg": "b", "dep_kinds": [{"kind": null}]}]}]}});
        assert!(bill(&metadata, "", &["a"]).unwrap_err().to_string().contains("b is not resolved"));
        assert!(bill(&metadata, "", &["c"]).unwrap_err().to_string().contains("no package c"));
    }
}
