//! Flux's own kinds, read from a unit's output: what becomes a child unit, what is a source, what is not
//! acted on yet. Field by field, so that whatever we don't support is a problem at its line and never skipped.
//! Source of behaviour: the CRD of `kustomize.toolkit.fluxcd.io/v1` and kustomize-controller 1.9.

use flotilla_core::UnitId;
use flotilla_core::report::Problem;
use flotilla_core::unit::{DeletionPolicy, HealthCheck, UnitKind, UnitSpec};
use flotilla_kustomize::FluxOverlay;
use flotilla_kustomize::files::TreePath;
use flotilla_yaml::{Map, Node};

use crate::content::Definition;
use crate::{duration, overlay};

/// What a rendered object is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Goes to the cluster.
    Object,
    /// A Flux `Kustomization`: becomes a unit.
    Kustomization,
    /// A Flux `HelmRelease`: becomes a unit that cannot be rendered yet.
    HelmRelease,
    /// A Flux source: the hub's business.
    Source,
    /// A Flux kind that we know and do not act on.
    Ignored,
    /// A kind of our own: the hub's business, and only in the folder of clusters.
    Ours,
}

/// Tells an object's role by its group and kind.
pub fn role(group: &str, kind: &str) -> Role {
    match (group, kind) {
        ("kustomize.toolkit.fluxcd.io", "Kustomization") => Role::Kustomization,
        ("helm.toolkit.fluxcd.io", "HelmRelease") => Role::HelmRelease,
        (
            "source.toolkit.fluxcd.io",
            "GitRepository" | "OCIRepository" | "HelmRepository" | "HelmChart" | "Bucket"
            | "ExternalArtifact",
        )
        | ("source.extensions.fluxcd.io", "ArtifactGenerator") => Role::Source,
        ("notification.toolkit.fluxcd.io", "Alert" | "Provider" | "Receiver")
        | ("image.toolkit.fluxcd.io", "ImageRepository" | "ImagePolicy" | "ImageUpdateAutomation") => {
            Role::Ignored
        }
        (crate::fleet::GROUP, _) => Role::Ours,
        _ => Role::Object,
    }
}

/// The name of the source that is the fleet repo itself.
pub const FLEET_SOURCE: (&str, &str) = ("flux-system", "flux-system");

/// Who asks for an annotation that lets a unit fall to zero objects.
pub const ALLOW_EMPTY: &str = "flotilla.dev/allow-empty";

struct Reader<'a> {
    file: &'a str,
    namespace: String,
    spec: UnitSpec,
    path: Option<TreePath>,
    overlay: Map,
    has_source: bool,
    problems: Vec<Problem>,
}

/// Reads a Flux `Kustomization`.
///
/// # Errors
/// Every field that is wrong or that we don't support, each with its line.
pub fn kustomization(id: &UnitId, node: &Node, file: &str) -> Result<Definition, Vec<Problem>> {
    let spec = UnitSpec { prune: false, ..UnitSpec::default() };
    let namespace = id.namespace.clone();
    let mut reader = Reader {
        file,
        namespace,
        spec,
        path: None,
        overlay: Map::default(),
        has_source: false,
        problems: vec![],
    };
    let allow_empty = node.at(&["metadata", "annotations", ALLOW_EMPTY]).and_then(Node::text);
    reader.spec.allow_empty = allow_empty == Some("true");
    match node.get("spec").and_then(Node::as_map) {
        None => reader.bad(node, "spec", "is missing or no mapping"),
        Some(fields) => {
            for entry in fields.iter() {
                let key = entry.key.text().unwrap_or_default();
                let place = if entry.value.pos.line > 0 { &entry.value } else { &entry.key };
                if let Err(message) = reader.field(key, &entry.value) {
                    reader.bad(place, &format!("spec.{key}"), message);
                }
            }
            if !reader.has_source {
                reader.bad(node, "spec.sourceRef", "is missing");
            }
            for required in ["interval", "prune"] {
                if !fields.contains_key(required) {
                    reader.bad(node, &format!("spec.{required}"), "is missing");
                }
            }
            if !fields.contains_key("timeout") {
                // As kustomize-controller: the timeout is the interval, if none is given.
                reader.spec.timeout = reader.spec.interval.max(30);
            }
        }
    }
    if !reader.problems.is_empty() {
        return Err(reader.problems);
    }
    Ok(Definition {
        id: id.clone(),
        spec: reader.spec,
        path: reader.path.unwrap_or_default(),
        overlay: reader.overlay.into(),
        file: file.to_owned(),
        line: node.pos.line,
    })
}

impl Reader<'_> {
    fn bad(&mut self, node: &Node, field: &str, message: impl Into<String>) {
        let at = Problem::error(self.file, node.pos.line, message).field(field);
        self.problems.push(Problem { column: node.pos.column, ..at });
    }

    fn field(&mut self, key: &str, value: &Node) -> Result<(), String> {
        let spec = &mut self.spec;
        match key {
            "path" => {
                let path = TreePath::from_root(string(value)?).map_err(|e| e.to_string())?;
                self.path = Some(path);
            }
            "prune" => spec.prune = boolean(value)?,
            "wait" => spec.wait = boolean(value)?,
            "force" => spec.force = boolean(value)?,
            "suspend" => spec.suspend = boolean(value)?,
            "interval" => spec.interval = at_least(seconds(value)?, 1)?,
            "timeout" => spec.timeout = at_least(seconds(value)?, 1)?,
            "retryInterval" => spec.retry_interval = Some(at_least(seconds(value)?, 1)?),
            "deletionPolicy" => {
                spec.deletion_policy = match string(value)? {
                    "MirrorPrune" => DeletionPolicy::MirrorPrune,
                    "Delete" => DeletionPolicy::Delete,
                    "WaitForTermination" => DeletionPolicy::WaitForTermination,
                    "Orphan" => DeletionPolicy::Orphan,
                    other => {
                        return Err(format!(
                            "'{other}' is none of MirrorPrune, Delete, WaitForTermination, Orphan"
                        ));
                    }
                }
            }
            "dependsOn" => {
                for item in overlay::items(value)? {
                    only(item, &["name", "namespace"])?;
                    let name = string(item.get("name").ok_or("each entry needs a name")?)?;
                    let namespace = item.get("namespace").map(string).transpose()?.unwrap_or(&self.namespace);
                    spec.depends_on.push(UnitId::kustomization(namespace, name));
                }
            }
            "healthChecks" => {
                for item in overlay::items(value)? {
                    only(item, &["apiVersion", "kind", "namespace", "name"])?;
                    let text = |field: &str| item.get(field).map(string).transpose();
                    spec.health_checks.push(HealthCheck {
                        api_version: text("apiVersion")?.unwrap_or("v1").to_owned(),
                        kind: text("kind")?.ok_or("each entry needs a kind")?.to_owned(),
                        namespace: text("namespace")?.unwrap_or_default().to_owned(),
                        name: text("name")?.ok_or("each entry needs a name")?.to_owned(),
                    });
                }
            }
            "sourceRef" => {
                self.has_source = true;
                only(value, &["apiVersion", "kind", "name", "namespace"])?;
                let text = |field: &str| value.get(field).map(string).transpose();
                let kind = text("kind")?.ok_or("needs a kind")?;
                let name = text("name")?.ok_or("needs a name")?;
                let namespace = text("namespace")?.unwrap_or(&self.namespace);
                if (kind, namespace, name) != ("GitRepository", FLEET_SOURCE.0, FLEET_SOURCE.1) {
                    return Err(format!(
                        "{kind} {namespace}/{name} is not supported yet: units come from GitRepository \
                         flux-system/flux-system, the fleet repo"
                    ));
                }
            }
            "serviceAccountName" | "healthCheckExprs" | "postBuild" | "decryption" | "kubeConfig"
            | "buildMetadata" | "ignore" => {
                return Err("is not supported yet; this unit stays as it is until the field goes".to_owned());
            }
            _ => match overlay::read(&mut FluxOverlay::default(), key, value) {
                Some(checked) => {
                    checked?;
                    self.overlay.insert(key, value.clone());
                }
                None => return Err("is no field of a Kustomization".to_owned()),
            },
        }
        Ok(())
    }
}

fn string(node: &Node) -> Result<&str, String> {
    node.as_str().ok_or_else(|| "must be a string".to_owned())
}

fn boolean(node: &Node) -> Result<bool, String> {
    node.as_bool().ok_or_else(|| "must be true or false".to_owned())
}

fn seconds(node: &Node) -> Result<u32, String> {
    duration::seconds(string(node)?)
}

fn at_least(value: u32, least: u32) -> Result<u32, String> {
    if value >= least { Ok(value) } else { Err(format!("must be at least {least}s")) }
}

fn only(node: &Node, known: &[&str]) -> Result<(), String> {
    let fields = node.as_map().ok_or("must be a mapping")?;
    match fields.keys().find(|key| !known.contains(key)) {
        Some(key) => Err(format!("'{key}' is not supported here; known are {}", known.join(", "))),
        None => Ok(()),
    }
}

/// The unit that a Flux object defines.
pub fn unit_id(role: Role, namespace: &str, name: &str) -> UnitId {
    let kind = if role == Role::HelmRelease { UnitKind::HelmRelease } else { UnitKind::Kustomization };
    let namespace = if namespace.is_empty() { "default" } else { namespace };
    UnitId { kind, namespace: namespace.to_owned(), name: name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<Definition, String> {
        let nodes = flotilla_yaml::parse(yaml).unwrap();
        let id = UnitId::kustomization("flux-system", "apps");
        kustomization(&id, &nodes[0], "apps.yaml")
            .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    const GOOD: &str = "spec:\n  path: ./apps\n  prune: true\n  interval: 10m\n  sourceRef: {kind: GitRepository, \
                        name: flux-system}\n";

    #[test]
    fn fields_become_the_units_policy() {
        let more = "  wait: true\n  timeout: 1m30s\n  dependsOn: [{name: db}, {name: x, namespace: y}]\n  \
                    deletionPolicy: Orphan\n  targetNamespace: web\n";
        let unit = read(&format!("{GOOD}{more}")).unwrap();
        assert_eq!(unit.path.as_str(), "apps");
        assert!(unit.spec.prune && unit.spec.wait && !unit.spec.suspend);
        assert_eq!((unit.spec.interval, unit.spec.timeout), (600, 90));
        let names: Vec<_> = unit.spec.depends_on.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["kustomization/flux-system/db", "kustomization/y/x"]);
        assert_eq!(unit.overlay.get("targetNamespace").and_then(Node::text), Some("web"));
        assert_eq!(read(GOOD).unwrap().spec.timeout, 600);
    }

    #[test]
    fn what_is_wrong_or_unsupported_is_named_at_its_line() {
        for (more, expected) in [
            (
                "  postBuild: {substitute: {a: b}}\n",
                "apps.yaml:6:14: spec.postBuild: is not supported yet; this unit \
                                                     stays as it is until the field goes",
            ),
            ("  intervall: 5m\n", "apps.yaml:6:14: spec.intervall: is no field of a Kustomization"),
            ("  wait: please\n", "apps.yaml:6:9: spec.wait: must be true or false"),
            ("  timeout: 5\n", "apps.yaml:6:12: spec.timeout: must be a string"),
            (
                "  timeout: soon\n",
                "apps.yaml:6:12: spec.timeout: 'soon' is no duration: expected a form like 30s, \
                                   10m or 1h30m",
            ),
            (
                "  dependsOn: [{name: a, readyExpr: x}]\n",
                "apps.yaml:6:14: spec.dependsOn: 'readyExpr' is not \
                                                          supported here; known are name, namespace",
            ),
        ] {
            assert_eq!(read(&format!("{GOOD}{more}")).unwrap_err(), expected);
        }
        assert_eq!(
            read("spec:\n  path: ../x\n").unwrap_err().lines().next(),
            Some("apps.yaml:2:9: spec.path: '../x' leads out of the root of the source")
        );
    }
}
