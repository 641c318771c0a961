//! What hubs and agents of earlier versions said and wrote, played to this one: see `proto/recorded`.

use std::cell::RefCell;
use std::collections::HashMap;

use bytes::Bytes;
use flotilla_core::{DesiredState, Digest, UnitEntry};
use flotilla_proto::v1;
use prost::Message;

use super::session::{AgentInfo, Contents, Effect, Session};
use crate::disk::Disk;
use crate::problems::Problems;
use crate::sync::Has;

const HUB_1_2: &[u8] = include_bytes!("../../../proto/recorded/1.2/hub");
const DESIRED_1_2: &[u8] = include_bytes!("../../../proto/recorded/1.2/desired");
const DIGEST_1_2: &str = include_str!("../../../proto/recorded/1.2/digest");

#[derive(Default)]
struct Memory(RefCell<HashMap<Digest, Bytes>>);

impl Contents for Memory {
    fn has(&self, digest: Digest) -> bool {
        self.0.borrow().contains_key(&digest)
    }

    fn body(&self, digest: Digest) -> Option<Bytes> {
        self.0.borrow().get(&digest).cloned()
    }
}

fn info() -> AgentInfo {
    AgentInfo {
        cluster: "staging".parse().unwrap(),
        cluster_uid: "6c4e2b5a-0000-4000-8000-000000000001".into(),
        agent_version: "0",
        kubernetes_version: "v1.36.3".into(),
        instance: String::new(),
    }
}

fn summary(state: &DesiredState) -> Vec<String> {
    let line = |entry: &UnitEntry| match entry {
        UnitEntry::Present(unit) => format!("{} objects", unit.objects.len()),
        UnitEntry::Hold(hold) => format!("held: {hold}"),
        UnitEntry::Removed(removal) => format!("removed, deletes: {}", removal.deletes()),
    };
    state.units().iter().map(|(id, entry)| format!("{id} {}", line(entry))).collect()
}

const STATE_1_2: [&str; 7] = [
    "root 1 objects",
    "kustomization/flux-system/apps 1 objects",
    "kustomization/flux-system/asleep removed, deletes: false",
    "kustomization/flux-system/gone removed, deletes: true",
    "kustomization/flux-system/held held: apps/held/kustomization.yaml:3: no such file",
    "kustomization/team-a/held held: its source is not there",
    "helmrelease/team-a/shop 1 objects",
];

#[test]
fn a_stream_of_a_hub_of_1_2_is_taken_as_it_was_meant() {
    let (memory, mut session) = (Memory::default(), Session::new(info(), None));
    let mut stream = Bytes::from_static(HUB_1_2);
    let (mut saved, mut asked) = (None, 0);
    while !stream.is_empty() {
        let message = v1::HubMessage::decode_length_delimited(&mut stream).unwrap();
        for effect in session.receive(message, &memory).unwrap() {
            match effect {
                Effect::Keep(digest, body) => _ = memory.0.borrow_mut().insert(digest, body),
                Effect::Save(state) => {
                    session.saved(&state, None);
                    saved = Some(state);
                }
                Effect::TellUnits => session.tell_units(&Has::default()),
                Effect::Asked(..) => asked += 1,
                _ => {}
            }
        }
    }
    let state = saved.unwrap();
    assert_eq!(state.digest().to_string(), DIGEST_1_2.trim());
    assert_eq!((summary(&state), asked), (STATE_1_2.map(str::to_owned).into(), 1));
}

#[test]
fn a_desired_state_that_an_agent_of_1_2_wrote_is_read() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("desired"), DESIRED_1_2).unwrap();
    let state = Disk::open(folder.path(), Problems::default()).unwrap().desired().unwrap();
    assert_eq!(state.digest().to_string(), DIGEST_1_2.trim());
    assert_eq!(summary(&state), STATE_1_2);
}
