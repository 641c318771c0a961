//! What Flux is given: objects, inventories, and the variables that only Flotilla puts in.

use std::collections::BTreeMap;

use flotilla_api::{
    Cluster, Definition, Health, ObjectId, Source, SyncState, Tree, TreeObject, TreeUnit, Unit,
};
use serde_json::{Value, json};

use super::flux::{Handover, VARIABLES, handover};

fn object(group: &str, kind: &str, namespace: &str, name: &str) -> TreeObject {
    let object =
        ObjectId { group: group.into(), kind: kind.into(), namespace: namespace.into(), name: name.into() };
    TreeObject { object, version: "v1".into(), health: Health::Healthy, message: String::new() }
}

fn unit(name: &str, objects: &[TreeObject]) -> TreeUnit {
    let unit =
        Unit { unit: name.into(), phase: "Ready".into(), desired: Some("d".into()), ..Unit::default() };
    TreeUnit { unit, objects: objects.to_vec() }
}

fn tree(variables: &[(&str, &str)], units: Vec<TreeUnit>) -> Tree {
    let variables = variables.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let cluster = Cluster {
        name: "one".into(),
        root: "clusters/one".into(),
        sync: SyncState::InSync,
        variables,
        ..Cluster::default()
    };
    Tree { cluster, units }
}

fn defined(by: &str, kind: &str, name: &str, spec: Value) -> Definition {
    let group = match kind {
        "Kustomization" => "kustomize.toolkit.fluxcd.io/v1",
        "HelmRelease" => "helm.toolkit.fluxcd.io/v2",
        _ => "source.toolkit.fluxcd.io/v1",
    };
    let object = json!({"apiVersion": group, "kind": kind, "spec": spec, "status": {"ready": true},
        "metadata": {"name": name, "namespace": "flux-system", "uid": "x"}});
    let (kind, namespace, name, defined_by) = (kind.into(), "flux-system".into(), name.into(), by.into());
    Definition { kind, namespace, name, defined_by, object, of_fleet: true, ..Definition::default() }
}

fn fleet() -> Source {
    let (url, reference) = ("https://git.example.com/fleet".into(), "main".into());
    Source { kind: "fleet".into(), url, reference, ..Source::default() }
}

fn exported(tree: &Tree, definitions: &[Definition]) -> Handover {
    handover(tree, definitions, &fleet(), Some("git")).unwrap()
}

fn of<'a>(handover: &'a Handover, kind: &str, name: &str) -> &'a Value {
    let is_it = |it: &&Value| it["kind"] == kind && it["metadata"]["name"] == name;
    let found: Vec<&Value> = handover.objects.iter().filter(is_it).collect();
    assert_eq!(found.len(), 1, "{kind} {name}: {:#?}", handover.objects);
    found[0]
}

fn entries(object: &Value) -> Vec<&str> {
    let entries = object["status"]["inventory"]["entries"].as_array().unwrap();
    entries.iter().map(|entry| entry["id"].as_str().unwrap()).collect()
}

const WEB: &str = "kustomization/flux-system/web";

#[test]
fn a_folder_without_flux_gets_the_objects_of_its_root() {
    let cluster_role = object("rbac.authorization.k8s.io", "ClusterRole", "", "system:web");
    let kept = TreeObject { health: Health::Kept, ..object("", "PersistentVolumeClaim", "web", "data") };
    let tree = tree(
        &[],
        vec![
            unit("root", &[object("", "Namespace", "", "web"), cluster_role, kept]),
            unit(WEB, &[object("apps", "Deployment", "web", "web")]),
        ],
    );
    let web = json!({"path": "./web", "decryption": {"provider": "sops", "secretRef": {"name": "age"}}});
    let team = json!({"url": "https://git.example.com/team", "secretRef": {"name": "team"}});
    let definitions = [
        defined("root", "GitRepository", "team", team),
        defined("root", "Kustomization", "web", web.clone()),
    ];
    let exported = exported(&tree, &definitions);
    let source = of(&exported, "GitRepository", "flux-system");
    assert_eq!(
        source["spec"],
        json!({"interval": "1m", "url": "https://git.example.com/fleet", "ref": {"branch": "main"},
            "secretRef": {"name": "git"}})
    );
    let root = of(&exported, "Kustomization", "flux-system");
    assert_eq!((&root["spec"]["path"], &root["spec"]["prune"]), (&json!("./clusters/one"), &json!(true)));
    assert_eq!(root["spec"].get("postBuild"), None);
    assert_eq!(
        entries(root),
        [
            "_web__Namespace",
            "_system__web_rbac.authorization.k8s.io_ClusterRole",
            "flux-system_team_source.toolkit.fluxcd.io_GitRepository",
            "flux-system_web_kustomize.toolkit.fluxcd.io_Kustomization",
        ],
        "what a guard keeps is not deleted by Flux either"
    );
    let exported_web = of(&exported, "Kustomization", "web");
    assert_eq!((&exported_web["spec"], entries(exported_web)), (&web, vec!["web_web_apps_Deployment"]));
    assert_eq!(exported_web["metadata"], json!({"name": "web", "namespace": "flux-system"}));
    assert_eq!(of(&exported, "GitRepository", "team").get("status"), None);
    let secrets: Vec<&str> = exported.secrets.iter().map(String::as_str).collect();
    assert_eq!(secrets, ["flux-system/age", "flux-system/git", "flux-system/team"]);
    assert!(exported.warnings.len() == 1 && exported.warnings[0].contains("kept"), "{:?}", exported.warnings);
}

#[test]
fn variables_reach_whoever_substitutes_and_come_first() {
    let mut tree = tree(&[("region", "eu")], vec![unit("root", &[]), unit(WEB, &[])]);
    let all = "kustomization/flux-system/all";
    let own = json!({"kind": "Secret", "name": "own"});
    let definitions = [
        defined("root", "Kustomization", "all", json!({"path": "./all", "patches": [{"patch": "x"}]})),
        defined(all, "Kustomization", "web", json!({"postBuild": {"substituteFrom": [own.clone()]}})),
        defined(all, "Kustomization", "plain", json!({})),
        defined("root", "Kustomization", "direct", json!({"postBuild": {"substitute": {"region": "us"}}})),
    ];
    let exported_tree = exported(&tree, &definitions);
    assert_eq!(of(&exported_tree, "ConfigMap", VARIABLES)["data"], json!({"region": "eu"}));
    let ours = json!({"kind": "ConfigMap", "name": VARIABLES});
    let web = of(&exported_tree, "Kustomization", "web");
    assert_eq!(web["spec"]["postBuild"]["substituteFrom"], json!([ours, own]));
    let direct = of(&exported_tree, "Kustomization", "direct");
    assert_eq!(
        direct["spec"]["postBuild"],
        json!({"substitute": {"region": "us"}, "substituteFrom": [ours]})
    );
    assert_eq!(of(&exported_tree, "Kustomization", "plain")["spec"], json!({}));

    // What Git says of them lacks that, so their parents patch it in: the patches lead to what is printed.
    let patches = |object: &Value| -> BTreeMap<String, Value> {
        let patches = object["spec"]["patches"].as_array().unwrap();
        let named = patches
            .iter()
            .filter_map(|it| Some((it["target"]["name"].as_str()?.to_owned(), it["patch"].as_str()?)));
        named.map(|(name, text)| (name, flotilla_yaml::parse(text).unwrap()[0].to_json().unwrap())).collect()
    };
    let root = of(&exported_tree, "Kustomization", "flux-system");
    assert_eq!(root["spec"].get("postBuild"), None, "the root does not substitute");
    let of_root = patches(root);
    assert_eq!(of_root.keys().collect::<Vec<_>>(), ["all", "direct"]);
    assert_eq!(
        of_root["direct"],
        json!([{"op": "add", "path": "/spec/postBuild/substituteFrom", "value": [ours]}])
    );
    let of_all = patches(of(&exported_tree, "Kustomization", "all"));
    let step = json!([{"op": "add", "path": "/spec/postBuild/substituteFrom/0", "value": ours}]);
    assert_eq!(of_all, BTreeMap::from([("web".to_owned(), step)]));
    let steps = of_root["all"].as_array().unwrap();
    assert_eq!((steps.len(), &steps[0]["path"]), (1, &json!("/spec/patches/-")));
    assert_eq!(steps[0]["value"], of(&exported_tree, "Kustomization", "all")["spec"]["patches"][1]);

    tree.cluster.substitute = true;
    let substituting = exported(&tree, &definitions);
    let root = of(&substituting, "Kustomization", "flux-system");
    assert_eq!(root["spec"]["postBuild"], json!({"substituteFrom": [ours]}));
}

#[test]
fn parents_in_a_circle_end() {
    let tree = tree(&[("region", "eu")], vec![unit("root", &[])]);
    let (a, b) = ("kustomization/flux-system/a", "kustomization/flux-system/b");
    let definitions = [
        defined(b, "Kustomization", "a", json!({"postBuild": {}})),
        defined(a, "Kustomization", "b", json!({"postBuild": {}})),
    ];
    assert_eq!(exported(&tree, &definitions).objects.len(), 5);
}

#[test]
fn what_flux_bootstrap_wrote_stays_as_it_is() {
    let tree = tree(&[], vec![unit("root", &[object("", "ConfigMap", "flux-system", "a")])]);
    let own =
        json!({"path": "./clusters/one", "sourceRef": {"kind": "GitRepository", "name": "flux-system"}});
    let url = json!({"url": "ssh://git@example.org/fleet", "secretRef": {"name": "flux-system"}});
    let definitions = [
        defined("", "Kustomization", "flux-system", own.clone()),
        defined("root", "GitRepository", "flux-system", url.clone()),
    ];
    let exported = exported(&tree, &definitions);
    assert_eq!(of(&exported, "GitRepository", "flux-system")["spec"], url);
    let root = of(&exported, "Kustomization", "flux-system");
    assert_eq!(root["spec"], own);
    assert_eq!(entries(root)[0], "flux-system_a__ConfigMap");
    assert!(exported.warnings.is_empty(), "{:?}", exported.warnings);
}

#[test]
fn what_is_not_known_is_said_and_never_told_as_empty() {
    let held = |name: &str| {
        let mut held = unit(name, &[]);
        held.unit.phase = "Held".into();
        held
    };
    let mut tree = tree(&[], vec![unit("root", &[]), held(WEB)]);
    let release = json!({"install": {"disableTakeOwnership": true}});
    let definitions =
        [defined("root", "Kustomization", "web", json!({})), defined("root", "HelmRelease", "db", release)];
    tree.cluster.sync = SyncState::Held;
    tree.cluster.waiting.push(Default::default());
    let exported = exported(&tree, &definitions);
    assert_eq!(of(&exported, "Kustomization", "web").get("status"), None);
    for word in ["is held", "the cluster is Held", "pipeline", "Flux 2.5", "flux-system/db"] {
        assert!(exported.warnings.iter().any(|it| it.contains(word)), "{word}: {:?}", exported.warnings);
    }
    let local = Source { url: "/srv/fleet".into(), ..fleet() };
    let warnings = handover(&tree, &definitions, &local, None).unwrap().warnings;
    assert!(warnings.iter().any(|it| it.contains("give --url")), "{warnings:?}");
    let below = Source { path: "fleet".into(), ..fleet() };
    assert!(handover(&tree, &definitions, &below, None).unwrap_err().contains("folder fleet"));
    tree.units.remove(0);
    assert!(handover(&tree, &definitions, &fleet(), None).unwrap_err().contains("does not know its root"));
}
