//! One unit's content: what a build of its path puts out, sorted into objects, child units and problems.

use std::collections::BTreeMap;

use flotilla_core::report::Problem;
use flotilla_core::{Digest, Object, ObjectRef, UnitId, UnitSpec};
use flotilla_kustomize::files::{Files, Kind, ReadError, TreePath};
use flotilla_kustomize::{Answers, BuildError, Output};
use flotilla_yaml::Node;

use crate::cache::{Outcome, RenderCache};
use crate::flux::{self, Role};
use crate::overlay;

/// A unit as its parent's output defines it.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    pub id: UnitId,
    /// Its policy; `parent` is filled in where the parent is known.
    pub spec: UnitSpec,
    pub path: TreePath,
    /// The fields of the Flux `Kustomization` that change what is built: a mapping.
    pub overlay: Node,
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

/// Renders a path with an overlay, from memory if nothing that it reads has changed. `clusters` is the folder
/// of cluster definitions, where objects of our own kinds may stand.
///
/// # Errors
/// Only if the tree cannot be read; what is wrong with the content is the outcome.
pub(crate) fn render(
    files: &dyn Files,
    cache: &RenderCache,
    path: &TreePath,
    overlay: &Node,
    clusters: &TreePath,
) -> Result<Outcome, ReadError> {
    let overlay_text = overlay.to_json().map_or_else(|error| error.to_string(), |json| json.to_string());
    let request =
        Digest::of_parts([path.as_str().as_bytes(), overlay_text.as_bytes(), clusters.as_str().as_bytes()]);
    cache.get(request, files, |files| {
        match files.entry(path)? {
            Some(entry) if entry.kind == Kind::Folder => {}
            Some(_) => {
                return Ok(failed(Problem::error(
                    path.to_string(),
                    0,
                    "is a file; spec.path names a folder",
                )));
            }
            None => {
                return Ok(failed(Problem::error(
                    path.to_string(),
                    0,
                    "there is no such folder in the source",
                )));
            }
        }
        Ok(match flotilla_kustomize::build_flux(files, path, &overlay::of(overlay), &Answers::new()) {
            Ok(output) => sort(&output, clusters).map(Into::into).map_err(Into::into),
            Err(BuildError::Failed(error)) => failed(problem(&error)),
            Err(needs @ BuildError::Needs(_)) => {
                failed(Problem::error(path.to_string(), 0, format!("{needs}, which is not supported yet")))
            }
        })
    })
}

fn failed(problem: Problem) -> Outcome {
    Err([problem].into())
}

fn problem(error: &flotilla_kustomize::Error) -> Problem {
    let file = error.file.as_ref().map(ToString::to_string).unwrap_or_default();
    let problem = Problem::error(file, error.line, error.message.clone());
    Problem { column: error.column, field: error.field.clone().unwrap_or_default(), ..problem }
}

fn sort(output: &Output, clusters: &TreePath) -> Result<Content, Vec<Problem>> {
    let mut content = Content::default();
    let mut problems = Vec::new();
    let notice = |text: &String| Problem::error("", 0, text.as_str()).as_notice();
    content.notices.extend(output.notices.iter().map(notice));
    for document in &output.documents {
        let node = &document.node;
        let file = document.origin.file.as_ref().map(ToString::to_string).unwrap_or_default();
        let line = document.origin.line;
        let object = node.to_json().map_err(|e| Problem {
            column: e.pos.column,
            ..Problem::error(file.clone(), e.pos.line, e.message)
        });
        let object = object.and_then(|json| {
            Object::new(&json).map_err(|error| Problem::error(file.clone(), line, error.to_string()))
        });
        let object = match object {
            Ok(object) => object,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        let ObjectRef { id, .. } = object.reference();
        match flux::role(&id.group, &id.kind) {
            Role::Object => {
                content.objects.push(object);
                content.origins.push((file, line));
            }
            Role::Kustomization => {
                let unit = flux::unit_id(Role::Kustomization, &id.namespace, &id.name);
                match flux::kustomization(&unit, node, &file) {
                    Ok(definition) => content.children.push(definition),
                    Err(problems) => {
                        content.broken_children.insert(unit, problems);
                    }
                }
            }
            Role::HelmRelease => {
                let unit = flux::unit_id(Role::HelmRelease, &id.namespace, &id.name);
                let message = "HelmReleases are not rendered yet; the release stays as it is";
                content.broken_children.insert(unit, vec![Problem::error(file, line, message)]);
            }
            Role::Source => {
                if (id.namespace.as_str(), id.name.as_str()) != flux::FLEET_SOURCE {
                    let message =
                        format!("{} {}/{}: sources are not fetched yet", id.kind, id.namespace, id.name);
                    content.notices.push(Problem::error(file, line, message).as_notice());
                }
            }
            Role::Ignored => {
                let message = format!("{} {}/{} is not acted on yet", id.kind, id.namespace, id.name);
                content.notices.push(Problem::error(file, line, message).as_notice());
            }
            Role::Ours => {
                let inside = TreePath::from_root(&file).is_ok_and(|file| file.is_within(clusters));
                if !inside {
                    let message =
                        format!("a {} belongs below {clusters}/, where the fleet is defined", id.kind);
                    problems.push(Problem::error(file, line, message));
                }
            }
        }
    }
    if problems.is_empty() { Ok(content) } else { Err(problems) }
}
