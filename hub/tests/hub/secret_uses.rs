//! Which units use a Secret: what is published, the Flux objects behind it, and what cannot be told.

use std::collections::BTreeMap;
use std::sync::Arc;

use flotilla_core::template::{Layer, Metadata, ObjectTemplate, ValuesKind, ValuesRef, Variables};
use flotilla_core::unit::{ObjectEntry, UnitSpec};
use flotilla_core::{DesiredState, Object, SourceId, SourceKind, UnitEntry, UnitId, UnitManifest};
use flotilla_hub::desired::Published;
use flotilla_hub::view::{ClusterFacts, FleetView, SourceFacts, UnitFacts};
use serde_json::{Value, json};

use crate::support::TestHub;

fn object(value: Value) -> Object {
    Object::new(&value).unwrap()
}

/// `east` and `west` with a unit that names the Secret `web/keys` in each way; a unit of `west` is held, and nothing is
/// published for `new`.
async fn fleet() -> TestHub {
    let hub = TestHub::start().await;
    let app = UnitId::kustomization("web", "app");
    let pod = |volume: &str| json!({"volumes": [{"name": "v", "secret": {"secretName": volume}}]});
    let deployment = |name: &str, secret: &str| {
        object(
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "web"},
            "spec": {"template": {"spec": pod(secret)}}}),
        )
    };
    let map = object(
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": "web"}}),
    );
    let keys = ValuesRef { kind: ValuesKind::Secret, namespace: "web".into(), name: "keys".into() };
    let layers = vec![Layer::From { reference: keys, optional: false }];
    let variables = Variables { layers, ..Variables::default() };
    let text = "{apiVersion: v1, kind: ConfigMap, metadata: {name: m, namespace: web}, data: {x: '${X}'}}";
    let template =
        ObjectTemplate::new(map.reference().clone(), text.into(), variables, Metadata::default()).object();
    let secret = |name: &str| {
        object(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "web"}}))
    };
    let bodies = [deployment("a", "keys"), deployment("b", "keys-of-others"), template, secret("keys")];
    let definition = object(json!({"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
        "metadata": {"name": "app", "namespace": "web"}, "spec": {"decryption": {"secretRef": {"name": "keys"}}}}));
    let source = object(json!({"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
        "metadata": {"name": "app", "namespace": "web"}, "spec": {"secretRef": {"name": "keys"}}}));
    let mut clusters = BTreeMap::new();
    for name in ["east", "west", "new"] {
        let facts = UnitFacts { object: Some(definition.clone()), ..UnitFacts::default() };
        let source = SourceFacts { of_fleet: true, defined_by: UnitId::root(), object: source.clone() };
        let facts = ClusterFacts {
            assigned: true,
            units: [(app.clone(), facts)].into(),
            sources: [(SourceId::new(SourceKind::GitRepository, "web", "app"), source)].into(),
            ..ClusterFacts::default()
        };
        clusters.insert(name.parse().unwrap(), Arc::new(facts));
        if name == "new" {
            continue;
        }
        let entries = bodies.iter().map(ObjectEntry::from).collect();
        let manifest = UnitManifest::new(app.clone(), UnitSpec::default(), entries);
        let mut units = BTreeMap::from([(app.clone(), UnitEntry::Present(Arc::new(manifest)))]);
        if name == "west" {
            units.insert(UnitId::kustomization("web", "held"), UnitEntry::Hold("it is broken".into()));
        }
        let generation = hub.hub().records.next_generation().unwrap();
        let state = DesiredState::new(name.parse().unwrap(), generation, "c0ffee", units);
        let bodies = Arc::new(bodies.iter().cloned().collect());
        hub.hub().board.publish(Published { state: Arc::new(state), bodies });
    }
    hub.hub().fleet.publish(FleetView { clusters, ..FleetView::default() });
    hub
}

/// As `cluster unit role namespace object field`.
async fn uses(hub: &TestHub, query: &str) -> Vec<String> {
    let answer = hub.get(&format!("/api/v1/secret-uses/{query}")).await;
    let line = |item: &Value| {
        let text = |field: &str| item[field].as_str().unwrap_or_default().to_owned();
        ["cluster", "unit", "role", "namespace", "object", "field", "reason"].map(text).join("|")
    };
    answer["items"].as_array().unwrap().iter().map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_unit_that_names_a_secret_is_listed_and_what_is_not_known_is_said() {
    let hub = fleet().await;
    let of_git = |cluster: &str| {
        [
            format!(
                "{cluster}|root|uses|web|GitRepository.source.toolkit.fluxcd.io web/app|spec.secretRef.name|"
            ),
            format!(
                "{cluster}|kustomization/web/app|uses|web|Kustomization.kustomize.toolkit.fluxcd.io web/app|\
                 spec.decryption.secretRef.name|"
            ),
        ]
    };
    let of = |cluster: &str| {
        let unit = format!("{cluster}|kustomization/web/app");
        let published = [
            format!("{unit}|uses|web|Deployment.apps web/a|spec.template.spec.volumes[0].secret.secretName|"),
            format!("{unit}|uses|web|ConfigMap web/m|(what its unit decrypts or substitutes)|"),
            format!("{unit}|makes|web|Secret web/keys|metadata.name|"),
        ];
        [&of_git(cluster)[..], &published].concat()
    };
    let unknown = "new||unknown||||the hub does not know what the cluster should run".to_owned();
    let held = "west|kustomization/web/held|unknown||||it is broken".to_owned();
    let all = [of("east"), of_git("new").to_vec(), vec![unknown], of("west"), vec![held.clone()]].concat();
    assert_eq!(uses(&hub, "keys").await, all);
    assert_eq!(uses(&hub, "keys?namespace=web").await, all);
    assert_eq!(uses(&hub, "keys?cluster=west").await, [of("west"), vec![held.clone()]].concat());
    assert_eq!(uses(&hub, "keys?cluster=west&namespace=other").await, [held]);
    assert_eq!(uses(&hub, "keys?limit=1").await, of("east"), "a page ends with a cluster");
    let next = hub.get("/api/v1/secret-uses/keys?limit=1").await["next"].as_str().unwrap().to_owned();
    assert_eq!(uses(&hub, &format!("keys?continue={next}")).await, all[5..]);
    let refused = async |query: &str| {
        let path = format!("/api/v1/secret-uses/{query}");
        hub.ask(Some(&hub.admin()), http::Method::GET, &path, Value::Null).await.0.as_u16()
    };
    assert_eq!(refused("Keys").await, 400);
    assert_eq!(refused("keys?cluster=none").await, 404);
    assert_eq!(refused("keys?clutser=west").await, 400);
    assert_eq!(refused("keys?namespace=a/b").await, 400);

    let scope =
        json!({"name": "team", "role": "view", "scope": {"clusters": ["west"], "namespaces": ["other"]}});
    let token = hub.post("/api/v1/tokens", scope).await["secret"].as_str().unwrap().to_owned();
    let (status, seen) =
        hub.ask(Some(&token), http::Method::GET, "/api/v1/secret-uses/keys", Value::Null).await;
    assert_eq!((status.as_u16(), &seen["items"]), (200, &json!([])));
    hub.stop().await;
}
