//! What `buildMetadata` adds to resources, and the annotations as the output has them.

use std::collections::BTreeMap;

use flotilla_yaml::{Entry, Map, Node, Pos, Style, Value};

use crate::decode::Text;
use crate::error::Res;
use crate::fieldspec::FieldSpec;
use crate::load::is_remote;
use crate::node_ops::map_under;
use crate::resmap::ResMap;
use crate::resource::{ORIGIN_ANNOTATION, Resource, TRANSFORMATIONS_ANNOTATION};
use crate::transform::set_pairs;

/// Where a kustomization stands, seen from the one that is built.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trace {
    path: String,
    repo: String,
    reference: String,
}

impl Trace {
    /// One step further: into a folder, a file or a remote base.
    pub(crate) fn append(&self, path: &str) -> Trace {
        if is_remote(path) {
            let (url, reference) = path.split_once("?ref=").unwrap_or((path, ""));
            let at = url.find("//").map_or(0, |n| n + 2);
            let (repo, inner) = match url[at..].find("//") {
                Some(n) => (&url[..at + n], &url[at + n + 2..]),
                None => (url, ""),
            };
            return Trace { path: inner.to_owned(), repo: repo.to_owned(), reference: reference.to_owned() };
        }
        let joined = join(&self.path, path);
        Trace { path: joined, ..self.clone() }
    }

    /// The origin of a resource that was read from here.
    pub(crate) fn origin(&self) -> String {
        let mut text = String::new();
        if !self.path.is_empty() {
            text.push_str(&format!("path: {}\n", self.path));
        }
        self.push_repo(&mut text, "");
        text
    }

    /// The origin of what a generator made or a transformer changed.
    pub(crate) fn configured(
        &self,
        file: &str,
        api_version: &str,
        kind: &str,
        name: &str,
        namespace: &str,
    ) -> String {
        let mut text = String::new();
        self.push_repo(&mut text, "");
        text.push_str(&format!("configuredIn: {}\nconfiguredBy:\n", join(&self.path, file)));
        for (field, value) in
            [("apiVersion", api_version), ("kind", kind), ("name", name), ("namespace", namespace)]
        {
            if !value.is_empty() {
                text.push_str(&format!("  {field}: {value}\n"));
            }
        }
        text
    }

    fn push_repo(&self, text: &mut String, indent: &str) {
        for (field, value) in [("repo", &self.repo), ("ref", &self.reference)] {
            if !value.is_empty() {
                text.push_str(&format!("{indent}{field}: {value}\n"));
            }
        }
    }
}

/// Joins paths as Go's filepath does; the result may lead upwards.
fn join(base: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|p| *p != "..") => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

pub(crate) fn set_origin(resource: &mut Resource, origin: &str) -> Res<()> {
    resource.set_annotation(ORIGIN_ANNOTATION, origin)
}

/// Notes a transformer at every resource. One without an origin was made by it.
pub(crate) fn add_transformation(map: &mut ResMap, origin: &str) -> Res<()> {
    for resource in map.0.iter_mut().filter(|r| !r.is_empty()) {
        resource.rewrite_annotations();
        if resource.annotation(ORIGIN_ANNOTATION).is_none() {
            set_origin(resource, origin)?;
            continue;
        }
        let mut list = resource.annotation(TRANSFORMATIONS_ANNOTATION).unwrap_or_default().to_owned();
        for (n, line) in origin.lines().enumerate() {
            list.push_str(if n == 0 { "- " } else { "  " });
            list.push_str(line);
            list.push('\n');
        }
        resource.set_annotation(TRANSFORMATIONS_ANNOTATION, &list)?;
    }
    Ok(())
}

/// The label that says who built it, asked for at `pos`. The version is that of the kustomize whose rules these are.
pub(crate) fn add_managed_by(map: &mut ResMap, pos: Pos) -> Res<()> {
    let version = Text::new("kustomize-v5.8.1", pos);
    let pairs = BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), version)]);
    set_pairs(map, &pairs, &[FieldSpec::any("metadata/labels", true)])
}

/// Annotations that only the build itself uses.
const INTERNAL: [&str; 18] = [
    "internal.config.kubernetes.io/previousKinds",
    "internal.config.kubernetes.io/previousNames",
    "internal.config.kubernetes.io/prefixes",
    "internal.config.kubernetes.io/suffixes",
    "internal.config.kubernetes.io/previousNamespaces",
    "internal.config.kubernetes.io/allowNameChange",
    "internal.config.kubernetes.io/allowKindChange",
    "internal.config.kubernetes.io/refBy",
    "internal.config.kubernetes.io/generatorBehavior",
    "internal.config.kubernetes.io/needsHashSuffix",
    "internal.config.kubernetes.io/path",
    "internal.config.kubernetes.io/index",
    "internal.config.kubernetes.io/seqindent",
    "internal.config.kubernetes.io/id",
    "internal.config.kubernetes.io/annotations-migration-resource-id",
    "config.kubernetes.io/path",
    "config.kubernetes.io/index",
    "config.k8s.io/id",
];

/// Removes what must not be seen, and makes all annotations strings; no annotations are none rather than `{}`.
pub(crate) fn clean(map: &mut ResMap, keep_origin: bool, keep_transformations: bool) -> Res<()> {
    for resource in &mut map.0 {
        let Some(annotations) = resource.node.at(&["metadata", "annotations"]) else { continue };
        let pos = annotations.pos;
        // kustomize takes the items of a list for keys and values by turns.
        let mut pairs = match &annotations.value {
            Value::Map(map) => map.clone(),
            Value::Seq(seq) => seq
                .chunks_exact(2)
                .map(|pair| Entry { key: pair[0].clone(), value: pair[1].clone() })
                .collect(),
            Value::Scalar(_) => Map::default(),
        };
        let unwanted = |key: &str| {
            INTERNAL.contains(&key)
                || (!keep_origin && key == ORIGIN_ANNOTATION)
                || (!keep_transformations && key == TRANSFORMATIONS_ANNOTATION)
        };
        // Folded ones are not folded where they are set anew, and have no tags, whether those fit or not.
        let is_string = |n: &Node| n.as_str().is_some() && n.tag().is_none() && n.style != Style::Folded;
        let clean = annotations.is_map()
            && !pairs.is_empty()
            && pairs.iter().all(|e| is_string(&e.value) && !unwanted(e.key.text().unwrap_or_default()));
        if clean {
            continue;
        }
        pairs.retain(|e| !unwanted(e.key.text().unwrap_or_default()));
        for entry in pairs.entries_mut().iter_mut().filter(|e| !is_string(&e.value)) {
            let text = entry.value.text().unwrap_or_default().to_owned();
            entry.value = Node::string(text).with_style(Style::Plain).at_pos(entry.value.pos);
        }
        let metadata = map_under(&mut resource.node, "metadata")?;
        if pairs.is_empty() {
            metadata.remove("annotations");
        } else {
            metadata.insert("annotations", Node::from(pairs).at_pos(pos));
        }
    }
    Ok(())
}
