//! A plan against a hub: from what it has published for each cluster, which may be of several commits, to what a folder or commit
//! comes to.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_api::{Cluster, Manifests, UnitManifests, UnitState};
use flotilla_core::change::Policy;
use flotilla_core::report::Problem;
use flotilla_core::template::FIELD as TEMPLATE;
use flotilla_core::{ClusterName, Digest, Object, UnitId, UnitSpec};
use flotilla_kustomize::files::TreePath;
use flotilla_render::ClusterRender;
use flotilla_render::plan::published::{Told, published, replaced};
use flotilla_render::plan::stages::whens;
use flotilla_render::plan::{Differ, Misfits, PlanBuilder, Side, fit, plan};
use serde_json::Value;

use super::versions::Versions;
use super::{Compared, each, rendered, side};
use crate::Context;
use crate::client::{Choice, Client};
use crate::commands::diff::hide_as_the_hub_does;
use crate::diff::is_open_secret;
use crate::error::Error;
use crate::exit::Code;
use crate::offline::{NOT_FETCHED, Repo};

/// So many clusters are in memory at a time, and asked for at once.
const AT_ONCE: usize = 16;

/// What a hub has published.
pub(super) struct Server {
    client: Client,
    clusters: BTreeMap<ClusterName, Cluster>,
    /// The token is of the whole fleet.
    sees_all: bool,
    /// Pipelines that the hub works on or keeps.
    pipelines: BTreeSet<String>,
}

/// What it has published for one cluster.
enum From {
    Absent,
    Unclear(Vec<Problem>),
    Published(Manifests),
}

impl Server {
    pub(super) async fn open(context: &Context) -> Result<Self, Error> {
        let client = context.hub()?;
        let scope = client.who_am_i().await?.scope;
        if !scope.namespaces.is_empty() {
            let message = format!(
                "the token sees only parts of clusters ({scope}): what it does not see would look new"
            );
            return Err(Error::new(Code::Denied, message)
                .hint("a plan takes a token of whole clusters, or of the fleet"));
        }
        let sees_all = scope.is_fleet();
        let mut clusters = BTreeMap::new();
        for cluster in client.clusters(&Choice::default()).await? {
            let name = cluster.name.parse::<ClusterName>();
            let name = name.map_err(|error| {
                Error::new(Code::HubFailed, "the hub names a cluster wrongly").because(error)
            })?;
            clusters.insert(name, cluster);
        }
        let pipelines = if sees_all { client.pipelines().await? } else { Vec::new() };
        let pipelines = pipelines.into_iter().map(|pipeline| pipeline.name).collect();
        Ok(Self { client, clusters, sees_all, pipelines })
    }

    pub(super) fn name(&self) -> String {
        format!("what {} has published", self.client.hub())
    }

    /// What clusters run, for those of which no rule says it.
    pub(super) fn versions(&self) -> impl Iterator<Item = (&ClusterName, &str)> {
        let known = self.clusters.iter().filter(|(_, cluster)| !cluster.kubernetes_version.is_empty());
        known.map(|(name, cluster)| (name, cluster.kubernetes_version.as_str()))
    }

    /// The clusters that can be compared: of those that the hub alone knows, the ones that Git defined.
    pub(super) fn names(&self, context: &Context, to: &Repo) -> Vec<ClusterName> {
        let assigned = self.clusters.iter().filter(|(_, cluster)| cluster.assigned);
        let mut names: BTreeSet<ClusterName> = assigned.map(|(name, _)| name.clone()).collect();
        let (mine, others): (Vec<_>, Vec<_>) =
            to.names().into_iter().partition(|name| self.sees_all || self.clusters.contains_key(name));
        if !others.is_empty() {
            context.terminal.warn(&format!(
                "the token is not of the whole fleet: {} clusters are not compared",
                others.len()
            ));
        }
        names.extend(mine);
        names.into_iter().collect()
    }

    /// Pipelines of the hub that are gone: what they promoted does not follow.
    pub(super) fn gone(&self, to: &Repo) -> Vec<Problem> {
        let pipelines = &to.fleet.pipelines;
        let is_there = |name: &str| {
            pipelines.read.contains_key(name)
                || pipelines
                    .unread
                    .iter()
                    .any(|unread| unread.name.as_deref().is_none_or(|unread| unread == name))
        };
        let gone = self.pipelines.iter().filter(|name| !is_there(name));
        gone.map(|name| {
            let message = format!(
                "the pipeline '{name}' of the hub is not defined any more: what it promoted stays as it runs until `flotilla rollout \
                 forget {name}`"
            );
            Problem::error("", 0, message).as_notice()
        })
        .collect()
    }

    pub(super) async fn compare(
        &self,
        context: &Context,
        to: &Repo,
        names: &[ClusterName],
        versions: &Versions,
        differ: &Differ,
    ) -> Result<Compared, Error> {
        let mut builder = PlanBuilder::default();
        let (mut said, mut blind): (Vec<Problem>, Option<String>) = (Vec::new(), None);
        for some in names.chunks(AT_ONCE) {
            let mut published_of = self.fetch(some).await?;
            let renders = each(some, |name| rendered(to, name, versions))?;
            let mut sides = Vec::new();
            for (name, (render, problems)) in some.iter().zip(renders) {
                problems.into_iter().for_each(|problem| {
                    if !said.contains(&problem) {
                        said.push(problem);
                    }
                });
                let from = published_of.remove(name).unwrap_or(From::Absent);
                sides.push(match (from, render) {
                    (From::Published(mut manifests), Some(render)) => {
                        let (hidden, why) = hide(&self.client, name, &mut manifests, &render).await?;
                        blind = blind.or(why);
                        (From::Published(manifests), Some(hidden))
                    }
                    other => other,
                });
            }
            for (name, (from, render)) in some.iter().zip(sides) {
                let version = versions.of(name, labels(to, name)).version;
                let after = side(to, name, &render);
                let now = match &from {
                    From::Published(manifests) => Some(published(told(manifests)?, render.as_ref())),
                    From::Absent | From::Unclear(_) => None,
                };
                let root = self.root(to, name);
                let before = match (&from, &now) {
                    (From::Unclear(problems), _) => Side::Unclear(problems),
                    (From::Published(_), Some(render)) => Side::Defined { root: &root, render },
                    _ => Side::Absent,
                };
                let check = |render: &Option<ClusterRender>| {
                    render.as_ref().map(|render| fit::check(render, version)).unwrap_or_default()
                };
                let misfits = Misfits { before: check(&now), after: check(&render) };
                let planned = plan(before, after, differ, NOT_FETCHED);
                let pipelines = &to.fleet.pipelines;
                let whens = whens(name, (before, pipelines), (after, pipelines), &planned.plan);
                builder.add(name.clone(), planned, misfits, whens);
            }
        }
        if let Some(why) = blind {
            context.terminal.warn(&format!("values of Secrets are not compared: {why}"));
        }
        let policy = to.fleet.policy.over(&Policy::default()).unwrap_or_default();
        Ok((builder.finish(&policy, &to.fleet.pipelines), said))
    }

    /// The folder that a cluster's root is now, or as the other side has it where the hub does not say.
    fn root(&self, to: &Repo, name: &ClusterName) -> TreePath {
        let told =
            self.clusters.get(name).map(|cluster| cluster.root.as_str()).filter(|root| !root.is_empty());
        let told = told.and_then(|root| TreePath::from_root(root).ok());
        let other = || to.fleet.clusters.get(name).map(|definition| definition.root.path.clone());
        told.or_else(other).unwrap_or_else(TreePath::root)
    }

    async fn fetch(&self, names: &[ClusterName]) -> Result<BTreeMap<ClusterName, From>, Error> {
        let mut asking = tokio::task::JoinSet::new();
        for name in names.iter().filter(|name| self.clusters.contains_key(*name)) {
            let (client, name) = (self.client.clone(), name.clone());
            asking.spawn(async move { (client.manifests(&name).await, name) });
        }
        let mut found = BTreeMap::new();
        while let Some(answer) = asking.join_next().await {
            let (answer, name) = answer.map_err(|error| {
                Error::new(Code::HubFailed, "a question to the hub was cut short").because(error)
            })?;
            let from = match answer {
                Ok(manifests) => From::Published(manifests),
                Err(error) if error.code() == Code::NotFound => From::Absent,
                // It does not know what the cluster should run.
                Err(error) if error.code() == Code::Refused => {
                    From::Unclear(vec![Problem::error("", 0, error.chain())])
                }
                Err(error) => return Err(error),
            };
            found.insert(name, from);
        }
        Ok(found)
    }
}

fn labels<'a>(to: &'a Repo, name: &ClusterName) -> &'a BTreeMap<String, String> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    to.fleet.clusters.get(name).map_or(&NONE, |definition| &definition.policy.labels)
}

/// A render with the values of Secrets as the hub shows them, and why that could not be done: then neither side has them.
async fn hide(
    client: &Client,
    name: &ClusterName,
    manifests: &mut Manifests,
    render: &ClusterRender,
) -> Result<(ClusterRender, Option<String>), Error> {
    let units = render.units.iter().filter_map(|(id, unit)| Some((id, unit.unit.as_ref()?)));
    let (mut secrets, mut shown) = (Vec::new(), Vec::new());
    for (id, unit) in units {
        let open: Vec<&Object> =
            unit.content.objects.iter().filter(|object| is_open_secret(&object.value())).collect();
        if !open.is_empty() {
            let objects = open.iter().map(|object| object.value()).collect();
            shown.push(UnitManifests {
                unit: id.to_string(),
                state: UnitState::Present,
                objects,
                ..Default::default()
            });
            secrets.extend(open);
        }
    }
    let why = hide_as_the_hub_does(client, name, manifests, &mut shown).await?;
    let hidden = shown.into_iter().flat_map(|unit| unit.objects);
    let objects: Result<BTreeMap<Digest, Object>, Error> =
        secrets.iter().zip(hidden).map(|(secret, value)| Ok((secret.digest(), object(&value)?))).collect();
    Ok((replaced(render, &objects?), why))
}

/// What a hub says of units, read.
fn told(manifests: &Manifests) -> Result<BTreeMap<UnitId, Told>, Error> {
    let mut units = BTreeMap::new();
    for UnitManifests { unit, state, reason, parent, policy, objects } in &manifests.units {
        let id = |text: &str| text.parse::<UnitId>().map_err(wrong);
        let told = match state {
            // It goes already.
            UnitState::Removed => continue,
            UnitState::Held => Err(reason.clone()),
            UnitState::Present => match policy {
                Some(policy) => {
                    let policy: UnitSpec = serde_json::from_value(policy.clone()).map_err(wrong)?;
                    Ok((policy, objects.iter().map(object).collect::<Result<_, _>>()?))
                }
                None => Err("the hub is too old to say what the unit is like".to_owned()),
            },
        };
        let parent = if parent.is_empty() { None } else { Some(id(parent)?) };
        units.insert(id(unit)?, Told { parent, unit: told });
    }
    Ok(units)
}

fn object(value: &Value) -> Result<Object, Error> {
    let is_template = value.get(TEMPLATE).is_some();
    Object::from_body(value.to_string().into(), is_template).map_err(wrong)
}

fn wrong(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(Code::HubFailed, "what the hub has published cannot be read").because(error)
}
