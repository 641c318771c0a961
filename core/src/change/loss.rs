//! What clusters lose by a change: in full for what waits, in numbers for what was published already.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::KindName;
use crate::authority::Authority;
use crate::desired::{Removal, UnitEntry};
use crate::digest::Digest;
use crate::names::ClusterName;
use crate::object::ObjectId;
use crate::unit::UnitId;

/// What each cluster loses.
pub type Losses = BTreeMap<ClusterName, Loss>;

/// What each cluster lost already.
pub type Tallies = BTreeMap<ClusterName, Tally>;

/// What one cluster loses by a candidate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loss {
    /// The units that go, and those that stay and lose objects.
    pub units: BTreeMap<UnitId, UnitLoss>,
    /// How many objects the cluster was told to run.
    pub of: usize,
    /// The cluster's root, branch or repository is another one than that of what is published.
    pub moved: bool,
    /// Units that did not prune and now do.
    pub pruning: BTreeSet<UnitId>,
    /// Units that were suspended and no longer are.
    pub resumed: BTreeSet<UnitId>,
}

/// What one unit loses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitLoss {
    /// The unit itself goes, with its objects.
    pub removed: bool,
    /// It falls to zero objects, and its author did not allow that.
    pub emptied: bool,
    /// Whose word that is: who wrote what it has, or what defined it. See [`Loss::note_words`].
    pub word: Authority,
    /// Objects that no unit of the cluster declares any more.
    pub objects: BTreeSet<ObjectId>,
}

impl UnitLoss {
    /// Of nothing, and as the fleet repo's word until [`Loss::note_words`] says whose it is.
    pub fn unsaid() -> Self {
        Self { removed: false, emptied: false, word: Authority::Fleet, objects: BTreeSet::new() }
    }
}

/// What clusters lost already by the same change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Taken {
    pub all: Tallies,
    /// The same by whose word it was. The fleet repo's is that without bounds.
    #[serde(with = "pairs")]
    pub words: BTreeMap<Authority, Tallies>,
}

impl Taken {
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Counts what a cluster loses.
    pub fn add(&mut self, cluster: &ClusterName, loss: &Loss) {
        let add = |tallies: &mut Tallies, tally: Tally| {
            if !tally.is_empty() {
                let before = tallies.remove(cluster).unwrap_or_default();
                tallies.insert(cluster.clone(), before.and(&tally));
            }
        };
        add(&mut self.all, Tally::from(loss));
        for word in loss.words() {
            add(self.words.entry(word.clone()).or_default(), Tally::from(&loss.of_word(word)));
        }
    }
}

/// A map by authority as a list: keys of JSON are texts.
pub(super) mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::authority::Authority;

    pub(in crate::change) fn serialize<T: Serialize, S: Serializer>(
        map: &BTreeMap<Authority, T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(in crate::change) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<Authority, T>, D::Error> {
        Ok(Vec::deserialize(deserializer)?.into_iter().collect())
    }
}

/// What may go whatever else does: its loss was published, or approved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Going {
    pub units: BTreeSet<UnitId>,
    pub objects: BTreeSet<ObjectId>,
}

impl Going {
    /// Takes what these units lose.
    pub fn add<'a>(&mut self, losses: impl IntoIterator<Item = (&'a UnitId, &'a UnitLoss)>) {
        for (id, loss) in losses {
            self.units.extend(loss.removed.then(|| id.clone()));
            self.objects.extend(loss.objects.iter().cloned());
        }
    }
}

/// How much one cluster lost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tally {
    pub units: usize,
    pub emptied: usize,
    /// Objects by kind.
    pub objects: BTreeMap<KindName, usize>,
    /// As [`Loss::of`].
    pub of: usize,
    pub moved: bool,
    pub pruning: usize,
    pub resumed: usize,
}

impl Loss {
    /// Whether nothing is lost.
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// Notes the units that were suspended or did not prune, by what was known of them, and no longer are so.
    pub fn note_lifted(
        &mut self,
        units: &BTreeMap<UnitId, UnitEntry>,
        known: impl Fn(&UnitId) -> Option<Removal>,
    ) {
        for (id, entry) in units {
            let (UnitEntry::Present(unit), Some(was)) = (entry, known(id)) else { continue };
            self.pruning.extend((unit.spec.prune && !was.prune).then(|| id.clone()));
            self.resumed.extend((was.suspended && !unit.spec.suspend).then(|| id.clone()));
        }
    }

    /// Notes whose word each loss is. What a unit has is the word of who writes its source, what goes that of who writes the
    /// source of what defined it. Below a tenant everything is that tenant's, whatever accounts and sources he names; he is known by
    /// the authority of the topmost unit that is his. `parents` are those of units that were known; `of_fleet` says which units have
    /// their content from the fleet repo.
    pub fn note_words(
        &mut self,
        units: &BTreeMap<UnitId, UnitEntry>,
        parents: impl Fn(&UnitId) -> Option<UnitId>,
        of_fleet: impl Fn(&UnitId) -> bool,
    ) {
        /// Units nest much less deep.
        const GENERATIONS: usize = 64;
        let parent = |id: &UnitId| match units.get(id) {
            Some(UnitEntry::Present(unit)) => unit.spec.parent.clone(),
            _ => parents(id),
        };
        let author = |id: &UnitId| match units.get(id)? {
            UnitEntry::Present(unit) => Some(&unit.spec.authority),
            UnitEntry::Hold(hold) => Some(&hold.authority),
            UnitEntry::Removed(_) => None,
        };
        for (id, loss) in &mut self.units {
            let lineage = std::iter::successors(Some(id.clone()), parent).take(GENERATIONS);
            let authors = lineage.skip(usize::from(loss.removed)).filter_map(|id| {
                let author = author(&id).filter(|author| !author.is_fleet())?;
                (!of_fleet(&id)).then(|| author.clone())
            });
            loss.word = authors.last().unwrap_or(Authority::Fleet);
        }
    }

    /// Whose words it is made of. What is made easier to lose is the fleet repo's.
    pub fn words(&self) -> BTreeSet<&Authority> {
        let lifted = !self.pruning.is_empty() || !self.resumed.is_empty();
        let fleet = lifted.then_some(&Authority::Fleet);
        self.units.values().map(|loss| &loss.word).chain(fleet).collect()
    }

    /// The part of it that is somebody's word.
    #[must_use]
    pub fn of_word(&self, word: &Authority) -> Self {
        let units = self.units.iter().filter(|(_, loss)| loss.word == *word);
        let units = units.map(|(id, loss)| (id.clone(), loss.clone())).collect();
        let lifted = |units: &BTreeSet<UnitId>| if word.is_fleet() { units.clone() } else { BTreeSet::new() };
        Self { units, pruning: lifted(&self.pruning), resumed: lifted(&self.resumed), ..*self }
    }

    /// The objects that are lost. One that several units had counts once.
    pub fn objects(&self) -> BTreeSet<&ObjectId> {
        self.units.values().flat_map(|unit| &unit.objects).collect()
    }

    pub fn removed(&self) -> impl Iterator<Item = &UnitId> {
        self.units.iter().filter(|(_, loss)| loss.removed).map(|(id, _)| id)
    }

    pub fn emptied(&self) -> impl Iterator<Item = &UnitId> {
        self.units.iter().filter(|(_, loss)| loss.emptied).map(|(id, _)| id)
    }

    /// The same where these units stay as they are, and so does what they have.
    #[must_use]
    pub fn without(&self, held: &BTreeSet<UnitId>) -> Self {
        if held.is_empty() {
            return self.clone();
        }
        let (stay, go): (Vec<_>, Vec<_>) = self.units.iter().partition(|(id, _)| held.contains(*id));
        let stay: BTreeSet<&ObjectId> = stay.iter().flat_map(|(_, loss)| &loss.objects).collect();
        let units = go.into_iter().map(|(id, loss)| {
            let objects: BTreeSet<ObjectId> =
                loss.objects.iter().filter(|object| !stay.contains(object)).cloned().collect();
            (id.clone(), UnitLoss { emptied: loss.emptied && !objects.is_empty(), objects, ..loss.clone() })
        });
        let units = units.filter(|(_, loss)| loss.removed || !loss.objects.is_empty()).collect();
        Self { units, ..self.clone() }
    }

    /// The part of it that these units lose.
    #[must_use]
    pub fn only(&self, held: &BTreeSet<UnitId>) -> Self {
        let units = self.units.iter().filter(|(id, _)| held.contains(*id));
        Self { units: units.map(|(id, loss)| (id.clone(), loss.clone())).collect(), ..self.clone() }
    }
}

impl From<&Loss> for Tally {
    fn from(loss: &Loss) -> Self {
        let mut objects = BTreeMap::new();
        for object in loss.objects() {
            *objects.entry(KindName::of(object)).or_default() += 1;
        }
        Self {
            units: loss.removed().count(),
            emptied: loss.emptied().count(),
            objects,
            of: loss.of,
            moved: loss.moved,
            pruning: loss.pruning.len(),
            resumed: loss.resumed.len(),
        }
    }
}

impl Tally {
    /// Objects of all kinds.
    pub fn all_objects(&self) -> usize {
        self.objects.values().sum()
    }

    /// Whether nothing was lost, nor made easier to lose.
    pub fn is_empty(&self) -> bool {
        self.units == 0 && self.objects.is_empty() && self.emptied + self.pruning + self.resumed == 0
    }

    /// What a further loss comes to with this one.
    #[must_use]
    pub fn and(mut self, more: &Self) -> Self {
        self.units += more.units;
        self.emptied += more.emptied;
        for (kind, count) in &more.objects {
            *self.objects.entry(kind.clone()).or_default() += count;
        }
        self.of = self.of.max(more.of);
        self.moved |= more.moved;
        self.pruning += more.pruning;
        self.resumed += more.resumed;
        self
    }
}

/// What is approved: that exactly these units and objects of these clusters go.
pub fn digest(losses: &Losses) -> Digest {
    let mut parts: Vec<String> = Vec::new();
    for (cluster, loss) in losses {
        for (id, UnitLoss { removed, objects, .. }) in &loss.units {
            let fate = if *removed { "removed" } else { "present" };
            parts.extend([cluster.to_string(), id.to_string(), fate.to_owned(), objects.len().to_string()]);
            for object in objects {
                let object = &**object;
                parts
                    .extend([&object.group, &object.kind, &object.namespace, &object.name].map(Clone::clone));
            }
        }
    }
    Digest::of_parts(parts.iter().map(String::as_bytes))
}
