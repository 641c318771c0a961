//! Which lists a strategic merge patch merges, and by which keys: the built-in kinds' (`merge_keys.txt`), or those
//! of an OpenAPI document given by the `openapi` field.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use flotilla_yaml::Node;

use crate::error::{Fail, Res};
use crate::gvk::Gvk;

/// Types by number.
#[derive(Debug, Default, Clone)]
pub(crate) struct Schema {
    types: Vec<Type>,
    by_kind: HashMap<(String, String), TypeId>,
    /// The built-in types by the table's names, those of a document by their own.
    by_name: HashMap<String, TypeId>,
    /// The kinds that have no namespace, by the paths of a document that has paths.
    pub(crate) cluster_scoped: Option<Arc<HashSet<Gvk>>>,
}

type Names<'a> = HashMap<&'a str, TypeId>;

/// A type of the schema that `merge` is about to apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TypeId(usize);

#[derive(Debug, Default, Clone)]
struct Type {
    fields: HashMap<String, Field>,
    /// The type of all fields that are not named, for mappings with free keys.
    rest: Option<TypeId>,
}

/// What the schema says about a field.
#[derive(Debug, Clone, Default)]
pub(crate) struct Field {
    /// The merge keys of a list that is merged; empty for one that is merged by its scalars.
    pub(crate) keys: Option<Arc<[String]>>,
    /// The type of the object, or of the list's items.
    pub(crate) of: Option<TypeId>,
}

impl Schema {
    /// The kinds that kustomize has built in.
    pub(crate) fn builtin() -> Arc<Schema> {
        static TABLE: OnceLock<Arc<Schema>> = OnceLock::new();
        TABLE.get_or_init(|| Arc::new(read_table(include_str!("merge_keys.txt")))).clone()
    }

    /// The type of a kind.
    pub(crate) fn kind(&self, api_version: &str, kind: &str) -> Option<TypeId> {
        self.by_kind.get(&(api_version.to_owned(), kind.to_owned())).copied()
    }

    /// The field of a type.
    pub(crate) fn field(&self, of: TypeId, name: &str) -> Option<Field> {
        let ty = &self.types[of.0];
        ty.fields.get(name).cloned().or_else(|| ty.rest.map(|of| Field { keys: None, of: Some(of) }))
    }

    /// Reads an OpenAPI document (`definitions`, as `kustomize openapi fetch` prints it, in JSON or YAML). With
    /// `builtin`, the built-in types are there too and go before those of the same name in the document.
    pub(crate) fn read(document: &Node, builtin: bool) -> Res<Schema> {
        let Some(definitions) = document.get("definitions").and_then(Node::as_map) else {
            return Err(Fail::new(
                "invalid schema file: there are no 'definitions' in it, by which lists are merged",
            )
            .at(document.pos)
            .hint("name an OpenAPI document, as `kustomize openapi fetch` prints it"));
        };
        let mut schema = if builtin { read_table(include_str!("merge_keys.txt")) } else { Schema::default() };
        let first = schema.types.len();
        let names: Names = definitions.keys().enumerate().map(|(n, k)| (k, TypeId(first + n))).collect();
        schema.types.resize_with(first + names.len(), Type::default);
        for (n, entry) in definitions.iter().enumerate() {
            let (id, definition) = (TypeId(first + n), &entry.value);
            schema.define(id, definition, &names);
            let kinds = definition.get("x-kubernetes-group-version-kind").and_then(Node::as_seq);
            for gvk in kinds.into_iter().flat_map(|s| s.iter()) {
                let part = |name: &str| gvk.get(name).and_then(Node::text).unwrap_or_default();
                let (group, version) = (part("group"), part("version"));
                let api_version =
                    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
                schema.by_kind.entry((api_version, part("kind").to_owned())).or_insert(id);
            }
        }
        schema.cluster_scoped = document.get("paths").map(|paths| Arc::new(cluster_scoped(paths)));
        schema.by_name.extend(names.iter().map(|(name, id)| ((*name).to_owned(), *id)));
        Ok(schema)
    }

    /// The schema with what a comment beside a field says about the field.
    pub(crate) fn with_comment(&self, comment: &Node) -> (Schema, Field) {
        let mut schema = self.clone();
        let field = schema.property(comment, &Names::new());
        (schema, field)
    }

    /// A type by its full name. Of the built-in ones the table has the last part, or the last three where that is
    /// ambiguous.
    fn named(&self, full: &str) -> Option<TypeId> {
        let builtin = full.strip_prefix("io.k8s.").and_then(|name| {
            let short = name.rsplit('.').next()?;
            let from = name.rmatch_indices('.').nth(2).map_or(0, |(n, _)| n + 1);
            self.by_name.get(short).or_else(|| self.by_name.get(&name[from..]))
        });
        builtin.or_else(|| self.by_name.get(full)).copied()
    }

    /// Fills a type from its definition; types written inline get numbers of their own.
    fn define(&mut self, id: TypeId, definition: &Node, names: &Names) {
        let mut fields = HashMap::new();
        for entry in definition.get("properties").and_then(Node::as_map).into_iter().flatten() {
            let field = self.property(&entry.value, names);
            fields.insert(entry.key.text().unwrap_or_default().to_owned(), field);
        }
        let rest = definition.get("additionalProperties").and_then(|d| self.type_of(d, names));
        self.types[id.0] = Type { fields, rest };
    }

    fn property(&mut self, property: &Node, names: &Names) -> Field {
        let Some(items) = property.get("items") else {
            return Field { keys: None, of: self.type_of(property, names) };
        };
        let strategy = property.get("x-kubernetes-patch-strategy").and_then(Node::text).unwrap_or_default();
        let merges = strategy.split(',').any(|s| s == "merge");
        let map_keys = property.get("x-kubernetes-list-map-keys").and_then(Node::as_seq);
        let merge_key = property.get("x-kubernetes-patch-merge-key").and_then(Node::text);
        let keys: Vec<String> = match (map_keys, merge_key) {
            (Some(keys), _) => keys.iter().filter_map(|k| k.text().map(str::to_owned)).collect(),
            (None, key) => key.map(str::to_owned).into_iter().collect(),
        };
        let types = property.get("type");
        let is_array = types.is_some_and(|t| {
            t.text() == Some("array")
                || t.as_seq().is_some_and(|s| s.len() == 1 && s[0].text() == Some("array"))
        });
        let of = if is_array { self.type_of(items, names) } else { None };
        Field { keys: merges.then(|| keys.into()), of }
    }

    fn type_of(&mut self, schema: &Node, names: &Names) -> Option<TypeId> {
        if let Some(reference) = schema.get("$ref").and_then(Node::text) {
            let name = reference.strip_prefix("#/definitions/")?;
            return self.named(name).or_else(|| names.get(name).copied());
        }
        if schema.get("properties").is_none() && !schema.get("additionalProperties").is_some_and(Node::is_map)
        {
            return None;
        }
        let id = TypeId(self.types.len());
        self.types.push(Type::default());
        self.define(id, schema, names);
        Some(id)
    }
}

/// The kinds that can be read at some path, and at none that has a namespace in it.
fn cluster_scoped(paths: &Node) -> HashSet<Gvk> {
    let mut scopes: HashMap<Gvk, bool> = HashMap::new();
    for entry in paths.as_map().into_iter().flatten() {
        let Some(gvk) = entry.value.at(&["get", "x-kubernetes-group-version-kind"]) else { continue };
        let part = |name: &str| gvk.get(name).and_then(Node::text).unwrap_or_default().into();
        let gvk = Gvk { group: part("group"), version: part("version"), kind: part("kind") };
        let namespaced = entry.key.text().is_some_and(|path| path.contains("namespaces/{namespace}"));
        *scopes.entry(gvk).or_default() |= namespaced;
    }
    scopes.into_iter().filter(|(_, namespaced)| !namespaced).map(|(gvk, _)| gvk).collect()
}

/// Reads the crate's own table; it is part of the program, so a mistake in it is a bug.
fn read_table(text: &str) -> Schema {
    let lines = || text.lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
    let types = lines().filter(|l| !l.starts_with('@'));
    let name_of = |line: &str| line.split([':', ' ']).next().unwrap_or_default().to_owned();
    let names: HashMap<String, usize> = types.clone().enumerate().map(|(n, l)| (name_of(l), n)).collect();
    let type_of = |name: &str| (!name.is_empty()).then(|| TypeId(names[name]));
    let by_name = names.iter().map(|(name, n)| (name.clone(), TypeId(*n))).collect();
    let mut schema = Schema { by_name, ..Schema::default() };
    let metadata = Field { keys: None, of: type_of("ObjectMeta") };
    for line in types {
        let (head, fields) = line.split_once(": ").expect("a line has a colon");
        if let Some((_, kind)) = head.split_once(" = ") {
            let (api_version, kind) = kind.split_once(' ').expect("apiVersion and kind");
            schema.by_kind.insert((api_version.to_owned(), kind.to_owned()), TypeId(schema.types.len()));
        }
        let mut ty = Type::default();
        for field in fields.split(' ') {
            let (name, field) = match field.split_once('[') {
                Some((name, rest)) => {
                    let (keys, of) = rest.split_once(']').expect("brackets close");
                    let keys = keys.split(',').filter(|k| !k.is_empty()).map(str::to_owned).collect();
                    (name, Field { keys: Some(keys), of: type_of(of) })
                }
                None => {
                    let (name, of) = field.split_once(':').expect("a field has a type");
                    (name, Field { keys: None, of: type_of(of) })
                }
            };
            ty.fields.insert(name.to_owned(), field);
        }
        schema.types.push(ty);
    }
    let plain = TypeId(schema.types.len());
    schema.types.push(Type { fields: HashMap::from([("metadata".to_owned(), metadata)]), rest: None });
    for line in lines().filter_map(|l| l.strip_prefix("@ ")) {
        let (api_version, kinds) = line.split_once(": ").expect("a line has a colon");
        for kind in kinds.split(' ') {
            schema.by_kind.insert((api_version.to_owned(), kind.to_owned()), plain);
        }
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_leads_to_the_lists_of_a_deployment() {
        let schema = Schema::builtin();
        let mut at = schema.kind("apps/v1", "Deployment");
        for name in ["spec", "template", "spec"] {
            at = schema.field(at.expect("type"), name).expect("field").of;
        }
        let containers = schema.field(at.unwrap(), "containers").unwrap();
        assert_eq!(containers.keys.as_deref(), Some(&["name".to_owned()][..]));
        let ports = schema.field(containers.of.unwrap(), "ports").unwrap();
        assert_eq!(ports.keys.as_deref(), Some(&["containerPort".to_owned(), "protocol".to_owned()][..]));
        assert!(schema.kind("rbac.authorization.k8s.io/v1", "ClusterRole").is_some());
        assert!(schema.kind("example.com/v1", "Deployment").is_none());
    }
}
