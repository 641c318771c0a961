//! Whatever is committed: what is published never loses more than the policy allows, and parts add up to the whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::tests::{cluster, id};
use super::*;
use crate::desired::{Hold, Removal, UnitEntry};
use crate::object::{ObjectId, ObjectRef};
use crate::unit::{ObjectEntry, UnitId, UnitManifest, UnitSpec};
use crate::{Authority, ClusterName, Digest};

const CLUSTERS: usize = 4;
const UNITS: usize = 3;
const OBJECTS: usize = 6;

fn object(n: usize) -> ObjectId {
    let kind = if n == 0 { "Namespace" } else { "ConfigMap" };
    ObjectId::new("", kind, "web", format!("o{n}"))
}

/// Of each unit: its objects; `None`: it is not in Git.
type Cluster = Vec<Option<BTreeSet<usize>>>;

fn clusters() -> impl Strategy<Value = Vec<Cluster>> {
    let unit = prop::option::weighted(0.8, prop::collection::btree_set(0..OBJECTS, 0..=OBJECTS));
    prop::collection::vec(prop::collection::vec(unit, UNITS), CLUSTERS)
}

fn policies() -> impl Strategy<Value = Policy> {
    let limit = || (0_usize..12, 0_u8..60).prop_map(|(max, share)| Limit { max, share });
    (limit(), limit(), limit(), prop::option::of(0_usize..3)).prop_map(
        |(units, objects, cluster, namespaces)| {
            let protected = namespaces.map(|max| (KindName::new("", "Namespace"), max)).into_iter().collect();
            Policy { units, objects, cluster, protected, exempt: BTreeSet::new() }
        },
    )
}

/// The units of a cluster by Git; what it has and Git lacks is removed.
fn candidate(git: &Cluster, has: &BTreeSet<UnitId>) -> BTreeMap<UnitId, UnitEntry> {
    let mut units = BTreeMap::new();
    for (n, objects) in git.iter().enumerate() {
        let id = id(&format!("u{n}"));
        match objects {
            Some(objects) => {
                let entry = |n: &usize| ObjectEntry {
                    object: ObjectRef { id: object(*n), version: "v1".into() },
                    digest: Digest::of(b""),
                    size: 0,
                    template: false,
                };
                let objects = objects.iter().map(entry).collect();
                let unit = UnitManifest::new(id.clone(), UnitSpec::default(), objects);
                units.insert(id, UnitEntry::Present(Arc::new(unit)));
            }
            None if has.contains(&id) => {
                units.insert(id, UnitEntry::Removed(Removal { prune: true, ..Removal::default() }));
            }
            None => {}
        }
    }
    units
}

/// A hub in small.
#[derive(Default, Clone)]
struct Hub {
    declared: BTreeMap<ClusterName, Arc<Declared>>,
    going: BTreeMap<ClusterName, Going>,
    published: BTreeMap<ClusterName, BTreeMap<UnitId, UnitEntry>>,
    before: Taken,
    sizes: Sizes,
}

impl Hub {
    fn has(&self, name: &ClusterName) -> BTreeSet<UnitId> {
        self.published.get(name).into_iter().flat_map(BTreeMap::keys).cloned().collect()
    }

    fn size(&self) -> FleetSize {
        FleetSize {
            units: self.published.values().map(BTreeMap::len).sum(),
            objects: self.declared.values().map(|declared| declared.objects()).sum(),
        }
    }

    /// Publishes what these clusters should run, as far as that is allowed; what is held comes back.
    fn publish(&mut self, git: &BTreeMap<ClusterName, Cluster>, of: FleetSize, policy: &Policy) -> Losses {
        let candidates: BTreeMap<ClusterName, BTreeMap<UnitId, UnitEntry>> =
            git.iter().map(|(name, git)| (name.clone(), candidate(git, &self.has(name)))).collect();
        let mut losses = Losses::new();
        for (name, units) in &candidates {
            let going = self.going.get(name).cloned().unwrap_or_default();
            let declared = self.declared.entry(name.clone()).or_default();
            losses.insert(name.clone(), declared.lost(units, "", &going));
        }
        let judged = judge(&losses, &self.before, &self.sizes, of, policy);
        let mut held = Losses::new();
        for (name, mut units) in candidates {
            let ids = judged.held(&name);
            for id in &ids {
                units.insert(id.clone(), UnitEntry::Hold(Hold::from("waits")));
            }
            let loss = &losses[&name];
            let released = loss.without(&ids);
            self.before.add(&name, &released);
            let kept = loss.only(&ids);
            if !kept.is_empty() {
                held.insert(name.clone(), kept);
            }
            let before = &self.declared[&name];
            let declared = before.after(&units, "");
            assert_eq!(*declared, before.counted_after(&units, ""));
            let going = self.going.entry(name.clone()).or_default();
            going.add(&released.units);
            declared.settle(&units, going);
            self.declared.insert(name.clone(), declared);
            self.published.insert(name, units);
        }
        self.sizes.settle(of, !self.before.is_empty(), &by_word(&held));
        held
    }

    /// What a cluster has, by the inventory of its agent.
    fn objects(&self, name: &ClusterName) -> BTreeSet<ObjectId> {
        self.declared[name].units().flat_map(|(_, objects)| objects.to_vec()).collect()
    }
}

fn by_word(held: &Losses) -> BTreeMap<Authority, Losses> {
    let mut words: BTreeMap<Authority, Losses> = BTreeMap::new();
    for (name, loss) in held {
        for word in loss.words() {
            words.entry(word.clone()).or_default().insert(name.clone(), loss.of_word(word));
        }
    }
    words
}

fn named(git: Vec<Cluster>) -> BTreeMap<ClusterName, Cluster> {
    git.into_iter().enumerate().map(|(n, git)| (cluster(n), git)).collect()
}

fn all(git: &Cluster) -> BTreeSet<ObjectId> {
    git.iter().flatten().flatten().map(|n| object(*n)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Commits come one after the other as one change, each cut into parts; nobody approves anything.
    #[test]
    fn nothing_beyond_the_policy_goes_without_an_approval(
        first in clusters(),
        commits in prop::collection::vec((clusters(), 0_usize..CLUSTERS), 1..4),
        policy in policies(),
    ) {
        let mut hub = Hub::default();
        let first = named(first);
        hub.publish(&first, FleetSize::default(), &policy);
        hub.before = Taken::default();
        hub.sizes = Sizes::default();
        let of = hub.size();
        // What each cluster had at any moment of the change.
        let mut had: BTreeMap<ClusterName, BTreeSet<ObjectId>> = first.keys().map(|name| (name.clone(), hub.objects(name))).collect();
        for (git, cut) in commits {
            let mut rest = named(git);
            let later = rest.split_off(&cluster(cut));
            for part in [rest, later] {
                hub.publish(&part, of, &policy);
                for name in part.keys() {
                    had.entry(name.clone()).or_default().extend(hub.objects(name));
                }
            }
        }
        let lost: Vec<usize> = had.iter().map(|(name, had)| had.difference(&hub.objects(name)).count()).collect();
        let (count, clusters) = (lost.iter().sum::<usize>(), lost.iter().filter(|lost| **lost > 0).count());
        prop_assert!(clusters < 2 || !policy.objects.is_beyond(count, of.objects), "{lost:?} of {of:?}");
        let removed: Vec<usize> = hub.before.all.values().map(|tally| tally.units).collect();
        let (count, clusters) = (removed.iter().sum::<usize>(), removed.iter().filter(|n| **n > 0).count());
        prop_assert!(clusters < 2 || !policy.units.is_beyond(count, of.units), "{removed:?} of {of:?}");
        if let Some(max) = policy.protected.values().next() {
            let gone = had.iter().filter(|(name, had)| had.contains(&object(0)) && !hub.objects(name).contains(&object(0)));
            let gone = gone.count();
            prop_assert!(gone < 2 || gone <= *max, "{gone} namespaces");
        }
    }

    /// Cut anywhere, a change comes to the same judgement in its last part as in one piece.
    #[test]
    fn parts_add_up(first in clusters(), second in clusters(), cut in 0_usize..CLUSTERS, policy in policies()) {
        let mut hub = Hub::default();
        hub.publish(&named(first), FleetSize::default(), &policy);
        hub.before = Taken::default();
        hub.sizes = Sizes::default();
        let of = hub.size();
        let second = named(second);
        let losses: Losses = second.iter().map(|(name, git)| {
            (name.clone(), hub.declared[name].lost(&candidate(git, &hub.has(name)), "", &Going::default()))
        }).collect();
        let whole = judge(&losses, &Taken::default(), &Sizes::default(), of, &policy);
        let mut early = losses.clone();
        let late = early.split_off(&cluster(cut));
        let mut before = Taken::default();
        early.iter().for_each(|(name, loss)| before.add(name, loss));
        let last = judge(&late, &before, &Sizes::default(), of, &policy);
        prop_assert_eq!(whole.findings.len(), last.findings.len());
        for whole in &whole.findings {
            let last = last.findings.iter().find(|last| last.lint == whole.lint).expect("the same lints");
            prop_assert_eq!(whole.count, last.count);
            // Where nothing of it waits in the last part, nothing can be held.
            let nothing_waits = whole.severity == Severity::Stop && last.names.is_empty();
            prop_assert!(last.severity == whole.severity || nothing_waits, "{:?} {:?}", whole, last);
        }
    }

    /// What a tenant takes, at once or before, changes nothing of what waits of the fleet repo's, and the other way round.
    #[test]
    fn words_are_judged_apart(
        first in clusters(),
        commits in prop::collection::vec(clusters(), 1..3),
        tenants in prop::collection::btree_set(0..UNITS, 1..UNITS),
        policy in policies(),
    ) {
        let mut hub = Hub::default();
        hub.publish(&named(first), FleetSize::default(), &policy);
        let of = hub.size();
        let tenant = Authority::Namespaces(["alpha".to_owned()].into());
        let words = [Authority::Fleet, tenant.clone()];
        let mut before = Taken::default();
        let mut alone = words.clone().map(|word| (word, Taken::default()));
        for commit in commits {
            let losses: Losses = named(commit).iter().map(|(name, git)| {
                let mut loss = hub.declared[name].lost(&candidate(git, &hub.has(name)), "", &Going::default());
                for (unit, loss) in &mut loss.units {
                    let is_tenants = tenants.iter().any(|n| *unit == id(&format!("u{n}")));
                    loss.word = if is_tenants { tenant.clone() } else { Authority::Fleet };
                }
                (name.clone(), loss)
            }).collect();
            let judged = judge(&losses, &before, &Sizes::default(), of, &policy);
            for (word, taken) in &mut alone {
                let own: Losses = losses.iter().map(|(name, loss)| (name.clone(), loss.of_word(word))).collect();
                let apart = judge(&own, taken, &Sizes::default(), of, &policy);
                for (name, loss) in &own {
                    let held: BTreeSet<UnitId> =
                        judged.held(name).into_iter().filter(|id| loss.units.contains_key(id)).collect();
                    prop_assert_eq!(held, apart.held(name), "{} of {}", word, name);
                    taken.add(name, loss);
                }
            }
            losses.iter().for_each(|(name, loss)| before.add(name, loss));
        }
    }

    /// Objects that go from unit to unit, and units with other names, lose nothing.
    #[test]
    fn a_move_loses_nothing(git in clusters(), to in prop::collection::vec(0_usize..UNITS, OBJECTS)) {
        let mut hub = Hub::default();
        let git = named(git);
        hub.publish(&git, FleetSize::default(), &Policy::default());
        for (name, before) in &git {
            let mut after: Cluster = vec![Some(BTreeSet::new()); UNITS];
            for n in before.iter().flatten().flatten() {
                after[to[*n]].as_mut().unwrap().insert(*n);
            }
            prop_assert_eq!(all(before), all(&after));
            let loss = hub.declared[name].lost(&candidate(&after, &hub.has(name)), "", &Going::default());
            prop_assert!(loss.is_empty(), "{:?}", loss);
        }
    }

    /// What is approved goes, and nothing is asked twice; what comes with the change makes it no other one.
    #[test]
    fn an_approval_lets_exactly_that_go(first in clusters(), second in clusters(), policy in policies()) {
        let mut hub = Hub::default();
        let (first, second) = (named(first), named(second));
        hub.publish(&first, FleetSize::default(), &policy);
        hub.before = Taken::default();
        hub.sizes = Sizes::default();
        let held = {
            let size = hub.size();
            hub.publish(&second, size, &policy)
        };
        let mut again = hub.clone();
        let size = again.size();
        prop_assert_eq!(digest(&again.publish(&second, size, &policy)), digest(&held), "it stays the same change");
        for (name, loss) in &held {
            hub.going.entry(name.clone()).or_default().add(&loss.units);
        }
        let size = hub.size();
        prop_assert_eq!(hub.publish(&second, size, &policy), Losses::new());
        for (name, git) in &second {
            prop_assert_eq!(hub.objects(name), all(git));
        }
    }
}
