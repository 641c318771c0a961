//! A resource on its way through a build: its tree, and what the build remembers about it.

use std::collections::HashSet;
use std::sync::Arc;

use flotilla_yaml::{Map, Node, Pos, SmolStr, Value};

use crate::error::Res;
use crate::gvk::{Gvk, ResId};
use crate::node_ops::{map_under, put_string, set_text, string_map, text_at};

/// How a generated resource meets one of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Behavior {
    #[default]
    Unspecified,
    Create,
    Replace,
    Merge,
}

impl Behavior {
    pub(crate) fn read(text: &str) -> Self {
        match text {
            "replace" => Self::Replace,
            "merge" => Self::Merge,
            "create" => Self::Create,
            _ => Self::Unspecified,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::Merge => "merge",
            Self::Create => "create",
            Self::Unspecified => "unspecified",
        }
    }
}

/// A name that the resource had earlier in the build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Previous {
    pub(crate) kind: SmolStr,
    pub(crate) name: SmolStr,
    pub(crate) namespace: SmolStr,
}

#[derive(Debug, Clone)]
pub(crate) struct Resource {
    pub(crate) node: Node,
    /// Where it was written, or the generator that made it.
    pub(crate) pos: Pos,
    pub(crate) previous: Vec<Previous>,
    pub(crate) prefixes: Vec<String>,
    pub(crate) suffixes: Vec<String>,
    pub(crate) allow_name_change: bool,
    pub(crate) allow_kind_change: bool,
    pub(crate) needs_hash: bool,
    /// Only what a generator made has one.
    pub(crate) behavior: Option<Behavior>,
    /// Whether Helm made it, which the namespace transformer leaves alone.
    pub(crate) from_helm: bool,
    /// The kinds without a namespace that the build's OpenAPI document knows, where there is one.
    pub(crate) scopes: Option<Arc<HashSet<Gvk>>>,
    /// The names of vars that point at it.
    pub(crate) vars: Vec<String>,
    /// The values that several of its fields share, each as a node with its link.
    pub(crate) links: Vec<Node>,
}

pub(crate) const ORIGIN_ANNOTATION: &str = "config.kubernetes.io/origin";
pub(crate) const TRANSFORMATIONS_ANNOTATION: &str = "alpha.config.kubernetes.io/transformations";

impl Resource {
    pub(crate) fn new(node: Node) -> Self {
        let pos = node.pos;
        Self {
            node,
            pos,
            previous: Vec::new(),
            prefixes: Vec::new(),
            suffixes: Vec::new(),
            allow_name_change: false,
            allow_kind_change: false,
            needs_hash: false,
            behavior: None,
            from_helm: false,
            scopes: None,
            vars: Vec::new(),
            links: Vec::new(),
        }
    }

    pub(crate) fn kind(&self) -> &str {
        text_at(&self.node, &["kind"])
    }

    pub(crate) fn name(&self) -> &str {
        text_at(&self.node, &["metadata", "name"])
    }

    pub(crate) fn namespace(&self) -> &str {
        text_at(&self.node, &["metadata", "namespace"])
    }

    pub(crate) fn gvk(&self) -> Gvk {
        Gvk::new(text_at(&self.node, &["apiVersion"]), self.kind())
    }

    /// Kind and name for messages: `ConfigMap a`, `ConfigMap ns/a`.
    pub(crate) fn shown(&self) -> String {
        let namespace = self.namespace();
        let slash = if namespace.is_empty() { "" } else { "/" };
        format!("{} {namespace}{slash}{}", self.kind(), self.name())
    }

    /// The identity at this moment.
    pub(crate) fn id(&self) -> ResId {
        let gvk = self.gvk();
        let cluster = self.scopes.as_ref().is_some_and(|s| s.contains(&gvk));
        ResId { gvk, name: self.name().into(), namespace: self.namespace().into(), cluster }
    }

    /// The identity with which the resource was loaded.
    pub(crate) fn original_id(&self) -> ResId {
        self.previous_ids().next().unwrap_or_else(|| self.id())
    }

    /// The earlier identities, oldest first.
    pub(crate) fn previous_ids(&self) -> impl Iterator<Item = ResId> {
        let gvk = self.gvk();
        self.previous.iter().map(move |p| {
            let gvk = Gvk { kind: p.kind.clone(), ..gvk.clone() };
            let cluster = self.scopes.as_ref().is_some_and(|s| s.contains(&gvk));
            ResId { gvk, name: p.name.clone(), namespace: p.namespace.clone(), cluster }
        })
    }

    /// All identities, the earlier ones first.
    pub(crate) fn all_ids(&self) -> impl Iterator<Item = ResId> {
        self.previous_ids().chain([self.id()])
    }

    /// Gives all fields that share a value the one that was set last to any of them.
    ///
    /// kustomize puts one value in memory at all the places that a label or annotation transformer creates in an
    /// object, and changes values where they are: a patch for the object's label changes its selector too.
    pub(crate) fn settle_links(&mut self) {
        let links = &self.links;
        let is_changed = |n: &Node| n.link().is_some() && links.iter().any(|shared| differs(n, shared));
        if links.is_empty() || !self.node.any(&is_changed) {
            return;
        }
        for shared in &mut self.links {
            let link = shared.link().cloned();
            let mut changed = None;
            last_change(&self.node, shared, &mut changed);
            if let Some(mut value) = changed {
                value.set_link(link);
                share(&mut self.node, &value);
                *shared = value;
            }
        }
    }

    /// Makes strings of all annotations, as kustomize does where it writes them anew; they then share nothing.
    pub(crate) fn rewrite_annotations(&mut self) {
        let Some(annotations) = self.node.at(&["metadata", "annotations"]).and_then(Node::as_map) else {
            return;
        };
        if annotations.values().all(|v| v.link().is_none() && v.tag().is_none() && v.as_str().is_some()) {
            return;
        }
        let annotations = self.node.at_mut(&["metadata", "annotations"]).and_then(Node::as_map_mut);
        for value in annotations.into_iter().flat_map(Map::values_mut) {
            *value = Node::string(value.text().unwrap_or_default()).at_pos(value.pos);
        }
    }

    /// Makes annotations where there are none, or empty ones between brackets. kustomize keeps there what it remembers about a resource, so that patches
    /// and transformers find some once there is anything to remember. Empty ones are dropped at the end.
    pub(crate) fn ensure_annotations(&mut self) {
        let pos = self.pos;
        let is_empty = |node: &Node| node.is_null() || node.as_map().is_some_and(Map::is_empty);
        if let Some(metadata) = self.node.get_mut("metadata").and_then(Node::as_map_mut)
            && metadata.get("annotations").is_none_or(is_empty)
        {
            metadata.insert("annotations", Node::map().at_pos(pos));
        }
    }

    /// Remembers the identity before a change to it.
    pub(crate) fn store_previous(&mut self) {
        self.ensure_annotations();
        let id = self.id();
        self.previous.push(Previous {
            kind: id.gvk.kind.clone(),
            name: id.name.clone(),
            namespace: id.effective_namespace().into(),
        });
    }

    pub(crate) fn set_name(&mut self, name: &str, pos: Pos) -> Res<()> {
        let metadata = map_under(&mut self.node, "metadata")?;
        match metadata.get_mut("name") {
            Some(node) => set_text(node, name, pos),
            None => metadata.push(Node::string("name"), Node::plain(name).at_pos(pos)),
        }
        Ok(())
    }

    pub(crate) fn set_namespace(&mut self, namespace: &str, pos: Pos) -> Res<()> {
        if self.namespace() == namespace
            && (!namespace.is_empty() || self.node.at(&["metadata", "namespace"]).is_none())
        {
            return Ok(());
        }
        let metadata = map_under(&mut self.node, "metadata")?;
        if namespace.is_empty() {
            metadata.remove("namespace");
        } else {
            match metadata.get_mut("namespace") {
                Some(node) => set_text(node, namespace, pos),
                None => metadata.push(Node::string("namespace"), Node::plain(namespace).at_pos(pos)),
            }
        }
        Ok(())
    }

    pub(crate) fn set_kind(&mut self, kind: &str, pos: Pos) {
        if self.kind() != kind
            && let Some(map) = self.node.as_map_mut()
        {
            put_string(map, "kind", kind, pos);
        }
    }

    pub(crate) fn labels(&self) -> Vec<(SmolStr, SmolStr)> {
        string_map(self.node.at(&["metadata", "labels"]))
    }

    pub(crate) fn annotations(&self) -> Vec<(SmolStr, SmolStr)> {
        string_map(self.node.at(&["metadata", "annotations"]))
    }

    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.node.at(&["metadata", "annotations"])?.as_map()?.get(key)?.text()
    }

    pub(crate) fn set_annotation(&mut self, key: &str, value: &str) -> Res<()> {
        let pos = self.pos;
        let metadata = map_under(&mut self.node, "metadata")?;
        let annotations = metadata.get_or_insert_with("annotations", || Node::map().at_pos(pos));
        if !annotations.is_map() {
            annotations.value = Value::Map(Map::default());
        }
        put_string(annotations.as_map_mut().expect("made above"), key, value, pos);
        Ok(())
    }

    /// Whether nothing is left of it.
    pub(crate) fn is_empty(&self) -> bool {
        match &self.node.value {
            Value::Map(map) => map.is_empty(),
            Value::Seq(seq) => seq.is_empty(),
            Value::Scalar(_) => self.node.is_null() || self.node.text() == Some(""),
        }
    }

    /// Whether name prefixes and suffixes of two resources agree as far as both have them, from the last one on.
    pub(crate) fn same_affixes(&self, other: &Resource, allow_empty: bool) -> bool {
        let ends_same = |a: &[String], b: &[String]| {
            if allow_empty && (a.is_empty() || b.is_empty()) {
                return true;
            }
            let n = a.len().min(b.len());
            if n == 0 {
                return a.len() == b.len();
            }
            a[a.len() - n..] == b[b.len() - n..]
        };
        ends_same(&self.prefixes, &other.prefixes) && ends_same(&self.suffixes, &other.suffixes)
    }
}

/// Whether a node is one that should be the shared value, and is not.
fn differs(node: &Node, shared: &Node) -> bool {
    node.link() == shared.link() && (node != shared || node.pos != shared.pos)
}

/// The last value below a node, by the names of fields, that is linked and differs from what is shared.
fn last_change(node: &Node, shared: &Node, changed: &mut Option<Node>) {
    match &node.value {
        Value::Scalar(_) => {
            if differs(node, shared) {
                *changed = Some(node.clone());
            }
        }
        Value::Seq(seq) => seq.iter().for_each(|n| last_change(n, shared, changed)),
        Value::Map(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|e| e.key.text());
            entries.iter().for_each(|e| last_change(&e.value, shared, changed));
        }
    }
}

/// Sets all linked values below a node.
fn share(node: &mut Node, value: &Node) {
    let linked = |n: &Node| n.link().is_some_and(|l| Some(l) == value.link());
    if linked(node) {
        *node = value.clone();
    } else if node.any(&linked) {
        if let Some(seq) = node.as_seq_mut() {
            seq.iter_mut().for_each(|n| share(n, value));
        } else if let Some(map) = node.as_map_mut() {
            map.values_mut().for_each(|n| share(n, value));
        }
    }
}
