use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::inventory::{Member, Uid};
use flotilla_core::{ObjectId, ObjectRef};

use super::pages::{ConfigMap, Key, bucket, line_of, text};
use super::*;

fn inventory(maps: Vec<ConfigMap>) -> InventoryWriter {
    let mut pages = Pages::default();
    for map in maps {
        pages.read(map);
    }
    InventoryWriter {
        pages: Mutex::new(pages),
        wake: Notify::new(),
        asked: Notify::new(),
        written: watch::channel(0).0,
        trouble: watch::channel(None).0,
    }
}

fn member(name: &str, uid: Option<&str>) -> Member {
    let id = ObjectId::new("apps", "Deployment", "n", name);
    Member { object: ObjectRef { id, version: "v1".into() }, uid: uid.map(Uid::from) }
}

fn maps(inventory: &InventoryWriter) -> Vec<ConfigMap> {
    let pages = inventory.pages();
    let map = |key: &Key| ConfigMap {
        metadata: flotilla_core::live::Metadata {
            name: format!("{NAME}{}-{}", key.0, key.1),
            ..Default::default()
        },
        data: BTreeMap::from([(KEY.to_owned(), pages.content(*key))]),
    };
    pages.parts.keys().map(map).collect()
}

#[test]
fn what_is_written_reads_back_and_lines_stay_in_their_part() {
    let unit = UnitId::kustomization("flux-system", "apps");
    let one = inventory(vec![]);
    let links = Links {
        parent: Some(UnitId::root()),
        depends_on: vec![UnitId::kustomization("a", "b")],
        account: Some("web/deployer".parse().unwrap()),
        place: Some(flotilla_core::Digest::of(b"fleet main clusters/one")),
    };
    one.list(&unit, Some(&links), (0..9000).map(|i| member(&format!("object-{i:05}"), None)));
    assert_eq!(one.pages().parts.len(), 2, "it takes more than one part");
    assert!(maps(&one).iter().all(|map| map.data[KEY].len() <= PART_BYTES));
    let place = |inventory: &InventoryWriter| {
        inventory.pages().number(&(unit.clone(), Some(member("object-08999", None).object.id)))
    };
    let before = place(&one);
    one.list(&unit, None, [member("object-08999", Some("u"))]);
    one.unlist(&unit, &(0..4000).map(|i| member(&format!("object-{i:05}"), None).object.id).collect(), false);
    assert_eq!((place(&one), before), (1, 1));

    let two = inventory(maps(&one));
    assert_eq!(two.damage(), None);
    assert_eq!(two.view(Clone::clone), one.view(Clone::clone));
    assert_eq!(place(&two), before, "it is read where it stands");
    assert_eq!(two.view(|inventory| inventory.units[&unit].links.clone()), links);
    let bytes = |inventory: &InventoryWriter| {
        inventory.pages().parts.values().map(|part| part.bytes).collect::<Vec<_>>()
    };
    assert_eq!(bytes(&two), bytes(&one), "the sizes are kept right");
}

#[test]
fn an_intent_does_not_wipe_a_uid_and_a_shared_object_leaves_one_list_at_a_time() {
    let (a, b) = (UnitId::kustomization("f", "a"), UnitId::kustomization("f", "b"));
    let inventory = inventory(vec![]);
    inventory.list(&a, None, [member("x", Some("u"))]);
    inventory.list(&a, None, [member("x", None)]);
    assert_eq!(
        inventory.view(|inventory| inventory.units[&a].members[&member("x", None).object.id].uid.clone()),
        Some(Uid::from("u"))
    );
    inventory.list(&b, None, [member("x", Some("u"))]);
    let object = member("x", None).object.id;
    assert!(inventory.unlist_shared(&a, &object));
    assert!(!inventory.unlist_shared(&b, &object), "it is the last");
    inventory.unlist(&b, &BTreeSet::from([object]), true);
    assert!(inventory.view(|inventory| !inventory.units.contains_key(&b)));
}

#[test]
fn what_is_listed_and_not_written_is_waited_for_again() {
    let a = UnitId::kustomization("f", "a");
    let inventory = inventory(vec![]);
    let due = inventory.list(&a, None, [member("x", None)]);
    assert!(due > 0);
    assert_eq!(inventory.list(&a, None, [member("x", None)]), due, "a write of it may have failed");
    assert_eq!(inventory.list(&a, None, [member("x", Some("u"))]), due, "a uid may come later");
    let anew = inventory.expect_anew([&member("x", None).object.id]);
    assert!(anew > due);
    assert_eq!(inventory.expect_anew([&member("x", None).object.id]), anew);
    assert_eq!(inventory.list(&a, None, [member("x", None)]), anew);
}

/// `a` is suspended, say, while somebody deletes the object and makes another, which `b` then applies.
#[test]
fn an_object_that_was_made_anew_is_known_by_its_new_uid_to_all_who_list_it() {
    let (a, b, c) = ["a", "b", "c"].map(|name| UnitId::kustomization("f", name)).into();
    let inventory = inventory(vec![]);
    inventory.list(&a, None, [member("x", Some("old"))]);
    inventory.list(&c, None, [member("x", None), member("y", Some("old"))]);
    inventory.list(&b, None, [member("x", Some("new"))]);
    let uids = |unit: &UnitId, name: &str| {
        let id = member(name, None).object.id;
        inventory.view(|inventory| inventory.units[unit].members[&id].uid.clone())
    };
    let new = Some(Uid::from("new"));
    assert_eq!((uids(&a, "x"), uids(&b, "x")), (new.clone(), new));
    assert_eq!((uids(&c, "x"), uids(&c, "y")), (None, Some(Uid::from("old"))), "what is not known stays so");
    assert!(inventory.unlist_shared(&b, &member("x", None).object.id));
}

#[test]
fn what_cannot_be_read_is_damage_and_survives_a_write() {
    let unit = UnitId::kustomization("f", "a");
    let good = text(&line_of(&unit, &member("x", None)));
    let name = format!("{NAME}{}-0", bucket(&unit));
    let map = |content: &str| ConfigMap {
        metadata: flotilla_core::live::Metadata { name: name.clone(), ..Default::default() },
        data: BTreeMap::from([(KEY.to_owned(), content.to_owned())]),
    };
    let inventory = inventory(vec![map(&format!("{good}\n{{\"from\":\"the future\"}}\n"))]);
    assert!(
        inventory.damage().unwrap().starts_with("line 2 of ConfigMap flotilla-system/flotilla-inventory-")
    );
    inventory.list(&unit, None, [member("y", None)]);
    assert!(maps(&inventory)[0].data[KEY].contains("the future"));
}

#[test]
fn a_write_of_our_own_whose_answer_was_lost_is_nobody_elses() {
    let unit = UnitId::kustomization("f", "a");
    let key = (bucket(&unit), 0);
    let there = |content: String, version: &str| ConfigMap {
        metadata: flotilla_core::live::Metadata { resource_version: version.into(), ..Default::default() },
        data: BTreeMap::from([(KEY.to_owned(), content)]),
    };
    let inventory = inventory(vec![]);
    let send = |names: &[&str]| {
        inventory.pages().inventory.units.clear();
        inventory.list(&unit, None, names.iter().map(|name| member(name, None)));
        let mut pages = inventory.pages();
        let content = pages.content(key);
        pages.parts.get_mut(&key).unwrap().sends(&content);
        content
    };
    let first = send(&["x"]);
    inventory.pages().parts.get_mut(&key).unwrap().wrote(&first, "1".into());
    // Of three writes nobody answers; the first of them was done.
    let done = send(&["x", "y"]);
    send(&["y"]);
    send(&["z"]);
    inventory.pages().take_conflict(key, Some(there(done.clone(), "2")));
    assert!(!inventory.take_contended());
    assert_eq!(maps(&inventory)[0].data[KEY], text(&line_of(&unit, &member("z", None))) + "\n");
    assert_eq!(inventory.pages().parts[&key].version, "2");

    let other = done + &text(&line_of(&unit, &member("other", None)));
    inventory.pages().take_conflict(key, Some(there(other, "3")));
    assert!(inventory.take_contended());
    assert_eq!(
        inventory.view(|inventory| inventory.units[&unit].members.len()),
        4,
        "what somebody else wrote is taken in"
    );
}
