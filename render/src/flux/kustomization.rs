//! A Flux `Kustomization`, read field by field, so that whatever we don't support is a problem at its line and never
//! skipped. Source of behaviour: the CRD of `kustomize.toolkit.fluxcd.io/v1` and kustomize-controller 1.9.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::UnitId;
use flotilla_core::envsubst::is_variable_name;
use flotilla_core::expr::Expr;
use flotilla_core::health::{HealthExprs, Rule};
use flotilla_core::ignore::{IgnoreRule, Ignores, Target};
use flotilla_core::names::is_dns_subdomain;
use flotilla_core::report::Problem;
use flotilla_core::source::{SourceId, SourceKind};
use flotilla_core::template::ValuesKind;
use flotilla_core::unit::{DeletionPolicy, HealthCheck, UnitSpec};
use flotilla_kustomize::FluxOverlay;
use flotilla_kustomize::files::TreePath;
use flotilla_yaml::{Map, Node};

use super::{ALLOW_EMPTY, allowed_namespaces, older, own_drift};
use crate::content::{Definition, PostBuild, SubstituteFrom};
use crate::field::{Field, Places, Wrong};
use crate::overlay;

/// The kinds that `spec.sourceRef` may name.
const SOURCES: [(&str, SourceKind); 4] = [
    ("GitRepository", SourceKind::GitRepository),
    ("OCIRepository", SourceKind::OciRepository),
    ("Bucket", SourceKind::Bucket),
    ("ExternalArtifact", SourceKind::ExternalArtifact),
];

struct Reader {
    namespace: String,
    spec: UnitSpec,
    path: TreePath,
    overlay: Map,
    source: Option<SourceId>,
    service_account: Option<String>,
    post_build: Option<PostBuild>,
    is_older: bool,
    seen: Vec<String>,
    notices: Vec<Wrong>,
}

/// Reads a Flux `Kustomization` that stands at `at` (file and line), with what is worth saying though nothing is wrong.
///
/// # Errors
/// Every field that is wrong or that we don't support, each with its place.
pub(crate) fn read(
    id: &UnitId,
    node: &Node,
    places: &Places<'_>,
    at: &(String, u32),
) -> Result<(Definition, Vec<Problem>), Vec<Problem>> {
    let mut reader = Reader {
        namespace: id.namespace.clone(),
        spec: UnitSpec { prune: false, ..UnitSpec::default() },
        path: TreePath::root(),
        overlay: Map::default(),
        source: None,
        service_account: None,
        post_build: None,
        is_older: older::is_older(node),
        seen: Vec::new(),
        notices: Vec::new(),
    };
    let allow_empty = node.at(&["metadata", "annotations", ALLOW_EMPTY]).and_then(Node::text);
    reader.spec.allow_empty = allow_empty == Some("true");
    let labels = node.at(&["metadata", "labels"]).and_then(Node::as_map);
    reader.spec.labels = labels
        .into_iter()
        .flat_map(Map::iter)
        .filter_map(|entry| Some((entry.key.text()?.to_owned(), entry.value.as_str()?.to_owned())))
        .collect();
    let mut problems = Vec::new();
    let mut bad = |wrong: Wrong| problems.push(places.problem(wrong, at));
    let drift = own_drift(node).unwrap_or_else(|wrong| {
        bad(wrong);
        None
    });
    let namespaces = allowed_namespaces(node).unwrap_or_else(|wrong| {
        bad(wrong);
        BTreeSet::new()
    });
    let whole = Field::new(node, "spec");
    match node.get("spec").map(|spec| Field::new(spec, "spec").entries()) {
        None => bad(whole.wrong("is missing")),
        Some(Err(wrong)) => bad(wrong),
        Some(Ok(fields)) => {
            for (name, field) in fields {
                if let Err(wrong) = reader.field(name, &field) {
                    bad(wrong);
                }
                reader.seen.push(name.to_owned());
            }
            for required in ["interval", "prune", "sourceRef"] {
                if !reader.seen.iter().any(|name| name == required) {
                    bad(Wrong { field: format!("spec.{required}"), ..whole.wrong("is missing") });
                }
            }
        }
    }
    let (true, Some(source)) = (problems.is_empty(), reader.source) else { return Err(problems) };
    if !reader.seen.iter().any(|name| name == "timeout") {
        // As kustomize-controller: the timeout is the interval, if none is given.
        reader.spec.timeout = reader.spec.interval.max(30);
    }
    let notices = reader.notices.into_iter().map(|wrong| places.problem(wrong, at).as_notice()).collect();
    let definition = Definition {
        id: id.clone(),
        spec: reader.spec,
        drift,
        source,
        path: reader.path,
        overlay: reader.overlay.into(),
        release: None,
        post_build: reader.post_build,
        service_account: reader.service_account,
        namespaces,
        file: at.0.clone(),
        line: at.1,
        object: None,
    };
    Ok((definition, notices))
}

impl Reader {
    fn field(&mut self, name: &str, field: &Field<'_>) -> Result<(), Wrong> {
        let spec = &mut self.spec;
        match name {
            "path" => {
                self.path =
                    TreePath::clamped(field.str()?).map_err(|error| field.wrong(error.to_string()))?;
            }
            "prune" => spec.prune = field.bool()?,
            "wait" => spec.wait = field.bool()?,
            "force" => spec.force = field.bool()?,
            "suspend" => spec.suspend = field.bool()?,
            "interval" => spec.interval = field.seconds()?,
            "timeout" => spec.timeout = field.seconds()?,
            "retryInterval" => spec.retry_interval = Some(field.seconds()?),
            "deletionPolicy" => {
                spec.deletion_policy = field.choice(&[
                    ("MirrorPrune", DeletionPolicy::MirrorPrune),
                    ("Delete", DeletionPolicy::Delete),
                    ("WaitForTermination", DeletionPolicy::WaitForTermination),
                    ("Orphan", DeletionPolicy::Orphan),
                ])?;
            }
            "dependsOn" => {
                (spec.depends_on, spec.ready_exprs) =
                    dependencies(field, &self.namespace, |namespace, name| {
                        UnitId::kustomization(namespace, name)
                    })?;
            }
            "healthChecks" => {
                for item in field.items()? {
                    let item = item.object(&["apiVersion", "kind", "namespace", "name"])?;
                    let api_version = item.text("apiVersion")?.unwrap_or_else(|| "v1".to_owned());
                    let kind = item.need("kind")?.text()?;
                    let group = api_version.split('/').next().unwrap_or_default();
                    let is_unit = kind == "Kustomization" || kind == "HelmRelease";
                    let is_source =
                        SourceKind::ALL.iter().any(|known| known.group() == group && known.as_str() == kind);
                    if group.ends_with(".fluxcd.io") && !is_unit && !is_source {
                        let message =
                            format!("a {kind} cannot be checked: it is not an object in the cluster here");
                        return Err(item.need("kind")?.wrong(message));
                    }
                    spec.health_checks.push(HealthCheck {
                        api_version,
                        kind,
                        namespace: item.text("namespace")?.unwrap_or_default(),
                        name: item.need("name")?.text()?,
                    });
                }
            }
            "sourceRef" => {
                let object = field.object(&["apiVersion", "kind", "name", "namespace"])?;
                let namespace = object.text("namespace")?.unwrap_or_else(|| self.namespace.clone());
                let kind = object.need("kind")?.choice(&SOURCES)?;
                self.source = Some(SourceId::new(kind, namespace, object.need("name")?.text()?));
            }
            "serviceAccountName" => {
                self.service_account = account(field)?;
            }
            "ignore" => spec.ignore = ignore_rules(field)?,
            "healthCheckExprs" => spec.health_check_exprs = health_exprs(field)?,
            "postBuild" => self.post_build = Some(post_build(field)?),
            "kubeConfig" => {
                let message =
                    "is not supported: each cluster has an agent of its own; give that cluster a folder";
                return Err(field.wrong(message));
            }
            "decryption" => {
                let object = field.object(&["provider", "secretRef", "serviceAccountName"])?;
                object.need("provider")?.choice(&[("sops", ())])?;
                if let Some(account) = object.get("serviceAccountName") {
                    return Err(account.wrong(
                        "is not supported: keys of clouds, which it is for, are not; name a Secret with age keys under \
                         secretRef",
                    ));
                }
                let secret = object.get("secretRef").ok_or_else(|| {
                    field.wrong("needs a secretRef: the Secret in the cluster with the age keys (`*.agekey`)")
                })?;
                spec.decryption = Some(secret.object(&["name"])?.need("name")?.text()?);
            }
            "validation" if self.is_older => self.notices.push(field.wrong(older::WITHOUT_EFFECT)),
            "patchesStrategicMerge" | "patchesJson6902" if !self.is_older => {
                return Err(
                    field.wrong("is not a field of this version; write the patches under spec.patches")
                );
            }
            _ => match overlay::read(&mut FluxOverlay::default(), name, field) {
                Some(checked) => {
                    checked?;
                    self.overlay.insert(name, field.node.clone());
                }
                None => return Err(field.wrong("is not a field of a Kustomization")),
            },
        }
        Ok(())
    }
}

/// The name of a service account; the empty one is none.
pub(crate) fn account(field: &Field<'_>) -> Result<Option<String>, Wrong> {
    match field.str()? {
        "" => Ok(None),
        name if is_dns_subdomain(name) => Ok(Some(name.to_owned())),
        _ => {
            Err(field
                .wrong("is not the name of a service account: use lower-case letters, digits, '-' and '.'"))
        }
    }
}

/// What a unit depends on, and for some of it the expression that says when it is ready.
pub(crate) type Dependencies = (Vec<UnitId>, BTreeMap<UnitId, String>);

/// Reads `dependsOn`, whose entries are units of one kind.
pub(crate) fn dependencies(
    field: &Field,
    namespace: &str,
    unit: impl Fn(String, String) -> UnitId,
) -> Result<Dependencies, Wrong> {
    let mut all = Dependencies::default();
    for item in field.items()? {
        let item = item.object(&["name", "namespace", "readyExpr"])?;
        let namespace = item.text("namespace")?.unwrap_or_else(|| namespace.to_owned());
        let dependency = unit(namespace, item.need("name")?.text()?);
        if let Some(expression) = item.get("readyExpr") {
            let text = expression.text()?;
            expression.so(Expr::new(&text))?;
            all.1.insert(dependency.clone(), text);
        }
        all.0.push(dependency);
    }
    Ok(all)
}

/// Reads `healthCheckExprs`.
pub(crate) fn health_exprs(field: &Field) -> Result<Vec<HealthExprs>, Wrong> {
    let mut all = Vec::new();
    for item in field.items()? {
        let rule = item.object(&["apiVersion", "kind", "inProgress", "failed", "current"])?;
        let exprs = HealthExprs {
            api_version: rule.need("apiVersion")?.text()?,
            kind: rule.need("kind")?.text()?,
            in_progress: rule.text("inProgress")?,
            failed: rule.text("failed")?,
            current: rule.need("current")?.text()?,
        };
        item.so(Rule::new(&exprs))?;
        all.push(exprs);
    }
    Ok(all)
}

/// Rules of fields that are left to others.
pub(crate) fn ignore_rules(field: &Field) -> Result<Vec<IgnoreRule>, Wrong> {
    let mut rules = Vec::new();
    for item in field.items()? {
        let rule = item.object(&["paths", "target"])?;
        let rule = IgnoreRule {
            paths: rule.need("paths")?.strings()?,
            target: rule.get("target").map(ignore_target).transpose()?,
        };
        item.so(Ignores::new(std::slice::from_ref(&rule)))?;
        rules.push(rule);
    }
    Ok(rules)
}

fn ignore_target(field: &Field) -> Result<Target, Wrong> {
    let target = field.object(&[
        "group",
        "version",
        "kind",
        "namespace",
        "name",
        "labelSelector",
        "annotationSelector",
    ])?;
    let text = |name: &str| target.text(name).map(Option::unwrap_or_default);
    Ok(Target {
        group: text("group")?,
        version: text("version")?,
        kind: text("kind")?,
        namespace: text("namespace")?,
        name: text("name")?,
        label_selector: text("labelSelector")?,
        annotation_selector: text("annotationSelector")?,
    })
}

fn post_build(field: &Field<'_>) -> Result<PostBuild, Wrong> {
    let object = field.object(&["substitute", "substituteFrom", "substituteStrategy"])?;
    let substitute = object.get("substitute").map_or(Ok(BTreeMap::new()), Field::pairs)?;
    if let Some(name) = substitute.keys().find(|name| !is_variable_name(name)) {
        let field = object.get("substitute").unwrap_or(field);
        return Err(field.wrong(format!("'{name}' cannot name a variable: use letters, digits and '_'")));
    }
    let mut from = Vec::new();
    for item in object.get("substituteFrom").map_or(Ok(Vec::new()), Field::items)? {
        let item = item.object(&["kind", "name", "optional"])?;
        let kinds = [("ConfigMap", ValuesKind::ConfigMap), ("Secret", ValuesKind::Secret)];
        from.push(SubstituteFrom {
            kind: item.need("kind")?.choice(&kinds)?,
            name: item.need("name")?.text()?,
            optional: item.bool("optional")?,
        });
    }
    let strategies = [("WithVariables", false), ("Always", true)];
    let always = object.get("substituteStrategy").map_or(Ok(false), |field| field.choice(&strategies))?;
    Ok(PostBuild { substitute, from, always })
}

#[cfg(test)]
mod tests {
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
        assert!(
            wrong.contains("metadata.annotations.flotilla.dev/drift: 'never' is none of correct"),
            "{wrong}"
        );
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
                "apps.yaml:6:15: spec.decryption: needs a secretRef: the Secret in the cluster with the age keys \
                 (`*.agekey`)",
            ),
            (
                "  decryption: {provider: gpg, secretRef: {name: keys}}\n",
                "apps.yaml:6:26: spec.decryption.provider: 'gpg' is none of sops",
            ),
            (
                "  decryption: {provider: sops, serviceAccountName: kms}\n",
                "apps.yaml:6:52: spec.decryption.serviceAccountName: is not supported: keys of clouds, which it is for, \
                 are not; name a Secret with age keys under secretRef",
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
                "apps.yaml:6:36: spec.dependsOn[0].readyExpr: 'dep.x ==' is no CEL expression: <input>:1:9: Syntax \
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
}
