//! The judgement on what all clusters lose together: lints, each with its severity.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{KindName, Limit, Loss, Losses, Policy, Taken, Tallies, Tally, UnitLoss};
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
/// What tenants take from themselves can hold up their own units, and none of the fleet repo.
pub fn judge(losses: &Losses, before: &Taken, of: FleetSize, policy: &Policy) -> Judged {
    let counts = |name: &&ClusterName| !policy.exempt.contains(*name);
    let losses: BTreeMap<&ClusterName, &Loss> = losses.iter().filter(|(name, _)| counts(name)).collect();
    let mut taken = before.clone();
    losses.iter().for_each(|(name, loss)| taken.add(name, loss));
    let Taken { all, own } = &mut taken;
    [all, own].into_iter().for_each(|tallies| tallies.retain(|name, _| counts(&name)));
    let bench = Bench { losses, taken, of, policy };
    let mut judged = Judged::default();
    for lint in bench.lints() {
        judged.findings.extend(bench.finding(lint));
    }
    judged.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    judged
}

struct Bench<'a> {
    losses: BTreeMap<&'a ClusterName, &'a Loss>,
    /// With what waits.
    taken: Taken,
    of: FleetSize,
    policy: &'a Policy,
}

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

    /// How much one cluster counts for a lint.
    fn count(&self, lint: &Lint, tally: &Tally) -> usize {
        match lint {
            Lint::UnitsRemoved => tally.units,
            Lint::ObjectsRemoved => tally.all_objects(),
            Lint::KindRemoved(kind) | Lint::KindMissed(kind) => {
                tally.objects.get(kind).copied().unwrap_or_default()
            }
            Lint::UnitsEmptied => tally.emptied,
            Lint::ClustersEmptied => {
                usize::from(self.policy.cluster.is_beyond(tally.all_objects(), tally.of))
            }
            Lint::RootMoved => usize::from(tally.moved && !tally.objects.is_empty()),
            Lint::PruningBegun => tally.pruning,
            Lint::Resumed => tally.resumed,
        }
    }

    fn finding(&self, lint: Lint) -> Option<Finding> {
        let counts = self.counts(&lint, &self.taken.all);
        let count = counts.values().sum::<usize>();
        if count == 0 {
            return None;
        }
        let (mut severity, of) = self.severity(&lint, &counts);
        let names = self.names(&lint);
        let mut held: BTreeMap<ClusterName, BTreeSet<UnitId>> = BTreeMap::new();
        if severity == Severity::Stop {
            let own = self.severity(&lint, &self.counts(&lint, &self.taken.own)).0 == Severity::Stop;
            for (name, id, _) in self.concerned(&lint).filter(|(_, _, unit)| own || unit.bounded) {
                held.entry(name.clone()).or_default().insert(id.clone());
            }
            if held.is_empty() {
                severity = Severity::Warning;
            }
        }
        let clusters = counts.into_keys().cloned().collect();
        Some(Finding { lint, severity, count, of, clusters, names, held })
    }

    /// How much each cluster counts for a lint, if it does.
    fn counts<'t>(&self, lint: &Lint, tallies: &'t Tallies) -> BTreeMap<&'t ClusterName, usize> {
        let counts = tallies.iter().map(|(name, tally)| (name, self.count(lint, tally)));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// How grave that is, and of how many it is judged.
    fn severity(&self, lint: &Lint, counts: &BTreeMap<&ClusterName, usize>) -> (Severity, Option<usize>) {
        let count = counts.values().sum::<usize>();
        // What one cluster loses alone is left to its agent's guards.
        let many = counts.len() > 1;
        let FleetSize { units, objects } = self.of;
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

    /// The units that lose what a lint is about, of what waits.
    fn concerned(&self, lint: &Lint) -> impl Iterator<Item = (&'a ClusterName, &'a UnitId, &'a UnitLoss)> {
        let all = self.losses.iter().filter(|(name, _)| match lint {
            Lint::ClustersEmptied | Lint::RootMoved => {
                self.taken.all.get(**name).is_some_and(|tally| self.count(lint, tally) > 0)
            }
            _ => true,
        });
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

    fn names(&self, lint: &Lint) -> Vec<String> {
        let units = |of: fn(&Loss) -> &BTreeSet<UnitId>| {
            let all =
                self.losses.iter().flat_map(move |(name, loss)| of(loss).iter().map(move |id| (name, id)));
            all.take(NAMES).map(|(name, id)| format!("{name}: {id}")).collect()
        };
        let concerned = self.concerned(lint);
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
        }
    }
}
