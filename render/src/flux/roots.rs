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

/// The root of a cluster, as far as a Flux object tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    pub path: TreePath,
    /// A name that its path suggests; no two roots have the same.
    pub name: ClusterName,
    /// File and line of the object that tells.
    pub told_at: (TreePath, u32),
    /// Its kind and name: `FluxInstance flux`.
    pub told_by: String,
}

/// Files that are looked at, and how large they may be. Sync objects are short.
const MAX_FILES: usize = 20_000;
const MAX_BYTES: usize = 256 * 1024;
const MAX_DEPTH: usize = 32;

/// Finds the roots in a tree, by path.
///
/// # Errors
/// Where a folder cannot be listed. A file that cannot be read or parsed tells nothing.
pub fn find(files: &dyn Files) -> Result<Vec<Root>, ReadError> {
    let mut found: BTreeMap<TreePath, (TreePath, u32, String)> = BTreeMap::new();
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
                        return Ok(named(found));
                    }
                    for (root, line, told_by) in told(files, &path) {
                        found.entry(root).or_insert((path.clone(), line, told_by));
                    }
                }
                Kind::Folder | Kind::File | Kind::Symlink => {}
            }
        }
    }
    Ok(named(found))
}

/// The roots that a file tells of.
fn told(files: &dyn Files, path: &TreePath) -> Vec<(TreePath, u32, String)> {
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

fn root_of(object: &Node, file: &TreePath) -> Option<(TreePath, u32, String)> {
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
    Some((root, object.pos.line.max(1), format!("{kind} {name}")))
}

/// Parts of a path that say nothing of the cluster.
const COMMON: [&str; 9] =
    ["cluster", "clusters", "config", "flux", "flux-system", "fluxcd", "k8s", "kubernetes", "sync"];

fn named(found: BTreeMap<TreePath, (TreePath, u32, String)>) -> Vec<Root> {
    let mut roots: Vec<Root> = Vec::new();
    for (path, (file, line, told_by)) in found {
        let parts = path.as_str().rsplit('/').filter(|part| !COMMON.contains(part));
        let valid =
            |part: &str| part.to_ascii_lowercase().replace(['_', '.'], "-").parse::<ClusterName>().ok();
        let name = parts.filter_map(valid).next();
        let name = name.unwrap_or_else(|| "cluster".parse().expect("a valid name"));
        let taken = |name: &ClusterName| roots.iter().any(|root| root.name == *name);
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
        let found: Vec<String> = find(&tree)
            .unwrap()
            .iter()
            .map(|root| {
                format!(
                    "{} {} by {} at {}:{}",
                    root.name, root.path, root.told_by, root.told_at.0, root.told_at.1
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                "cluster flux by Kustomization sync at flux/sync.yaml:2",
                "east-1 k8s/east_1 by Kustomization sync at k8s/east_1/flux-system/gotk-sync.yaml:2",
                "east-1-2 k8s/other/east-1 by Kustomization sync at k8s/other/east-1/flux-system/gotk-sync.yaml:2",
                "main kubernetes/main/flux by Kustomization sync at kubernetes/main/flux/config/cluster.yaml:2",
                "west tenants/west by FluxInstance flux at bootstrap/instance.yaml:1",
            ]
        );
    }
}
