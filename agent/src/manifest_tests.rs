use super::*;
use crate::link::testing::{object, state};

fn apply(base: &DesiredState, manifests: Vec<v1::Manifest>) -> Result<DesiredState, ManifestError> {
    let bases = [base];
    let mut assembly = Assembly::begin(&manifests[0], Bases(&bases))?;
    for manifest in manifests {
        assembly.take(manifest)?;
    }
    assembly.finish(base.cluster.clone(), Bases(&bases))
}

fn delta(base: &DesiredState, new: &DesiredState, units: Vec<v1::UnitChange>) -> v1::Manifest {
    v1::Manifest { base_root_digest: digest_bytes(Some(base.digest())), units, last: true, ..head(new) }
}

fn head(state: &DesiredState) -> v1::Manifest {
    v1::Manifest { units: Vec::new(), last: false, ..whole(state) }
}

fn change(id: &str, entry: Entry) -> v1::UnitChange {
    v1::UnitChange { id: id.into(), entry: Some(entry), ..Default::default() }
}

fn against(
    base: &DesiredState,
    new: &DesiredState,
    upserts: &[(usize, &str)],
    removes: &[u32],
) -> v1::UnitPresent {
    let root = UnitId::root();
    let entry = |(at, text): &(usize, &str)| object_entry(*at, &(&object(text)).into());
    v1::UnitPresent {
        digest: digest_bytes(new.present(&root).map(|unit| unit.digest())),
        base_digest: digest_bytes(base.present(&root).map(|unit| unit.digest())),
        upserts: upserts.iter().map(entry).collect(),
        removes: removes.to_vec(),
        ..Default::default()
    }
}

#[test]
fn positions_and_indices_make_the_new_list() {
    for (old, upserts, removes, new) in [
        (&["a", "b", "c"][..], &[][..], &[][..], &["a", "b", "c"][..]),
        (&["a", "b", "c"], &[(1, "b=2")], &[], &["a", "b=2", "c"]),
        // With or without a line in `removes`.
        (&["a", "b", "c"], &[(1, "b=2")], &[1], &["a", "b=2", "c"]),
        (&["a", "b", "c"], &[(0, "x"), (4, "y")], &[], &["x", "a", "b", "c", "y"]),
        (&["a", "b", "c"], &[(0, "c")], &[], &["c", "a", "b"]),
        (&["a", "b", "c"], &[(1, "x")], &[0, 2], &["b", "x"]),
        (&["a", "b", "c"], &[], &[0, 1, 2], &[]),
        (&[], &[(1, "b"), (0, "a")], &[], &["a", "b"]),
    ] {
        let (base, next) = (state(1, &[("root", old)]), state(2, &[("root", new)]));
        let present = against(&base, &next, upserts, removes);
        let manifest = delta(&base, &next, vec![change("root", Entry::Present(present))]);
        assert_eq!(apply(&base, vec![manifest]).unwrap(), next, "{old:?} to {new:?}");
    }
}

#[test]
fn a_unit_in_several_changes_is_one_and_whole_states_come_back() {
    let base = state(1, &[("root", &["a"])]);
    let next = state(
        2,
        &[("root", &["a", "b", "c", "d"]), ("kustomization/x/held", &[]), ("kustomization/x/removed", &[])],
    );
    assert_eq!(apply(&base, vec![whole(&next)]).unwrap(), next);
    let first = against(&base, &next, &[(1, "b"), (3, "d")], &[]);
    let second = against(&base, &next, &[(2, "c")], &[]);
    let rest = whole(&next).units.into_iter().filter(|unit| unit.id != "root");
    let messages = vec![
        v1::Manifest { last: false, ..delta(&base, &next, vec![change("root", Entry::Present(first))]) },
        delta(&base, &next, rest.chain([change("root", Entry::Present(second))]).collect()),
    ];
    assert_eq!(apply(&base, messages).unwrap(), next);
}

#[test]
fn what_leads_elsewhere_or_nowhere_is_told_apart() {
    let base = state(1, &[("root", &["a", "b"])]);
    let next = state(2, &[("root", &["a", "c"])]);
    let root = |present| vec![change("root", Entry::Present(present))];
    let good = || against(&base, &next, &[(1, "c")], &[1]);
    assert_eq!(apply(&base, vec![delta(&base, &next, root(good()))]).unwrap(), next);

    let unknown = digest_bytes(Some(Digest::of(b"unknown")));
    let error = |manifest| apply(&base, vec![manifest]).unwrap_err();
    let other_base = v1::Manifest { base_root_digest: unknown.clone(), ..delta(&base, &next, root(good())) };
    assert!(matches!(error(other_base), ManifestError::NoBase(_)));
    let unit_base = v1::UnitPresent { base_digest: unknown, ..good() };
    assert!(matches!(error(delta(&base, &next, root(unit_base))), ManifestError::NoBase(_)));
    let wrong = against(&base, &next, &[(1, "d")], &[1]);
    assert!(matches!(error(delta(&base, &next, root(wrong))), ManifestError::OtherDigest { .. }));
    let incomplete = delta(&base, &next, Vec::new());
    assert!(matches!(error(incomplete), ManifestError::OtherDigest { .. }));
    let gap = against(&base, &next, &[(7, "c")], &[1]);
    assert!(error(delta(&base, &next, root(gap))).to_string().contains("leaves a gap"));
    let spec = v1::UnitPresent { spec: "{".into(), ..good() };
    assert!(matches!(error(delta(&base, &next, root(spec))), ManifestError::OtherDigest { .. }));
    for policy in [0, 99] {
        let removal = v1::Removal { policy, prune: true, ..v1::Removal::default() };
        let removed = delta(&base, &next, vec![change("root", Entry::Removed(removal))]);
        assert!(matches!(error(removed), ManifestError::Invalid(_)), "an unknown policy is never guessed");
    }
    let nothing = vec![v1::UnitChange { id: "root".into(), ..Default::default() }];
    assert!(
        matches!(error(delta(&base, &next, nothing)), ManifestError::Invalid(_)),
        "nothing says how it counts"
    );
}

/// A newer hub says of one unit what this version cannot read, each time something else. That unit is held, the others
/// are taken, the digest is the hub's, and all of it comes back from the disk.
#[test]
fn what_a_newer_hub_says_of_one_unit_costs_that_unit() {
    let here = state(7, &[("root", &["a"]), ("kustomization/x/y", &["b", "c"])]);
    let present = |id: &str, spec: &str, digest: Digest| v1::UnitChange {
        id: id.into(),
        entry: Some(Entry::Present(v1::UnitPresent {
            digest: digest_bytes(Some(digest)),
            spec: Bytes::copy_from_slice(spec.as_bytes()),
            ..Default::default()
        })),
        ..Default::default()
    };
    let removed = |id: &str, policy| v1::UnitChange {
        id: id.into(),
        entry: Some(Entry::Removed(v1::Removal { policy, prune: true, ..Default::default() })),
        digest_part: Bytes::from_static(b"removed Archive true"),
        ..Default::default()
    };
    let spec_digest = |id: &UnitId, spec: &str| UnitManifest::digest_of(id, spec.as_bytes(), &[]);
    let id: UnitId = "kustomization/x/new".parse().unwrap();
    let mut cases = Vec::new();
    for spec in [
        r#"{"timeout":300,"interval":600,"requires":["of-tomorrow"],"onlyOnSundays":true}"#,
        r#"{"timeout":300,"interval":600,"deletionPolicy":"Archive"}"#,
        r#"{"timeout":"5m","interval":600}"#,
        r#"{"timeout":300,"interval":600,"parent":"tenant/x/y"}"#,
    ] {
        let digest = spec_digest(&id, spec);
        cases.push((present("kustomization/x/new", spec, digest), UnitEntry::present_part(digest)));
    }
    cases.push((removed("kustomization/x/new", 99), b"removed Archive true".to_vec()));
    let unknown_entry = |id: &str| v1::UnitChange {
        id: id.into(),
        digest_part: Bytes::from_static(b"paused until monday"),
        ..Default::default()
    };
    cases.push((unknown_entry("kustomization/x/new"), b"paused until monday".to_vec()));
    let tenant = |digest_part: Vec<u8>| v1::UnitChange {
        digest_part: digest_part.into(),
        ..present("tenant/x/y", "{}", Digest::of(b"x"))
    };
    cases.push((tenant(b"present 1234".to_vec()), b"present 1234".to_vec()));
    for (change, part) in cases {
        let id = UnitId::read_any(&change.id).unwrap();
        // As the hub computes it, which understands its own entry.
        let mut units = here.units().clone();
        let stand_in = Hold { stands_for: Some(part.into()), ..Hold::from("") };
        units.insert(id.clone(), UnitEntry::Hold(stand_in));
        let theirs = DesiredState::new(here.cluster.clone(), here.generation, "c0ffee", units);
        let mut manifest = v1::Manifest { root_digest: digest_bytes(Some(theirs.digest())), ..whole(&here) };
        manifest.units.push(change);
        let nothing = DesiredState::new(here.cluster.clone(), Generation(1), "", BTreeMap::new());
        let read = apply(&nothing, vec![manifest]).unwrap();
        let Some(UnitEntry::Hold(hold)) = read.units().get(&id) else { panic!("{id} is not held") };
        assert!(hold.text.contains("unknown to this agent: upgrade the agent"), "{hold}");
        assert_eq!(read.all_present().count(), 2);
        assert!(read.has_foreign());
        let again = apply(&nothing, vec![whole(&read)]).unwrap();
        assert!(again.has_foreign() && again.digest() == read.digest());
    }
}
