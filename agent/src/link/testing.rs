//! States for tests, from names.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use flotilla_core::desired::Generation;
use flotilla_core::{DesiredState, Digest, Object, UnitEntry, UnitId, UnitManifest, UnitSpec};
use flotilla_runtime::tls::{AgentKey, Ca, Csr, TrustBundle, Validity};

use crate::disk::Enrolment;

/// An object named by the text before the first `=`; the rest is its content.
pub(crate) fn object(text: &str) -> Object {
    let (name, content) = text.split_once('=').unwrap_or((text, ""));
    // Long enough that compressing it pays.
    let filler: Vec<String> =
        (0..8).map(|n| Digest::of(format!("{name}{n}").as_bytes()).to_string()).collect();
    Object::new(&serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
        "data": {"content": content, "filler": filler.join(" ")}}))
    .unwrap()
}

/// A state of units with objects; a unit named `held` is held, one named `removed` is removed.
pub(crate) fn state(generation: u64, units: &[(&str, &[&str])]) -> DesiredState {
    let entry = |(id, objects): &(&str, &[&str])| {
        let id: UnitId = id.parse().unwrap();
        let entry = match id.name.as_str() {
            "held" => UnitEntry::Hold("x.yaml:1: bad".into()),
            "removed" => UnitEntry::Removed(flotilla_core::desired::Removal::default()),
            _ => {
                let objects = objects.iter().map(|text| (&object(text)).into()).collect();
                UnitEntry::Present(Arc::new(UnitManifest::new(id.clone(), UnitSpec::default(), objects)))
            }
        };
        (id, entry)
    };
    let units = units.iter().map(entry).collect();
    DesiredState::new("staging".parse().unwrap(), Generation(generation), "c0ffee", units)
}

/// The bodies that a state of [`state`] names, if its objects have no content.
pub(crate) fn bodies(state: &DesiredState) -> HashMap<Digest, Bytes> {
    let names = state.all_present().flat_map(|unit| &unit.objects).map(|entry| &entry.object.id.name);
    names.map(|name| object(name)).map(|object| (object.digest(), object.body().clone())).collect()
}

/// What a hub gives to an agent with this key.
pub(crate) fn enrolment(key: &AgentKey) -> Enrolment {
    let ca = Ca::create(SystemTime::now()).unwrap();
    let csr = Csr::parse(&key.request().unwrap()).unwrap();
    let validity = Validity { now: SystemTime::now(), life: Duration::from_secs(3600) };
    Enrolment {
        cluster: "staging".into(),
        certificate: ca.issue_agent(&csr, "staging", validity).unwrap().0,
        bundle: TrustBundle::from_pem(&ca.certificate_pem()).unwrap(),
        addresses: vec!["hub.example:8443".parse().unwrap()],
        cluster_uid: "uid".into(),
    }
}
