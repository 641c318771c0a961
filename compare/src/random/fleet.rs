//! Random fleet repositories with one cluster, each the same for its seed everywhere and for ever.
//!
//! ```text
//!   clusters/prod   the root: variables, Kustomizations, perhaps its own and its source's; values of releases
//!   apps/NAME       what the Kustomizations name: folders to scan, bases and overlays, units that define units
//!   charts/demo     a chart, so that releases need no fetch
//! ```
//!
//! Every object has a name of its own, so that no two units clash.

use super::rng::Rng;
use crate::tree::{Content, Tree};

mod folders;
mod objects;
mod releases;
mod roots;
mod units;
mod variables;

/// What is being made.
pub(super) struct Maker {
    rng: Rng,
    tree: Tree,
    serial: usize,
    has_random_tree: bool,
}

impl Maker {
    fn file(&mut self, path: impl Into<String>, text: impl Into<String>) {
        self.tree.files.insert(path.into(), Content::Bytes(text.into().into_bytes()));
    }

    /// Adds documents to a file.
    fn add(&mut self, path: &str, document: &str) {
        let file = self.tree.files.entry(path.to_owned()).or_insert_with(|| Content::Bytes(Vec::new()));
        if let Content::Bytes(bytes) = file {
            bytes.extend_from_slice(format!("---\n{document}").as_bytes());
        }
    }

    /// A name that nothing else has.
    fn name(&mut self, stem: &str) -> String {
        self.serial += 1;
        format!("{stem}{}", self.serial)
    }

    /// One of the texts, so often.
    fn maybe(&mut self, percent: u64, texts: &[&str]) -> String {
        if self.rng.chance(percent) { (*self.rng.pick(texts)).to_owned() } else { String::new() }
    }
}

/// The root path of the cluster.
pub const ROOT: &str = "clusters/prod";

/// The fleet repository of a seed; its root is the cluster's path.
pub fn fleet(seed: u64) -> Tree {
    let tree = Tree { root: ROOT.to_owned(), ..Tree::default() };
    let mut maker = Maker { rng: Rng::new(seed), tree, serial: 0, has_random_tree: false };
    maker.file("charts/demo/Chart.yaml", "apiVersion: v2\nname: demo\nversion: 1.0.0\n");
    maker.file("charts/demo/templates/x.yaml", "");
    variables::objects(&mut maker);
    let scope = roots::root(&mut maker);
    for _ in 0..maker.rng.between(1, 4) {
        units::unit(&mut maker, "clusters/prod/units.yaml", scope, 0);
    }
    for _ in 0..maker.rng.below(4) {
        releases::release(&mut maker, "clusters/prod/releases.yaml", scope);
    }
    roots::ignored(&mut maker);
    maker.tree
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_one_fleet() {
        assert_eq!(fleet(7), fleet(7));
        assert_ne!(fleet(7).to_text(), fleet(8).to_text());
    }
}
