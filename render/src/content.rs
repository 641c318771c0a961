//! One unit's content: what a build of its path puts out, sorted into objects, child units, sources and problems.

use std::collections::BTreeMap;
use std::sync::Arc;

use flotilla_core::report::Problem;
use flotilla_core::source::SourceId;
use flotilla_core::{Digest, Object, ObjectRef, UnitId, UnitSpec};
use flotilla_kustomize::files::{Files, Kind, ReadError, TreePath};
use flotilla_kustomize::{Answers, BuildError, Output};
use flotilla_yaml::Node;

use crate::cache::{Outcome, RenderCache};
use crate::field::Places;
use crate::flux::{self, Role};
use crate::helm::{self, release::Release};
use crate::overlay;
use crate::source::{Artifact, SourceDefinition, fleet_source, prefix};

/// A unit as its parent's output defines it.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    pub id: UnitId,
    /// Its policy; `parent` and `service_account` are filled in where the parent is known.
    pub spec: UnitSpec,
    /// Where its files are.
    pub source: SourceId,
    pub path: TreePath,
    /// The fields of the Flux `Kustomization` that change what is built: a mapping.
    pub overlay: Node,
    /// For a HelmRelease: what is rendered in place of a path.
    pub release: Option<Arc<Release>>,
    /// As the definition names it, of the unit's own namespace.
    pub service_account: Option<String>,
    /// Where the definition stands.
    pub file: String,
    pub line: u32,
}

/// What a unit renders to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Content {
    /// In the order of the build.
    pub objects: Vec<Object>,
    pub children: Vec<Definition>,
    /// Child units that are defined, but wrongly: they are kept as they are.
    pub broken_children: BTreeMap<UnitId, Vec<Problem>>,
    pub sources: Vec<SourceDefinition>,
    /// Sources that are defined, but wrongly.
    pub broken_sources: BTreeMap<SourceId, Vec<Problem>>,
    /// Where each object was written: file and line, beside `objects`.
    pub origins: Vec<(String, u32)>,
    pub notices: Vec<Problem>,
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
    /// The folder of cluster definitions, where objects of our own kinds may stand.
    pub(crate) clusters: &'a TreePath,
}

impl Recipe<'_> {
    fn key(&self) -> Digest {
        let overlay = self.overlay.to_json().map_or_else(|error| error.to_string(), |json| json.to_string());
        Digest::of_parts([
            self.source.to_string().as_bytes(),
            self.artifact.origin.as_bytes(),
            self.path.as_str().as_bytes(),
            overlay.as_bytes(),
            self.clusters.as_str().as_bytes(),
        ])
    }

    fn problem(&self, message: impl Into<String>) -> Problem {
        Problem::error(format!("{}{}", prefix(self.source), self.path), 0, message)
    }

    fn failed(&self, error: &flotilla_kustomize::Error) -> Problem {
        let file = error.file.as_ref().map(|file| format!("{}{file}", prefix(self.source)));
        let problem = Problem::error(file.unwrap_or_default(), error.line, error.message.clone());
        Problem { column: error.column, field: error.field.clone().unwrap_or_default(), ..problem }
    }
}

/// Renders a recipe, from memory if nothing that it reads has changed.
///
/// # Errors
/// Only if the tree cannot be read; what is wrong with the content is the outcome.
pub(crate) fn render(cache: &RenderCache, recipe: &Recipe<'_>) -> Result<Outcome, ReadError> {
    cache.get(recipe.key(), &*recipe.artifact.files, |files| build(files, recipe))
}

fn build(files: &dyn Files, recipe: &Recipe<'_>) -> Result<Outcome, ReadError> {
    let failed = |problem: Problem| Ok(Err([problem].into()));
    match files.entry(recipe.path)? {
        Some(entry) if entry.kind == Kind::Folder => {}
        Some(_) => return failed(recipe.problem("is a file; spec.path names a folder")),
        None => return failed(recipe.problem("there is no such folder in the source")),
    }
    match flotilla_kustomize::build_flux(files, recipe.path, &overlay::of(recipe.overlay), &Answers::new()) {
        Ok(output) => Ok(sort(&output, recipe).map(Into::into).map_err(Into::into)),
        Err(BuildError::Failed(error)) => failed(recipe.failed(&error)),
        Err(needs @ BuildError::Needs(_)) => {
            failed(recipe.problem(format!("{needs}, which is not supported yet")))
        }
    }
}

fn sort(output: &Output, recipe: &Recipe<'_>) -> Result<Content, Vec<Problem>> {
    let prefix = prefix(recipe.source);
    let places = Places { sources: &output.sources, prefix: &prefix };
    let clusters = (*recipe.source == fleet_source()).then_some(recipe.clusters);
    let mut sorter = Sorter::new(places, clusters);
    let notice = |text: &String| Problem::error("", 0, text.as_str()).as_notice();
    sorter.content.notices.extend(output.notices.iter().map(notice));
    for document in &output.documents {
        let at = (sorter.places.file(document.origin.file.as_ref()), document.origin.line);
        sorter.document(&document.node, at);
    }
    sorter.finish()
}

/// Sorts documents by what they are to us.
pub(crate) struct Sorter<'a> {
    places: Places<'a>,
    /// Where objects of our own kinds may stand, if anywhere.
    clusters: Option<&'a TreePath>,
    content: Content,
    problems: Vec<Problem>,
}

impl<'a> Sorter<'a> {
    pub(crate) fn new(places: Places<'a>, clusters: Option<&'a TreePath>) -> Self {
        Self { places, clusters, content: Content::default(), problems: Vec::new() }
    }

    pub(crate) fn finish(self) -> Result<Content, Vec<Problem>> {
        if self.problems.is_empty() { Ok(self.content) } else { Err(self.problems) }
    }

    /// Takes a document that stands at `at` (file and line).
    pub(crate) fn document(&mut self, node: &Node, at: (String, u32)) {
        let problem = |message: String| Problem::error(at.0.clone(), at.1, message);
        let object = node.to_json().map_err(|e| {
            let wrong = crate::field::Wrong { pos: e.pos, field: String::new(), message: e.message };
            self.places.problem(wrong, &at)
        });
        let object = match object.and_then(|json| Object::new(&json).map_err(|e| problem(e.to_string()))) {
            Ok(object) => object,
            Err(problem) => return self.problems.push(problem),
        };
        let ObjectRef { id, .. } = object.reference();
        let content = &mut self.content;
        match flux::role(&id.group, &id.kind) {
            Role::Object => {
                content.objects.push(object);
                content.origins.push(at);
            }
            Role::Kustomization => {
                let unit = flux::unit_id(Role::Kustomization, &id.namespace, &id.name);
                match flux::kustomization::read(&unit, node, &self.places, &at) {
                    Ok(definition) => content.children.push(definition),
                    Err(problems) => {
                        content.broken_children.insert(unit, problems);
                    }
                }
            }
            Role::HelmRelease => {
                let unit = flux::unit_id(Role::HelmRelease, &id.namespace, &id.name);
                match helm::release::read(&unit, node, &self.places, &at) {
                    Ok(read) => {
                        content.sources.extend(read.chart.map(|source| SourceDefinition {
                            source,
                            file: at.0.clone(),
                            line: at.1,
                        }));
                        content.notices.extend(read.notices);
                        content.children.push(read.definition);
                    }
                    Err(problems) => {
                        content.broken_children.insert(unit, problems);
                    }
                }
            }
            Role::Source(kind) => {
                let source = SourceId::new(kind, flux::namespace_or_default(&id.namespace), id.name.as_str());
                match flux::sources::read(&source, node, &self.places, &at) {
                    Ok((source, notices)) => {
                        let (file, line) = at;
                        content.sources.push(SourceDefinition { source, file, line });
                        content.notices.extend(notices);
                    }
                    Err(problems) => {
                        content.broken_sources.insert(source, problems);
                    }
                }
            }
            Role::Ignored => {
                let message = format!("{} {}/{} is not acted on yet", id.kind, id.namespace, id.name);
                content.notices.push(problem(message).as_notice());
            }
            Role::Ours => {
                let file = TreePath::from_root(&at.0);
                let is_at_home = |clusters| file.is_ok_and(|file| file.is_within(clusters));
                if !self.clusters.is_some_and(is_at_home) {
                    let home =
                        self.clusters.map_or("the clusters' folder".to_owned(), |path| format!("{path}/"));
                    let message = format!("a {} belongs below {home}, where the fleet is defined", id.kind);
                    self.problems.push(problem(message));
                }
            }
        }
    }
}
