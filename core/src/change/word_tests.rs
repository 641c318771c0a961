//! Whose word a loss is, and whom it makes wait.

use super::tests::{cluster, declared, found, id, losses, of, present, units};
use super::*;
use crate::Authority;
use crate::unit::{UnitId, UnitSpec};

/// The units of a cluster that must stay as they are.
fn held(judged: &Judged, n: usize) -> String {
    judged.held(&cluster(n)).iter().map(|id| id.name.to_string()).collect::<Vec<_>>().join(" ")
}

/// Two clusters of five hundred objects that lose the same, in a fleet of so many.
fn both(of: usize, text: &str, before: &[&str]) -> Judged {
    let mut taken = Taken::default();
    for text in before {
        losses(&[(500, text), (500, text)]).iter().for_each(|(name, loss)| taken.add(name, loss));
    }
    let of = FleetSize { units: 100, objects: of };
    judge(&losses(&[(500, text), (500, text)]), &taken, &Sizes::default(), of, &Policy::default())
}

#[test]
fn what_one_takes_away_makes_nobody_else_wait() {
    for (text, before, waits, expected) in [
        // Beyond the limits is one tenant, and only his own waits.
        (
            "a: x; b of beta: y; t of alpha: ConfigMap*90",
            &[][..],
            "t",
            &["stop 180 of 400 objects are removed by who has the namespace alpha"][..],
        ),
        // Of a protected kind.
        (
            "a: x; b of beta: y; t of alpha: StatefulSet.apps/db",
            &[],
            "t",
            &[
                "stop 2 objects of the protected kind StatefulSet.apps are removed by who has the namespace alpha",
                "info 6 of 400 objects are removed",
            ],
        ),
        // Two are beyond them together, each of them within.
        ("a: ConfigMap*35; t of alpha: ConfigMap*35", &[], "", &["warning 140 of 400 objects are removed"]),
        ("t of alpha: ConfigMap*35; b of beta: x y", &[], "", &["info 74 of 400 objects are removed"]),
        // One took what he may in an earlier part.
        ("a: ConfigMap*10", &["t of alpha: ConfigMap*39"], "", &["warning 98 of 400 objects are removed"]),
        (
            "b of beta: ConfigMap*10",
            &["t of alpha: ConfigMap*39"],
            "",
            &["warning 98 of 400 objects are removed"],
        ),
        // The fleet repo, and a tenant beside it.
        ("a: ConfigMap*50; t of alpha: x", &[], "a", &["stop 100 of 400 objects are removed"]),
        // Each loses little, as where a base that all of them use is broken: no single one has done that.
        (
            "a of alpha: ConfigMap*20; b of beta: ConfigMap*20; c of gamma: ConfigMap*20",
            &[],
            "",
            &["warning 120 of 400 objects are removed"],
        ),
        (
            "a of alpha: ConfigMap*25; b of beta: ConfigMap*25; c of gamma: ConfigMap*25; d: x",
            &[],
            "a b c d",
            &[
                "stop 152 of 400 objects are removed by all together",
                "stop 152 of 400 objects are removed by all together",
                "stop 152 of 400 objects are removed by all together",
                "stop 152 of 400 objects are removed by all together",
            ],
        ),
    ] {
        let judged = both(400, text, before);
        assert_eq!(found(&judged), expected, "{text}");
        assert_eq!(held(&judged, 0), waits, "{text}");
        assert_eq!(held(&judged, 1), waits, "{text}");
    }
}

#[test]
fn most_of_a_cluster_is_judged_by_word_too() {
    let each = |text: &'static str| losses(&[(40, text), (40, text)]);
    let judge = |text| {
        let of = FleetSize { units: 100, objects: 4_000 };
        judge(&each(text), &Taken::default(), &Sizes::default(), of, &Policy::default())
    };
    let judged = judge("a: x; t of alpha: ConfigMap*30");
    assert_eq!(held(&judged, 0), "t", "{:?}", found(&judged));
    let judged = judge("a: x; t of alpha: ConfigMap*15; u of beta: ConfigMap*15");
    assert_eq!(held(&judged, 0), "", "{:?}", found(&judged));
    let judged = judge("t of alpha: ConfigMap*12; u of beta: ConfigMap*12; v of gamma: ConfigMap*12");
    assert_eq!(held(&judged, 1), "t u v", "{:?}", found(&judged));
}

#[test]
fn what_waits_of_a_tenants_makes_no_limit_of_others_narrower() {
    let small = FleetSize { units: 100, objects: 100 };
    let large = FleetSize { units: 1_000, objects: 1_000 };
    let waits = losses(&[(500, "t of alpha: ConfigMap*40"), (500, "t of alpha: ConfigMap*40")]);
    let mut sizes = Sizes::default();
    sizes.settle(small, false, &[(of("alpha"), waits.clone())].into());
    let all = "t of alpha: ConfigMap*40; a: ConfigMap*40; b of beta: ConfigMap*40";
    let judged = judge(
        &losses(&[(500, all), (500, all)]),
        &Taken::default(),
        &sizes.next(),
        large,
        &Policy::default(),
    );
    assert_eq!(held(&judged, 0), "t", "{:?}", found(&judged));
}

#[test]
fn a_loss_is_the_word_of_who_wrote_what_is_lost() {
    let tenant = |namespace: &str, parent: &str| UnitSpec {
        authority: of(namespace),
        parent: (!parent.is_empty()).then(|| id(parent)),
        ..UnitSpec::default()
    };
    let fleet = |parent: &str| UnitSpec { parent: Some(id(parent)), ..UnitSpec::default() };
    let mut next =
        units("gone removed; of-gone removed; of-root removed; of-nobody removed; below-shared removed");
    for (name, spec) in [
        ("team", tenant("alpha", "apps")),
        // Below a tenant nothing is anybody else's.
        ("deep", tenant("beta", "team")),
        ("from-fleet", tenant("alpha", "team")),
        // Applied as an account, and written in the fleet repo.
        ("shared", tenant("alpha", "apps")),
        ("apps", fleet("root")),
        ("root", UnitSpec::default()),
    ] {
        next.insert(id(name), present(name, spec, &[]));
    }
    let before = declared("team: t; deep: d; from-fleet: f; shared: s; apps: a");
    let mut loss = before.lost(&next, "git main clusters/x", &Going::default());
    let parents = [
        ("gone", "team"),
        ("of-gone", "gone"),
        ("of-root", "root"),
        ("below-shared", "shared"),
        ("of-nobody", "unheard-of"),
    ];
    let parent = |unit: &UnitId| {
        let parent = parents.iter().find(|(name, _)| id(name) == *unit);
        parent.map(|(_, parent)| id(parent))
    };
    let of_fleet = ["from-fleet", "shared", "apps", "root"].map(id);
    loss.note_words(&next, parent, |id| of_fleet.contains(id));
    let words: Vec<(&str, &Authority)> =
        loss.units.iter().map(|(id, loss)| (&*id.name, &loss.word)).collect();
    let (alpha, fleet) = (of("alpha"), Authority::Fleet);
    let expected = [
        ("apps", &fleet),
        ("below-shared", &fleet),
        ("deep", &alpha),
        ("from-fleet", &alpha),
        ("gone", &alpha),
        ("of-gone", &alpha),
        ("of-nobody", &fleet),
        ("of-root", &fleet),
        ("shared", &fleet),
        ("team", &alpha),
    ];
    assert_eq!(words, expected);
}
