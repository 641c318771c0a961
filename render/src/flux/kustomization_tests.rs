use flotilla_core::unit::DriftMode;

use super::*;

fn read(yaml: &str) -> Result<Definition, String> {
    let options = flotilla_yaml::Options { source: 1, ..flotilla_yaml::Options::default() };
    let nodes = flotilla_yaml::parse_with(yaml, &options).unwrap();
    let sources = [TreePath::from_root("apps.yaml").unwrap()];
    let places = Places { sources: &sources, prefix: "" };
    let id = UnitId::kustomization("flux-system", "apps");
    super::read(&id, &nodes[0], &places, &("apps.yaml".to_owned(), 1))
        .map(|(definition, notices)| {
            assert!(notices.is_empty(), "{notices:?}");
            definition
        })
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

const GOOD: &str = "spec:\n  path: ./apps\n  prune: true\n  interval: 10m\n  sourceRef: {kind: GitRepository, \
                        name: flux-system}\n";

#[test]
fn fields_become_the_units_policy() {
    let more = "  wait: true\n  timeout: 1m30s\n  dependsOn: [{name: db}, {name: x, namespace: y}]\n  \
                    deletionPolicy: Orphan\n  targetNamespace: web\n  serviceAccountName: deployer\n";
    let unit = read(&format!("{GOOD}{more}")).unwrap();
    assert_eq!(unit.path.as_str(), "apps");
    assert_eq!(unit.source.to_string(), "GitRepository/flux-system/flux-system");
    assert!(unit.spec.prune && unit.spec.wait && !unit.spec.suspend);
    assert_eq!((unit.spec.interval, unit.spec.timeout), (600, 90));
    let names: Vec<_> = unit.spec.depends_on.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["kustomization/flux-system/db", "kustomization/y/x"]);
    assert_eq!(unit.overlay.get("targetNamespace").and_then(Node::text), Some("web"));
    assert_eq!(unit.service_account.as_deref(), Some("deployer"));
    assert_eq!(read(GOOD).unwrap().spec.timeout, 600);
    let says = |mode: &str| format!("metadata: {{annotations: {{flotilla.dev/drift: {mode}}}}}\n{GOOD}");
    assert_eq!(read(&says("report")).unwrap().drift, Some(DriftMode::Report));
    assert_eq!(read(GOOD).unwrap().drift, None);
    let wrong = read(&says("never")).unwrap_err();
    assert!(wrong.contains("metadata.annotations.flotilla.dev/drift: 'never' is none of correct"), "{wrong}");
    let ignore = "  ignore: [{paths: [/spec/replicas], target: {kind: Deployment}}]\n";
    let rules = read(&format!("{GOOD}{ignore}")).unwrap().spec.ignore;
    assert_eq!(rules[0].paths, ["/spec/replicas"]);
    assert_eq!(rules[0].target.as_ref().unwrap().kind, "Deployment");
}

#[test]
fn a_path_does_not_lead_out_of_the_source() {
    for (path, expected) in [("./a/../b", "b"), ("../x", "x"), ("/../../x/", "x"), ("..", ""), ("", "")] {
        let text = GOOD.replace("path: ./apps", &format!("path: '{path}'"));
        assert_eq!(read(&text).unwrap().path.as_str(), expected, "{path}");
    }
}

#[test]
fn patches_of_older_versions_are_taken_and_those_of_the_newest_are_not() {
    let more = "  patchesStrategicMerge: [{kind: ConfigMap, metadata: {name: a}}]\n  patchesJson6902:\n  - {patch: \
                    [{op: remove, path: /a}], target: {kind: ConfigMap, name: a}}\n";
    for version in ["v1beta1", "v1beta2"] {
        let version = format!("apiVersion: kustomize.toolkit.fluxcd.io/{version}\n");
        let unit = read(&format!("{version}{GOOD}{more}")).unwrap();
        let overlay = overlay::of(&unit.overlay);
        let merge = [r#"{"kind":"ConfigMap","metadata":{"name":"a"}}"#];
        assert_eq!(overlay.patches_strategic_merge, merge);
        assert_eq!(overlay.patches_json6902[0].patch, r#"[{"op":"remove","path":"/a"}]"#);
        assert_eq!(overlay.patches_json6902[0].target.as_ref().unwrap().name, "a");
    }
    let newest = format!("apiVersion: kustomize.toolkit.fluxcd.io/v1\n{GOOD}{more}");
    assert!(read(&newest).unwrap_err().contains("write the patches under spec.patches"));
}

#[test]
fn what_is_wrong_or_unsupported_is_named_at_its_line() {
    for (more, expected) in [
        (
            "  decryption: {provider: sops}\n",
            "apps.yaml:6:15: spec.decryption: needs a secretRef: the Secret in the cluster with the keys \
                 (`*.agekey`, `sops.aws-kms` and so on)",
        ),
        (
            "  decryption: {provider: gpg, secretRef: {name: keys}}\n",
            "apps.yaml:6:26: spec.decryption.provider: 'gpg' is none of sops",
        ),
        (
            "  decryption: {provider: sops, serviceAccountName: kms}\n",
            "apps.yaml:6:52: spec.decryption.serviceAccountName: is not supported: identities of clouds are not \
                 used; name a Secret with keys or credentials under secretRef",
        ),
        (
            "  kubeConfig: {secretRef: {name: other}}\n",
            "apps.yaml:6:15: spec.kubeConfig: is not supported: each cluster has an agent of its own; give that \
                 cluster a folder",
        ),
        ("  intervall: 5m\n", "apps.yaml:6:14: spec.intervall: is not a field of a Kustomization"),
        (
            "  ignore: [{paths: [spec.replicas]}]\n",
            "apps.yaml:6:12: spec.ignore[0]: 'spec.replicas' is not a JSON pointer: it must begin with / and name a \
                 field, as /spec/replicas does",
        ),
        (
            "  dependsOn: [{name: a, readyExpr: dep.x ==}]\n",
            "apps.yaml:6:36: spec.dependsOn[0].readyExpr: 'dep.x ==' is not a CEL expression: <input>:1:9: Syntax \
                 error: mismatched input '<EOF>'",
        ),
        ("  wait: please\n", "apps.yaml:6:9: spec.wait: must be true or false"),
        ("  timeout: 5\n", "apps.yaml:6:12: spec.timeout: must be a string"),
        ("  retryInterval: 0s\n", "apps.yaml:6:18: spec.retryInterval: must be at least 1s"),
        (
            "  timeout: soon\n",
            "apps.yaml:6:12: spec.timeout: 'soon' is not a duration: expected a form like 30s, 10m or 1h30m",
        ),
        (
            "  dependsOn: [{name: a, ready: x}]\n",
            "apps.yaml:6:32: spec.dependsOn[0].ready: 'ready' is not a field here; known are name, namespace, readyExpr",
        ),
        (
            "  healthChecks: [{apiVersion: notification.toolkit.fluxcd.io/v1, kind: Receiver, name: x}]\n",
            "apps.yaml:6:72: spec.healthChecks[0].kind: a Receiver cannot be checked: it is not an object in the cluster \
                 here",
        ),
        ("  images: [{newTag: x}]\n", "apps.yaml:6:12: spec.images[0].name: is missing"),
        (
            "  buildMetadata: [origin]\n",
            "apps.yaml:6:19: spec.buildMetadata[0]: 'origin' is none of originAnnotations, transformerAnnotations",
        ),
    ] {
        assert_eq!(read(&format!("{GOOD}{more}")).unwrap_err(), expected);
    }
    assert_eq!(
        read("spec:\n  path: ../x\n").unwrap_err(),
        "apps.yaml:1:1: spec.interval: is missing\napps.yaml:1:1: spec.prune: is missing\n\
             apps.yaml:1:1: spec.sourceRef: is missing"
    );
    let other = GOOD.replace("GitRepository", "HelmRepository");
    assert_eq!(
        read(&other).unwrap_err(),
        "apps.yaml:5:21: spec.sourceRef.kind: 'HelmRepository' is none of GitRepository, OCIRepository, Bucket, \
             ExternalArtifact"
    );
}
