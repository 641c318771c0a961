//! What a unit asks of the cluster: in the name of its account, and no more than its share.

use flotilla_core::authority::Authority;
use flotilla_core::names::{is_dns_label, is_dns_subdomain};
use flotilla_core::question::{Question, Reply};
use flotilla_core::template::ValuesRef;
use flotilla_core::unit::ServiceAccount;
use std::sync::Arc;

use super::Walk;
use crate::ask::Told;

/// Questions of one cluster, all together.
const ALL: usize = 2_500;
/// Of those whose units reach some namespaces only, together; and about one namespace.
const OF_TENANTS: usize = 1_500;
const OF_NAMESPACE: usize = 200;

/// Who asks.
pub(super) struct Asker {
    pub(super) account: Option<ServiceAccount>,
    pub(super) authority: Authority,
}

impl Walk<'_> {
    /// Asks about a ConfigMap or Secret of the unit's own namespace.
    pub(super) fn ask(&self, reference: &ValuesRef, asker: &Asker) -> Told {
        let ValuesRef { kind, namespace, name } = reference;
        if !asker.authority.covers(namespace) {
            return Told::Nobody;
        }
        if !is_dns_label(namespace) || !is_dns_subdomain(name) {
            // What cannot be is not there.
            return Told::Reply(Arc::new(Reply::Absent));
        }
        let question = Question::of(*kind, namespace, name, asker.account.clone());
        let mut asked = self.asked.borrow_mut();
        if !asked.contains_key(&question) {
            let is_bounded = !asker.authority.is_fleet();
            let of_tenants = asked.values().filter(|asked| asked.is_some()).count();
            let of_namespace = asked.values().filter(|asked| asked.as_ref() == Some(namespace)).count();
            let is_too_much = asked.len() >= ALL
                || is_bounded && (of_tenants >= OF_TENANTS || of_namespace >= OF_NAMESPACE);
            if is_too_much {
                let why = format!(
                    "too much is asked of this cluster: at most {OF_NAMESPACE} objects of a tenant's namespace, {OF_TENANTS} \
                     of all of them and {ALL} altogether"
                );
                return Told::Reply(Arc::new(Reply::Refused(why)));
            }
            asked.insert(question.clone(), is_bounded.then(|| namespace.clone()));
        }
        drop(asked);
        self.inputs.ask.ask(&question)
    }

    /// Asks which APIs the cluster serves.
    pub(super) fn ask_apis(&self) -> Told {
        let question = Question::apis();
        let told = self.inputs.ask.ask(&question);
        self.asked.borrow_mut().insert(question, None);
        told
    }
}

/// Why a reply does not say what is there, for people.
pub(super) fn unknown(told: &Told) -> Option<String> {
    match told {
        Told::Nobody => Some("whether the cluster has it is not known here".to_owned()),
        Told::NotYet => Some("whether the cluster has it is not known until its agent answers".to_owned()),
        Told::Reply(reply) => match &**reply {
            Reply::Refused(why) | Reply::Failed(why) => {
                Some(format!("the cluster's agent cannot read it: {why}"))
            }
            Reply::Absent | Reply::Data(_) | Reply::Keys(_) | Reply::Apis(_) | Reply::Nodes(_) => None,
        },
    }
}
