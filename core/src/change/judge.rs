//! The judgement on what all clusters lose together: lints, each with its severity.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{KindName, Limit, Loss, Losses, Policy, Sizes, Taken, Tallies, Tally, UnitLoss};
use crate::authority::Authority;
use crate::names::ClusterName;
use crate::unit::UnitId;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lint {
    /// Units go with their objects.
    UnitsRemoved,
    /// Objects go, of units that go or stay.
    ObjectsRemoved,
    /// Objects of a kind go that holds data or takes others with it.
    KindRemoved(KindName),
    /// Objects of a kind go that others rely on: APIs, admission.
    KindMissed(KindName),
    /// Units fall to zero objects.
    UnitsEmptied,
    /// Clusters lose most of what they have.
    ClustersEmptied,
    /// Clusters lose objects with another root, branch or repository.
    RootMoved,
    /// Units prune that did not.
    PruningBegun,
    /// Units are no longer suspended.
    Resumed,
}

/// What a finding means for the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Info,
    Warning,
    /// What it is about is held until somebody approves it.
    Stop,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Stop => "stop",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub lint: Lint,
    pub severity: Severity,
    /// How many units, objects or clusters.
    pub count: usize,
    /// Of how many, where that is judged.
    pub of: Option<usize>,
    pub clusters: BTreeSet<ClusterName>,
    /// The first of what is not published yet, as `CLUSTER: NAME`.
    pub names: Vec<String>,
    /// The units that must stay as they are, by cluster, where it is a stop.
    pub held: BTreeMap<ClusterName, BTreeSet<UnitId>>,
    /// Whose word those are.
    pub whose: Whose,
}

/// Whose losses a finding adds up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    Everybody,
    /// Those of one: the fleet repo's, or a tenant's.
    Only(Authority),
    /// Everybody's, and they stop this one: without any single one the others' would still be too much.
    Together(Authority),
}

impl Whose {
    /// Whose units must stay as they are.
    pub fn stopped(&self) -> Option<&Authority> {
        match self {
            Self::Everybody => None,
            Self::Only(word) | Self::Together(word) => Some(word),
        }
    }
}

/// How large the fleet is, without clusters that are exempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FleetSize {
    pub units: usize,
    pub objects: usize,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judged {
    /// The gravest first.
    pub findings: Vec<Finding>,
}

impl Judged {
    /// The units of a cluster that must stay as they are.
    pub fn held(&self, cluster: &ClusterName) -> BTreeSet<UnitId> {
        self.findings.iter().filter_map(|finding| finding.held.get(cluster)).flatten().cloned().collect()
    }
}

/// How many names a finding has.
const NAMES: usize = 5;

/// Kinds that others rely on: nothing is lost with them that Git does not have.
const MISSED: [(&str, &str); 6] = [
    ("apiregistration.k8s.io", "APIService"),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy"),
];

/// Judges what clusters lose by what is about to be published, together with what the same change took from them before.
/// `now` is how large the fleet is. Everybody's losses are judged apart, so that nobody's hold up another's; what all take
/// together stops it only where that does not depend on any single one of them.
pub fn judge(losses: &Losses, before: &Taken, sizes: &Sizes, now: FleetSize, policy: &Policy) -> Judged {
    let counts = |name: &&ClusterName| !policy.exempt.contains(*name);
    let losses: BTreeMap<&ClusterName, &Loss> = losses.iter().filter(|(name, _)| counts(name)).collect();
    let mut taken = before.clone();
    losses.iter().for_each(|(name, loss)| taken.add(name, loss));
    let Taken { all, words } = &mut taken;
    for tallies in words.values_mut().chain([all]) {
        tallies.retain(|name, _| counts(&name));
    }
    let bench = Bench { losses, taken, sizes, now, policy };
    let mut judged = Judged::default();
    for lint in bench.lints() {
        judged.findings.extend(bench.findings(&lint));
    }
    judged.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    judged
}

struct Bench<'a> {
    losses: BTreeMap<&'a ClusterName, &'a Loss>,
    /// With what waits.
    taken: Taken,
    sizes: &'a Sizes,
    now: FleetSize,
    policy: &'a Policy,
}

/// How much each cluster counts for a lint, if it does.
type Counts<'a> = BTreeMap<&'a ClusterName, usize>;

impl<'a> Bench<'a> {
    fn lints(&self) -> Vec<Lint> {
        let mut lints = vec![Lint::UnitsRemoved, Lint::ObjectsRemoved];
        let protected = &self.policy.protected;
        lints.extend(protected.keys().cloned().map(Lint::KindRemoved));
        let missed = MISSED.map(|(group, kind)| KindName::new(group, kind)).into_iter();
        lints.extend(missed.filter(|kind| !protected.contains_key(kind)).map(Lint::KindMissed));
        lints.extend([Lint::UnitsEmptied, Lint::ClustersEmptied, Lint::RootMoved, Lint::PruningBegun]);
        lints.push(Lint::Resumed);
        lints
    }

    fn findings(&self, lint: &Lint) -> Vec<Finding> {
        let mut together = None;
        let mut findings = Vec::new();
        for (word, tallies) in &self.taken.words {
            let own = self.counts(lint, word, tallies);
            let is_own = self.severity(lint, word, &own).0 == Severity::Stop;
            let mut is_together =
                || together.get_or_insert_with(|| self.without_one(lint)).stops(self, lint, word);
            if !is_own && !is_together() {
                continue;
            }
            let (counts, whose) = if is_own {
                (own, Whose::Only(word.clone()))
            } else {
                (self.counts(lint, word, &self.taken.all), Whose::Together(word.clone()))
            };
            let mut held: BTreeMap<ClusterName, BTreeSet<UnitId>> = BTreeMap::new();
            for (name, id, _) in self.concerned(lint, &counts).filter(|(_, _, unit)| unit.word == *word) {
                held.entry(name.clone()).or_default().insert(id.clone());
            }
            if !held.is_empty() {
                findings.push(self.finding(lint, word, counts, whose, held));
            }
        }
        if findings.is_empty() {
            let counts = self.counts(lint, &Authority::Fleet, &self.taken.all);
            if !counts.is_empty() {
                findings.push(self.finding(
                    lint,
                    &Authority::Fleet,
                    counts,
                    Whose::Everybody,
                    BTreeMap::new(),
                ));
            }
        }
        findings
    }

    fn finding(
        &self,
        lint: &Lint,
        word: &Authority,
        counts: Counts<'_>,
        whose: Whose,
        held: BTreeMap<ClusterName, BTreeSet<UnitId>>,
    ) -> Finding {
        let (severity, of) = self.severity(lint, word, &counts);
        let severity = match severity {
            _ if !held.is_empty() => Severity::Stop,
            // It is much, but nothing of it waits, or it is nobody's alone.
            Severity::Stop => Severity::Warning,
            other => other,
        };
        let names = self.names(lint, &counts, whose.stopped());
        let count = counts.values().sum();
        let clusters = counts.into_keys().cloned().collect();
        Finding { lint: lint.clone(), severity, count, of, clusters, names, held, whose }
    }

    /// How much one cluster counts for a lint.
    fn count(&self, lint: &Lint, word: &Authority, name: &ClusterName, tally: &Tally) -> usize {
        match lint {
            Lint::UnitsRemoved => tally.units,
            Lint::ObjectsRemoved => tally.all_objects(),
            Lint::KindRemoved(kind) | Lint::KindMissed(kind) => {
                tally.objects.get(kind).copied().unwrap_or_default()
            }
            Lint::UnitsEmptied => tally.emptied,
            Lint::ClustersEmptied => usize::from(self.is_most(word, name, tally.all_objects(), tally.of)),
            Lint::RootMoved => usize::from(tally.moved && !tally.objects.is_empty()),
            Lint::PruningBegun => tally.pruning,
            Lint::Resumed => tally.resumed,
        }
    }

    /// Whether so many are most of a cluster's objects.
    fn is_most(&self, word: &Authority, name: &ClusterName, objects: usize, of: usize) -> bool {
        self.policy.cluster.is_beyond(objects, self.sizes.cluster(word, name, of))
    }

    fn counts<'t>(&self, lint: &Lint, word: &Authority, tallies: &'t Tallies) -> Counts<'t> {
        let counts = tallies.iter().map(|(name, tally)| (name, self.count(lint, word, name, tally)));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// How grave that is, and of how many it is judged.
    fn severity(&self, lint: &Lint, word: &Authority, counts: &Counts<'_>) -> (Severity, Option<usize>) {
        let count = counts.values().sum::<usize>();
        // What one cluster loses alone is left to its agent's guards.
        let many = counts.len() > 1;
        let FleetSize { units, objects } = self.sizes.fleet(word, self.now);
        let beyond = |limit: Limit, of: usize, severity| {
            if many && limit.is_beyond(count, of) { severity } else { Severity::Info }
        };
        let if_many = |severity, else_| if many { severity } else { else_ };
        match lint {
            Lint::UnitsRemoved => (beyond(self.policy.units, units, Severity::Stop), Some(units)),
            Lint::ObjectsRemoved => (beyond(self.policy.objects, objects, Severity::Stop), Some(objects)),
            Lint::KindRemoved(kind) => {
                let is_beyond = many && self.policy.protected.get(kind).is_some_and(|max| count > *max);
                (if is_beyond { Severity::Stop } else { Severity::Warning }, None)
            }
            Lint::KindMissed(_) => (if_many(Severity::Warning, Severity::Info), None),
            Lint::UnitsEmptied | Lint::ClustersEmptied | Lint::RootMoved => {
                (if_many(Severity::Stop, Severity::Warning), None)
            }
            Lint::PruningBegun | Lint::Resumed => {
                (beyond(self.policy.units, units, Severity::Warning), Some(units))
            }
        }
    }

    /// The units that lose what a lint is about, of what waits in clusters that count.
    fn concerned<'t>(
        &'t self,
        lint: &'t Lint,
        counts: &'t Counts<'_>,
    ) -> impl Iterator<Item = (&'a ClusterName, &'a UnitId, &'a UnitLoss)> + 't {
        let all = self.losses.iter().filter(|(name, _)| counts.contains_key(*name));
        let all = all.flat_map(|(name, loss)| loss.units.iter().map(|(id, unit)| (*name, id, unit)));
        all.filter(|(_, _, unit)| match lint {
            Lint::UnitsRemoved => unit.removed,
            Lint::ObjectsRemoved | Lint::ClustersEmptied | Lint::RootMoved => !unit.objects.is_empty(),
            Lint::KindRemoved(kind) | Lint::KindMissed(kind) => {
                unit.objects.iter().any(|object| object.is(&kind.group, &kind.kind))
            }
            Lint::UnitsEmptied => unit.emptied,
            Lint::PruningBegun | Lint::Resumed => false,
        })
    }

    /// What is lost without each one's word, for lints that add up what many lose.
    fn without_one(&self, lint: &Lint) -> Together<'_> {
        let lost = |tally: &Tally| match lint {
            Lint::UnitsRemoved => tally.units,
            Lint::ObjectsRemoved | Lint::ClustersEmptied => tally.all_objects(),
            _ => 0,
        };
        // Without one of two it is the other's alone, which is judged anyway.
        let words = self.taken.words.values().filter(|tallies| !tallies.is_empty());
        if words.clone().count() < 3 {
            return Together(Vec::new());
        }
        let all = self.taken.all.iter().map(|(name, tally)| (name, (lost(tally), tally.of)));
        let all: BTreeMap<&ClusterName, (usize, usize)> = all.collect();
        let without = |tallies: &Tallies| {
            let rest = all.iter().map(|(name, (count, of))| {
                let own = tallies.get(*name).map(lost).unwrap_or_default();
                (*name, (count.saturating_sub(own), *of))
            });
            rest.filter(|(_, (count, _))| *count > 0).collect()
        };
        Together(words.map(without).collect())
    }

    /// The first of what waits, of everybody or of one.
    fn names(&self, lint: &Lint, counts: &Counts<'_>, word: Option<&Authority>) -> Vec<String> {
        let units = |of: fn(&Loss) -> &BTreeSet<UnitId>| {
            let all =
                self.losses.iter().flat_map(move |(name, loss)| of(loss).iter().map(move |id| (name, id)));
            all.take(NAMES).map(|(name, id)| format!("{name}: {id}")).collect()
        };
        let concerned = self.concerned(lint, counts);
        let concerned = concerned.filter(|(_, _, unit)| word.is_none_or(|word| unit.word == *word));
        match lint {
            Lint::PruningBegun => units(|loss| &loss.pruning),
            Lint::Resumed => units(|loss| &loss.resumed),
            Lint::UnitsRemoved | Lint::UnitsEmptied => {
                concerned.take(NAMES).map(|(name, id, _)| format!("{name}: {id}")).collect()
            }
            Lint::ClustersEmptied | Lint::RootMoved => {
                let names: BTreeSet<&ClusterName> = concerned.map(|(name, _, _)| name).collect();
                names.into_iter().take(NAMES).map(ToString::to_string).collect()
            }
            Lint::ObjectsRemoved | Lint::KindRemoved(_) | Lint::KindMissed(_) => {
                let of_kind = |object: &&crate::ObjectId| match lint {
                    Lint::KindRemoved(kind) | Lint::KindMissed(kind) => object.is(&kind.group, &kind.kind),
                    _ => true,
                };
                let all = concerned
                    .flat_map(|(name, _, unit)| unit.objects.iter().map(move |object| (name, object)));
                let all = all.filter(|(_, object)| of_kind(object)).take(NAMES);
                all.map(|(name, object)| format!("{name}: {object}")).collect()
            }
        }
    }
}

/// By cluster, how much it loses without one's word, and how many objects it has; for each whose word something is.
struct Together<'a>(Vec<BTreeMap<&'a ClusterName, (usize, usize)>>);

impl Together<'_> {
    /// Whether the rest is too much whoever is left out, by the sizes that one is judged by.
    fn stops(&self, bench: &Bench<'_>, lint: &Lint, word: &Authority) -> bool {
        let is_much = |rest: &BTreeMap<&ClusterName, (usize, usize)>| {
            let counts = rest.iter().map(|(name, (count, of))| match lint {
                Lint::ClustersEmptied => (*name, usize::from(bench.is_most(word, name, *count, *of))),
                _ => (*name, *count),
            });
            let counts = counts.filter(|(_, count)| *count > 0).collect();
            bench.severity(lint, word, &counts).0 == Severity::Stop
        };
        !self.0.is_empty() && self.0.iter().all(is_much)
    }
}

impl Lint {
    /// One word for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnitsRemoved => "UnitsRemoved",
            Self::ObjectsRemoved => "ObjectsRemoved",
            Self::KindRemoved(_) => "KindRemoved",
            Self::KindMissed(_) => "KindMissed",
            Self::UnitsEmptied => "UnitsEmptied",
            Self::ClustersEmptied => "ClustersEmptied",
            Self::RootMoved => "RootMoved",
            Self::PruningBegun => "PruningBegun",
            Self::Resumed => "Resumed",
        }
    }
}

/// What happens, for people: `63 of 90 objects are removed`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, one) = match self.of {
            Some(of) => (format!("{} of {of}", self.count), of == 1),
            None => (self.count.to_string(), self.count == 1),
        };
        let is_one = self.count == 1;
        let are = if is_one { "is" } else { "are" };
        let noun = |word: &str| format!("{count} {word}{}", if one { "" } else { "s" });
        let lose = || format!("{} {}", noun("cluster"), if is_one { "loses" } else { "lose" });
        match &self.lint {
            Lint::UnitsRemoved => write!(f, "{} {are} removed", noun("unit")),
            Lint::ObjectsRemoved => write!(f, "{} {are} removed", noun("object")),
            Lint::KindRemoved(kind) => {
                write!(f, "{} of the protected kind {kind} {are} removed", noun("object"))
            }
            Lint::KindMissed(kind) => write!(f, "{} of kind {kind} {are} removed", noun("object")),
            Lint::UnitsEmptied => {
                write!(f, "{} {} empty", noun("unit"), if is_one { "becomes" } else { "become" })
            }
            Lint::ClustersEmptied => {
                write!(f, "{} most of {} objects", lose(), if is_one { "its" } else { "their" })
            }
            Lint::RootMoved => {
                write!(f, "{} objects with another root, branch or repository", lose())
            }
            Lint::PruningBegun => {
                write!(f, "{} {} that did not", noun("unit"), if is_one { "prunes" } else { "prune" })
            }
            Lint::Resumed => write!(f, "{} {are} no longer suspended", noun("unit")),
        }?;
        match &self.whose {
            Whose::Everybody | Whose::Only(Authority::Fleet) => Ok(()),
            Whose::Only(tenant) => write!(f, " by who has {tenant}"),
            Whose::Together(_) => f.write_str(" by all together"),
        }
    }
}
