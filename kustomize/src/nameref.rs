//! Name references: when a prefix, suffix, hash or patch has renamed an object, the fields that name it follow.

use std::collections::{HashMap, HashSet};

use flotilla_yaml::{Node, Pos, SmolStr};

use crate::config::BackReference;
use crate::error::{Fail, Res, fail};
use crate::fieldspec::{Create, FieldSpec};
use crate::gvk::{CLUSTER, Gvk, ResId};
use crate::node_ops::{put_string, set_text, text, text_at};
use crate::resmap::ResMap;
use crate::resource::Resource;
use crate::transform::patches::MATCH;
use crate::work::Work;

/// Updates all references.
pub(crate) fn fix(map: &mut ResMap, references: &[BackReference], work: &Work) -> Res<()> {
    if map.0.iter().all(|resource| resource.previous.is_empty()) {
        // Nothing was renamed; but a subject that cannot be understood is an error all the same.
        return map.0.iter().try_for_each(|resource| {
            bound_namespaces(resource)?;
            subjects_have_names(resource)
        });
    }
    let index = Index::new(map);
    for n in 0..map.0.len() {
        let original = map.0[n].original_id();
        let mut reachable = None;
        for reference in references {
            work.spend(reference.referrers.len())?;
            for spec in &reference.referrers {
                if !original.gvk.is_selected(&spec.gvk) {
                    continue;
                }
                let reachable = match &reachable {
                    Some(reachable) => reachable,
                    None => reachable.insert(index.reachable(map, n)?),
                };
                let mut node = map.0[n].node.clone();
                let target = &reference.gvk;
                let referrer = Referrer { map, index: &index, n, spec, target, reachable, work };
                // The spec's own kind was compared with the original one; now the path is all that counts.
                spec.apply_to_any(&mut node, Create::No, &mut |field| referrer.set(field)).map_err(|e| {
                    let id = map.0[n].id();
                    e.context(format!("updating name reference in '{}' field of '{id}'", spec.path))
                })?;
                map.0[n].node = node;
                map.0[n].settle_links();
            }
        }
    }
    Ok(())
}

/// What is asked about resources again and again, while no identity changes.
struct Index {
    ids: Vec<ResId>,
    /// The renamed resources by each of their former names.
    by_name: HashMap<SmolStr, Vec<usize>>,
}

impl Index {
    fn new(map: &ResMap) -> Self {
        let mut by_name: HashMap<SmolStr, Vec<usize>> = HashMap::new();
        for (n, resource) in map.0.iter().enumerate() {
            let mut seen = HashSet::new();
            for previous in &resource.previous {
                if seen.insert(&previous.name) {
                    by_name.entry(previous.name.clone()).or_default().push(n);
                }
            }
        }
        Self { ids: map.0.iter().map(Resource::id).collect(), by_name }
    }

    /// The namespaces other than its own that a resource may refer into; `None` for any.
    fn reachable(&self, map: &ResMap, n: usize) -> Res<Option<Vec<SmolStr>>> {
        if self.ids[n].is_cluster_scoped() {
            return Ok(None);
        }
        bound_namespaces(&map.0[n]).map(Some)
    }
}

/// The namespaces of the accounts that a RoleBinding binds.
fn bound_namespaces(resource: &Resource) -> Res<Vec<SmolStr>> {
    let mut namespaces = Vec::new();
    if resource.kind() != "RoleBinding" || resource.id().is_cluster_scoped() {
        return Ok(namespaces);
    }
    let subjects = resource.node.get("subjects").and_then(Node::as_seq);
    for subject in subjects.into_iter().flat_map(|list| list.iter()) {
        let Some(namespace) = subject.get("namespace") else { continue };
        if text_at(subject, &["kind"]) != "ServiceAccount" {
            continue;
        }
        match namespace.as_str() {
            Some(name) => namespaces.push(name.into()),
            None => {
                return fail!("Invalid Input: namespace is blank for resource \"{}\"\n", resource.id())
                    .map_err(|e: Fail| e.at(namespace.pos).field("subjects.namespace"));
            }
        }
    }
    Ok(namespaces)
}

fn subjects_have_names(resource: &Resource) -> Res<()> {
    if !matches!(resource.kind(), "RoleBinding" | "ClusterRoleBinding") {
        return Ok(());
    }
    let subjects = resource.node.get("subjects").and_then(Node::as_seq);
    let mut subjects = subjects.into_iter().flat_map(|list| list.iter());
    match subjects.find(|subject| subject.is_map() && subject.get("name").is_none()) {
        None => Ok(()),
        Some(subject) => nameless().map_err(|e: Fail| {
            e.at(subject.pos)
                .field("subjects")
                .context(format!("updating name reference in 'subjects' field of '{}'", resource.id()))
        }),
    }
}

fn nameless<T>() -> Res<T> {
    fail!("path config error; no 'name' field in node")
        .map_err(|e: Fail| e.hint("say the name of what is meant"))
}

/// Where a field of an object's metadata was set.
fn place(of: &Resource, field: &str) -> Pos {
    of.node.at(&["metadata", field]).map_or(of.pos, |n| n.pos)
}

struct Referrer<'a> {
    map: &'a ResMap,
    index: &'a Index,
    n: usize,
    spec: &'a FieldSpec,
    target: &'a Gvk,
    reachable: &'a Option<Vec<SmolStr>>,
    work: &'a Work,
}

impl Referrer<'_> {
    fn set(&self, field: &mut Node) -> Res<()> {
        if field.is_null() {
            return Ok(());
        }
        if let Some(seq) = field.as_seq() {
            let changes = |n: &Node| {
                let name = if n.is_map() { n.get("name").map(text) } else { n.text() };
                name.is_none_or(|name| self.index.by_name.contains_key(name))
            };
            if !seq.iter().any(changes) {
                return Ok(());
            }
            for item in field.as_seq_mut().expect("checked above").iter_mut().filter(|i| !i.is_null()) {
                if item.is_map() {
                    self.set_mapping(item)?
                } else {
                    self.set_scalar(item)?
                };
            }
            return Ok(());
        }
        if field.is_map() { self.set_mapping(field) } else { self.set_scalar(field) }
    }

    fn set_scalar(&self, field: &mut Node) -> Res<()> {
        let Some(name) = field.text() else {
            return fail!("node is expected to be either a string or a map of string");
        };
        let Some(found) = self.select(name, None, false).map_err(|e| e.at(field.pos))? else { return Ok(()) };
        let found = &self.map.0[found];
        if found.name() != name {
            set_text(field, found.name(), place(found, "name"));
        }
        Ok(())
    }

    /// A mapping with `name`, and perhaps `namespace`.
    fn set_mapping(&self, field: &mut Node) -> Res<()> {
        let Some(name) = field.get("name") else {
            return nameless();
        };
        let name = text(name).to_owned();
        let namespace = field.get("namespace").map(|n| text(n).to_owned());
        let Some(found) = self.select(&name, namespace.as_deref(), true).map_err(|e| e.at(field.pos))? else {
            return Ok(());
        };
        let found = &self.map.0[found];
        let (new, namespace) = (found.name(), found.namespace());
        if new == name && namespace.is_empty() {
            return Ok(());
        }
        let map = field.as_map_mut().expect("has a name");
        match map.get_mut("name") {
            Some(node) => set_text(node, new, place(found, "name")),
            None => put_string(map, "name", new, place(found, "name")),
        }
        if !namespace.is_empty() {
            match map.get_mut("namespace") {
                Some(node) => set_text(node, namespace, place(found, "namespace")),
                None => {
                    let node = Node::plain(namespace).at_pos(place(found, "namespace"));
                    map.push(Node::string("namespace"), node);
                }
            }
        }
        Ok(())
    }

    /// The object that a name, and perhaps a namespace beside it, meant before the renaming.
    fn select(&self, name: &str, namespace: Option<&str>, by_namespace: bool) -> Res<Option<usize>> {
        let Some(named) = self.index.by_name.get(name) else { return Ok(None) };
        self.work.spend_for(named.len(), MATCH)?;
        if namespace.is_some() {
            self.work.spend_for(self.map.0.len(), MATCH)?;
        }
        let me = &self.map.0[self.n];
        let my_id = &self.index.ids[self.n];
        let (ids, map) = (&self.index.ids, self.map);
        let mut candidates: Vec<usize> = named
            .iter()
            .copied()
            .filter(|c| {
                let id = &ids[*c];
                match self.reachable {
                    None => true,
                    Some(namespaces) => {
                        id.is_cluster_scoped()
                            || id.same_namespace(my_id)
                            || namespaces.iter().any(|n| n == map.0[*c].namespace())
                    }
                }
            })
            .collect();
        if let Some(namespace) = namespace {
            candidates = self.in_namespace(candidates, namespace);
        }
        let was = |c: usize, gvk: &Gvk| map.0[c].previous_ids().any(|id| id.gvk.is_selected(gvk));
        candidates.retain(|c| was(*c, self.target));
        if let Some(role) = self.role_ref() {
            candidates.retain(|c| was(*c, &role));
        }
        if !my_id.is_cluster_scoped() {
            candidates.retain(|c| {
                let id = &ids[*c];
                id.is_cluster_scoped() || id.gvk.kind == "ServiceAccount" || my_id.same_namespace(id)
            });
        }
        if candidates.len() > 1 {
            candidates.retain(|c| map.0[*c].same_affixes(me, true));
        }
        if candidates.len() > 1 {
            candidates.retain(|c| map.0[*c].same_affixes(me, false));
        }
        let Some((first, others)) = candidates.split_first() else { return Ok(None) };
        let same = |c: &usize| {
            let (a, b) = (&map.0[*first], &map.0[*c]);
            a.name() == b.name() && (!by_namespace || a.namespace() == b.namespace())
        };
        if others.iter().all(same) {
            return Ok(Some(*first));
        }
        let list: Vec<String> = candidates.iter().map(|c| ids[*c].to_string()).collect();
        fail!("found multiple possible referrals: {}", list.join(", ")).map_err(|e: Fail| {
            e.hint("give them different names, or put what names one of them into the same base")
        })
    }

    fn in_namespace(&self, candidates: Vec<usize>, namespace: &str) -> Vec<usize> {
        let original = |c: usize| self.map.0[c].original_id();
        // As in kustomize: if anything that can be referred to was in that namespace at first, those are meant.
        let any = (0..self.map.0.len()).any(|c| {
            let id = original(c);
            let within = match self.reachable {
                None => true,
                Some(_) => {
                    self.index.ids[c].is_cluster_scoped()
                        || self.index.ids[c].same_namespace(&self.index.ids[self.n])
                        || self
                            .reachable
                            .as_ref()
                            .is_some_and(|r| r.iter().any(|n| n == self.map.0[c].namespace()))
                }
            };
            within && id.effective_namespace() == namespace
        });
        let is_in = |c: &usize| {
            let id = if any { original(*c) } else { self.index.ids[*c].clone() };
            id.effective_namespace() == namespace && id.effective_namespace() != CLUSTER
        };
        candidates.into_iter().filter(is_in).collect()
    }

    /// The kind that a `roleRef` beside the name says.
    fn role_ref(&self) -> Option<Gvk> {
        if !self.spec.path.ends_with("roleRef/name") {
            return None;
        }
        let node = self.map.0[self.n].node.get("roleRef")?;
        let (group, kind) = (node.get("apiGroup")?, node.get("kind")?);
        Some(Gvk { group: text(group).into(), version: SmolStr::default(), kind: text(kind).into() })
    }
}
