//! Secrets of repositories: what SOPS encrypted, by keys of the cluster or of the hub, and what the hub takes from Secrets.

use std::collections::BTreeMap;

use flotilla_core::UnitId;
use flotilla_core::template::ObjectTemplate;
use flotilla_render::RenderedUnit;
use serde_json::{Value, json};

use crate::world::*;

const SECRET: &str = include_str!("../../../sops/tests/recorded/secret.enc.yaml");
const FILE: &str = include_str!("../../../sops/tests/recorded/json.enc.json");
const VARIABLES: &str = include_str!("../../../sops/tests/recorded/env.enc.env");
const KEY: &str = include_str!("../../../sops/tests/recorded/first.agekey");
const OTHER_KEY: &str = include_str!("../../../sops/tests/recorded/second.agekey");

const DECRYPTION: &str = "  decryption: {provider: sops, secretRef: {name: age}}\n";

fn entries(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect()
}

/// A world whose hub has the key.
fn with_key(key: &str) -> World {
    let mut world = World::new(&[]);
    let place = ("flux-system".to_owned(), "age".to_owned());
    world.fetched.secrets.insert(place, entries(&[("age.agekey", key)]));
    world
}

fn apps(more: &str) -> (&'static str, String) {
    ("clusters/x/apps.yaml", unit("apps", FLEET, &format!("  path: apps\n{DECRYPTION}{more}")))
}

fn problems(unit: &RenderedUnit) -> String {
    unit.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[test]
fn what_sops_encrypted_goes_to_the_cluster_that_has_the_keys() {
    let secret = |more: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: s{more}}}\nstringData: {{a: 'ENC[AES256_GCM,data:x]'}}\nsops: {{mac: x}}\n"
        )
    };
    let decryption = "  decryption: {provider: sops, secretRef: {name: age}}\n";
    let render = |more: &str, file: &str| {
        let files = [
            ("clusters/x/apps.yaml", unit("apps", FLEET, &format!("  path: apps\n{decryption}{more}"))),
            ("apps/s.yaml", file.to_owned()),
        ];
        World::new(&[]).render(&files).units[&UnitId::kustomization("flux-system", "apps")].clone()
    };
    let unit = render("", &secret("")).unit.clone().unwrap();
    assert_eq!(unit.manifest.spec.decryption.as_deref(), Some("age"));
    assert!(unit.manifest.spec.requires.contains("sops"), "an older agent would apply it as it is");
    let object = &unit.content.objects[0];
    assert!(object.is_template() && unit.manifest.objects[0].template);
    assert_eq!(object.id().to_string(), "Secret s");
    let template = ObjectTemplate::of(object).unwrap().unwrap();
    let needs: Vec<String> = template.needs().map(ToString::to_string).collect();
    assert_eq!(needs, ["Secret flux-system/age"]);
    // With variables, too: those of the cluster's own are put in by the agent, after it has opened the object.
    let unit = render(
        "  postBuild: {substituteFrom: [{kind: Secret, name: vars}], substitute: {n: x}}\n",
        &secret(", labels: {a: '${n}'}"),
    );
    let template = ObjectTemplate::of(&unit.unit.clone().unwrap().content.objects[0]).unwrap().unwrap();
    let needs: Vec<String> = template.needs().map(ToString::to_string).collect();
    assert_eq!(needs, ["Secret flux-system/vars", "Secret flux-system/age"]);
    // What is not encrypted, or asks to be left alone, is an object like any other.
    let plain = render("", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: s}\ndata: {a: b}\n");
    let plain = plain.unit.clone().unwrap();
    assert!(!plain.content.objects[0].is_template());
    let problems = |file: &str| {
        let unit = render("", file);
        assert_eq!(unit.unit, None);
        unit.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    let hidden = secret("").replace("name: s", "name: 'ENC[AES256_GCM,data:x]'");
    assert!(
        problems(&hidden).contains("metadata.name: is encrypted by SOPS; encrypt values only"),
        "{}",
        problems(&hidden)
    );
    let release = "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {name: s}\nspec: {}\nsops: {mac: x}\n";
    assert!(problems(release).contains("it is read at the hub, which has no key"), "{}", problems(release));
}

#[test]
fn what_a_key_service_has_not_answered_is_held_and_tried_again() {
    const DATA_KEY: &str = include_str!("../../../sops/tests/recorded/secret.data-key");
    let mut world = World::new(&[]);
    let place = ("flux-system".to_owned(), "age".to_owned());
    world.fetched.secrets.insert(place, entries(&[("sops.vault-token", "hvs.token")]));
    let (before, rest) = SECRET.split_once("    age:\n").unwrap();
    let (_, after) = rest.split_once("    encrypted_regex:").unwrap();
    let vault = "{vault_address: 'https://vault', engine_path: transit, key_name: fleet, enc: 'vault:v1:x'}";
    let object = format!("{before}    hc_vault: [{vault}]\n    encrypted_regex:{after}");
    let file = object.replace("kind: Secret", "sort: Secret");
    let files = [
        apps(""),
        (
            "apps/kustomization.yaml",
            "resources: [db.yaml]\nsecretGenerator: [{name: made, files: [c.yaml]}]\n".to_owned(),
        ),
        ("apps/db.yaml", object),
        ("apps/c.yaml", file),
    ];
    let id = UnitId::kustomization("flux-system", "apps");
    let held = world.render(&files).units[&id].clone();
    assert_eq!(held.unit, None);
    assert!(
        problems(&held).contains("Vault https://vault/v1/transit/keys/fleet: is being asked"),
        "{}",
        problems(&held)
    );
    world.fetched.data_key = Some(DATA_KEY.trim());
    let made = world.render(&files).units[&id].clone();
    let objects = &made.unit.clone().unwrap_or_else(|| panic!("{}", problems(&made))).content.objects;
    let db = objects.iter().find(|object| object.id().name == "db").unwrap();
    assert_eq!(db.value()["stringData"]["password"], json!("s3cr et: #1"));
    let made = objects.iter().find(|object| object.id().name.starts_with("made-")).unwrap();
    assert!(!made.value()["data"]["c.yaml"].as_str().unwrap().is_empty());
    // What was opened is in memory: nobody is asked again for what did not change.
    world.fetched.data_key = None;
    world.fetched.asked.lock().unwrap().clear();
    assert!(world.render(&files).units[&id].unit.is_some());
    assert!(!world.fetched.asked.lock().unwrap().iter().any(|asked| asked.contains("Vault")));
}

#[test]
fn what_the_hub_has_the_key_for_it_opens_itself() {
    let kustomization =
        "resources: [db.yaml]\nsecretGenerator:\n- name: made\n  files: [config.json]\n  envs: [app.env]\n";
    let files = [
        apps(""),
        ("apps/kustomization.yaml", kustomization.to_owned()),
        ("apps/db.yaml", SECRET.to_owned()),
        ("apps/config.json", FILE.to_owned()),
        ("apps/app.env", VARIABLES.to_owned()),
    ];
    let id = UnitId::kustomization("flux-system", "apps");
    let rendered = with_key(KEY).render(&files).units[&id].clone();
    let made = rendered.unit.clone().unwrap_or_else(|| panic!("{}", problems(&rendered)));
    let spec = &made.manifest.spec;
    assert_eq!(
        (&spec.decryption, spec.requires.contains("sops")),
        (&None, false),
        "the cluster needs no key"
    );
    let objects: BTreeMap<String, Value> =
        made.content.objects.iter().map(|object| (object.id().name.clone(), object.value())).collect();
    assert_eq!(objects["db"]["stringData"]["password"], json!("s3cr et: #1"));
    assert_eq!(objects["db"].get("sops"), None);
    let made = objects.iter().find(|(name, _)| name.starts_with("made-")).unwrap();
    let names: Vec<&str> = made.1["data"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["A", "B", "C", "D", "E", "F", "config.json"]);
    // The suffix is a hash of the clear files, as in Flux.
    let clear = [
        ("apps/kustomization.yaml", kustomization.replace("[db.yaml]", "[]")),
        ("apps/config.json", include_str!("../../../sops/tests/recorded/json.clear.json").to_owned()),
        ("apps/app.env", include_str!("../../../sops/tests/recorded/env.clear.env").to_owned()),
        ("clusters/x/apps.yaml", unit("apps", FLEET, "  path: apps\n")),
    ];
    let clear = World::new(&[]).render(&clear).units[&id].unit.clone().unwrap();
    assert_eq!(clear.content.objects[0].id().name, *made.0);

    // A value that a patch brings without SOPS' metadata is no object that anybody can open.
    let mut half = files.clone();
    half[2].1 =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: db}\nstringData: {a: 'ENC[AES256_GCM,data:x]'}\n"
            .to_owned();
    let half = with_key(KEY).render(&half).units[&id].clone();
    assert!(problems(&half).contains("and not what SOPS notes beside them"), "{}", problems(&half));

    let wrong = with_key(OTHER_KEY).render(&files).units[&id].clone();
    assert!(wrong.unit.is_none() && problems(&wrong).contains("no key opens it"), "{}", problems(&wrong));
    assert!(problems(&wrong).starts_with("apps/"), "it names the file: {}", problems(&wrong));
    let none = with_key("nothing").render(&files).units[&id].clone();
    assert!(
        problems(&none).contains("Secret flux-system/age of the hub: age.agekey: line 1: is not an age key"),
        "{}",
        problems(&none)
    );
    // Another key is another build: nothing comes from memory.
    let mut world = with_key(OTHER_KEY);
    assert!(world.render(&files).units[&id].unit.is_none());
    world.fetched.secrets = with_key(KEY).fetched.secrets;
    assert!(world.render(&files).units[&id].unit.is_some());
}

#[test]
fn a_patch_is_opened_before_it_goes_into_an_object_that_is_in_clear() {
    let clear =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: apps}\nstringData: {clear: text}\n";
    let id = UnitId::kustomization("flux-system", "apps");
    for patches in
        ["patches: [{path: ../db.yaml}]", "patches:\n- target: {kind: Secret}\n  path: ../db.yaml\n"]
    {
        let files = [
            apps(""),
            ("apps/kustomization.yaml", "resources: [home]\n".to_owned()),
            ("apps/home/kustomization.yaml", format!("resources: [clear.yaml]\n{patches}")),
            ("apps/home/clear.yaml", clear.to_owned()),
            ("apps/db.yaml", SECRET.to_owned()),
        ];
        let rendered = with_key(KEY).render(&files).units[&id].clone();
        let made = rendered.unit.clone().unwrap_or_else(|| panic!("{}", problems(&rendered)));
        let object = made.content.objects[0].value();
        let texts = &object["stringData"];
        assert_eq!((&texts["clear"], &texts["password"]), (&json!("text"), &json!("s3cr et: #1")));
        assert_eq!(object.get("sops"), None);
    }
}

/// A release and a ConfigMap whose values are set by the encrypted Secret `db`.
fn domain() -> Vec<(&'static str, String)> {
    let release = format!(
        "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {{name: web, namespace: flux-system}}\nspec:\n  \
         interval: 1m\n  chart: {{spec: {{chart: charts/web, sourceRef: {{kind: GitRepository, name: flux-system}}}}}}\n  \
         values: {{host: 'web.${{number}}', plain: {}}}\n",
        "x"
    );
    vec![
        ("clusters/x/vars.yaml", unit("vars", FLEET, &format!("  path: vars\n{DECRYPTION}"))),
        ("vars/db.yaml", SECRET.replace("namespace: apps", "namespace: flux-system")),
        (
            "clusters/x/apps.yaml",
            unit("apps", FLEET, "  path: apps\n  postBuild: {substituteFrom: [{kind: Secret, name: db}]}\n"),
        ),
        ("apps/release.yaml", release),
        (
            "apps/map.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, namespace: 'n${number}'}\ndata: {host: '${number}'}\n".to_owned(),
        ),
        ("charts/web/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\n".to_owned()),
    ]
}

#[test]
fn what_a_secret_sets_in_a_flux_object_the_hub_knows_if_it_can_read_the_secret() {
    let apps = UnitId::kustomization("flux-system", "apps");
    let web = UnitId::helm_release("flux-system", "web");
    let mut world = with_key(KEY);
    world.agent = Agent(Some(BTreeMap::new()));
    let render = world.render(&domain());
    assert_eq!(problems(&render.units[&apps]), "");
    let unit = render.units[&apps].unit.clone().unwrap();
    let definition = unit.content.children.iter().find(|child| child.id == web).unwrap();
    let release = definition.release.as_ref().unwrap();
    assert_eq!((&release.values["host"], release.from_secrets), (&json!("web.0123"), true));
    // People see where it is, and not what it is.
    let shown = definition.object.as_ref().unwrap().value();
    assert_eq!(shown["spec"]["values"], json!({"host": "web.hidden", "plain": "x"}));
    // Of an object for the cluster the hub takes the name only: the agent puts the values in.
    let map = unit.content.objects.iter().find(|object| object.id().name == "m").unwrap();
    assert!(map.is_template() && map.id().namespace == "n0123", "{}", map.id());
    assert!(!String::from_utf8_lossy(map.body()).contains("host: '0123'"));
    assert!(
        ObjectTemplate::of(map).unwrap().unwrap().needs().any(|at| at.to_string() == "Secret flux-system/db")
    );

    // What is wrong with such an object is said without the value.
    let mut files = domain();
    files[3].1 = files[3].1.replace("interval: 1m", "interval: '${umlaut}'");
    let said = problems(&world.render(&files).units[&web]);
    assert!(said.contains("is not valid; how is not shown") && !said.contains("grün"), "{said}");
    let mut files = domain();
    files[3].1 = files[3].1.replace("interval: 1m", "interval: '${password}'");
    let said = problems(&world.render(&files).units[&apps]);
    assert!(said.contains("post build: fails; how is not shown") && !said.contains("s3cr"), "{said}");
    // A source would be shown to everybody.
    let mut files = domain();
    files
        .push(("apps/source.yaml", git("other", "").replace("https://example.org", "https://${number}.org")));
    let said = problems(&world.render(&files).units[&apps]);
    assert!(said.contains("takes a value from a Secret, and people see what sources are"), "{said}");

    // Without a key at the hub it stays the cluster's, and the reason is said; so it is with a Secret that only the cluster has.
    let mut world = World::new(&[]);
    world.agent = Agent(Some(BTreeMap::new()));
    let said = problems(&world.render(&domain()).units[&apps]);
    assert!(said.contains("${number} is known to the cluster only (Secret flux-system/db"), "{said}");
    // One that the hub keeps will do, in whatever order units come.
    let place = ("flux-system".to_owned(), "db".to_owned());
    world.fetched.secrets.insert(place, entries(&[("number", "9")]));
    let unit = world.render(&domain()).units[&apps].unit.clone().unwrap();
    let release =
        unit.content.children.iter().find(|child| child.id == web).unwrap().release.clone().unwrap();
    assert_eq!(release.values["host"], json!("web.9"));
}
