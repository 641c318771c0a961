//! What is used of a cluster's budget, and of each tenant's share in it.

use std::collections::BTreeMap;

use flotilla_core::unit::ServiceAccount;

use crate::budget::{Budget, Weight, size};

/// Units, and the bytes of what they render to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Used {
    units: usize,
    bytes: u64,
}

/// What a walk has used so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    cluster: Used,
    /// By the namespace of the account: whoever may use one account of a namespace may use its others.
    tenants: BTreeMap<String, Used>,
}

impl Spent {
    /// Takes one more unit.
    ///
    /// # Errors
    /// Whose budget is spent.
    pub(super) fn unit(&mut self, budget: &Budget, account: Option<&ServiceAccount>) -> Result<(), String> {
        let most = budget.cluster_units;
        if self.cluster.units >= most {
            return Err(format!("the cluster has {most} units already"));
        }
        if let Some(ServiceAccount { namespace, .. }) = account {
            let used = self.tenants.entry(namespace.clone()).or_default();
            let most = budget.tenant_units;
            if used.units >= most {
                return Err(format!(
                    "the accounts of namespace {namespace} have {most} units in this cluster already"
                ));
            }
            used.units += 1;
        }
        self.cluster.units += 1;
        Ok(())
    }

    /// Gives back what a unit rendered to.
    pub(crate) fn give_back(&mut self, account: Option<&ServiceAccount>, weight: Weight) {
        self.cluster.bytes = self.cluster.bytes.saturating_sub(weight.bytes);
        let tenant = account.and_then(|account| self.tenants.get_mut(&account.namespace));
        tenant.into_iter().for_each(|used| used.bytes = used.bytes.saturating_sub(weight.bytes));
    }

    /// Takes what a unit renders to.
    ///
    /// # Errors
    /// What there is too much of.
    pub(crate) fn content(
        &mut self,
        budget: &Budget,
        account: Option<&ServiceAccount>,
        weight: Weight,
    ) -> Result<(), String> {
        // What comes from helm was not held against it where it was made.
        weight.check(budget)?;
        let bytes = self.cluster.bytes + weight.bytes;
        if bytes > budget.cluster_bytes {
            let most = size(budget.cluster_bytes);
            return Err(format!("with this unit's objects, those of the cluster are more than {most}"));
        }
        if let Some(ServiceAccount { namespace, .. }) = account {
            let used = self.tenants.entry(namespace.clone()).or_default();
            if used.bytes + weight.bytes > budget.tenant_bytes {
                let most = size(budget.tenant_bytes);
                return Err(format!(
                    "with this unit's objects, those of the accounts of namespace {namespace} are more than {most} in \
                     this cluster"
                ));
            }
            used.bytes += weight.bytes;
        }
        self.cluster.bytes = bytes;
        Ok(())
    }
}
