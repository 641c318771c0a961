//! The right to write to a store: one hub has it, under a number that rises each time somebody takes it. Each write carries
//! that number as a comparison, so a hub that lost the lease writes nothing any more, however late it notices.

use std::sync::Arc;
use std::time::Duration;

use flotilla_runtime::chain;
use serde::{Deserialize, Serialize};

use super::records::{ATTEMPTS, decode, encode};
use super::{Outcome, Store, StoreError, Txn};

const KEY: &str = "lease/hub";
/// The store's word that a key changed may be lost.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// A lease that was taken; whether it still holds, each write finds out.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    number: u64,
    /// As it stands in the store.
    bytes: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Holder {
    number: u64,
}

impl Lease {
    /// Takes it from whoever has it. Who may do so is for the caller to know: the file of a store on disk belongs to one
    /// process at a time.
    pub(super) fn take(store: &dyn Store) -> Result<Self, StoreError> {
        for _ in 0..ATTEMPTS {
            let old = store.get(KEY)?;
            let holder = old.as_ref().map(|bytes| decode::<Holder>(KEY, bytes)).transpose()?;
            let number = holder.map_or(0, |holder| holder.number) + 1;
            let bytes = encode(&Holder { number });
            let mut txn = Txn::default();
            txn.expect(KEY, old);
            txn.put(KEY, bytes.clone());
            if store.txn(&txn)? == Outcome::Committed {
                return Ok(Self { number, bytes });
            }
        }
        Err(StoreError::Contended("the lease".to_owned()))
    }

    /// Lets a transaction be made only while the lease holds.
    pub(super) fn guard(&self, txn: &mut Txn) {
        txn.expect(KEY, Some(self.bytes.clone()));
    }

    /// Why a guarded transaction was not made, where it was not for its own comparisons.
    ///
    /// # Errors
    /// [`StoreError::LeaseLost`] once another hub has it.
    pub(super) fn check(&self, store: &dyn Store) -> Result<(), StoreError> {
        if store.get(KEY)?.as_ref() == Some(&self.bytes) {
            return Ok(());
        }
        Err(StoreError::LeaseLost(self.number))
    }

    /// Waits until another hub has the lease, and gives [`StoreError::LeaseLost`].
    pub(super) async fn lost(self, store: Arc<dyn Store>) -> StoreError {
        let mut changes = store.watch(KEY);
        loop {
            changes.borrow_and_update();
            let (lease, below) = (self.clone(), store.clone());
            match tokio::task::spawn_blocking(move || lease.check(&*below)).await {
                Ok(Ok(())) => {}
                Ok(Err(lost @ StoreError::LeaseLost(_))) => return lost,
                // Not known is not lost; whatever is written until then finds it out.
                Ok(Err(error)) => {
                    tracing::warn!("cannot look whether this hub has the lease: {}", chain(&error))
                }
                Err(error) => {
                    tracing::error!("cannot look whether this hub has the lease: {}", chain(&error))
                }
            }
            tokio::select! {
                Ok(()) = changes.changed() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use flotilla_core::Generation;

    use super::super::{AuditRecord, MemoryStore, Records, SuspensionRecord};
    use super::*;

    #[test]
    fn a_hub_that_lost_its_lease_writes_nothing() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let old = Records::open(store.clone()).unwrap();
        let cluster = "staging".parse().unwrap();
        let audit = AuditRecord::new(1, "ann", "test", &cluster);
        let suspension = SuspensionRecord { by: "ann".into(), at: 1, reason: String::new() };
        let suspend = |records: &Records| records.suspend(&cluster, None, Some(&suspension), &audit);
        let claim = |records: &Records| records.claim("first").map(drop);
        let generation = |records: &Records| records.reserve_generations(1 << 20);
        old.audit(&audit).unwrap();
        let new = Records::open(store.clone()).unwrap();
        let before = store.scan("").unwrap();
        for write in
            [&suspend as &dyn Fn(&Records) -> _, &claim, &generation, &|records| records.audit(&audit)]
        {
            assert!(matches!(write(&old), Err(StoreError::LeaseLost(1))), "{:?}", write(&old));
        }
        assert_eq!(store.scan("").unwrap(), before);
        assert_eq!(old.audit_log().unwrap().len(), 1, "it may read");
        for write in
            [&suspend as &dyn Fn(&Records) -> _, &claim, &generation, &|records| records.audit(&audit)]
        {
            write(&new).unwrap();
        }
    }

    #[tokio::test]
    async fn a_hub_hears_that_another_one_took_its_lease() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let old = Records::open(store.clone()).unwrap();
        let mut lost = Box::pin(old.lease_lost());
        tokio::select! {
            biased;
            error = &mut lost => panic!("nobody took it: {error}"),
            () = tokio::task::yield_now() => {}
        }
        let new = Records::open(store).unwrap();
        let error = tokio::time::timeout(Duration::from_secs(5), lost).await.unwrap();
        assert!(matches!(error, StoreError::LeaseLost(1)), "{error}");
        new.claim("first").unwrap();
    }

    #[test]
    fn two_hubs_give_no_generation_twice() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let old = Records::open(store.clone()).unwrap();
        let first = old.next_generation().unwrap();
        let new = Records::open(store).unwrap();
        // What the old one has reserved is its own; the new one goes on above all of that.
        let (late, next) = (old.next_generation().unwrap(), new.next_generation().unwrap());
        assert!(first < late && late < next, "{first} {late} {next}");
        assert!(!(1..2_000).any(|_| old.next_generation().is_ok_and(|late| late >= Generation(next.0))));
    }
}
