//! What stands between a build and its objects where variables are put in: the text of each document, as Flux
//! substitutes in it, which all clusters share.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use flotilla_core::decrypt::{OpenError, encrypted, open_document};
use flotilla_core::object::refuse_reserved;
use flotilla_core::report::Problem;
use flotilla_core::template::{Known, Layer, Metadata, ObjectTemplate, ValuesRef, Variables};
use flotilla_core::work::Work;
use flotilla_core::{Digest, Object, ObjectId, ObjectRef, envsubst};
use flotilla_kustomize::Output;
use flotilla_yaml::Node;
use serde::Serialize;

use crate::budget::{Budget, Weight};
use crate::decryption::{AskKeys, Decryption};
use crate::field::Places;
use crate::flux::{self, Role};

/// Who asks by a label or annotation that an object be left as it is.
const OPT_OUT: &str = "kustomize.toolkit.fluxcd.io/substitute";

/// The documents of a build.
#[derive(Debug, PartialEq)]
pub(crate) struct Built {
    documents: Vec<BuiltDocument>,
    notices: Vec<Problem>,
    digest: Digest,
}

#[derive(Debug, PartialEq)]
pub(crate) struct BuiltDocument {
    text: String,
    /// It asks to be left as it is.
    opted_out: bool,
    /// SOPS encrypted it, or a part of it.
    is_encrypted: bool,
    /// File and line.
    pub(crate) at: (String, u32),
    /// The first object that was made of it: most clusters have the same.
    first: OnceLock<Object>,
}

/// A document with the variables in it.
pub(crate) enum Done {
    Document {
        node: Node,
        /// The same without the values of Secrets, where the hub had to put some in.
        shown: Option<Node>,
    },
    /// Only the cluster can complete it.
    Template(Object),
    /// It is of a kind that is not acted on, whatever the cluster would put in: what is said of it.
    Ignored(String),
}

/// Who has which name after substitution: before it, the build has seen to that.
#[derive(Default)]
pub(crate) struct Names<'a>(HashMap<[String; 4], &'a (String, u32)>);

impl<'a> Names<'a> {
    /// Notes the name of a document; a problem if another one has it.
    pub(crate) fn take(&mut self, node: &Node, at: &'a (String, u32)) -> Option<Problem> {
        let text = |path: &[&str]| node.at(path).and_then(Node::text).unwrap_or_default().to_owned();
        let namespace = Some(text(&["metadata", "namespace"])).filter(|text| !text.is_empty());
        let namespace = namespace.unwrap_or_else(|| "default".to_owned());
        let [version, kind, name] = [&["apiVersion"][..], &["kind"], &["metadata", "name"]].map(text);
        let message = format!("post build: the variables name two objects {kind} {name}");
        let (file, line) = self.0.insert([version, kind, namespace, name], at)?;
        let message = format!("{message}; the other one is at {file}:{line}");
        Some(Problem::error(at.0.clone(), at.1, message))
    }
}

/// The variables of a unit, as far as they are known.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub(crate) struct UnitVariables {
    /// Without what stands in the cluster: the agent looks that up.
    pub(crate) open: Variables,
    /// With what the agent told of that.
    pub(crate) told: Variables,
    /// The same with a mark in place of each value of a Secret, where some of those are known: what people may see.
    pub(crate) masked: Option<Variables>,
    /// Why that is not known of a ConfigMap or Secret, by its name.
    pub(crate) unknown: BTreeMap<String, String>,
}

/// Stands where a value of a Secret is not shown.
pub(crate) const HIDDEN: &str = "hidden";

/// What is no template.
enum Left {
    /// The hub has to know the values.
    ToTheHub,
    Wrong(Box<Problem>),
}

impl From<Problem> for Left {
    fn from(problem: Problem) -> Self {
        Self::Wrong(Box::new(problem))
    }
}

impl Built {
    /// Of what a build put out; what the hub has the key for is opened.
    pub(crate) fn new(
        output: &Output,
        prefix: &str,
        budget: &Budget,
        decryption: Option<&Decryption>,
        ask: AskKeys<'_>,
    ) -> Result<Self, Problem> {
        let mut weight = Weight::default();
        let places = Places { sources: &output.sources, prefix };
        let mut documents = Vec::with_capacity(output.documents.len());
        for document in &output.documents {
            let at = (places.file(document.origin.file.as_ref()), document.origin.line);
            let mut node = Cow::Borrowed(&document.node);
            let is_encrypted = encrypted(&node).is_some();
            if let (Some(Decryption::AtHub { place, keys, .. }), true) = (decryption, is_encrypted) {
                let clear = keys.asking(|keys| open_document(&node, keys), OpenError::asks, ask);
                let clear = clear.map_err(|message| {
                    let message = format!("the keys in {place} of the hub do not open it: {message}");
                    Problem::error(at.0.clone(), at.1, message)
                })?;
                node = Cow::Owned(clear);
            }
            let text =
                flotilla_yaml::write_canonical(&node).map_err(|error| places.problem(error.into(), &at))?;
            weight.add(text.len());
            weight.check(budget).map_err(|message| Problem::error(at.0.clone(), at.1, message))?;
            let opted_out = ["labels", "annotations"]
                .iter()
                .any(|field| node.at(&["metadata", field, OPT_OUT]).and_then(Node::text) == Some("disabled"));
            documents.push(BuiltDocument { text, opted_out, is_encrypted, at, first: OnceLock::new() });
        }
        let notice = |text: &String| Problem::error("", 0, text.as_str()).as_notice();
        let digest = Digest::of_parts(documents.iter().flat_map(|document| {
            [document.text.as_bytes(), document.at.0.as_bytes(), if document.opted_out { b"1" } else { b"0" }]
        }));
        Ok(Self { documents, notices: output.notices.iter().map(notice).collect(), digest })
    }

    pub(crate) fn documents(&self) -> impl Iterator<Item = &BuiltDocument> {
        self.documents.iter()
    }

    pub(crate) fn notices(&self) -> impl Iterator<Item = &Problem> {
        self.notices.iter()
    }

    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }
}

impl BuiltDocument {
    /// The same object, sharing its memory with that of other clusters where theirs is equal.
    pub(crate) fn share(&self, object: &mut Object) {
        let first = self.first.get_or_init(|| object.clone());
        if first == object {
            object.clone_from(first);
        }
    }

    fn problem(&self, message: impl std::fmt::Display) -> Problem {
        Problem::error(self.at.0.clone(), self.at.1, format!("post build: {message}"))
    }

    /// What it costs is taken from `work`.
    pub(crate) fn substitute(
        &self,
        variables: &UnitVariables,
        decryption: Option<&Decryption>,
        metadata: &Metadata,
        work: &mut Work,
    ) -> Result<Done, Problem> {
        let nothing = UnitVariables::default();
        let variables = if self.opted_out { &nothing } else { variables };
        if let (Some(Decryption::InCluster(place)), true) = (decryption, self.is_encrypted) {
            return self.sealed(place, &variables.open, metadata);
        }
        let text = &self.text;
        let Some(first) = self.unknown(text, &variables.open)? else {
            let node = self.document(text, &variables.open, metadata, work)?;
            return Ok(Done::Document { node, shown: None });
        };
        // The agent completes it with what the cluster has at that moment, hub or no hub. What the hub itself reads, or
        // goes by, it takes from what the agent last told.
        match self.template(text, first, &variables.open, metadata, None) {
            Ok(done) => return Ok(done),
            Err(Left::Wrong(problem)) => return Err(*problem),
            Err(Left::ToTheHub) => {}
        }
        let Some(first) = self.unknown(text, &variables.told)? else {
            let masked = variables.masked.as_ref();
            let node =
                self.document(text, &variables.told, metadata, work).map_err(|problem| match masked {
                    None => problem,
                    Some(_) => {
                        self.problem("fails; how is not shown, as values of Secrets stand in the object")
                    }
                })?;
            let shown = masked.map(|masked| self.document(text, masked, metadata, work)).transpose()?;
            let shown = shown.filter(|shown| *shown != node);
            if shown.is_none() || !is_plain(&node) {
                return Ok(Done::Document { node, shown });
            }
            // The hub has to know its name only.
            let value = node.to_json().map_err(|error| self.problem(error.message))?;
            let reference = ObjectRef::of(&value).map_err(|error| self.problem(error))?;
            let template =
                ObjectTemplate::new(reference, text.to_owned(), variables.open.clone(), metadata.clone());
            return Ok(Done::Template(template.object()));
        };
        let template = self.template(text, first, &variables.told, metadata, Some(&variables.unknown));
        template.map_err(|left| match left {
            Left::Wrong(problem) => *problem,
            Left::ToTheHub => self.problem("it cannot be completed in the cluster"),
        })
    }

    fn document(
        &self,
        text: &str,
        variables: &Variables,
        metadata: &Metadata,
        work: &mut Work,
    ) -> Result<Node, Problem> {
        let mut node = variables.substitute_within(text, work).map_err(|error| self.problem(error))?;
        if !metadata.is_empty() {
            let mut value = node.to_json().map_err(|error| self.problem(error.message))?;
            metadata.set(&mut value);
            node = Node::from_json(&value);
        }
        Ok(node)
    }

    /// An encrypted document as a template: the agent opens it, and puts the variables in.
    fn sealed(&self, keys: &ValuesRef, variables: &Variables, metadata: &Metadata) -> Result<Done, Problem> {
        let documents = flotilla_yaml::parse(&self.text).map_err(|error| self.problem(error.message))?;
        let node = documents.first().ok_or_else(|| self.problem("it is not a YAML document"))?;
        let wrong = |message: &str| Problem::error(self.at.0.clone(), self.at.1, message);
        let field = |path: &[&str]| {
            let text = node.at(path).and_then(Node::text).unwrap_or_default();
            if crate::encrypted::is_encrypted_value(text) {
                let field = path.join(".");
                return Err(wrong("is encrypted by SOPS; encrypt values only, as with --encrypted-regex '^(data|stringData)$'")
                    .field(field));
            }
            if self.unknown(text, variables)?.is_some() {
                return Err(wrong("kind, name and namespace must not depend on what only the cluster knows"));
            }
            let expanded =
                envsubst::Template::parse(text).and_then(|text| text.expand(&|name| variables.value(name)));
            expanded.map_err(|error| self.problem(error))
        };
        let (version, kind) = (field(&["apiVersion"])?, field(&["kind"])?);
        let (namespace, name) = (field(&["metadata", "namespace"])?, field(&["metadata", "name"])?);
        let (group, version) = version.rsplit_once('/').unwrap_or(("", &version));
        if flux::unknown(group, version, &kind).is_some() || flux::role(group, &kind) != Role::Object {
            return Err(wrong(
                "is encrypted by SOPS; it is read at the hub, which has no key, so it has to stand in clear",
            ));
        }
        if kind.is_empty() || version.is_empty() || name.is_empty() {
            return Err(wrong("an object needs apiVersion, kind and metadata.name"));
        }
        let value = node.to_json().map_err(|error| self.problem(error.message))?;
        refuse_reserved(&value).map_err(|error| self.problem(error))?;
        let reference =
            ObjectRef { id: ObjectId::new(group, kind, namespace, name), version: version.into() };
        let template = ObjectTemplate::new(reference, self.text.clone(), variables.clone(), metadata.clone());
        Ok(Done::Template(template.sealed(keys.clone()).object()))
    }

    /// The first variable of a text that the cluster may set.
    fn unknown<'v>(
        &self,
        text: &str,
        variables: &'v Variables,
    ) -> Result<Option<(String, &'v ValuesRef)>, Problem> {
        let asks = |layer: &Layer| matches!(layer, Layer::From { .. });
        if !variables.layers.iter().any(asks) || !text.contains("${") {
            return Ok(None);
        }
        let template = envsubst::Template::parse(text).map_err(|error| self.problem(error))?;
        let unknown = template.variables().into_iter().find_map(|name| match variables.lookup(name) {
            Known::Perhaps(place) => Some((name.to_owned(), place)),
            Known::Value(_) | Known::NotSet => None,
        });
        Ok(unknown)
    }

    /// The document as a template; `first` is a variable that is open in it. `unknown`: why the hub does not know what it
    /// needs to know; without, that is asked for by [`Left::ToTheHub`].
    fn template(
        &self,
        text: &str,
        first: (String, &ValuesRef),
        variables: &Variables,
        metadata: &Metadata,
        unknown: Option<&BTreeMap<String, String>>,
    ) -> Result<Done, Left> {
        let only = |name: &str, place: &ValuesRef, what: &str| match unknown {
            None => Left::ToTheHub,
            Some(unknown) => {
                let place = place.to_string();
                let why = unknown.get(&place).map(|why| format!(": {why}")).unwrap_or_default();
                self.problem(format!("${{{name}}} is known to the cluster only ({place}{why}); {what}"))
                    .into()
            }
        };
        let documents = flotilla_yaml::parse(text).map_err(|error| self.problem(error.message))?;
        let node = documents.first().ok_or_else(|| self.problem("it is not a YAML document"))?;
        let written = |path: &[&str]| node.at(path).and_then(Node::text).unwrap_or_default();
        let group = written(&["apiVersion"]).rsplit_once('/').map_or("", |(group, _)| group);
        let kind = written(&["kind"]);
        if flux::role(group, kind) == Role::Ignored {
            let (namespace, name) = (written(&["metadata", "namespace"]), written(&["metadata", "name"]));
            return Ok(Done::Ignored(flux::ignored(group, kind, namespace, name)));
        }
        let field = |path: &[&str]| -> Result<String, Left> {
            let text = written(path);
            match self.unknown(text, variables)? {
                Some((name, place)) => Err(only(
                    &name,
                    place,
                    "kind, name and namespace must not depend on it: set it by spec.postBuild.substitute or in a \
                     ConfigMap of the fleet repo",
                )),
                None => {
                    let expanded = envsubst::Template::parse(text)
                        .and_then(|text| text.expand(&|name| variables.value(name)));
                    expanded.map_err(|error| self.problem(error).into())
                }
            }
        };
        let (version, kind) = (field(&["apiVersion"])?, field(&["kind"])?);
        let (group, version) = version.rsplit_once('/').unwrap_or(("", &version));
        if let Some(why) = flux::unknown(group, version, &kind) {
            return Err(self.problem(why).into());
        }
        if flux::role(group, &kind) != Role::Object {
            let what = format!(
                "a {kind} is read at the hub: set it by spec.postBuild.substitute or in a ConfigMap of the fleet repo"
            );
            return Err(only(&first.0, first.1, &what));
        }
        let (namespace, name) = (field(&["metadata", "namespace"])?, field(&["metadata", "name"])?);
        if kind.is_empty() || version.is_empty() || name.is_empty() {
            return Err(self.problem("an object needs apiVersion, kind and metadata.name").into());
        }
        if crate::encrypted::is_encrypted(node) {
            return Err(self.problem("a value of it is encrypted by SOPS, and the document is not").into());
        }
        let value = node.to_json().map_err(|error| self.problem(error.message))?;
        refuse_reserved(&value).map_err(|error| self.problem(error))?;
        let id = ObjectId::new(group, kind, namespace, name);
        let reference = ObjectRef { id, version: version.into() };
        let template = ObjectTemplate::new(reference, text.to_owned(), variables.clone(), metadata.clone());
        Ok(Done::Template(template.object()))
    }
}

/// Whether a document is an object for the cluster, and nothing that is read here.
fn is_plain(node: &Node) -> bool {
    let text = |field| node.get(field).and_then(Node::text).unwrap_or_default();
    let group = text("apiVersion").rsplit_once('/').map_or("", |(group, _)| group);
    flux::role(group, text("kind")) == Role::Object
}
