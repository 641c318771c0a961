//! A cluster in memory: its files, and sources that answer by their name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use flotilla_core::UnitId;
use flotilla_core::question::{Question, Reply};
use flotilla_core::source::{Source, SourceId};
use flotilla_kustomize::files::{MemoryFiles, TreePath};
use flotilla_render::{
    Artifact, Ask, Budget, ClusterDefinition, ClusterRender, Content, Inputs, RenderCache, Sources, Told,
    Unavailable, discover, render_cluster,
};
use flotilla_sops::service::{Answer, Ask as KeyAsk};

/// Answers by the name of the source, and notes who was asked for.
#[derive(Default)]
pub(crate) struct Fetched {
    pub(crate) trees: BTreeMap<&'static str, Artifact>,
    pub(crate) asked: Mutex<Vec<String>>,
    pub(crate) allowed: Vec<SourceId>,
    /// Secrets that the hub keeps: entries by namespace and name.
    pub(crate) secrets: BTreeMap<(String, String), BTreeMap<String, Vec<u8>>>,
    /// What key services answer, in base64; nothing yet without.
    pub(crate) data_key: Option<&'static str>,
}

impl Sources for Fetched {
    fn content(&self, source: &Source) -> Result<Artifact, Unavailable> {
        self.asked.lock().unwrap().push(source.id.to_string());
        let tree = self.trees.get(source.id.name.as_str()).cloned();
        tree.ok_or_else(|| Unavailable::waiting("is not fetched yet"))
    }

    fn secret(&self, namespace: &str, name: &str) -> Result<Option<BTreeMap<String, Vec<u8>>>, Unavailable> {
        Ok(self.secrets.get(&(namespace.to_owned(), name.to_owned())).cloned())
    }

    fn data_key(&self, ask: &KeyAsk) -> Answer {
        self.asked.lock().unwrap().push(ask.to_string());
        let key = self.data_key.ok_or_else(|| "is being asked".to_owned())?;
        ask.data_key(200, format!(r#"{{"data":{{"plaintext":"{key}"}}}}"#).as_bytes())
    }

    fn allows_unverified(&self, source: &SourceId) -> bool {
        self.allowed.contains(source)
    }
}

pub(crate) fn tree(files: &[(&str, String)], origin: &str) -> Artifact {
    let files = MemoryFiles::new(files.iter().map(|(path, content)| (*path, content.as_str())));
    Artifact::new(Arc::new(files), format!("{origin}@sha1:1"), origin)
}

pub(crate) fn unit(name: &str, source: &str, more: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap_or(("flux-system", name));
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: {name}, namespace: \
         {namespace}}}\nspec:\n  prune: true\n  interval: 1m\n  sourceRef: {source}\n{more}"
    )
}

pub(crate) fn git(name: &str, more: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap_or(("flux-system", name));
    format!(
        "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {{name: {name}, namespace: \
         {namespace}}}\nspec:\n  interval: 1m\n  url: https://example.org/{name}\n{more}"
    )
}

pub(crate) fn config_map(name: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: d}}\n")
}

pub(crate) const FLEET: &str = "{kind: GitRepository, name: flux-system, namespace: flux-system}";
pub(crate) const TEAM: &str = "{kind: GitRepository, name: team}";

/// What the cluster's agent has answered; none where there is no agent that could.
pub(crate) struct Agent(pub(crate) Option<BTreeMap<Question, Reply>>);

impl Ask for Agent {
    fn ask(&self, question: &Question) -> Told {
        let Some(replies) = &self.0 else { return Told::Nobody };
        replies.get(question).map_or(Told::NotYet, |reply| Told::Reply(Arc::new(reply.clone())))
    }
}

pub(crate) struct World {
    pub(crate) fetched: Fetched,
    pub(crate) cache: RenderCache,
    pub(crate) last_good: BTreeMap<UnitId, Arc<Content>>,
    pub(crate) budget: Budget,
    pub(crate) agent: Agent,
}

impl World {
    pub(crate) fn new(trees: &[(&'static str, Artifact)]) -> Self {
        let fetched = Fetched { trees: trees.iter().cloned().collect(), ..Fetched::default() };
        let (last_good, budget) = (BTreeMap::new(), Budget::default());
        Self { fetched, cache: RenderCache::new(), last_good, budget, agent: Agent(None) }
    }

    pub(crate) fn render(&self, files: &[(&str, String)]) -> ClusterRender {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), text.clone())).collect();
        self.render_in("x", &files)
    }

    /// Renders one of the clusters of a repository.
    pub(crate) fn render_in(&self, name: &str, files: &BTreeMap<String, String>) -> ClusterRender {
        let clusters = TreePath::from_root("clusters").unwrap();
        let files: Vec<(&str, String)> =
            files.iter().map(|(path, text)| (path.as_str(), text.clone())).collect();
        let fleet = tree(&files, "fleet");
        let found = discover(&*fleet.files, &clusters).unwrap();
        let root = clusters.join(name).unwrap();
        let folder = ClusterDefinition::of_folder(name.parse().unwrap(), root);
        let cluster = found.clusters.get(&folder.name).unwrap_or(&folder).clone();
        let last_good = |id: &UnitId| self.last_good.get(id).cloned();
        let budget = self.budget;
        let inputs =
            Inputs { budget, ask: &self.agent, ..Inputs::new(&fleet, &clusters, &self.cache, &self.fetched) };
        render_cluster(&Inputs { last_good: &last_good, kube_version: Some("v1.36.3"), ..inputs }, &cluster)
            .unwrap()
    }

    pub(crate) fn shown(&self, files: &[(&str, String)]) -> Vec<String> {
        shown(&self.render(files))
    }
}

pub(crate) fn shown(render: &ClusterRender) -> Vec<String> {
    let show = |(id, unit): (&UnitId, &Arc<flotilla_render::RenderedUnit>)| {
        let problems: Vec<_> = unit.problems.iter().map(ToString::to_string).collect();
        let what = unit.unit.as_ref().map_or("held".to_owned(), |u| u.content.objects.len().to_string());
        format!("{}: {what} {}", if id.name.is_empty() { "root" } else { &id.name }, problems.join("; "))
            .trim()
            .to_owned()
    };
    render.units.iter().map(show).collect()
}
