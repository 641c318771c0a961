//! `flotilla export flux`: what Flux needs to go on where Flotilla leaves. What is made of the hub's answers is pure.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use flotilla_api::{Definition, Source, Tree};
use flotilla_core::{ClusterName, UnitId, UnitKind};
use serde_json::{Map, Value, json};

use super::super::manifest::{WriteArgs, deliver};
use super::exported;
use super::inventories::Inventories;
use super::taken::{Units, about_tenants};
use crate::Context;
use crate::error::Error;
use crate::exit::Code;
use crate::output::clean;

const NAMESPACE: &str = "flux-system";
/// The name of the root's Kustomization and of its source, as `flux bootstrap` calls them.
const NAME: &str = "flux-system";
/// The ConfigMap with the cluster's variables, in each namespace with a Kustomization that substitutes.
pub(super) const VARIABLES: &str = "flotilla-variables";
const KUSTOMIZE: &str = "kustomize.toolkit.fluxcd.io";

/// Print all that Flux needs to go on with a cluster in place of Flotilla
///
/// That is the source and the Kustomization of the cluster's root, and all Flux objects that Git defines below it; each
/// Kustomization with the inventory of what was applied, so that Flux deletes what Git drops later. The cluster's variables become
/// the ConfigMap flotilla-variables, from which the Kustomizations that substitute take them.
///
/// docs/adopt.md has the steps, in which no pod is restarted.
#[derive(Debug, Args)]
pub(crate) struct FluxArgs {
    /// Name of the cluster
    #[arg(short, long, value_name = "NAME")]
    cluster: ClusterName,
    /// The fleet repo as Flux is to fetch it, in place of the URL that the hub fetches
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Secret in flux-system with the credentials of the fleet repo
    #[arg(long, value_name = "NAME")]
    secret: Option<String>,
    #[command(flatten)]
    write: WriteArgs,
}

pub(crate) async fn run(context: &Context, args: FluxArgs) -> Result<Code, Error> {
    let FluxArgs { cluster, url, secret, write } = args;
    let hub = context.hub()?;
    let tree = hub.tree(&cluster).await?;
    let definitions = hub.definitions(&cluster, None, None, None).await?;
    let sources = hub.sources().await?;
    let Some(fleet) = sources.into_iter().find(|source| source.kind == "fleet") else {
        return Err(Error::new(Code::Denied, "this token may not see the fleet repo")
            .hint("the export needs a token that sees the whole cluster"));
    };
    let fleet = Source { url: url.unwrap_or(fleet.url), ..fleet };
    let Handover { objects, warnings, secrets } = handover(&tree, &definitions, &fleet, secret.as_deref())
        .map_err(|why| {
            Error::new(Code::Refused, format!("cannot export cluster {cluster} for Flux: {why}"))
        })?;
    warnings.iter().for_each(|warning| context.terminal.warn(&clean(warning)));
    if !secrets.is_empty() {
        let names: Vec<String> = secrets.iter().map(|name| clean(name)).collect();
        context.terminal.hint(&format!(
            "Flux reads these Secrets in the cluster; create those that only the hub has: {}",
            names.join(", ")
        ));
    }
    deliver(&context.terminal, &objects, &write)
}

/// What is printed, and what people have to know of it.
#[derive(Debug, Default)]
pub(super) struct Handover {
    pub(super) objects: Vec<Value>,
    pub(super) warnings: Vec<String>,
    /// `NAMESPACE/NAME` of the Secrets that the objects refer to.
    pub(super) secrets: BTreeSet<String>,
}

/// # Errors
/// Where the hub does not know what the root is, in words that go on after "cannot export: ".
pub(super) fn handover(
    tree: &Tree,
    definitions: &[Definition],
    fleet: &Source,
    secret: Option<&str>,
) -> Result<Handover, String> {
    let cluster = &tree.cluster;
    if cluster.root.is_empty() || !tree.units.iter().any(|unit| unit.unit.unit == "root") {
        return Err("the hub does not know its root; `flotilla status` says why".into());
    }
    if !matches!(fleet.path.as_str(), "" | ".") {
        return Err(format!(
            "the fleet is the folder {} of its repository, and paths in it begin there; with Flux they begin at the top, so write \
             them that way and run the hub without --path first",
            fleet.path
        ));
    }
    let mut handover = Handover::default();
    let inventories = Inventories::of(tree, definitions, &mut handover.warnings);
    let variables = Variables { children: children(definitions), there: !cluster.variables.is_empty() };

    let own = definitions.iter().find(|it| it.kind == "Kustomization" && it.defined_by.is_empty());
    if own.is_some_and(|own| own.redacted) {
        return Err("texts of the root's Kustomization are hidden, as they hold a secret of the hub's".into());
    }
    let mut root = own.map_or_else(|| new_root(&cluster.root), exported);
    let patches = variables.patches(&UnitId::root(), &mut BTreeSet::new());
    if own.is_some() && !patches.is_empty() {
        handover.warnings.push(
            "Git has the Kustomization of the root, so commit the one that is printed here: without its patches Flux does not \
             know the cluster's variables"
                .into(),
        );
    }
    if own.is_none() {
        // Flux does not know these kinds, and a folder may have both.
        add_patches(
            &mut root,
            vec![json!({
                "target": {"group": "flotilla.dev"},
                "patch": "$patch: delete\napiVersion: flotilla.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: any\n",
            })],
        );
    }
    add_patches(&mut root, patches);
    if variables.there && (cluster.substitute || root["spec"].get("postBuild").is_some()) {
        substitute_from(&mut root);
    }
    inventories.put_into(&UnitId::root(), &mut root);

    let is_fleet = |it: &&Definition| {
        it.kind == "GitRepository" && (it.namespace.as_str(), it.name.as_str()) == (NAMESPACE, NAME)
    };
    let given = Units::of(tree);
    let has_source = own.is_some() && definitions.iter().any(|it| is_fleet(&it));
    if !has_source {
        handover.objects.push(new_source(fleet, secret, &mut handover.warnings));
    }
    for definition in definitions.iter().filter(|it| !it.defined_by.is_empty()) {
        if !has_source && is_fleet(&definition) {
            continue;
        }
        let mut object = match given.given(definition) {
            Ok(object) => object,
            Err(why) => {
                let Definition { kind, namespace, name, .. } = definition;
                handover.warnings.push(format!(
                    "{kind} {namespace}/{name} is left out: {why}; Flux makes it when it applies {}",
                    definition.defined_by
                ));
                continue;
            }
        };
        if let Some(unit) = unit_of(definition) {
            if unit.kind == UnitKind::Kustomization {
                if variables.there && object["spec"].get("postBuild").is_some() {
                    substitute_from(&mut object);
                }
                add_patches(&mut object, variables.patches(&unit, &mut BTreeSet::new()));
            }
            inventories.put_into(&unit, &mut object);
        }
        handover.objects.push(object);
    }
    handover.objects.push(root);
    let maps: BTreeSet<String> =
        handover.objects.iter().filter(|it| takes_variables(it)).map(namespace_of).collect();
    let maps = maps.into_iter().map(|namespace| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": VARIABLES, "namespace": namespace},
            "data": cluster.variables})
    });
    handover.objects.splice(0..0, maps);
    handover.secrets = handover.objects.iter().flat_map(secrets_of).collect();
    handover.warnings.extend(about(tree, definitions).into_iter().chain(about_tenants(definitions)));
    Ok(handover)
}

/// What is otherwise with Flux.
fn about(tree: &Tree, definitions: &[Definition]) -> Vec<String> {
    let mut warnings = Vec::new();
    if !tree.cluster.waiting.is_empty() {
        warnings.push(
            "a pipeline holds back newer commits from this cluster; Flux applies the newest of the branch at once".into(),
        );
    }
    if !tree.cluster.sync.is_reached() {
        warnings.push(format!(
            "the cluster is {}: it does not run all that the hub wants, which Flux will apply",
            tree.cluster.sync.as_str()
        ));
    }
    let releases = definitions.iter().filter(|it| it.kind == "HelmRelease");
    let refuses = |it: &&Definition| {
        it.object.pointer("/spec/install/disableTakeOwnership") == Some(&Value::Bool(true))
    };
    let (count, named): (usize, Vec<String>) = (
        releases.clone().count(),
        releases.filter(refuses).map(|it| format!("{}/{}", it.namespace, it.name)).collect(),
    );
    if count > 0 {
        warnings.push(
            "Flux installs each HelmRelease over the objects that are there, which its helm-controller does from Flux 2.5 on".into(),
        );
    }
    if !named.is_empty() {
        warnings.push(format!(
            "these set spec.install.disableTakeOwnership, so that their installation fails: {}",
            named.join(", ")
        ));
    }
    warnings
}

/// How the cluster's variables reach Kustomizations that Git defines without them: their parent patches them in. They come
/// first, as with Flotilla everything else takes precedence over them.
struct Variables<'a> {
    /// By parent.
    children: BTreeMap<UnitId, Vec<(UnitId, &'a Definition)>>,
    there: bool,
}

pub(super) fn unit_of(definition: &Definition) -> Option<UnitId> {
    let kind = match definition.kind.as_str() {
        "Kustomization" => UnitKind::Kustomization,
        "HelmRelease" => UnitKind::HelmRelease,
        _ => return None,
    };
    Some(UnitId::new(kind, &definition.namespace, &definition.name))
}

fn children(definitions: &[Definition]) -> BTreeMap<UnitId, Vec<(UnitId, &Definition)>> {
    let mut children: BTreeMap<UnitId, Vec<(UnitId, &Definition)>> = BTreeMap::new();
    for definition in definitions.iter().filter(|it| it.kind == "Kustomization") {
        if let (Some(unit), Ok(parent)) = (unit_of(definition), definition.defined_by.parse()) {
            children.entry(parent).or_default().push((unit, definition));
        }
    }
    children
}

impl Variables<'_> {
    /// The patches of a unit's Kustomization for what it defines. `above` is what led here: parents may be in a circle.
    fn patches(&self, unit: &UnitId, above: &mut BTreeSet<UnitId>) -> Vec<Value> {
        if !self.there || !above.insert(unit.clone()) {
            return Vec::new();
        }
        let mut patches = Vec::new();
        for (child, definition) in self.children.get(unit).into_iter().flatten() {
            let spec = &definition.object["spec"];
            let mut steps = Vec::new();
            if let Some(post_build) = spec.get("postBuild") {
                let (path, value) = match post_build.get("substituteFrom") {
                    Some(Value::Array(_)) => ("/spec/postBuild/substituteFrom/0", variables_from()),
                    _ => ("/spec/postBuild/substituteFrom", json!([variables_from()])),
                };
                steps.push(json!({"op": "add", "path": path, "value": value}));
            }
            let below = self.patches(child, above);
            match spec.get("patches") {
                Some(Value::Array(_)) => steps.extend(
                    below.into_iter().map(|it| json!({"op": "add", "path": "/spec/patches/-", "value": it})),
                ),
                _ if below.is_empty() => {}
                _ => steps.push(json!({"op": "add", "path": "/spec/patches", "value": below})),
            }
            if !steps.is_empty() {
                let patch = flotilla_yaml::write(&flotilla_yaml::Node::from_json(&steps.into()));
                let target = json!({"group": KUSTOMIZE, "kind": "Kustomization", "name": definition.name});
                patches.push(json!({"target": target, "patch": patch}));
            }
        }
        above.remove(unit);
        patches
    }
}

fn variables_from() -> Value {
    json!({"kind": "ConfigMap", "name": VARIABLES})
}

/// The mapping at a key of `spec`, made where it is missing.
fn part<'a>(object: &'a mut Value, key: &str) -> Option<&'a mut Map<String, Value>> {
    let part = object.get_mut("spec")?.as_object_mut()?.entry(key).or_insert_with(|| json!({}));
    if part.is_null() {
        *part = json!({});
    }
    part.as_object_mut()
}

fn substitute_from(object: &mut Value) {
    let Some(post_build) = part(object, "postBuild") else { return };
    match post_build.get_mut("substituteFrom") {
        Some(Value::Array(from)) => from.insert(0, variables_from()),
        _ => _ = post_build.insert("substituteFrom".into(), json!([variables_from()])),
    }
}

fn takes_variables(object: &Value) -> bool {
    let from = object.pointer("/spec/postBuild/substituteFrom").and_then(Value::as_array);
    from.is_some_and(|from| from.contains(&variables_from()))
}

fn add_patches(object: &mut Value, patches: Vec<Value>) {
    if patches.is_empty() {
        return;
    }
    let Some(spec) = object["spec"].as_object_mut() else { return };
    match spec.get_mut("patches") {
        Some(Value::Array(there)) => there.extend(patches),
        _ => _ = spec.insert("patches".into(), patches.into()),
    }
}

fn namespace_of(object: &Value) -> String {
    object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned()
}

/// The Secrets that a Flux object names for its controller.
fn secrets_of(object: &Value) -> Vec<String> {
    let fields = ["secretRef", "certSecretRef", "proxySecretRef", "decryption/secretRef", "verify/secretRef"];
    let named = fields.iter().filter_map(|field| object.pointer(&format!("/spec/{field}/name"))?.as_str());
    named.map(|name| format!("{}/{name}", namespace_of(object))).collect()
}

fn new_root(path: &str) -> Value {
    json!({
        "apiVersion": format!("{KUSTOMIZE}/v1"),
        "kind": "Kustomization",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {
            "interval": "10m",
            "path": format!("./{}", path.trim_start_matches("./")),
            "prune": true,
            "sourceRef": {"kind": "GitRepository", "name": NAME},
        },
    })
}

fn new_source(fleet: &Source, secret: Option<&str>, warnings: &mut Vec<String>) -> Value {
    let url = &fleet.url;
    if !["https://", "http://", "ssh://"].iter().any(|scheme| url.starts_with(scheme)) {
        warnings
            .push(format!("Flux fetches by https, http and ssh only, and the hub fetches {url}: give --url"));
    }
    let mut source = json!({
        "apiVersion": "source.toolkit.fluxcd.io/v1",
        "kind": "GitRepository",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {"interval": "1m", "url": url, "ref": {"branch": fleet.reference}},
    });
    if let Some(secret) = secret {
        source["spec"]["secretRef"] = json!({"name": secret});
    }
    source
}
