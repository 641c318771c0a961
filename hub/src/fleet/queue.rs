//! What waits for helm, in turns between tenants. Pure.
//!
//! A tenant is the namespace of a HelmRelease in one cluster. Each gets its turn, however much the others ask for. One whose
//! charts were ended for their time or memory has one run at a time together with all others of that kind, so that these
//! never have all the processors.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use flotilla_core::{ClusterName, Digest};

/// Whose request it is.
pub(super) type Tenant = (ClusterName, String);

#[derive(Default)]
pub(super) struct Queue {
    waiting: BTreeMap<Tenant, VecDeque<Digest>>,
    /// Who had the last turn.
    last: Option<Tenant>,
    /// Tenants whose charts take too much.
    heavy: BTreeSet<Tenant>,
    /// What runs for a tenant that was heavy when it began.
    heavy_run: Option<Digest>,
}

impl Queue {
    /// Queues a request, once for each tenant that makes it.
    pub(super) fn push(&mut self, tenant: &Tenant, key: Digest) {
        let waiting = self.waiting.entry(tenant.clone()).or_default();
        if !waiting.contains(&key) {
            waiting.push_back(key);
        }
    }

    /// The next request, and whose it is.
    pub(super) fn pop(&mut self) -> Option<(Tenant, Digest)> {
        let tenant = self.next()?;
        let waiting = self.waiting.get_mut(&tenant)?;
        let key = waiting.pop_front()?;
        if waiting.is_empty() {
            self.waiting.remove(&tenant);
        }
        self.drop_others(key);
        if self.heavy.contains(&tenant) {
            self.heavy_run = Some(key);
        }
        self.last = Some(tenant.clone());
        Some((tenant, key))
    }

    /// Whether [`Queue::pop`] gives anything.
    pub(super) fn may_pop(&self) -> bool {
        self.next().is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn next(&self) -> Option<Tenant> {
        let after = self.last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let later = self.waiting.range::<Tenant, _>((after, Bound::Unbounded));
        let mut tenants = later.chain(&self.waiting).map(|(tenant, _)| tenant);
        let may_run = |tenant: &&Tenant| self.heavy_run.is_none() || !self.heavy.contains(*tenant);
        tenants.find(may_run).cloned()
    }

    /// The same request of other tenants is answered with it.
    fn drop_others(&mut self, key: Digest) {
        self.waiting.retain(|_, waiting| {
            waiting.retain(|other| *other != key);
            !waiting.is_empty()
        });
    }

    /// A run is over; `took_too_much`: it was ended for its time or memory.
    pub(super) fn done(&mut self, tenant: &Tenant, key: Digest, took_too_much: bool) {
        self.heavy_run.take_if(|run| *run == key);
        if took_too_much {
            self.heavy.insert(tenant.clone());
        } else {
            self.heavy.remove(tenant);
        }
    }

    /// Drops what nobody wants any more.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(&Digest) -> bool) {
        self.waiting.retain(|_, waiting| {
            waiting.retain(&is_wanted);
            !waiting.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(namespace: &str) -> Tenant {
        ("x".parse().unwrap(), namespace.to_owned())
    }

    fn key(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    /// `a1 b1` are requests of the tenants `a` and `b`; they come out in the order that is expected.
    fn queue(names: &str) -> Queue {
        let mut queue = Queue::default();
        names.split(' ').for_each(|name| queue.push(&tenant(&name[..1]), key(name)));
        queue
    }

    fn order(queue: &mut Queue, names: &str) -> String {
        let name = |digest: Digest| names.split(' ').find(|name| key(name) == digest).unwrap();
        let mut order = Vec::new();
        while let Some((_, key)) = queue.pop() {
            order.push(name(key));
        }
        order.join(" ")
    }

    #[test]
    fn tenants_take_turns() {
        for (names, expected) in [
            ("a1", "a1"),
            ("a1 a2 a3 b1", "a1 b1 a2 a3"),
            ("b1 a1 a2 c1 c2", "a1 b1 c1 a2 c2"),
            ("a1 a1 b1", "a1 b1"),
        ] {
            assert_eq!(order(&mut queue(names), names), expected);
        }
    }

    #[test]
    fn what_two_ask_for_runs_once_and_does_not_wait_for_the_slower_turn() {
        let mut queue = queue("a1 a2");
        queue.push(&tenant("b"), key("a2"));
        assert_eq!(order(&mut queue, "a1 a2"), "a1 a2");
        assert!(queue.is_empty());
    }

    #[test]
    fn tenants_whose_charts_take_too_much_run_one_at_a_time() {
        let mut queue = queue("a1 a2 b1 b2 c1 c2");
        let (a, first) = queue.pop().unwrap();
        let (b, second) = queue.pop().unwrap();
        queue.done(&a, first, true);
        queue.done(&b, second, true);
        let pop = |queue: &mut Queue| queue.pop().map(|(tenant, _)| tenant.1);
        assert_eq!(pop(&mut queue).as_deref(), Some("c"), "its turn");
        assert_eq!(pop(&mut queue).as_deref(), Some("a"));
        assert_eq!(pop(&mut queue).as_deref(), Some("c"), "not b: a heavy one runs");
        assert!(!queue.may_pop() && !queue.is_empty());
        queue.done(&a, key("a2"), false);
        assert_eq!(pop(&mut queue).as_deref(), Some("b"));
        assert!(queue.is_empty());
    }

    #[test]
    fn what_nobody_wants_any_more_is_dropped() {
        let mut queue = queue("a1 a2 b1");
        queue.retain(|wanted| *wanted == key("a2"));
        assert_eq!(order(&mut queue, "a2"), "a2");
    }
}
