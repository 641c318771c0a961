//! Generations: one sequence for the fleet that only rises, whatever happens to the process or the store.
//!
//! Numbers are reserved on disk in blocks before the first of a block is used. A hub that was restored from an
//! old backup hears from its agents of higher numbers, and goes on above them.

use flotilla_core::Generation;
use flotilla_runtime::lock;
use serde::{Deserialize, Serialize};

use super::records::{ATTEMPTS, Records, decode, encode};
use super::{Outcome, Store, StoreError, Txn};

const KEY: &str = "meta/generations";
/// How many numbers one write reserves.
const BLOCK: u64 = 1_000;
/// How far one report may raise the sequence. An agent that is wrong, or lies, cannot use it up.
pub const MAX_RAISE: u64 = 1 << 32;

/// The numbers that are reserved and not used yet.
#[derive(Debug)]
pub(super) struct Block {
    next: u64,
    /// The last number that is reserved.
    last: u64,
}

#[derive(Serialize, Deserialize)]
struct Reserved {
    last: u64,
}

fn reserved(bytes: Option<&[u8]>) -> Result<u64, StoreError> {
    bytes.map_or(Ok(0), |bytes| Ok(decode::<Reserved>(KEY, bytes)?.last))
}

impl Block {
    pub(super) fn load(store: &dyn Store) -> Result<Self, StoreError> {
        let last = reserved(store.get(KEY)?.as_deref())?;
        Ok(Self { next: last + 1, last })
    }
}

impl Records {
    /// The next generation: higher than every one before, in this process and its predecessors.
    pub fn next_generation(&self) -> Result<Generation, StoreError> {
        let mut block = lock(&self.generations);
        if block.next > block.last {
            self.reserve(&mut block, BLOCK)?;
        }
        let generation = Generation(block.next);
        block.next += 1;
        Ok(generation)
    }

    /// Reserves room for `count` generations with one write, so that the next `count` calls of
    /// [`Records::next_generation`] need none.
    pub fn reserve_generations(&self, count: u64) -> Result<(), StoreError> {
        let mut block = lock(&self.generations);
        if block.last - (block.next - 1) < count {
            self.reserve(&mut block, count.max(BLOCK))?;
        }
        Ok(())
    }

    /// Makes all further generations higher than one that an agent has seen. Answers `false` where that is
    /// further ahead than can be right ([`MAX_RAISE`]); nothing is changed then.
    pub fn raise_generation_above(&self, seen: Generation) -> Result<bool, StoreError> {
        let mut block = lock(&self.generations);
        if seen.0 < block.next {
            return Ok(true);
        }
        if seen.0 - block.next > MAX_RAISE {
            return Ok(false);
        }
        tracing::warn!(
            from = block.next,
            to = seen.0 + 1,
            "an agent is ahead of the hub (a restored backup?): generations go on above its own"
        );
        // Only in memory once it is on disk: a failed write must not leave a gap that a restart would reuse.
        let old = std::mem::replace(&mut block.next, seen.0 + 1);
        self.reserve(&mut block, BLOCK).inspect_err(|_| block.next = old)?;
        Ok(true)
    }

    fn reserve(&self, block: &mut Block, count: u64) -> Result<(), StoreError> {
        for _ in 0..ATTEMPTS {
            let old = self.store.get(KEY)?;
            let reserved = reserved(old.as_deref())?;
            // What was reserved otherwise (a write of ours whose answer was lost) is not used.
            let next = if reserved > block.last { block.next.max(reserved + 1) } else { block.next };
            let last = next.max(reserved + 1) - 1 + count;
            let mut txn = Txn::default();
            txn.expect(KEY, old);
            txn.put(KEY, encode(&Reserved { last }));
            if self.write(txn)? == Outcome::Committed {
                *block = Block { next, last };
                return Ok(());
            }
        }
        Err(StoreError::Contended(KEY.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::MemoryStore;
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    #[derive(Debug, Clone)]
    enum Step {
        Next,
        Reserve(u64),
        Raise(u64),
        Restart,
    }

    proptest! {
        #[test]
        fn generations_only_rise(steps in prop::collection::vec(prop_oneof![
            4 => Just(Step::Next),
            1 => (0u64..5000).prop_map(Step::Reserve),
            1 => (0u64..100_000).prop_map(Step::Raise),
            1 => Just(Step::Restart),
        ], 1..60)) {
            let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
            let mut records = Records::open(store.clone()).unwrap();
            let mut floor = 0;
            for step in steps {
                match step {
                    Step::Next => {
                        let next = records.next_generation().unwrap().0;
                        prop_assert!(next > floor);
                        floor = next;
                    }
                    Step::Reserve(count) => records.reserve_generations(count).unwrap(),
                    Step::Raise(seen) => {
                        prop_assert!(records.raise_generation_above(Generation(seen)).unwrap());
                        floor = floor.max(seen);
                    }
                    Step::Restart => records = Records::open(store.clone()).unwrap(),
                }
            }
        }
    }

    #[test]
    fn a_number_far_ahead_is_not_followed() {
        let records = Records::open(Arc::new(MemoryStore::default())).unwrap();
        assert!(!records.raise_generation_above(Generation(u64::MAX)).unwrap());
        assert_eq!(records.next_generation().unwrap(), Generation(1));
    }
}
