//! What a unit waits for, and as whom it is applied.

use super::*;

#[test]
fn a_child_waits_for_its_parents_apply_and_a_dependent_for_readiness() {
    let mut world = World::default();
    let child = |content| {
        manifest("c", UnitSpec { parent: Some(unit("p")), ..UnitSpec::default() }, &[("c", content)])
    };
    world.present(&manifest("p", UnitSpec::default(), &[("p", 1)]));
    world.present(&child(1));
    let waits = |world: &World, name: &str| match world.plan(&unit(name)).target {
        Target::Nothing(waiting) | Target::Last(_, waiting) => waiting.to_string(),
        other => format!("{other:?}").chars().take(7).collect(),
    };
    assert_eq!(
        waits(&world, "c"),
        "waits for its parent kustomization/f/p to apply the revision that defines it"
    );
    world.settle(&none());
    assert_eq!(world.names(), ["c", "p"]);

    // The parent's new revision fails: the child's content still goes on, its new definition does not.
    world.present(&manifest("p", UnitSpec::default(), &[("p", 2)]));
    world.present(&child(2));
    let failing = BTreeSet::from([id("p")]);
    world.settle(&failing);
    assert!(world.plan(&unit("c")).apply.is_empty());
    let redefined = UnitSpec { parent: Some(unit("p")), wait: true, ..UnitSpec::default() };
    world.present(&manifest("c", redefined, &[("c", 3)]));
    assert!(waits(&world, "c").starts_with("waits for its parent"));

    // A dependent is blocked at the new revision only, and its drift is still corrected.
    world.present(&manifest(
        "d",
        UnitSpec { depends_on: vec![unit("p")], ..UnitSpec::default() },
        &[("d", 1)],
    ));
    world.settle(&none());
    world.present(&manifest("p", UnitSpec::default(), &[("p", 9)]));
    world.present(&manifest(
        "d",
        UnitSpec { depends_on: vec![unit("p")], ..UnitSpec::default() },
        &[("d", 2)],
    ));
    assert_eq!(waits(&world, "d"), "waits for kustomization/f/p to be ready");
    world.there.remove(&id("d"));
    assert_eq!(world.plan(&unit("d")).apply[0].digest, Digest::of(&[1]));
}

#[test]
fn a_root_that_brings_its_account_is_begun_without_it() {
    let account: crate::ServiceAccount = "flux-system/kc".parse().unwrap();
    let object = |kind: &str, name: &str| ObjectEntry {
        object: ObjectRef { id: ObjectId::new("", kind, "flux-system", name), version: "v1".into() },
        digest: Digest::of(name.as_bytes()),
        size: 1,
        template: false,
    };
    let spec = UnitSpec { service_account: Some(account.clone()), ..UnitSpec::default() };
    let of = |id: UnitId, objects: &[(&str, &str)]| {
        let objects = objects.iter().map(|(kind, name)| object(kind, name)).collect();
        Arc::new(UnitManifest::new(id, spec.clone(), objects))
    };
    let acts = |world: &mut World, manifest: &Arc<UnitManifest>| {
        world.present(manifest);
        world.plan(&manifest.id).account
    };
    let root = of(UnitId::root(), &[("ServiceAccount", "kc"), ("ConfigMap", "c")]);
    let mut world = World::default();
    assert_eq!(acts(&mut world, &root), None);
    // Half of it does not count: what the account may do is still to come.
    let half = world.plan(&UnitId::root());
    world.execute(&half, &[ObjectId::new("", "ConfigMap", "flux-system", "c")].into());
    assert_eq!(acts(&mut world, &root), None);
    world.settle(&none());
    assert_eq!(acts(&mut world, &root), Some(account.clone()));
    // Once begun, another account has to be there already.
    let more = of(UnitId::root(), &[("ServiceAccount", "kc"), ("ConfigMap", "d")]);
    assert_eq!(acts(&mut world, &more), Some(account.clone()));
    // Nobody else brings an account to act as, nor does a root whose account is another's.
    for other in
        [of(unit("tenant"), &[("ServiceAccount", "kc")]), of(UnitId::root(), &[("ServiceAccount", "other")])]
    {
        assert_eq!(acts(&mut World::default(), &other), Some(account.clone()), "{}", other.id);
    }
}

#[test]
fn a_cycle_waits_and_says_so() {
    let mut world = World::default();
    for (name, on) in [("a", "b"), ("b", "a")] {
        world.present(&manifest(
            name,
            UnitSpec { depends_on: vec![unit(on)], ..UnitSpec::default() },
            &[(name, 1)],
        ));
    }
    world.settle(&none());
    assert!(world.names().is_empty());
    let Target::Nothing(waiting) = world.plan(&unit("a")).target else { panic!("it has no target") };
    assert!(
        waiting.to_string().contains("kustomization/f/a → kustomization/f/b → kustomization/f/a"),
        "{waiting}"
    );
}

#[test]
fn an_expression_says_when_a_dependency_is_ready() {
    let mut world = World::default();
    let labelled = |version: &str| {
        let labels = [("version".to_owned(), version.to_owned())].into();
        UnitSpec { labels, ..UnitSpec::default() }
    };
    let expr = |text: &str| UnitSpec {
        depends_on: vec![unit("db")],
        ready_exprs: [(unit("db"), text.to_owned())].into(),
        ..labelled("2")
    };
    world.present(&manifest("db", labelled("1"), &[("db", 1)]));
    let same = "dep.metadata.labels['version'] == self.metadata.labels['version'] && \
                dep.status.conditions.exists(c, c.type == 'Ready' && c.status == 'True') && \
                dep.status.observedGeneration == dep.metadata.generation";
    world.present(&manifest("app", expr(same), &[("app", 1)]));
    world.settle(&BTreeSet::new());
    assert!(!world.there.contains_key(&id("app")));
    let waits = |world: &World| match world.plan(&unit("app")).target {
        Target::Nothing(waiting) => waiting.to_string(),
        other => format!("{other:?}"),
    };
    assert_eq!(waits(&world), "waits for kustomization/f/db to be ready");
    world.present(&manifest("db", labelled("2"), &[("db", 2)]));
    world.settle(&BTreeSet::new());
    assert!(world.there.contains_key(&id("app")));
    world.present(&manifest(
        "late",
        UnitSpec { ready_exprs: [(unit("db"), "dep.status.none == 1".into())].into(), ..expr("") },
        &[],
    ));
    let target = world.plan(&unit("late")).target;
    let Target::Nothing(waiting) = target else { panic!("{target:?}") };
    assert!(
        waiting
            .to_string()
            .contains("whose readyExpr cannot be evaluated yet: 'dep.status.none == 1': No such key"),
        "{waiting}"
    );
}

#[test]
fn an_account_is_to_be_allowed_to_create_what_its_unit_stands_for() {
    let account = |name: &str| Some(crate::ServiceAccount { namespace: "f".into(), name: name.into() });
    let source = |namespace: &str| crate::unit::SourceKindIn {
        kind: crate::SourceKind::OciRepository,
        namespace: namespace.into(),
    };
    let parent =
        manifest("a", UnitSpec { service_account: account("tenant"), ..UnitSpec::default() }, &[("x", 1)]);
    let spec = UnitSpec {
        parent: Some(unit("a")),
        service_account: account("own"),
        defines: vec![source("f")],
        ..UnitSpec::default()
    };
    let child = manifest("b", spec.clone(), &[("y", 1)]);
    let mut world = World::default();
    world.present(&parent);
    world.present(&child);
    let apply = |world: &mut World, name: &str| {
        let plan = world.plan(&unit(name));
        world.execute(&plan, &BTreeSet::new());
    };
    apply(&mut world, "a");
    world.access.insert("ocirepositories", None);
    // Both are asked about at once: the unit by who made its parent, its sources by itself.
    let Target::Nothing(Waiting::Access(claims)) = world.plan(&unit("b")).target else { panic!() };
    let claims = claims.iter().map(|claim| format!("{} {} {}", claim.account.name, claim.plural, claim.name));
    assert_eq!(claims.collect::<Vec<_>>(), ["tenant kustomizations b", "own ocirepositories "]);
    world.access.insert("ocirepositories", Some("no".into()));
    assert_eq!(world.plan(&unit("b")).target, Target::Nothing(Waiting::Denied("no".into())));
    world.access.clear();
    apply(&mut world, "b");
    world.access.insert("ocirepositories", Some("no".into()));
    world.access.insert("kustomizations", Some("no".into()));
    // Rights that are taken away hold what was applied; while nobody knows, it stays what it is.
    let denied = Target::Last(child.clone(), Waiting::Denied("no".into()));
    assert_eq!(world.plan(&unit("b")).target, denied);
    world.access.insert("ocirepositories", None);
    world.access.insert("kustomizations", None);
    let plan = world.plan(&unit("b"));
    assert_eq!(
        (plan.target, plan.claims.len()),
        (Target::Desired(child.clone()), 2),
        "asked again meanwhile"
    );
    world.access.insert("ocirepositories", Some("no".into()));
    // Other content asks for the sources again, and not for the unit: its definition is the same.
    let more = UnitSpec { defines: vec![source("f"), source("g")], ..spec };
    let next = manifest("b", more, &[("y", 2)]);
    world.present(&next);
    world.access.remove("kustomizations");
    assert_eq!(world.plan(&unit("b")).target, Target::Last(child, Waiting::Denied("no".into())));
    world.access.clear();
    assert_eq!(world.plan(&unit("b")).target, Target::Desired(next));
}
