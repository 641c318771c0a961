use super::*;

fn kustomization(name: &str) -> ObjectId {
    ObjectId::new(KUSTOMIZE, "Kustomization", "flux-system", name)
}

fn config(name: &str) -> ObjectId {
    ObjectId::new("", "ConfigMap", "default", name)
}

fn source() -> ObjectId {
    ObjectId::new("source.toolkit.fluxcd.io", "GitRepository", "flux-system", "flux-system")
}

fn flux(id: ObjectId, own: bool, inventory: &[ObjectId]) -> FluxObject {
    let parent = own.then(|| id.clone());
    let inventory = inventory.to_vec();
    FluxObject { id, uid: "u".into(), suspended: false, remote: false, parent, inventory }
}

#[test]
fn what_the_cluster_has_of_flux_is_read() {
    let object = json!({
        "metadata": {"uid": "1", "labels": {"kustomize.toolkit.fluxcd.io/name": "flux-system",
            "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}},
        "spec": {"suspend": true, "kubeConfig": {"secretRef": {"name": "other"}}},
        "status": {"inventory": {"entries": [{"id": "default_web__ConfigMap", "v": "v1"}, {"id": "odd"}]}},
    });
    let read = FluxObject::of(kustomization("web"), &object);
    let parent = Some(kustomization("flux-system"));
    assert_eq!((read.suspended, read.remote, &read.parent), (true, true, &parent));
    assert_eq!(read.inventory, [config("web")]);
    let bare = FluxObject::of(kustomization("flux-system"), &json!({"metadata": {"uid": "1"}}));
    assert_eq!((bare.suspended, bare.remote, bare.parent, bare.inventory.len()), (false, false, None, 0));
}

#[test]
fn a_child_stays_with_a_parent_that_would_make_it_anew() {
    let units = BTreeMap::from([
        (UnitId::kustomization("flux-system", "child"), Fate::Present),
        (UnitId::kustomization("flux-system", "grandchild"), Fate::Present),
    ]);
    let child = |name: &str, parent: &str| FluxObject {
        parent: Some(kustomization(parent)),
        ..flux(kustomization(name), false, &[])
    };
    // Git knows the children, and their parent under no name.
    let all = |suspended| {
        vec![
            child("grandchild", "child"),
            child("child", "parent"),
            FluxObject { suspended, ..flux(kustomization("parent"), false, &[config("other")]) },
        ]
    };
    let takes = |objects: &[FluxObject]| plan_flux(&units, &BTreeSet::new(), objects, &BTreeMap::new()).takes;
    assert_eq!(takes(&all(false)), BTreeMap::new());
    assert_eq!(takes(&all(true)).len(), 2, "one that is suspended makes nothing");
}

#[test]
fn what_applies_elsewhere_stays() {
    let units = BTreeMap::from([(UnitId::root(), Fate::Present)]);
    let objects = [FluxObject { remote: true, ..flux(kustomization("edge"), false, &[config("root")]) }];
    let plan = plan_flux(&units, &[config("root")].into(), &objects, &BTreeMap::new());
    assert!(
        plan.takes.is_empty() && plan.stays[&kustomization("edge")].contains("another cluster"),
        "{plan:?}"
    );
}

#[test]
fn entries_of_inventories_name_objects() {
    for (text, expected) in [
        (
            "flux-system_cluster-vars__ConfigMap",
            Some(ObjectId::new("", "ConfigMap", "flux-system", "cluster-vars")),
        ),
        ("_web__Namespace", Some(ObjectId::new("", "Namespace", "", "web"))),
        ("web_x_apps_Deployment", Some(ObjectId::new("apps", "Deployment", "web", "x"))),
        (
            "_system__a__b_rbac.authorization.k8s.io_ClusterRole",
            Some(ObjectId::new("rbac.authorization.k8s.io", "ClusterRole", "", "system:a:b")),
        ),
        (
            "flux-system_x_kustomize.toolkit.fluxcd.io_Kustomization",
            Some(ObjectId::new(KUSTOMIZE, "Kustomization", "flux-system", "x")),
        ),
        ("nothing", None),
        ("a_b", None),
        ("ns___ConfigMap", None),
    ] {
        assert_eq!(inventory_id(text), expected, "{text}");
        if let Some(id) = expected {
            assert_eq!(inventory_entry(&id), text);
        }
    }
}

/// What becomes of `flux-system` (its own, or not), `web` and a source: the taken, the staying, the removed sources.
fn planned(
    units: &[(UnitId, Fate)],
    root: FluxObject,
    more: Option<FluxObject>,
    refused: &[&str],
) -> (Vec<String>, Vec<String>, usize) {
    let units = units.iter().cloned().collect();
    let web = flux(kustomization("web"), false, &[config("web")]);
    let mut all = vec![root, web, flux(source(), false, &[])];
    all.extend(more);
    let refused =
        refused.iter().map(|name| (kustomization(name), "X cannot be taken over".to_owned())).collect();
    let desired = [config("root"), config("web")].into();
    let plan = plan_flux(&units, &desired, &all, &refused);
    let takes = plan.takes.iter().map(|(id, unit)| format!("{} by {unit}", id.name)).collect();
    let stays = plan.stays.iter().map(|(id, why)| format!("{}: {why}", id.name)).collect();
    (takes, stays, plan.sources.len())
}

#[test]
fn what_git_has_is_taken_and_all_else_stays() {
    let (root, web) = (UnitId::root(), UnitId::kustomization("flux-system", "web"));
    let both = [(root.clone(), Fate::Present), (web.clone(), Fate::Present)];
    let own =
        || flux(kustomization("flux-system"), true, &[config("root"), kustomization("web"), config("other")]);
    let taken = ["flux-system by root", "web by kustomization/flux-system/web"];
    let none = "Git has no unit of this name for the cluster";
    let image = ObjectId::new("image.toolkit.fluxcd.io", "ImageUpdateAutomation", "flux-system", "bot");
    let alert = ObjectId::new("notification.toolkit.fluxcd.io", "Alert", "flux-system", "bell");
    let held = Fate::Held("a.yaml:1: broken".into());
    let covered = |inventory: &[ObjectId]| flux(kustomization("sync"), false, inventory);
    let keeps = |who: &str| format!("flux-system: {who} stays, which may read it");
    type Case = (
        &'static str,
        Vec<(UnitId, Fate)>,
        FluxObject,
        Option<FluxObject>,
        Vec<&'static str>,
        Vec<&'static str>,
        Vec<String>,
        usize,
    );
    let cases: Vec<Case> = vec![
        ("all of it", both.to_vec(), own(), None, vec![], taken.to_vec(), vec![], 1),
        (
            "one that Git does not know keeps its source",
            both.to_vec(),
            own(),
            Some(flux(kustomization("hand"), false, &[config("by-hand")])),
            vec![],
            taken.to_vec(),
            vec![
                format!("hand: {none}"),
                keeps("Kustomization.kustomize.toolkit.fluxcd.io flux-system/hand"),
            ],
            0,
        ),
        (
            "suspended",
            vec![(root.clone(), Fate::Present), (web.clone(), Fate::Suspended)],
            own(),
            None,
            vec![],
            vec![taken[0]],
            vec![
                format!("web: {web} is suspended"),
                keeps("Kustomization.kustomize.toolkit.fluxcd.io flux-system/web"),
            ],
            0,
        ),
        (
            "held",
            vec![(root.clone(), Fate::Present), (web.clone(), held)],
            own(),
            None,
            vec![],
            vec![taken[0]],
            vec![
                format!("web: {web} is held: a.yaml:1: broken"),
                keeps("Kustomization.kustomize.toolkit.fluxcd.io flux-system/web"),
            ],
            0,
        ),
        (
            "refused",
            both.to_vec(),
            own(),
            None,
            vec!["web"],
            vec![taken[0]],
            vec![
                "web: X cannot be taken over".to_owned(),
                keeps("Kustomization.kustomize.toolkit.fluxcd.io flux-system/web"),
            ],
            0,
        ),
        (
            "another name of the root that applied nothing else",
            both.to_vec(),
            covered(&[config("root"), kustomization("web"), source()]),
            None,
            vec![],
            vec!["sync by root", taken[1]],
            vec![],
            1,
        ),
        (
            "not the root",
            both.to_vec(),
            covered(&[config("root"), config("other")]),
            None,
            vec![],
            vec![taken[1]],
            vec![
                format!("sync: {none}"),
                keeps("Kustomization.kustomize.toolkit.fluxcd.io flux-system/sync"),
            ],
            0,
        ),
        (
            "nothing applied yet",
            both.to_vec(),
            covered(&[]),
            None,
            vec![],
            vec![taken[1]],
            vec![
                format!("sync: {none}"),
                keeps("Kustomization.kustomize.toolkit.fluxcd.io flux-system/sync"),
            ],
            0,
        ),
        (
            "alerts stay and need no source",
            both.to_vec(),
            own(),
            Some(flux(alert, false, &[])),
            vec![],
            taken.to_vec(),
            vec!["bell: Flotilla does not do this, so Flux goes on with it".to_owned()],
            1,
        ),
        (
            "automation needs its source",
            both.to_vec(),
            own(),
            Some(flux(image, false, &[])),
            vec![],
            taken.to_vec(),
            vec![
                "bot: Flotilla does not do this, so Flux goes on with it".to_owned(),
                keeps("ImageUpdateAutomation.image.toolkit.fluxcd.io flux-system/bot"),
            ],
            0,
        ),
    ];
    for (what, units, root, more, refused, takes, mut stays, sources) in cases {
        let (found, mut found_stays, found_sources) = planned(&units, root, more, &refused);
        stays.sort();
        found_stays.sort();
        assert_eq!(
            (found, found_stays, found_sources),
            (takes.iter().map(|t| (*t).to_owned()).collect(), stays, sources),
            "{what}"
        );
    }
}

#[test]
fn what_a_taken_one_applied_and_git_lacks_is_left() {
    let units = [(UnitId::root(), Fate::Present)].into();
    let root = flux(kustomization("flux-system"), true, &[config("root"), source(), config("other")]);
    let plan = plan_flux(&units, &[config("root")].into(), &[root], &BTreeMap::new());
    assert_eq!(plan.left, [(config("other"), kustomization("flux-system"))]);
}

fn entry(manager: &str, operation: &str, fields: Value) -> ManagedFields {
    crate::drift::tests::entry(manager, operation, "", fields)
}

#[test]
fn folding_takes_away_what_nobody_else_holds() {
    let label = |name: &str| json!({"f:metadata": {"f:labels": {name: {}}}});
    let container = |fields: Value| json!({"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": fields}}});
    type Case = (&'static str, Value, Vec<(&'static str, Value)>, Value);
    let cases: Vec<Case> = vec![
        (
            "a label of Flux goes, one that both hold stays",
            json!({"metadata": {"labels": {"a": "1", "flux": "x"}}}),
            vec![
                ("flotilla", label("f:a")),
                ("kustomize-controller", json!({"f:metadata": {"f:labels": {"f:a": {}, "f:flux": {}}}})),
            ],
            json!({"metadata": {"labels": {"a": "1"}}}),
        ),
        (
            "what a controller holds stays",
            json!({"spec": {"replicas": 3, "paused": true}}),
            vec![
                ("flotilla", json!({"f:metadata": {}})),
                ("kubectl-edit", json!({"f:spec": {"f:replicas": {}, "f:paused": {}}})),
                ("autoscaler", json!({"f:spec": {"f:replicas": {}}})),
            ],
            json!({"spec": {"replicas": 3}}),
        ),
        (
            "a field of an item of a list",
            json!({"spec": {"containers": [{"name": "web", "image": "a", "tty": true}, {"name": "x"}]}}),
            vec![
                ("flotilla", container(json!({".": {}, "f:name": {}, "f:image": {}}))),
                ("helm", container(json!({".": {}, "f:name": {}, "f:tty": {}}))),
            ],
            json!({"spec": {"containers": [{"name": "web", "image": "a"}, {"name": "x"}]}}),
        ),
        (
            "an item of a list",
            json!({"spec": {"containers": [{"name": "x"}, {"name": "web", "image": "a"}]}}),
            vec![
                ("flotilla", json!({"f:spec": {"f:containers": {"k:{\"name\":\"x\"}": {".": {}}}}})),
                ("helm", container(json!({".": {}, "f:image": {}}))),
            ],
            json!({"spec": {"containers": [{"name": "x"}]}}),
        ),
        (
            "a value of a set",
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            vec![
                ("flotilla", json!({"f:metadata": {"f:finalizers": {"v:\"a\"": {}}}})),
                ("kubectl", json!({"f:metadata": {"f:finalizers": {".": {}, "v:\"a\"": {}, "v:\"b\"": {}}}})),
            ],
            json!({"metadata": {"finalizers": ["a"]}}),
        ),
        (
            "whoever holds the whole holds its parts",
            json!({"spec": {"a": {"b": 1}}}),
            vec![
                ("flotilla", json!({"f:spec": {"f:a": {}}})),
                ("helm", json!({"f:spec": {"f:a": {"f:b": {}}}})),
            ],
            json!({"spec": {"a": {"b": 1}}}),
        ),
        (
            "without an entry of ours nothing is folded",
            json!({"data": {"a": "1"}}),
            vec![("helm", json!({"f:data": {"f:a": {}}}))],
            json!({"data": {"a": "1"}}),
        ),
    ];
    for (what, mut object, entries, expected) in cases {
        let entries: Vec<ManagedFields> =
            entries.into_iter().map(|(manager, fields)| entry(manager, "Apply", fields)).collect();
        object["metadata"]["managedFields"] = json!(entries);
        let mut after = after_fold(&object);
        let metadata = after["metadata"].as_object_mut().unwrap();
        metadata.remove("managedFields");
        if metadata.is_empty() {
            after.as_object_mut().unwrap().remove("metadata");
        }
        assert_eq!(after, expected, "{what}");
    }
}

#[test]
fn what_was_taken_is_given_back() {
    let labels = json!({"f:metadata": {"f:labels": {"f:kustomize.toolkit.fluxcd.io/name": {}, "f:app": {}},
        "f:annotations": {"f:a~b": {}}}, "f:data": {"f:a": {}}});
    let theirs = entry("kustomize-controller", "Apply", labels);
    let status = ManagedFields { subresource: "status".into(), ..entry("kubectl", "Update", json!({})) };
    let other = entry("autoscaler", "Update", json!({"f:spec": {}}));
    let text = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let before = Metadata {
        labels: text(&[("app", "web"), ("kustomize.toolkit.fluxcd.io/name", "web"), ("mine", "1")]),
        annotations: text(&[("a~b", "1"), ("mine", "1")]),
        managed_fields: vec![theirs.clone(), status.clone(), other.clone()],
        resource_version: "1".into(),
        ..Metadata::default()
    };
    let was = previous(&before);
    assert_eq!(was.labels, text(&[("app", "web"), ("kustomize.toolkit.fluxcd.io/name", "web")]));
    assert_eq!(was.annotations, text(&[("a~b", "1")]));
    assert_eq!(was.managers, std::slice::from_ref(&theirs));
    assert_eq!(serde_json::from_str::<Previous>(&serde_json::to_string(&was).unwrap()).unwrap(), was);
    assert_eq!((value_patch(&before, &was), manager_patch(&before, &was)), (None, None), "it is as it was");

    let ours = entry("flotilla", "Apply", json!({"f:data": {"f:a": {}}}));
    let now = Metadata {
        labels: text(&[("app", "newer"), ("mine", "1"), ("flotilla.dev/unit", "root")]),
        managed_fields: vec![ours.clone(), status.clone(), other.clone()],
        resource_version: "2".into(),
        ..Metadata::default()
    };
    assert_eq!(
        value_patch(&now, &was),
        Some(
            json!({"metadata": {"labels": {"kustomize.toolkit.fluxcd.io/name": "web", "flotilla.dev/unit": null},
            "annotations": {"a~b": "1"}, "resourceVersion": "2"}})
        )
    );
    let patch = manager_patch(&now, &was).unwrap();
    assert_eq!(patch[0]["value"], json!([status, other, theirs]));
    assert_eq!(patch[1]["value"], "2");

    // Where nobody is left, the list says so.
    let alone = Metadata { managed_fields: vec![ours], ..Metadata::default() };
    assert_eq!(manager_patch(&alone, &Previous::default()).unwrap()[0]["value"], json!([{}]));
}

#[test]
fn books_are_no_change() {
    let mut object = json!({"metadata": {"labels": {"kustomize.toolkit.fluxcd.io/name": "a", "flotilla.dev/unit": "x"},
        "annotations": {LAST_APPLIED: "{}", "mine": "1"}}});
    without_tool_metadata(&mut object);
    assert_eq!(object, json!({"metadata": {"annotations": {"mine": "1"}}}));
}

#[test]
fn a_manifest_is_read_whole_or_not_at_all() {
    let map = |name: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n");
    let (a, b) = (map("a"), map("b"));
    let list = "apiVersion: v1\nkind: ConfigMapList\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: c}}\n";
    for (text, expected) in [
        (String::new(), &[][..]),
        (format!("---\n# Source: web/a.yaml\n{a}---\n# Source: web/empty.yaml\n---\n{b}"), &["a", "b"]),
        (format!("{a}---\n{list}"), &["a", "c"]),
    ] {
        let objects = manifest_objects(&text).unwrap();
        assert_eq!(objects.iter().map(|o| o.id.name.as_str()).collect::<Vec<_>>(), expected, "{text}");
    }
    for cut in ["kind: [\n", "- a\n", "kind: ConfigMap\nmetadata: {name: b}\n", "kind: List\nitems: [{}]\n"] {
        assert!(manifest_objects(&format!("{a}---\n{cut}")).is_err(), "{cut}");
    }
}
