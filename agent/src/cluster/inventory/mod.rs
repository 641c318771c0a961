//! The inventory in the cluster: ConfigMaps with a JSON object a line, one line an object of ours.
//!
//! ```text
//!   flotilla-inventory-<bucket>-<part>     units are hashed into 16 buckets; a full part is followed by the next
//!     {"u":"kustomization/flux-system/apps","parent":"root","as":"web/deployer"}                       the unit's links
//!     {"u":"kustomization/flux-system/apps","g":"apps","v":"v1","k":"Deployment","ns":"web","n":"x","uid":"…"}
//! ```
//!
//! A line stays in its part for life, so that a write that is cut short between two parts loses none. Changes are
//! written by one task, all that wait at once, each caller waits for the write that holds its change.

mod follow;
mod pages;
#[cfg(test)]
mod tests;
mod write;

use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, MutexGuard};

use flotilla_runtime::lock;

use flotilla_core::inventory::{Inventory, Member};
use flotilla_core::order::Links;
use flotilla_core::{ObjectId, UnitId};
use tokio::sync::{Notify, watch};

use super::Cluster;
use super::discovery::Resource;
use super::path::labels;
use super::request::Failure;
use pages::{ConfigMaps, Pages};
pub(super) use write::make_namespace;

const BUCKETS: u8 = 16;
const PART_BYTES: usize = 512 * 1024;
/// Changes that nobody waits for are written within this time.
const LAZY: std::time::Duration = std::time::Duration::from_secs(1);
const NAME: &str = "flotilla-inventory-";
const KEY: &str = "members";
const MARK: &str = "flotilla.dev/inventory";

/// The inventory in memory and the task that writes it.
pub(crate) struct InventoryWriter {
    pages: Mutex<Pages>,
    /// Something changed; it may wait a little.
    wake: Notify,
    /// Somebody waits for a change.
    asked: Notify,
    /// All changes up to this number are in the cluster.
    written: watch::Sender<u64>,
    /// Why the last write failed; none after a success.
    trouble: watch::Sender<Option<Trouble>>,
}

/// Why a change is not in the cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(crate) struct Trouble {
    pub(crate) why: String,
    /// The API server is away: see [`Failure::is_away`].
    pub(crate) is_away: bool,
}

impl Trouble {
    fn closed() -> Self {
        Self { why: "the inventory is closed".into(), is_away: false }
    }
}

impl InventoryWriter {
    /// Reads the inventory. An empty cluster has none, which is not the same as one that cannot be read.
    pub(crate) async fn load(cluster: &Cluster) -> Result<Self, Failure> {
        make_namespace(cluster).await?;
        let mut pages = Pages::default();
        let query = format!("?{}", labels(MARK));
        let maps: ConfigMaps =
            cluster.get_path(Resource::inventory_path("").trim_end_matches('/').to_owned() + &query).await?;
        // Nothing listed is an empty inventory; an answer of another kind is none.
        if maps.kind != "ConfigMapList" {
            return Err(Failure::NoList("configmaps".into()));
        }
        for map in maps.items {
            pages.read(map);
        }
        Ok(Self {
            pages: Mutex::new(pages),
            wake: Notify::new(),
            asked: Notify::new(),
            written: watch::channel(0).0,
            trouble: watch::channel(None).0,
        })
    }

    /// Looks at the inventory. Short: everybody waits meanwhile.
    pub(crate) fn view<T>(&self, look: impl FnOnce(&Inventory) -> T) -> T {
        look(&self.pages().inventory)
    }

    /// Has identities that equal these share their text: an agent has thousands of them in many tables.
    pub(crate) fn share(&self, ids: &HashSet<ObjectId>) {
        self.pages().share(ids);
    }

    /// Why the inventory is not whole, if so: then nothing is pruned.
    pub(crate) fn damage(&self) -> Option<String> {
        self.pages().damage.clone()
    }

    /// Whether somebody else wrote our inventory since the last call.
    pub(crate) fn take_contended(&self) -> bool {
        std::mem::take(&mut self.pages().contended)
    }

    /// Lists objects of a unit; a uid that is known already is kept where none is given, and one that is given counts for
    /// all units that list the object. The number of the change that has to be in the cluster before anything is done to them, for
    /// [`InventoryWriter::durable`]. It may be an earlier one: that all was listed already does not say that it was written.
    pub(crate) fn list(
        &self,
        unit: &UnitId,
        links: Option<&Links>,
        members: impl IntoIterator<Item = Member>,
    ) -> u64 {
        let mut pages = self.pages();
        let (mut changed, mut due) = (false, 0);
        if let Some(links) = links {
            changed |= pages.put_unit(unit, links);
            due = pages.due(unit, None);
        }
        for member in members {
            changed |= pages.put_member(unit, &member);
            due = due.max(pages.due(unit, Some(&member.object.id)));
        }
        drop(pages);
        if changed {
            self.wake.notify_one();
        }
        due
    }

    /// Has all units list these objects without a uid: whoever applies them makes them anew. The number of the change, as
    /// [`Self::list`] gives it.
    pub(crate) fn expect_anew<'a>(&self, objects: impl IntoIterator<Item = &'a ObjectId>) -> u64 {
        let mut pages = self.pages();
        let (mut changed, mut due) = (false, 0);
        for object in objects {
            changed |= pages.drop_uid(object);
            let owners = pages.inventory.owners(object);
            due = owners.map(|owner| pages.due(owner, Some(object))).fold(due, u64::max);
        }
        drop(pages);
        if changed {
            self.wake.notify_one();
        }
        due
    }

    /// Takes objects off a unit's list, and the unit with its last one if `whole`.
    pub(crate) fn unlist(&self, unit: &UnitId, objects: &BTreeSet<ObjectId>, whole: bool) -> u64 {
        let mut pages = self.pages();
        for object in objects {
            pages.drop_member(unit, object);
        }
        if whole && pages.inventory.units.get(unit).is_some_and(|listed| listed.members.is_empty()) {
            pages.drop_unit(unit);
        }
        let change = pages.change;
        drop(pages);
        self.wake.notify_one();
        change
    }

    /// Takes an object off a unit's list if another unit lists it too. At once, so that of two units that let it go
    /// together one is the last.
    pub(crate) fn unlist_shared(&self, unit: &UnitId, object: &ObjectId) -> bool {
        let mut pages = self.pages();
        if !pages.inventory.owners(object).any(|owner| owner != unit) {
            return false;
        }
        pages.drop_member(unit, object);
        drop(pages);
        self.wake.notify_one();
        true
    }

    /// Waits until a change is in the cluster, or a write fails after it was asked for.
    pub(crate) async fn durable(&self, change: u64) -> Result<(), Trouble> {
        let mut written = self.written.subscribe();
        let mut trouble = self.trouble.subscribe();
        trouble.mark_unchanged();
        loop {
            if *written.borrow_and_update() >= change {
                return Ok(());
            }
            self.asked.notify_one();
            tokio::select! {
                changed = written.changed() => changed.map_err(|_| Trouble::closed())?,
                changed = trouble.changed() => {
                    changed.map_err(|_| Trouble::closed())?;
                    if let Some(trouble) = trouble.borrow().clone() {
                        return Err(trouble);
                    }
                }
            }
        }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        lock(&self.pages)
    }
}
