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
                        "is not supported: identities of clouds are not used; name a Secret with keys or credentials under \
                         secretRef",
                    ));
                }
                let secret = object.get("secretRef").ok_or_else(|| {
                    field.wrong("needs a secretRef: the Secret in the cluster with the keys (`*.agekey`, `sops.aws-kms` and so on)")
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
#[path = "kustomization_tests.rs"]
mod tests;
