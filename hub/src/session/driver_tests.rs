use super::*;
use crate::store::MemoryStore;
use flotilla_core::UnitId;

#[test]
fn a_held_unit_of_which_the_agent_says_nothing_keeps_what_was_known_of_it() {
    let records = Records::open(Arc::new(MemoryStore::default())).unwrap();
    let cluster: ClusterName = "staging".parse().unwrap();
    let id = |name: &str| UnitId::kustomization("flux-system", name);
    let delete = Removal { prune: true, ..Removal::default() };
    let have = |name: &str, removal| HaveUnit { id: id(name), parent: None, removal, render: None };
    let digest = flotilla_core::Digest::of(b"render");
    let render = Some(flotilla_core::unit::Render { key: digest, content: digest });
    let parent = Some(UnitId::root());
    let known = KnownUnit { id: id("held"), parent: parent.clone(), removal: delete, render };
    let gone = KnownUnit { id: id("gone"), parent: None, removal: delete, render: None };
    records.set_known_units(&cluster, &[known.clone(), gone], None).unwrap();
    let units = vec![have("held", None), have("new", Some(delete)), have("unknown", None)];
    let late = KnownUnit { id: id("late"), parent: None, removal: delete, render: None };
    note_units(&records, &cluster, units, vec![late.clone()], 7).unwrap();
    let orphan = Removal { policy: DeletionPolicy::Orphan, ..Removal::default() };
    assert_eq!(
        records.known_units(&cluster).unwrap().unwrap(),
        [
            known,
            KnownUnit { id: id("new"), parent: None, removal: delete, render: None },
            KnownUnit { id: id("unknown"), parent: None, removal: orphan, render: None },
            late,
        ]
    );
}
