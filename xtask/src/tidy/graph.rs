//! Rules on dependencies, held against what `cargo metadata` says.

use serde_json::Value;

use super::Findings;

/// Which crates of ours a crate may use; `flotilla-` left out of the names. It binds what is shipped:
/// dev-dependencies are free. This is the table of design and ARCHITECTURE.md.
const MAY_USE: [(&str, &[&str]); 23] = [
    ("yaml", &[]),
    ("select", &[]),
    ("archive", &[]),
    ("kustomize", &["select", "yaml"]),
    ("core", &["select", "sops", "yaml"]),
    ("rollout", &["core"]),
    ("helm", &["core", "yaml"]),
    // Signatures of requests to AWS: of the keys that SOPS names, and of buckets.
    ("sigv4", &[]),
    ("sops", &["select", "sigv4", "yaml"]),
    ("render", &["archive", "core", "helm", "kustomize", "rollout", "sops", "yaml"]),
    // A source answers with the file tree that kustomize reads; the index of a Helm repository is YAML.
    ("source", &["archive", "core", "kustomize", "runtime", "select", "sigv4", "yaml"]),
    // People's contract, and that of agents.
    ("api", &["core"]),
    ("proto", &["core"]),
    ("runtime", &[]),
    (
        "hub",
        &[
            "api",
            "core",
            "kustomize",
            "proto",
            "render",
            "rollout",
            "runtime",
            "select",
            "sops",
            "source",
            "yaml",
        ],
    ),
    ("agent", &["core", "helm", "proto", "runtime", "sops", "yaml"]),
    (
        "cli",
        &["api", "core", "kustomize", "render", "rollout", "runtime", "select", "sops", "source", "yaml"],
    ),
    // Never shipped: our build against the real one.
    ("compare", &["core", "kustomize", "leftout", "render", "yaml"]),
    // Never shipped: what fuzzing does with an input.
    ("fuzz", &["core", "kustomize", "render", "select", "sops", "source", "yaml"]),
    ("leftout", &[]),
    // Never shipped: makes images of what is.
    ("release", &[]),
    (
        "tests",
        &[
            "agent",
            "api",
            "cli",
            "compare",
            "core",
            "hub",
            "kustomize",
            "leftout",
            "proto",
            "render",
            "runtime",
            "source",
            "yaml",
        ],
    ),
    ("xtask", &[]),
];

/// Crates that take everything they work on as arguments: no runtime, network, files, environment, clock.
pub(super) const PURE: [&str; 10] =
    ["yaml", "select", "archive", "kustomize", "core", "rollout", "helm", "sigv4", "sops", "render"];

/// What a pure crate never depends on, by the start of the name.
const IMPURE: [&str; 11] =
    ["axum", "gix", "hyper", "k8s-openapi", "kube", "rand", "redb", "reqwest", "rustls", "tokio", "tonic"];

/// Held against ring: one TLS provider, and no C toolchain beyond what ring needs.
const BANNED: [&str; 2] = ["aws-lc-rs", "aws-lc-sys"];

/// Checks the dependency table, purity and banned packages. `metadata` is resolved, of the whole workspace.
pub(super) fn check(metadata: &Value, findings: &mut Findings) {
    let members: Vec<&str> = strings(&metadata["workspace_members"]).collect();
    for package in array(&metadata["packages"]) {
        let (Some(name), Some(id)) = (package["name"].as_str(), package["id"].as_str()) else { continue };
        if members.contains(&id) {
            member(short(name), package, findings);
        }
    }
    for node in array(&metadata["resolve"]["nodes"]) {
        let id = node["id"].as_str().unwrap_or_default();
        for banned in BANNED.iter().filter(|banned| id.contains(&format!("{banned}@"))) {
            findings.errors.push(format!(
                "Cargo.lock: {banned} is in the build; use ring (`cargo tree --invert {banned}` says who brings it)"
            ));
        }
    }
}

fn member(name: &str, package: &Value, findings: &mut Findings) {
    let Some((_, may_use)) = MAY_USE.iter().find(|(known, _)| *known == name) else {
        let why = "is not in the table of who may use whom (MAY_USE in xtask/src/tidy/graph.rs)";
        findings.errors.push(format!("{name}/Cargo.toml: the crate {why}"));
        return;
    };
    for dependency in array(&package["dependencies"]) {
        let (kind, used) = (dependency["kind"].as_str(), dependency["name"].as_str().unwrap_or_default());
        if kind == Some("dev") {
            continue;
        }
        let ours = used == "xtask" || used.starts_with("flotilla-");
        if ours && kind.is_none() && !may_use.contains(&short(used)) {
            findings.errors.push(format!(
                "{name}/Cargo.toml: {name} may not use {used} (it may use: {})",
                if may_use.is_empty() { "nothing of ours".to_owned() } else { may_use.join(", ") }
            ));
        }
        if PURE.contains(&name) && IMPURE.iter().any(|impure| is_of(used, impure)) {
            findings.errors.push(format!("{name}/Cargo.toml: {name} is pure and may not use {used}"));
        }
    }
}

/// Whether a crate is `family` or one of its parts, such as `kube-client` of `kube`.
fn is_of(name: &str, family: &str) -> bool {
    name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

fn short(name: &str) -> &str {
    name.strip_prefix("flotilla-").unwrap_or(name)
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    array(value).filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The errors for one crate with some dependencies, given as (name, kind).
    fn errors(name: &str, dependencies: &[(&str, Option<&str>)]) -> Vec<String> {
        let dependencies: Vec<Value> =
            dependencies.iter().map(|(name, kind)| json!({"name": name, "kind": kind})).collect();
        let metadata = json!({
            "workspace_members": ["ours"],
            "packages": [
                {"name": name, "id": "ours", "dependencies": dependencies},
                {"name": "flotilla-elsewhere", "id": "foreign", "dependencies": []},
            ],
            "resolve": {"nodes": []},
        });
        let mut findings = Findings::default();
        check(&metadata, &mut findings);
        findings.errors
    }

    #[test]
    fn the_table_binds_what_is_shipped() {
        let none: [&str; 0] = [];
        assert_eq!(errors("flotilla-core", &[("flotilla-yaml", None), ("serde", None)]), none);
        assert_eq!(errors("flotilla-core", &[("flotilla-hub", Some("dev"))]), none);
        assert_eq!(
            errors("flotilla-agent", &[("flotilla-hub", None), ("tokio", None)]),
            [
                "agent/Cargo.toml: agent may not use flotilla-hub (it may use: core, helm, proto, runtime, sops, yaml)"
            ]
        );
        assert_eq!(
            errors("flotilla-yaml", &[("flotilla-core", None)]),
            ["yaml/Cargo.toml: yaml may not use flotilla-core (it may use: nothing of ours)"]
        );
    }

    #[test]
    fn a_crate_without_a_place_in_the_table_is_an_error() {
        assert_eq!(errors("flotilla-new", &[]).len(), 1);
    }

    #[test]
    fn pure_crates_stay_pure() {
        for (used, kind, pure) in [
            ("tokio", None, false),
            ("tokio-util", None, false),
            ("kube-client", None, false),
            ("tonic-prost-build", Some("build"), false),
            ("gix", None, false),
            ("tokio", Some("dev"), true),
            ("kubera", None, true),
            ("regex", None, true),
        ] {
            assert_eq!(errors("flotilla-render", &[(used, kind)]).is_empty(), pure, "{used} {kind:?}");
        }
    }

    #[test]
    fn banned_packages_are_found_where_they_are_resolved() {
        let id = "registry+https://index.example#aws-lc-rs@1.13.0";
        let mut findings = Findings::default();
        check(&json!({"resolve": {"nodes": [{"id": id}, {"id": "x#ring@0.17.0"}]}}), &mut findings);
        assert_eq!(findings.errors.len(), 1, "{findings:?}");
        assert!(findings.errors[0].contains("aws-lc-rs is in the build"), "{findings:?}");
    }
}
