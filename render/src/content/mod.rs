//! One unit's content: what a build of its path puts out, sorted into objects, child units, sources and problems.

mod sort;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flotilla_core::report::Problem;
use flotilla_core::source::SourceId;
use flotilla_core::template::{Metadata, ValuesKind, ValuesRef};
use flotilla_core::unit::DriftMode;
use flotilla_core::{Digest, Object, ObjectId, UnitId, UnitSpec};
use flotilla_kustomize::files::{Files, Kind, ReadError, TreePath};
use flotilla_kustomize::{Answers, BuildError, FluxOverlay, Output, Request};
use flotilla_sops::service::{Answer, Ask};
use flotilla_yaml::Node;

use crate::attempts::Attempts;
use crate::budget::{Budget, Weight};
use crate::cache::{Outcome, Reads, RenderCache, Telling};
use crate::decryption::{AskKeys, Decryption, Opened};
use crate::field::Places;
use crate::flux::components::Controller;
use crate::footprint::{BuiltFor, Recorder};
use crate::helm::Packed;
use crate::helm::release::Release;
use crate::overlay;
use crate::shared::SharedManifests;
use crate::source::{Artifact, SourceDefinition, Sources, Unavailable, fleet_source, prefix};
use crate::substitute::{Built, UnitVariables};
use crate::trace::Traced;

pub(crate) use self::sort::Sorter;
use self::sort::{sort, sort_substituted};

/// A unit as its parent's output defines it.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    pub id: UnitId,
    /// Its policy; `parent` and `service_account` are filled in where the parent is known.
    pub spec: UnitSpec,
    /// What it says itself of its drift, over what its cluster says.
    pub drift: Option<DriftMode>,
    /// Where its files are.
    pub source: SourceId,
    pub path: TreePath,
    /// The fields of the Flux `Kustomization` that change what is built: a mapping.
    pub overlay: Node,
    /// For a HelmRelease: what is rendered in place of a path.
    pub release: Option<Arc<Release>>,
    pub post_build: Option<PostBuild>,
    /// As the definition names it, of the unit's own namespace.
    pub service_account: Option<String>,
    /// What the annotation `flotilla.dev/namespaces` says.
    pub namespaces: BTreeSet<String>,
    /// Where the definition stands.
    pub file: String,
    pub line: u32,
    /// The Flux object itself; `None` for the root and for what stands in for another object.
    pub object: Option<Object>,
}

impl Definition {
    /// What is known of a unit that nothing says more of than where it stands.
    pub(crate) fn unread(id: UnitId, (file, line): (String, u32)) -> Self {
        Self {
            id,
            spec: UnitSpec::default(),
            drift: None,
            source: fleet_source(),
            path: TreePath::root(),
            overlay: Node::map(),
            release: None,
            post_build: None,
            service_account: None,
            namespaces: BTreeSet::new(),
            file,
            line,
            object: None,
        }
    }
}

/// `spec.postBuild`: substitution after the build.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PostBuild {
    pub substitute: BTreeMap<String, String>,
    pub from: Vec<SubstituteFrom>,
    /// Substitute though no variable is set.
    pub always: bool,
}

/// A ConfigMap or Secret of the unit's namespace with variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubstituteFrom {
    pub kind: ValuesKind,
    pub name: String,
    pub optional: bool,
}

/// What a unit renders to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Content {
    /// In the order of the build.
    pub objects: Vec<Object>,
    pub children: Vec<Arc<Definition>>,
    /// Child units that are defined, but wrongly: they are kept as they are.
    pub broken_children: BTreeMap<UnitId, Vec<Problem>>,
    pub sources: Vec<SourceDefinition>,
    /// Sources that are defined, but wrongly.
    pub broken_sources: BTreeMap<SourceId, Vec<Problem>>,
    /// Flux's own controllers, which are not applied.
    pub controllers: Vec<Controller>,
    /// The Namespace that a release makes where nothing declares it, one of the objects.
    pub makes: Option<ObjectId>,
    /// What the revision of a release is made of that is installed as Helm does it.
    pub release: Option<Packed>,
    /// Where each object was written: file and line, beside `objects`.
    pub origins: Vec<(String, u32)>,
    pub notices: Vec<Problem>,
    pub weight: Weight,
    /// What units of several clusters are with it.
    pub manifests: SharedManifests,
}

impl SubstituteFrom {
    /// As one of a namespace.
    pub(crate) fn in_namespace(&self, namespace: &str) -> ValuesRef {
        ValuesRef { kind: self.kind, namespace: namespace.to_owned(), name: self.name.clone() }
    }
}

impl Content {
    /// Whether the output defines this unit, rightly or wrongly.
    pub fn defines(&self, id: &UnitId) -> bool {
        self.broken_children.contains_key(id) || self.children.iter().any(|child| child.id == *id)
    }
}

/// What is built: a path in a source, with an overlay.
pub(crate) struct Recipe<'a> {
    pub(crate) source: &'a SourceId,
    pub(crate) artifact: &'a Artifact,
    pub(crate) path: &'a TreePath,
    pub(crate) overlay: &'a Node,
    /// What is put in after the build, if anything is.
    pub(crate) variables: Option<&'a UnitVariables>,
    /// Where the keys are for what SOPS encrypted, if anywhere.
    pub(crate) decryption: Option<&'a Decryption>,
    /// The folder of cluster definitions, where objects of our own kinds may stand.
    pub(crate) clusters: &'a TreePath,
    /// The cluster's Flux allows nothing from outside of a source.
    pub(crate) no_remote_bases: bool,
    /// Where remote bases come from.
    pub(crate) sources: &'a dyn Sources,
    /// The unit's, in seconds.
    pub(crate) interval: u32,
    pub(crate) budget: Budget,
    pub(crate) attempts: &'a dyn Attempts,
    pub(crate) recorder: Option<&'a Recorder>,
    /// The unit that it is built for.
    pub(crate) unit: &'a UnitId,
}

/// Remote bases that name remote bases, and so on; and how many of them.
const ROUNDS: usize = 32;
const MOST_REMOTES: usize = 1000;

impl Recipe<'_> {
    fn key(&self) -> Digest {
        let overlay = self.overlay.to_json().map_or_else(|error| error.to_string(), |json| json.to_string());
        Digest::of_parts([
            self.source.to_string().as_bytes(),
            self.artifact.origin.as_bytes(),
            self.path.as_str().as_bytes(),
            overlay.as_bytes(),
            self.clusters.as_str().as_bytes(),
            if self.no_remote_bases { b"closed" } else { b"" },
            &self.decryption.map(Decryption::key).unwrap_or_default(),
        ])
    }

    fn problem(&self, message: impl Into<String>) -> Problem {
        Problem::error(format!("{}{}", prefix(self.source), self.path), 0, message)
    }

    fn failed(&self, error: &flotilla_kustomize::Error) -> Problem {
        let file = error.file.as_ref().map(|file| format!("{}{file}", prefix(self.source)));
        let problem = Problem::error(file.unwrap_or_default(), error.line, error.explained());
        Problem { column: error.column, field: error.field.clone().unwrap_or_default(), ..problem }
    }
}

/// Renders a recipe, from memory if nothing that it reads has changed.
///
/// # Errors
/// Only if the tree cannot be read; what is wrong with the content is the outcome.
pub(crate) fn render(cache: &RenderCache, recipe: &Recipe<'_>) -> Result<Outcome, ReadError> {
    let key = recipe.key();
    let (sources, interval) = (recipe.sources, recipe.interval);
    let remotes = |address: &str| sources.remote(address, interval);
    let what = || recipe.unit.to_string();
    let problem = |reason: String| recipe.problem(reason);
    let telling = Telling { attempts: recipe.attempts, what: &what, problem: &problem };
    let (recorder, of_fleet) = (recipe.recorder, *recipe.source == fleet_source());
    let (unit, variables, decrypts) = (recipe.unit, recipe.variables, recipe.decryption.is_some());
    let built_for = recorder.map(|recorder| BuiltFor { recorder, unit, of_fleet, variables, decrypts });
    let reads = Reads { files: &*recipe.artifact.files, remotes: &remotes, telling, built_for };
    let nothing = UnitVariables::default();
    let Some(variables) = recipe.variables.or(recipe.decryption.map(|_| &nothing)) else {
        return cache.content(key, reads, |files| {
            let output = build(files, recipe, &overlay::of(recipe.overlay), &asking(files, recipe))?;
            Ok(output.and_then(|output| sort(&output, recipe)).map(Into::into).map_err(Into::into))
        });
    };
    let mut overlay = overlay::of(recipe.overlay);
    // Flux sets them when it applies: after substitution.
    let metadata = Metadata {
        labels: std::mem::take(&mut overlay.common_labels),
        annotations: std::mem::take(&mut overlay.common_annotations),
    };
    let prefix = prefix(recipe.source);
    let built = cache.built(key, reads, |files| {
        let ask = asking(files, recipe);
        let output = build(files, recipe, &overlay, &ask)?;
        let built = output.and_then(|output| {
            Built::new(&output, &prefix, &recipe.budget, recipe.decryption, &ask)
                .map_err(|problem| vec![problem])
        });
        Ok(built.map(Into::into).map_err(Into::into))
    })?;
    let built = match built {
        Ok(built) => built,
        Err(problems) => return Ok(Err(problems)),
    };
    let text = serde_json::to_vec(variables).expect("variables have a JSON text");
    let request = Digest::of_parts([&key.as_bytes()[..], built.digest().as_bytes(), &text]);
    Ok(cache.substituted(request, telling, recorder, || {
        sort_substituted(&built, variables, &metadata, recipe).map(Into::into).map_err(Into::into)
    }))
}

/// Asks key services. What they did not answer is asked again, so nothing that comes of it is remembered.
fn asking<'a>(files: &'a Traced<'_>, recipe: &'a Recipe<'_>) -> impl Fn(&Ask) -> Answer + Sync + 'a {
    |ask| recipe.sources.data_key(ask).inspect_err(|_| files.lacks())
}

/// Whether there is a file in a folder, or below it.
fn holds_a_file(files: &dyn Files, folder: &TreePath) -> Result<bool, ReadError> {
    let mut open = vec![folder.clone()];
    while let Some(folder) = open.pop() {
        for (name, entry) in files.list(&folder)? {
            if entry.kind != Kind::Folder {
                return Ok(true);
            }
            open.push(folder.join(&name).map_err(|error| ReadError::of_path(&folder, &error))?);
        }
    }
    Ok(false)
}

fn build(
    files: &Traced<'_>,
    recipe: &Recipe<'_>,
    overlay: &FluxOverlay,
    ask: AskKeys<'_>,
) -> Result<Result<Output, Vec<Problem>>, ReadError> {
    let failed = |problem: Problem| Ok(Err(vec![problem]));
    match files.entry(recipe.path)? {
        Some(entry) if entry.kind == Kind::Folder => {}
        Some(_) => return failed(recipe.problem("is a file; spec.path names a folder")),
        None => return failed(recipe.problem("there is no such folder in the source")),
    }
    let (mut answers, limits) = (Answers::new(), recipe.budget.of_build());
    let opened = recipe.decryption.and_then(Decryption::at_hub).map(|keys| Opened::new(files, keys, ask));
    let view: &dyn Files = opened.as_ref().map_or(files, |opened| opened);
    for _ in 0..ROUNDS {
        let built = flotilla_kustomize::build_flux_within(view, recipe.path, overlay, &answers, limits);
        if let Some(shut) = opened.as_ref().and_then(Opened::shut) {
            let (path, message) = shut;
            return failed(Problem::error(format!("{}{path}", prefix(recipe.source)), 0, message));
        }
        let needs = match built {
            // Flux has no such folder then, and nothing that was applied may go for it.
            Ok(output) if output.documents.is_empty() && !holds_a_file(files, recipe.path)? => {
                let message = "nothing of the folder is in the source: .sourceignore or spec.ignore leaves out all of it";
                return failed(recipe.problem(message));
            }
            Ok(output) => return Ok(printed(output, recipe).map_err(|problem| vec![problem])),
            Err(BuildError::Failed(error)) => return failed(recipe.failed(&error)),
            Err(BuildError::Needs(needs)) => needs,
        };
        if recipe.no_remote_bases {
            let needs = BuildError::Needs(needs);
            return failed(recipe.problem(format!("{needs}, which --no-remote-bases forbids")));
        }
        if answers.len() + needs.len() > MOST_REMOTES {
            break;
        }
        let mut missing = Vec::new();
        // All of them are asked for, so that they are fetched at the same time.
        for request in needs {
            let answer = match &request {
                Request::Remote(address) => files.remote(address),
                Request::Helm(_) => {
                    Err(Unavailable::new("is not supported in a Kustomization; use a HelmRelease"))
                }
            };
            match answer {
                Ok(answer) => drop(answers.insert(request, answer)),
                Err(Unavailable { why, waiting }) => {
                    let problem = recipe.problem(format!("the build needs {request}: {why}"));
                    missing.push(problem.waiting(waiting));
                }
            }
        }
        if !missing.is_empty() {
            return Ok(Err(missing));
        }
    }
    let message = format!(
        "refers to more than {MOST_REMOTES} remote bases and files, or to {ROUNDS} behind each other"
    );
    failed(recipe.problem(message))
}

/// The documents as Flux has them, which reads what kustomize prints.
fn printed(mut output: Output, recipe: &Recipe<'_>) -> Result<Output, Problem> {
    let prefix = prefix(recipe.source);
    for document in &mut output.documents {
        let node = std::mem::replace(&mut document.node, Node::null()).printed();
        document.node = node.map_err(|error| {
            let places = Places { sources: &output.sources, prefix: &prefix };
            let at = (places.file(document.origin.file.as_ref()), document.origin.line);
            places.problem(error.into(), &at)
        })?;
    }
    Ok(output)
}
