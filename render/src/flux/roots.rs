//! Where a Flux repository has the roots of its clusters: to offer them where no cluster is defined. What is found is a
//! suggestion for a person, and nothing is planned by it.
//!
//! ```text
//!   clusters/prod/flux-system/gotk-sync.yaml    a Kustomization whose path is a folder that it stands in
//!   anywhere                                    a FluxInstance, whose spec.sync.path is one
//! ```

use std::collections::BTreeMap;

use flotilla_core::ClusterName;
use flotilla_kustomize::files::{Files, Kind, ReadError, TreePath};
use flotilla_yaml::Node;

use crate::fleet::Fleet;

/// The root of a cluster, as far as a Flux object tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    pub path: TreePath,
    /// A name that its path suggests; no two roots have the same, and no cluster that Git defines has it.
    pub name: ClusterName,
    /// File and line of the object that tells.
    pub told_at: (TreePath, u32),
    /// Its kind and name: `FluxInstance flux`.
    pub told_by: String,
}

/// The roots in a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roots {
    /// Those that no cluster has, by path.
    pub free: Vec<Root>,
    /// The clusters that have one of the others.
    pub defined: Vec<ClusterName>,
}

/// Files that are looked at, and how large they may be. Sync objects are short.
const MAX_FILES: usize = 20_000;
const MAX_BYTES: usize = 256 * 1024;
const MAX_DEPTH: usize = 32;

/// What tells of a root: the object's file and line, its kind and name.
type Told = (TreePath, u32, String);

/// Finds the roots in a tree whose clusters are those of `fleet`.
///
/// # Errors
/// Where a folder cannot be listed. A file that cannot be read or parsed tells nothing.
pub fn find(files: &dyn Files, fleet: &Fleet) -> Result<Roots, ReadError> {
    let mut found = every(files)?;
    let mut defined = Vec::new();
    for cluster in fleet.clusters.values() {
        if found.remove(&cluster.root.path).is_some() {
            defined.push(cluster.name.clone());
        }
    }
    Ok(Roots { free: named(found, fleet), defined })
}

fn every(files: &dyn Files) -> Result<BTreeMap<TreePath, Told>, ReadError> {
    let mut found = BTreeMap::new();
    let mut folders = vec![(TreePath::root(), 0)];
    let mut looked_at = 0;
    while let Some((folder, depth)) = folders.pop() {
        for (name, entry) in files.list(&folder)? {
            let Ok(path) = folder.join(&name) else { continue };
            match entry.kind {
                Kind::Folder if depth < MAX_DEPTH => folders.push((path, depth + 1)),
                Kind::File if name.ends_with(".yaml") || name.ends_with(".yml") => {
                    looked_at += 1;
                    if looked_at > MAX_FILES {
                        return Ok(found);
                    }
                    for (root, told) in told(files, &path) {
                        found.entry(root).or_insert(told);
                    }
                }
                Kind::Folder | Kind::File | Kind::Symlink => {}
            }
        }
    }
    Ok(found)
}

/// The roots that a file tells of.
fn told(files: &dyn Files, path: &TreePath) -> Vec<(TreePath, Told)> {
    let Ok(content) = files.read(path) else { return Vec::new() };
    let Some(text) = std::str::from_utf8(&content).ok().filter(|text| text.len() <= MAX_BYTES) else {
        return Vec::new();
    };
    // Most files hold neither, and reading YAML takes its time.
    if !text.contains("kustomize.toolkit.fluxcd.io/") && !text.contains("FluxInstance") {
        return Vec::new();
    }
    let documents = flotilla_yaml::parse(text).unwrap_or_default();
    documents.iter().filter_map(|document| root_of(document, path)).collect()
}

fn root_of(object: &Node, file: &TreePath) -> Option<(TreePath, Told)> {
    let text = |path: &[&str]| object.at(path).and_then(Node::text);
    let (kind, name) = (text(&["kind"])?, text(&["metadata", "name"]).unwrap_or_default());
    let group = text(&["apiVersion"])?.split('/').next()?;
    let root = match (group, kind) {
        ("kustomize.toolkit.fluxcd.io", "Kustomization") => {
            let root = TreePath::clamped(text(&["spec", "path"])?).ok()?;
            // Of the root of a repository, everything in it would be told.
            if root.is_root() || !file.is_within(&root) {
                return None;
            }
            root
        }
        ("fluxcd.controlplane.io", "FluxInstance") => {
            TreePath::clamped(text(&["spec", "sync", "path"])?).ok()?
        }
        _ => return None,
    };
    Some((root, (file.clone(), object.pos.line.max(1), format!("{kind} {name}"))))
}

/// Parts of a path that say nothing of the cluster.
const COMMON: [&str; 9] =
    ["cluster", "clusters", "config", "flux", "flux-system", "fluxcd", "k8s", "kubernetes", "sync"];

fn named(found: BTreeMap<TreePath, Told>, fleet: &Fleet) -> Vec<Root> {
    let has = |name: &ClusterName| fleet.clusters.contains_key(name) || fleet.unclear.contains_key(name);
    let mut roots: Vec<Root> = Vec::new();
    for (path, (file, line, told_by)) in found {
        let parts = path.as_str().rsplit('/').filter(|part| !COMMON.contains(part));
        let valid =
            |part: &str| part.to_ascii_lowercase().replace(['_', '.'], "-").parse::<ClusterName>().ok();
        let name = parts.filter_map(valid).next();
        let name = name.unwrap_or_else(|| "cluster".parse().expect("a valid name"));
        let taken = |name: &ClusterName| has(name) || roots.iter().any(|root| root.name == *name);
        let numbered = (2..).map(|number| format!("{name}-{number}").parse::<ClusterName>());
        let free = std::iter::once(Ok(name.clone())).chain(numbered).flatten().find(|name| !taken(name));
        let name = free.unwrap_or(name);
        roots.push(Root { path, name, told_at: (file, line), told_by });
    }
    roots
}

#[cfg(test)]
mod tests {
    use flotilla_kustomize::files::MemoryFiles;

    use super::*;

    fn kustomization(path: &str) -> String {
        format!(
            "---\napiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: sync}}\nspec:\n  path: \
             {path}\n"
        )
    }

    #[test]
    fn roots_are_told_by_what_stands_in_them_or_by_an_instance() {
        let instance = "apiVersion: fluxcd.controlplane.io/v1\nkind: FluxInstance\nmetadata: {name: flux}\nspec:\n  sync: \
                        {kind: GitRepository, path: tenants/west}\n";
        let tree = MemoryFiles::new([
            ("kubernetes/main/flux/config/cluster.yaml", kustomization("./kubernetes/main/flux")),
            ("kubernetes/main/apps/web/ks.yaml", kustomization("./kubernetes/main/apps/web/app")),
            ("k8s/east_1/flux-system/gotk-sync.yaml", kustomization("k8s/east_1")),
            ("k8s/other/east-1/flux-system/gotk-sync.yaml", kustomization("/k8s/other/east-1/")),
            ("flux/sync.yaml", kustomization("./flux")),
            ("everything.yaml", kustomization("./")),
            ("bootstrap/instance.yaml", instance.to_owned()),
            ("broken.yaml", "kustomize.toolkit.fluxcd.io/v1: [\n".to_owned()),
        ]);
        let shown = |root: &Root| {
            let (file, line) = &root.told_at;
            format!("{} {} by {} at {file}:{line}", root.name, root.path, root.told_by)
        };
        let found = find(&tree, &Fleet::default()).unwrap();
        assert_eq!(
            found.free.iter().map(shown).collect::<Vec<_>>(),
            [
                "cluster flux by Kustomization sync at flux/sync.yaml:2",
                "east-1 k8s/east_1 by Kustomization sync at k8s/east_1/flux-system/gotk-sync.yaml:2",
                "east-1-2 k8s/other/east-1 by Kustomization sync at k8s/other/east-1/flux-system/gotk-sync.yaml:2",
                "main kubernetes/main/flux by Kustomization sync at kubernetes/main/flux/config/cluster.yaml:2",
                "west tenants/west by FluxInstance flux at bootstrap/instance.yaml:1",
            ]
        );
    }

    #[test]
    fn what_is_a_cluster_already_is_not_found_again_and_keeps_its_name() {
        let cluster = |name: &str, spec: &str| {
            format!(
                "---\napiVersion: flotilla.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}}}\nspec: {spec}\n"
            )
        };
        let tree = MemoryFiles::new([
            ("k8s/east/flux-system/gotk-sync.yaml", kustomization("./k8s/east")),
            ("k8s/west/flux-system/gotk-sync.yaml", kustomization("./k8s/west")),
            ("k8s/north/flux-system/gotk-sync.yaml", kustomization("./k8s/north")),
            ("clusters/prod/flux-system/gotk-sync.yaml", kustomization("./clusters/prod")),
            ("clusters/own/east.yaml", cluster("oslo", "{path: k8s/east}")),
            ("clusters/own/west.yaml", cluster("west", "{path: elsewhere}")),
            // What it has for its path cannot be told, and the name is taken.
            ("clusters/own/north.yaml", cluster("north", "{path: [k8s/north]}")),
        ]);
        let fleet = crate::fleet::discover(&tree, &TreePath::from_root("clusters").unwrap()).unwrap();
        let found = find(&tree, &fleet).unwrap();
        let free: Vec<_> =
            found.free.iter().map(|root| (root.name.to_string(), root.path.to_string())).collect();
        let pair = |name: &str, path: &str| (name.to_owned(), path.to_owned());
        assert_eq!(free, [pair("north-2", "k8s/north"), pair("west-2", "k8s/west")]);
        assert_eq!(found.defined.iter().map(ToString::to_string).collect::<Vec<_>>(), ["oslo", "prod"]);
    }
}
