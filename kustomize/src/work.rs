//! What one build may cost, counted in steps: so the same input always stops at the same place, on any machine. A step is
//! about what it costs to look at a node, or to write eight bytes of text.

use std::cell::Cell;

use flotilla_yaml::{Node, Value};

use crate::error::{Fail, Res, fail};

/// Bounds on one build, whatever the files say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Kustomizations that are built, one that is named several times counted each time. Default 5,000.
    pub kustomizations: usize,
    /// Objects, at any time of the build. Default 20,000.
    pub objects: usize,
    /// Steps of work. Default 50 million: some seconds.
    pub steps: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { kustomizations: 5_000, objects: 20_000, steps: 50_000_000 }
    }
}

/// What a node costs that is read from a text, which is what most memory goes to.
const READ: usize = 10;
/// Collections inside each other, as for texts that are read.
const DEPTH: usize = 100;

/// Fields on the way to another, in any notation of paths: what is not there is made, and walked.
const PATH: usize = 50;

/// Refuses a path that leads through too many fields.
pub(crate) fn check_path(parts: &[String]) -> Res<()> {
    match parts.len() > PATH {
        true => fail!("a path leads through {} fields, more than {PATH}", parts.len()),
        false => Ok(()),
    }
}

/// Of one build.
#[derive(Debug)]
pub(crate) struct Work {
    limits: Limits,
    left: Cell<u64>,
    kustomizations: Cell<usize>,
}

/// What a value comes to when all that is shared in it is counted each time.
struct Weight {
    steps: usize,
    nodes: usize,
    depth: usize,
}

impl Work {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, left: Cell::new(limits.steps), kustomizations: Cell::new(0) }
    }

    /// Takes steps, before they are made.
    pub(crate) fn spend(&self, steps: usize) -> Res<()> {
        match self.left.get().checked_sub(steps as u64) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => Err(self.spent()),
        }
    }

    /// What is said where nothing is left.
    pub(crate) fn spent(&self) -> Fail {
        Fail::new(format!("the build takes more than {} steps of work", self.limits.steps))
            .hint("make several smaller units of it, or apply less to fewer objects at a time")
    }

    /// Takes what `each` costs, so many times.
    pub(crate) fn spend_for(&self, times: usize, each: usize) -> Res<()> {
        self.spend(times.saturating_mul(each))
    }

    /// Takes what it costs to write a text.
    pub(crate) fn spend_bytes(&self, bytes: usize) -> Res<()> {
        self.spend(bytes / 8 + 1)
    }

    /// Takes what it costs to put a value `depth` collections deep into another one. Sharing makes it cheap to put a value
    /// into itself again and again; whoever looks at the result pays for it all.
    pub(crate) fn spend_value(&self, value: &Node, depth: usize) -> Res<()> {
        let weight = self.weigh(value)?;
        if depth + weight.depth > DEPTH {
            return fail!("a value would be nested deeper than {DEPTH} levels")
                .map_err(|e: Fail| e.at(value.pos));
        }
        self.spend(weight.steps)
    }

    /// Takes what documents have cost that were read.
    pub(crate) fn spend_read(&self, documents: &[Node]) -> Res<()> {
        documents.iter().try_for_each(|document| self.spend_for(self.weigh(document)?.nodes, READ))
    }

    /// What values come to, in steps; nothing is taken for it.
    pub(crate) fn weight<'a>(&self, values: impl IntoIterator<Item = &'a Node>) -> Res<usize> {
        values.into_iter().try_fold(0, |sum, value| Ok(self.weigh(value)?.steps + sum))
    }

    /// The nodes that a text may still have.
    pub(crate) fn nodes_left(&self) -> usize {
        usize::try_from(self.left.get()).unwrap_or(usize::MAX) / READ
    }

    /// Counts a kustomization.
    pub(crate) fn enter(&self) -> Res<()> {
        self.kustomizations.set(self.kustomizations.get() + 1);
        let most = self.limits.kustomizations;
        if self.kustomizations.get() > most {
            return fail!("more than {most} kustomizations are built, each as often as it is named").map_err(
                |e: Fail| {
                    e.hint("where several name the same base, name it once further up, or make several units")
                },
            );
        }
        Ok(())
    }

    pub(crate) fn check_objects(&self, objects: usize) -> Res<()> {
        let most = self.limits.objects;
        if objects > most {
            return fail!("there are more than {most} objects")
                .map_err(|e: Fail| e.hint("make several units of them"));
        }
        Ok(())
    }

    fn weigh(&self, value: &Node) -> Res<Weight> {
        let mut weight = Weight { steps: 0, nodes: 0, depth: 0 };
        let mut open = vec![(value, 1)];
        while let Some((node, depth)) = open.pop() {
            weight.nodes += 1;
            weight.steps += 1;
            match &node.value {
                Value::Scalar(scalar) => weight.steps += scalar.text().len() / 8,
                Value::Seq(items) => open.extend(items.iter().map(|item| (item, depth + 1))),
                Value::Map(map) => {
                    open.extend(map.iter().flat_map(|e| [(&e.key, depth + 1), (&e.value, depth + 1)]))
                }
            }
            if !node.is_scalar() {
                weight.depth = weight.depth.max(depth);
            }
            if weight.depth > 2 * DEPTH || weight.steps as u64 > self.left.get() {
                // More than anybody may spend, and perhaps more than could be walked.
                self.left.set(0);
                break;
            }
        }
        if self.left.get() == 0 { self.spend(1).map(|()| weight) } else { Ok(weight) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_counts_each_time() {
        let mut value = Node::string("x".repeat(80));
        for _ in 0..60 {
            value = [value.clone(), value].into_iter().collect::<flotilla_yaml::Seq>().into();
        }
        let work = Work::new(Limits { steps: 1000, ..Limits::default() });
        assert!(work.spend_value(&value, 0).is_err() && work.spend(1).is_err());
        let small = Node::from(flotilla_yaml::Seq::from(vec![Node::string("x".repeat(80)); 3]));
        let work = Work::new(Limits { steps: 1000, ..Limits::default() });
        work.spend_value(&small, 99).unwrap();
        assert_eq!(work.left.get(), 1000 - 1 - 3 * 11);
        assert!(work.spend_value(&small, 100).unwrap_err().message.contains("deeper than 100"));
    }
}
