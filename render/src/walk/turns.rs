//! The order in which a cluster's units are rendered, until none is left.
//!
//! ```text
//!   queue ──► unit ──┬─► settled; what it defines joins the queue
//!     ▲              ├─► waiting, for a source or a ConfigMap that another unit may define
//!     │              └─► releases, which come when nothing else can go on
//!     └── waiting units, once what was settled may end their wait; else one wait is given up
//! ```
//!
//! It ends for every input. A unit is settled once. A unit that waits is looked at again only after another one put
//! something out, and a wait that nothing ends is given up: for good for a source, once a unit for ConfigMaps. So each turn
//! settles a unit, or shortens what is left of the turn, or is the last one.

use std::collections::BTreeMap;

use flotilla_kustomize::files::ReadError;

use super::{Pending, Waits, Walk, source_field};
use crate::source::fleet_source;

impl Walk<'_> {
    /// Renders all that is queued, and all that comes of it.
    pub(super) fn finish(&mut self) -> Result<(), ReadError> {
        loop {
            while let Some(pending) = self.next() {
                self.unit(pending)?;
            }
            if self.retry() {
                continue;
            }
            let releases = self.next_releases();
            if !releases.is_empty() {
                // By account: each sees the APIs that its own units bring.
                let mut capabilities = BTreeMap::new();
                for pending in &releases {
                    let account = self.account(pending);
                    capabilities
                        .entry(account.clone())
                        .or_insert_with(|| self.capabilities(account.as_ref()));
                }
                for pending in releases {
                    let of_its_own = &capabilities[&self.account(&pending)];
                    self.release(pending, of_its_own)?;
                }
                continue;
            }
            if !self.give_up() {
                return Ok(());
            }
        }
    }

    /// What the fleet repo holds goes before what it refers to: of two definitions the first counts, and it shall not be
    /// the one in a tenant's repository.
    fn next(&mut self) -> Option<Pending> {
        let own = self.queue.iter().position(|pending| pending.definition.source == fleet_source());
        self.queue.remove(own.unwrap_or_default())
    }

    /// Queues the waiting units whose wait may be over, if anything was put out since they were last looked at.
    fn retry(&mut self) -> bool {
        if self.retried == self.contents.len() {
            return false;
        }
        self.retried = self.contents.len();
        for (pending, waits) in std::mem::take(&mut self.waiting) {
            if self.may_be_over(&pending, &waits) {
                self.queue.push_back(pending);
            } else {
                self.waiting.push((pending, waits));
            }
        }
        !self.queue.is_empty()
    }

    fn may_be_over(&self, pending: &Pending, waits: &Waits) -> bool {
        match waits {
            Waits::Source(missing) => self.registry.may_have(missing),
            Waits::Values => self.missing_values(&pending.definition).is_none(),
        }
    }

    /// Ends waits that nothing else ends; `false`: nobody waits. Who waits for variables goes on without. Who waits for a
    /// source is held; first what was rendered before, for its last good output may define what others wait for.
    fn give_up(&mut self) -> bool {
        if self.waiting.is_empty() {
            return false;
        }
        if let Some(place) = self.waiting.iter().position(|(_, waits)| matches!(waits, Waits::Values)) {
            let (mut pending, _) = self.waiting.remove(place);
            pending.values_final = true;
            self.queue.push_back(pending);
            return true;
        }
        // Who is given up first goes by what was rendered before, which is more the next time.
        self.inputs.recorder.inspect(|recorder| recorder.is_one_piece());
        let was_good =
            |(pending, _): &(Pending, Waits)| (self.inputs.last_good)(&pending.definition.id).is_some();
        let given_up = match self.waiting.iter().position(was_good) {
            Some(place) => vec![self.waiting.remove(place)],
            // These put nothing out, so that none of them can end the wait of another.
            None => std::mem::take(&mut self.waiting),
        };
        for (pending, waits) in given_up {
            let Waits::Source(missing) = waits else { continue };
            let message = format!("{missing} is not defined in this cluster");
            let problem = self.place(&pending.definition, message).field(source_field(&pending.definition));
            self.held(pending, vec![problem]);
        }
        true
    }
}
