//! What a build put out, sorted by what it is to us: objects, child units, sources, problems.

use std::sync::Arc;

use flotilla_core::report::Problem;
use flotilla_core::source::SourceId;
use flotilla_core::template::Metadata;
use flotilla_core::work::Work;
use flotilla_core::{Object, ObjectRef};
use flotilla_kustomize::Output;
use flotilla_kustomize::files::TreePath;
use flotilla_yaml::{JsonError, Node, Schema};

use crate::budget::Budget;
use crate::encrypted;
use crate::field::Places;
use crate::flux::components::Component;
use crate::flux::{self, Role};
use crate::helm::{self};
use crate::source::{SourceDefinition, fleet_source, prefix};
use crate::substitute::{Built, Done, Names, UnitVariables};

use super::{Content, Definition, Recipe};

/// What substitution may cost in all documents of a unit, in characters written and compared.
const SUBSTITUTION: u64 = 16 * flotilla_core::envsubst::WORK;
const OWNERS: &str = "an owner is named by its uid, which differs from cluster to cluster, and Kubernetes deletes objects \
                      whose owners do not exist; leave ownerReferences out";

pub(super) fn sort(output: &Output, recipe: &Recipe<'_>) -> Result<Content, Vec<Problem>> {
    let prefix = prefix(recipe.source);
    let clusters = (*recipe.source == fleet_source()).then_some(recipe.clusters);
    let mut sorter = Sorter::new(Places { sources: &output.sources, prefix: &prefix }, clusters);
    sorter.budget = Some(recipe.budget);
    sorter.schema = Schema::Kustomize;
    let notice = |text: &String| Problem::error("", 0, text.as_str()).as_notice();
    sorter.content.notices.extend(output.notices.iter().map(notice));
    for document in &output.documents {
        if sorter.is_exceeded {
            break;
        }
        let at = (sorter.places.file(document.origin.file.as_ref()), document.origin.line);
        sorter.document(&document.node, at);
    }
    sorter.finish()
}

/// Sorts what was built, with its variables put in and what SOPS encrypted opened.
pub(super) fn sort_substituted(
    built: &Built,
    variables: &UnitVariables,
    metadata: &Metadata,
    recipe: &Recipe<'_>,
) -> Result<Content, Vec<Problem>> {
    let prefix = prefix(recipe.source);
    let clusters = (*recipe.source == fleet_source()).then_some(recipe.clusters);
    let mut sorter = Sorter::new(Places { sources: &[], prefix: &prefix }, clusters);
    sorter.budget = Some(recipe.budget);
    sorter.decrypts = recipe.decryption.is_some();
    sorter.content.notices.extend(built.notices().cloned());
    let mut work = Work::new(SUBSTITUTION);
    let mut names = Names::default();
    for document in built.documents() {
        if sorter.is_exceeded {
            break;
        }
        let before = sorter.content.objects.len();
        match document.substitute(variables, recipe.decryption, metadata, &mut work) {
            Ok(Done::Document { node, shown }) => {
                sorter.problems.extend(names.take(&node, &document.at));
                sorter.substituted(&node, shown.as_ref(), document.at.clone());
            }
            Ok(Done::Template(object)) => {
                sorter.problems.extend(names.take(&Node::from_json(&object.value()), &document.at));
                if sorter.has_room(&object, &document.at) {
                    sorter.object(object, document.at.clone());
                }
            }
            Ok(Done::Ignored(message)) => {
                let notice = Problem::error(document.at.0.clone(), document.at.1, message).as_notice();
                sorter.content.notices.push(notice);
            }
            Err(problem) => sorter.problems.push(problem),
        }
        sorter.content.objects[before..].iter_mut().for_each(|object| document.share(object));
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
    /// Objects of Flux's own installation.
    left_out: usize,
    /// What there may be, where that is looked at while it is made.
    budget: Option<Budget>,
    /// There is more than that: what comes further is not looked at.
    is_exceeded: bool,
    /// What SOPS encrypted is opened.
    decrypts: bool,
    /// How scalars are read: as kustomize does where a document comes straight from its build.
    pub(crate) schema: Schema,
}

impl<'a> Sorter<'a> {
    pub(crate) fn new(places: Places<'a>, clusters: Option<&'a TreePath>) -> Self {
        Self {
            places,
            clusters,
            content: Content::default(),
            problems: Vec::new(),
            left_out: 0,
            budget: None,
            is_exceeded: false,
            decrypts: false,
            schema: Schema::Kubernetes,
        }
    }

    pub(crate) fn finish(mut self) -> Result<Content, Vec<Problem>> {
        if self.left_out > 0 {
            let message = format!(
                "{} controllers and kinds of Flux's own are not applied: their work is done here",
                self.left_out
            );
            self.content.notices.push(Problem::error("", 0, message).as_notice());
        }
        if self.problems.is_empty() { Ok(self.content) } else { Err(self.problems) }
    }

    /// Counts an object; says whether there is still room for it.
    fn has_room(&mut self, object: &Object, at: &(String, u32)) -> bool {
        let weight = &mut self.content.weight;
        weight.add(object.body().len());
        let checked = self.budget.as_ref().map_or(Ok(()), |budget| weight.check(budget));
        if let Err(message) = checked {
            self.problems.push(Problem::error(at.0.clone(), at.1, message));
            self.is_exceeded = true;
        }
        !self.is_exceeded
    }

    fn object(&mut self, object: Object, at: (String, u32)) {
        self.content.objects.push(object);
        self.content.origins.push(at);
    }

    /// Takes a document that stands at `at` (file and line).
    pub(crate) fn document(&mut self, node: &Node, at: (String, u32)) {
        self.substituted(node, None, at);
    }

    /// Takes a document of Flux with values of Secrets in it; `shown` is the same without them. What is said of it shows none.
    fn substituted(&mut self, node: &Node, shown: Option<&Node>, at: (String, u32)) {
        let problem = |message: String| Problem::error(at.0.clone(), at.1, message);
        let places = self.places;
        let wrong = |error: JsonError| places.problem(error.into(), &at);
        let object = node.to_json_as(self.schema).map_err(wrong);
        let object = match object.and_then(|json| Object::new(&json).map_err(|e| problem(e.to_string()))) {
            Ok(object) => object,
            Err(problem) => return self.problems.push(problem),
        };
        if !self.has_room(&object, &at) {
            return;
        }
        let ObjectRef { id, version } = object.reference();
        let role = flux::role(&id.group, &id.kind);
        // Left to the cluster it would be refused there, and what it was meant to define would be gone from here.
        if let Some(why) = flux::unknown(&id.group, version, &id.kind) {
            return self.problems.push(problem(why));
        }
        // Values of a Flux object are its own unit's problem.
        if encrypted::is_whole(node) || role == Role::Object && encrypted::is_encrypted(node) {
            let message = if role == Role::Object && self.decrypts {
                "holds values that SOPS encrypted, and not what SOPS notes beside them; encrypt the file anew, or leave `sops` in it"
            } else if role == Role::Object {
                "is encrypted by SOPS, and the Kustomization that applies it has no spec.decryption; nothing of it is applied"
            } else {
                "is encrypted by SOPS; it is read at the hub, which has no key, so it has to stand in clear"
            };
            return self.problems.push(problem(message.to_owned()));
        }
        if matches!(role, Role::Kustomization | Role::HelmRelease | Role::Source(_))
            && let Err(why) = flux::check_name(&id.namespace, &id.name)
        {
            return self.problems.push(problem(format!("a {} has {why}", id.kind)));
        }
        // As the API server would give it back to Flux.
        let read = match role {
            Role::Kustomization | Role::HelmRelease | Role::Source(_) => node.as_read(self.schema).map(Some),
            Role::Object | Role::Ignored | Role::Ours => Ok(None),
        };
        let read = match read {
            Ok(read) => read,
            Err(error) => return self.problems.push(wrong(error)),
        };
        let node = read.as_ref().unwrap_or(node);
        let hides = shown.is_some();
        let quiet = |problems: Vec<Problem>| if hides { without_values(problems) } else { problems };
        let object = match shown.map(|shown| as_shown(&object, shown)) {
            None => object,
            Some(Ok(shown)) => shown,
            Some(Err(message)) => return self.problems.push(problem(message)),
        };
        let id = object.id();
        if hides && matches!(role, Role::Source(_)) {
            let message = "takes a value from a Secret, and people see what sources are: set it in clear, or name the \
                           Secret under spec.secretRef";
            return self.problems.push(problem(message.to_owned()));
        }
        let content = &mut self.content;
        match role {
            Role::Object => match Component::of(&object, &at) {
                Component::Object => {
                    let owners = node.at(&["metadata", "ownerReferences"]).and_then(Node::as_seq);
                    if owners.is_some_and(|owners| !owners.is_empty()) {
                        let notice = problem(format!("{id} has owners: {OWNERS}"));
                        content.notices.push(notice.field("metadata.ownerReferences").as_notice());
                    }
                    self.object(object, at);
                }
                Component::Definition => self.left_out += 1,
                Component::Controller(controller) => {
                    self.left_out += 1;
                    content.controllers.push(controller);
                }
            },
            Role::Kustomization => {
                let unit = flux::unit_id(Role::Kustomization, &id.namespace, &id.name);
                match flux::kustomization::read(&unit, node, &self.places, &at) {
                    Ok((definition, notices)) => {
                        content.children.push(Definition { object: Some(object), ..definition }.into());
                        content.notices.extend(quiet(notices));
                    }
                    Err(problems) => {
                        content.broken_children.insert(unit, quiet(problems));
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
                            object: None,
                        }));
                        content.notices.extend(quiet(read.notices));
                        let mut definition = Definition { object: Some(object), ..read.definition };
                        if hides && let Some(release) = &mut definition.release {
                            Arc::make_mut(release).from_secrets = true;
                        }
                        content.children.push(definition.into());
                    }
                    Err(problems) => {
                        content.broken_children.insert(unit, quiet(problems));
                    }
                }
            }
            Role::Source(kind) => {
                let source = SourceId::new(kind, flux::namespace_or_default(&id.namespace), id.name.as_str());
                match flux::sources::read(&source, node, &self.places, &at) {
                    Ok((source, notices)) => {
                        let (file, line) = at;
                        content.sources.push(SourceDefinition { source, file, line, object: Some(object) });
                        content.notices.extend(notices);
                    }
                    Err(problems) => {
                        content.broken_sources.insert(source, problems);
                    }
                }
            }
            Role::Ignored => {
                let message = flux::ignored(&id.group, &id.kind, &id.namespace, &id.name);
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

/// An object as it may be shown: what `shown` has, under the object's own name.
fn as_shown(object: &Object, shown: &Node) -> Result<Object, String> {
    let mut shown = shown.to_json().map_err(|error| error.message)?;
    let value = object.value();
    for (at, field) in [("", "apiVersion"), ("", "kind"), ("/metadata", "name"), ("/metadata", "namespace")] {
        let own = value.pointer(&format!("{at}/{field}"));
        if let (Some(own), Some(place)) = (own, shown.pointer_mut(at)) {
            place[field] = own.clone();
        }
    }
    Object::new(&shown).map_err(|error| error.to_string())
}

/// What is wrong with fields that values of Secrets may stand in.
fn without_values(problems: Vec<Problem>) -> Vec<Problem> {
    let without = |problem: Problem| {
        let message = "is not valid; how is not shown, as values of Secrets stand in the object";
        Problem { message: message.to_owned(), ..problem }
    };
    problems.into_iter().map(without).collect()
}
