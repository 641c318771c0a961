//! A folder rendered as the hub would render a commit of it: no hub, no Git.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use clap::Args;
use flotilla_api::{Problem, UnitManifests, UnitState};
use flotilla_core::report;
use flotilla_core::source::{Source, SourceId};
use flotilla_core::{ClusterName, Digest, Object, ObjectId, UnitId, UnitKind};
use flotilla_kustomize::files::{Files, TreePath};
use flotilla_render::flux::roots::{self, Roots};
use flotilla_render::helm::{self, Asked, Helm, Limits, Program};
use flotilla_render::plan;
use flotilla_render::source::Revision;
use flotilla_render::{
    Artifact, Budget, ClusterDefinition, ClusterRender, Fleet, Inputs, RemoteBase, RenderCache, RenderedUnit,
    Sources, Unavailable, discover, render_in_turns,
};
use flotilla_runtime::lock;
use flotilla_source::{FolderFiles, GitLimits};
use serde::Serialize;

use crate::bases::Bases;
use crate::error::Error;
use crate::exit::Code;

/// In place of a revision.
const THE_FOLDER: &str = "the folder";

/// What charts are told of a cluster that nobody asks.
pub(crate) const KUBERNETES: &str = "v1.36.0";

/// So many releases may each come after another.
const MAX_TURNS: usize = 500;

/// Where the fleet repo is on this machine.
#[derive(Debug, Clone, Args)]
pub(crate) struct RepoArgs {
    /// Folder with the fleet repo: as it is now, committed or not
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) repo: PathBuf,
    #[command(flatten)]
    pub(crate) clusters: ClustersArgs,
    /// Folders that stand in for sources other than the fleet repo, which are not fetched
    #[arg(long, value_name = "KIND/NAMESPACE/NAME=DIR", value_delimiter = ',', value_parser = local_source)]
    pub(crate) local_sources: Vec<(SourceId, PathBuf)>,
}

impl RepoArgs {
    pub(crate) fn open(&self) -> Result<Repo, Error> {
        let mut repo = Repo::open(&self.repo, &self.clusters)?;
        repo.add_local(&self.local_sources)?;
        Ok(repo)
    }
}

pub(crate) fn local_source(text: &str) -> Result<(SourceId, PathBuf), String> {
    let wrong = || format!("'{text}' is not of the form KIND/NAMESPACE/NAME=DIR");
    let (source, folder) = text.split_once('=').filter(|(_, folder)| !folder.is_empty()).ok_or_else(wrong)?;
    let source = source.parse().map_err(|error: flotilla_core::source::InvalidSourceId| error.to_string())?;
    Ok((source, PathBuf::from(folder)))
}

/// Why a unit is not rendered whose source is not the fleet repo.
pub(crate) const NOT_FETCHED: &str =
    "is not fetched offline; --local-sources can name a folder that stands in for it";

/// Folders in place of what the hub would fetch. What kustomizations name outside of their source is fetched.
#[derive(Clone, Default)]
struct LocalSources {
    folders: BTreeMap<SourceId, Artifact>,
    bases: Arc<Bases>,
}

impl Sources for LocalSources {
    fn content(&self, source: &Source) -> Result<Artifact, Unavailable> {
        self.folders.get(&source.id).cloned().ok_or_else(|| Unavailable::new(NOT_FETCHED))
    }

    fn remote(&self, address: &str, _interval: u32) -> Result<RemoteBase, Unavailable> {
        self.bases.get(address)
    }

    fn allows_unverified(&self, source: &SourceId) -> bool {
        self.folders.contains_key(source)
    }
}

/// Where clusters are defined in it.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClustersArgs {
    /// Path in the fleet repo below which clusters are defined
    #[arg(long, value_name = "PATH", default_value = "clusters")]
    pub(crate) clusters: String,
    /// Whether a variable that is not set and has no default is an error, as the hub's flag of this name
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub(crate) strict_substitution: bool,
}

/// A fleet repo on this machine.
pub(crate) struct Repo {
    tree: Artifact,
    clusters: TreePath,
    strict: bool,
    cache: RenderCache,
    local: LocalSources,
    renders: Arc<Renders>,
    pub(crate) budget: Budget,
    pub(crate) fleet: Fleet,
}

/// One cluster, rendered.
#[derive(Debug, Default)]
pub(crate) struct Rendered {
    /// Parents before children. Secrets are as in the repo.
    pub(crate) units: Vec<UnitManifests>,
    /// What is wrong, with the unit it is wrong with; notices too.
    pub(crate) problems: Vec<(Option<UnitId>, Problem)>,
    /// Where objects, units and sources come from.
    pub(crate) traces: Vec<Trace>,
    /// Each unit, with the one that defines it.
    pub(crate) parents: BTreeMap<UnitId, Option<UnitId>>,
}

/// Where something that is rendered comes from.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Trace {
    /// Empty for the core group.
    pub(crate) group: String,
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// File and line; the source stands before the file where it is not the fleet repo.
    pub(crate) file: String,
    /// The unit that it belongs to; for a unit or source the one that defines it.
    pub(crate) unit: String,
    pub(crate) unit_defined_at: String,
    /// Where the unit's files are, and the revision they have here.
    pub(crate) source: String,
    pub(crate) revision: String,
}

impl Trace {
    fn new(id: (&str, &str, &str, &str), at: &(String, u32), unit: &UnitId, rendered: &RenderedUnit) -> Self {
        let (group, kind, namespace, name) = id;
        Self {
            group: group.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            file: place(at),
            unit: unit.to_string(),
            unit_defined_at: defined_at(rendered),
            source: rendered.definition.source.to_string(),
            revision: match &rendered.revision {
                Some(Revision::Fleet) => THE_FOLDER.to_owned(),
                Some(Revision::Of(revision)) => revision.to_string(),
                None => String::new(),
            },
        }
    }

    /// `kind` or `kind.group`, in any case; a kind's plural counts too.
    pub(crate) fn is_kind(&self, text: &str) -> bool {
        let text = text.to_ascii_lowercase();
        let (kind, group) = text.split_once('.').unwrap_or((&text, ""));
        let own = self.kind.to_ascii_lowercase();
        let plural = own.strip_suffix('y').map_or(format!("{own}s"), |stem| format!("{stem}ies"));
        (kind == own || kind == plural || kind == format!("{own}es"))
            && (group.is_empty() || group == self.group)
    }

    /// `Deployment.apps web/frontend`
    pub(crate) fn object(&self) -> String {
        ObjectId::new(&*self.group, &*self.kind, &*self.namespace, &*self.name).to_string()
    }
}

fn defined_at(unit: &RenderedUnit) -> String {
    place(&(unit.definition.file.clone(), unit.definition.line))
}

fn place((file, line): &(String, u32)) -> String {
    match line {
        0 => file.clone(),
        line => format!("{file}:{line}"),
    }
}

impl Rendered {
    /// What holds something back.
    pub(crate) fn errors(&self) -> usize {
        self.problems.iter().filter(|(_, problem)| !problem.notice).count()
    }
}

impl Repo {
    pub(crate) fn open(folder: &Path, clusters: &ClustersArgs) -> Result<Self, Error> {
        let files = FolderFiles::open(folder, GitLimits::default().file_bytes);
        let files = files.map_err(|error| unread(&folder.display().to_string(), error))?;
        Self::of(Arc::new(files), &folder.display().to_string(), clusters)
    }

    /// Of files that are called `what`.
    pub(crate) fn of(files: Arc<dyn Files>, what: &str, clusters: &ClustersArgs) -> Result<Self, Error> {
        let strict = clusters.strict_substitution;
        let clusters = TreePath::from_root(&clusters.clusters)
            .map_err(|error| Error::usage("--clusters is not a path in the fleet repo").because(error))?;
        let fleet = discover(&*files, &clusters).map_err(|error| unread(what, error))?;
        Ok(Self {
            tree: Artifact::new(files, THE_FOLDER, "the fleet repo"),
            clusters,
            strict,
            cache: RenderCache::new(),
            local: LocalSources::default(),
            renders: Arc::default(),
            budget: Budget::default(),
            fleet,
        })
    }

    /// Takes sources, and what helm has rendered, from where another commit of the repository has them.
    pub(crate) fn with_sources_of(self, other: &Self) -> Self {
        Self { local: other.local.clone(), renders: other.renders.clone(), budget: other.budget, ..self }
    }

    /// Lets folders stand in for sources.
    ///
    /// # Errors
    /// Where a folder cannot be read.
    pub(crate) fn add_local(&mut self, sources: &[(SourceId, PathBuf)]) -> Result<(), Error> {
        for (source, folder) in sources {
            let files = FolderFiles::open(folder, GitLimits::default().file_bytes).map_err(|error| {
                Error::new(Code::Input, format!("cannot read {} for {source}", folder.display()))
                    .because(error)
            })?;
            let artifact = Artifact::new(Arc::new(files), THE_FOLDER, &source.to_string());
            self.local.folders.insert(source.clone(), artifact);
        }
        Ok(())
    }

    /// The files of the fleet repo.
    pub(crate) fn files(&self) -> &dyn Files {
        &*self.tree.files
    }

    /// The folder that clusters are read from.
    pub(crate) fn clusters(&self) -> &TreePath {
        &self.clusters
    }

    /// Whether Git may define clusters that are not known here.
    pub(crate) fn names_in_doubt(&self) -> bool {
        // Where there is no such folder, nothing is defined.
        let is_missing = matches!(self.tree.files.entry(&self.clusters), Ok(None));
        !self.fleet.unclear.is_empty() || self.fleet.in_part && !is_missing
    }

    /// Where Flux has the roots of clusters in this repository.
    ///
    /// # Errors
    /// Where a folder cannot be read.
    pub(crate) fn flux_roots(&self) -> Result<Roots, Error> {
        roots::find(&*self.tree.files, &self.fleet)
            .map_err(|error| Error::new(Code::Input, "cannot look through the fleet repo").because(error))
    }

    /// All clusters, those included whose definition is not clear.
    pub(crate) fn names(&self) -> Vec<ClusterName> {
        let mut names: Vec<_> =
            self.fleet.clusters.keys().chain(self.fleet.unclear.keys()).cloned().collect();
        names.sort();
        names
    }

    /// What is said of a fleet without a cluster: it runs nothing. Where Flux has roots in the repository, they are named.
    pub(crate) fn no_cluster(&self) -> Result<String, Error> {
        let found = self.flux_roots()?.free;
        let mut message = "the repository defines no cluster".to_owned();
        if !found.is_empty() {
            let paths: Vec<String> = found.iter().map(|root| root.path.to_string()).collect();
            let _ = write!(
                message,
                "; Flux has the roots of clusters at {}: `flotilla import --repo DIR` prints the Cluster objects for them, and the \
                 flag to use",
                paths.join(", ")
            );
        }
        Ok(message)
    }

    /// Renders one cluster.
    ///
    /// # Errors
    /// Where there is no such cluster, or files cannot be read. What is wrong with their content is in the result.
    pub(crate) fn render(&self, name: &ClusterName) -> Result<Rendered, Error> {
        if let Some(problems) = self.fleet.unclear.get(name) {
            let problems = problems.iter().map(|problem| (None, Problem::from(problem))).collect();
            return Ok(Rendered { problems, ..Rendered::default() });
        }
        let Some(definition) = self.fleet.clusters.get(name) else {
            let known: Vec<String> = self.names().iter().map(ToString::to_string).collect();
            let known = if known.is_empty() {
                "it defines none".to_owned()
            } else {
                format!("it has {}", known.join(", "))
            };
            let message = format!("the fleet repo has no cluster {name} in {}", self.clusters);
            return Err(Error::new(Code::NotFound, message).hint(known));
        };
        let (render, problems) = self.render_as(definition, KUBERNETES)?;
        let mut out = rendered(&render);
        out.problems.extend(problems.iter().map(|problem| (None, Problem::from(problem))));
        Ok(out)
    }

    /// Renders a cluster that runs a version of Kubernetes (`v1.36.0`). The problems are those of helm as a whole.
    ///
    /// # Errors
    /// Where files cannot be read.
    pub(crate) fn render_as(
        &self,
        definition: &ClusterDefinition,
        kubernetes: &str,
    ) -> Result<(ClusterRender, Vec<report::Problem>), Error> {
        let name = &definition.name;
        let failed = |error| Error::new(Code::Input, format!("cannot render cluster {name}")).because(error);
        let helm = Program::new("helm", Limits::default());
        let inputs = Inputs {
            renders: &*self.renders,
            kube_version: Some(kubernetes),
            budget: self.budget,
            strict: self.strict,
            ..Inputs::new(&self.tree, &self.clusters, &self.cache, &self.local)
        };
        let mut is_asked = false;
        let render = render_in_turns(&inputs, definition, MAX_TURNS, |requests| {
            is_asked = true;
            for (key, Asked { request, .. }) in requests {
                let text = helm.template(&request);
                let text = text.map(|manifests| manifests.text.into()).map_err(|error| error.to_string());
                self.renders.keep(key, text);
            }
        });
        let render = render.map_err(failed)?;
        let mut problems = Vec::new();
        if is_asked && let Some(faults) = helm.faults() {
            problems.push(report::Problem::error("", 0, faults).as_notice());
        }
        if !render.requests.is_empty() {
            let names = render.requests.values().map(|asked| asked.unit.to_string());
            let message = format!(
                "helm was asked in {MAX_TURNS} turns, and what it answered last still defines releases that it was not \
                 asked for: {}",
                names.collect::<Vec<_>>().join(", ")
            );
            problems.push(report::Problem::error("", 0, message));
        }
        Ok((render, problems))
    }
}

fn unread(what: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(Code::Input, format!("cannot read the fleet repo {what}"))
        .because(error)
        .hint("--repo names the folder that holds `clusters/`, `apps/` and the like")
}

/// What helm has rendered in this run.
#[derive(Default)]
struct Renders(Mutex<BTreeMap<Digest, Result<Arc<str>, String>>>);

impl Renders {
    fn keep(&self, key: Digest, text: Result<Arc<str>, String>) {
        lock(&self.0).insert(key, text);
    }
}

impl helm::Renders for Renders {
    fn get(&self, key: Digest) -> Option<Result<Arc<str>, String>> {
        lock(&self.0).get(&key).cloned()
    }
}

pub(crate) fn rendered(render: &ClusterRender) -> Rendered {
    let mut out = Rendered::default();
    for (id, unit) in &render.units {
        out.parents.insert(id.clone(), unit.parent.clone());
        out.problems.extend(unit.problems.iter().map(|problem| (Some(id.clone()), Problem::from(problem))));
        let (state, objects) = match &unit.unit {
            Some(unit) => (UnitState::Present, unit.content.objects.iter().map(Object::value).collect()),
            None => (UnitState::Held, Vec::new()),
        };
        let reasons = unit.problems.iter().filter(|problem| !problem.notice).map(ToString::to_string);
        let reason =
            if state == UnitState::Held { reasons.collect::<Vec<_>>().join("; ") } else { String::new() };
        let policy = unit.unit.as_ref().map(|unit| plan::settings(&unit.manifest.spec));
        let parent = unit.parent.as_ref().map(ToString::to_string).unwrap_or_default();
        out.units.push(UnitManifests { unit: id.to_string(), state, reason, parent, policy, objects });
        for (object, at) in
            unit.unit.iter().flat_map(|unit| unit.content.objects.iter().zip(&unit.content.origins))
        {
            let id_of = object.id();
            let name = (&*id_of.group, &*id_of.kind, &*id_of.namespace, &*id_of.name);
            out.traces.push(Trace::new(name, at, id, unit));
        }
        if let Some((parent, above)) = unit.parent.as_ref().and_then(|id| Some((id, render.units.get(id)?))) {
            let (group, kind) = match id.kind {
                UnitKind::HelmRelease => ("helm.toolkit.fluxcd.io", "HelmRelease"),
                UnitKind::Root | UnitKind::Kustomization | UnitKind::Other => {
                    ("kustomize.toolkit.fluxcd.io", "Kustomization")
                }
            };
            let name = (group, kind, id.namespace.as_str(), id.name.as_str());
            let at = (unit.definition.file.clone(), unit.definition.line);
            out.traces.push(Trace::new(name, &at, parent, above));
        }
    }
    for (id, source) in &render.sources {
        if let Some(unit) = render.units.get(&source.defined_by) {
            let name = (id.kind.group(), id.kind.as_str(), id.namespace.as_str(), id.name.as_str());
            out.traces.push(Trace::new(name, &source.defined_at, &source.defined_by, unit));
        }
    }
    out
}
