//! The engine on a real API server with RBAC: units run as their accounts, and the agent with the least rights that serve.

mod engine_common;

use std::collections::BTreeSet;

use engine_common::{Bench, at, client_of, config, namespace, unit};
use flotilla_agent::sync::{RehearsedBody, Request};
use flotilla_core::answer::Effect;
use flotilla_core::question::{Question, Reply};
use flotilla_core::report::Phase;
use flotilla_core::template::{Layer, Metadata, ObjectTemplate, ValuesKind, ValuesRef, Variables};
use flotilla_core::unit::{ObjectEntry, SourceKindIn};
use flotilla_core::{Object, SourceKind, UnitSpec};
use flotilla_tests::ClusterOptions;
use flotilla_tests::objects::apply;
use flotilla_tests::proxy::{ApiProxy, Seen};
use serde_json::{Value, json};

fn account(namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}})
}

/// A Role and its binding to an account of the same namespace, or of another.
fn grant(namespace: &str, name: &str, account: (&str, &str), rules: &Value) -> [Value; 2] {
    let rbac = "rbac.authorization.k8s.io";
    let metadata = json!({"name": name, "namespace": namespace});
    [
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": metadata, "rules": rules}),
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "namespace": account.0, "name": account.1}]}),
    ]
}

fn team_config(namespace: &str, name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": {"value": value}})
}

fn all_of_configmaps() -> Value {
    json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}])
}

fn child(account: Option<&str>) -> UnitSpec {
    UnitSpec {
        parent: Some(unit("root")),
        service_account: account.map(|name| format!("flux-system/{name}").parse().unwrap()),
        interval: 10,
        ..UnitSpec::default()
    }
}

#[tokio::test]
async fn a_unit_is_applied_read_and_pruned_as_its_account() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    let mut root = vec![namespace("flux-system"), namespace("team"), account("flux-system", "deployer")];
    root.extend(grant("team", "deployer", ("flux-system", "deployer"), &all_of_configmaps()));
    bench.present("root", UnitSpec::default(), &root);
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "team"}});
    let allowed = [team_config("team", "one", "1"), team_config("team", "two", "1")];
    bench.present(
        "apps",
        child(Some("deployer")),
        &[&allowed[..], &[secret, team_config("default", "elsewhere", "1")]].concat(),
    );
    bench.publish();
    // What RBAC refuses is named with the account; the others of the unit are applied.
    let report = bench.until("apps", |report| report.findings.len() == 2).await;
    assert_eq!(report.phase, Phase::Failed);
    for (finding, what) in report.findings.iter().zip(["ConfigMap default/elsewhere", "Secret team/s"]) {
        assert_eq!((finding.reason.as_str(), finding.object.to_string().as_str()), ("Forbidden", what));
        assert!(
            finding.message.contains("system:serviceaccount:flux-system:deployer"),
            "{}",
            finding.message
        );
    }
    assert!(bench.is_there(&at("ConfigMap", "team", "one")).await);

    bench.present("apps", child(Some("deployer")), &allowed);
    bench.publish();
    bench.until_ready().await;
    // Deleting needs the account's rights too, also after the agent forgot all but the inventory.
    let rules =
        json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "patch", "create"]}]);
    let [role, _] = grant("team", "deployer", ("flux-system", "deployer"), &rules);
    root[3] = role;
    bench.present("root", UnitSpec::default(), &root);
    bench.publish();
    bench.until_ready().await;
    bench.present("apps", child(Some("deployer")), &allowed[..1]);
    bench.publish();
    let forbidden = |report: &flotilla_core::report::UnitReport| {
        report.findings.iter().any(|finding| finding.message.contains("cannot delete resource"))
    };
    let report = bench.until("apps", forbidden).await;
    assert!(report.findings[0].message.contains("deployer"), "{report:?}");
    bench.stop_engine().await;
    bench.disk.forget_everything();
    bench.remove("apps");
    bench.start_engine();
    bench.until("apps", forbidden).await;
    assert!(bench.is_there(&at("ConfigMap", "team", "two")).await);
    let [role, _] = grant("team", "deployer", ("flux-system", "deployer"), &all_of_configmaps());
    root[3] = role;
    bench.present("root", UnitSpec::default(), &root);
    bench.publish();
    bench.until_gone(&at("ConfigMap", "team", "one")).await;
    bench.until_gone(&at("ConfigMap", "team", "two")).await;
}

/// It could be deleted, and not made again.
#[tokio::test]
async fn what_an_account_may_not_create_is_not_made_anew_by_force() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    let rules =
        json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "patch", "delete"]}]);
    let mut root = vec![namespace("flux-system"), namespace("team"), account("flux-system", "deployer")];
    root.extend(grant("team", "deployer", ("flux-system", "deployer"), &rules));
    bench.present("root", UnitSpec::default(), &root);
    bench.publish();
    bench.until_ready().await;
    let fixed = |value: &str| {
        let mut object = team_config("team", "fixed", value);
        object["immutable"] = true.into();
        object
    };
    let made = apply(&bench.client(), "kubectl", &fixed("1")).await.unwrap();
    let spec = UnitSpec { force: true, ..child(Some("deployer")) };
    bench.present("apps", spec.clone(), &[fixed("1")]);
    bench.publish();
    bench.until_ready().await;
    bench.present("apps", spec, &[fixed("2")]);
    bench.publish();
    let report = bench.until("apps", |report| report.phase == Phase::Failed).await;
    assert!(report.findings[0].message.contains("immutable"), "{report:?}");
    let there = at("ConfigMap", "team", "fixed").get(&bench.client()).await.unwrap().unwrap();
    assert_eq!((there.metadata.uid, &there.data["data"]["value"]), (made.metadata.uid, &json!("1")));
}

#[tokio::test]
async fn what_an_account_renders_becomes_a_unit_only_if_it_may_create_that() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    let mut root = vec![namespace("flux-system"), namespace("team"), account("flux-system", "tenant")];
    root.extend(grant("team", "tenant", ("flux-system", "tenant"), &all_of_configmaps()));
    bench.present("root", UnitSpec::default(), &root);
    bench.present("tenant", child(Some("tenant")), &[team_config("team", "one", "1")]);
    let below = UnitSpec { parent: Some(unit("tenant")), ..child(Some("tenant")) };
    bench.present("below", below.clone(), &[team_config("team", "inherited", "1")]);
    bench.publish();
    let report = bench.until_phase("below", Phase::Failed).await;
    assert!(
        report.message.starts_with(
            "system:serviceaccount:flux-system:tenant may not create kustomizations.kustomize.toolkit.fluxcd.io in \
             namespace flux-system"
        ),
        "{}",
        report.message
    );
    assert!(!bench.is_there(&at("ConfigMap", "team", "inherited")).await);

    let rules = json!([{"apiGroups": ["kustomize.toolkit.fluxcd.io"], "resources": ["kustomizations"], "verbs": ["create"]}]);
    root.extend(grant("flux-system", "units", ("flux-system", "tenant"), &rules));
    bench.present("root", UnitSpec::default(), &root);
    bench.publish();
    let binding = flotilla_tests::objects::ObjectRef::new(
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        "flux-system",
        "units",
    );
    bench.until_field(&binding, "/roleRef/name", json!("units")).await;
    // Nobody tells that RBAC changed; a person asks, or half a minute passes.
    bench.engine.request(Request::Reconcile { unit: Some(unit("below")) }).unwrap();
    bench.until_ready().await;
    let inherited = at("ConfigMap", "team", "inherited");
    let made = inherited.json(&bench.client()).await.unwrap();
    assert_eq!(made["metadata"]["managedFields"][0]["manager"], "flotilla");
    // It runs as its parent's account, which may do nothing elsewhere.
    bench.present("below", below.clone(), &[team_config("default", "elsewhere", "1")]);
    bench.publish();
    let report = bench.until("below", |report| !report.findings.is_empty()).await;
    assert!(report.findings[0].message.contains("system:serviceaccount:flux-system:tenant"), "{report:?}");
    // Rights that are taken away hold it at what it has, without anybody asking, and it is not removed.
    bench.present("below", below.clone(), &[team_config("team", "inherited", "1")]);
    bench.publish();
    bench.until_ready().await;
    root.truncate(root.len() - 2);
    bench.present("root", UnitSpec::default(), &root);
    bench.publish();
    let report = bench.until_phase("below", Phase::Failed).await;
    assert!(report.message.contains("may not create kustomizations"), "{}", report.message);
    assert!(bench.is_there(&inherited).await);
}

/// A ConfigMap `team/NAME` with the password of a Secret.
fn template(name: &str, namespace: &str, secret: &str) -> Object {
    let text = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: team}}\ndata: {{value: '${{password}}'}}\n"
    );
    let reference = ValuesRef { kind: ValuesKind::Secret, namespace: namespace.into(), name: secret.into() };
    let mut variables = Variables::default();
    variables.layers.push(Layer::From { reference, optional: false });
    let object = flotilla_core::ObjectRef::of(&team_config("team", name, "")).unwrap();
    ObjectTemplate::new(object, text, variables, Metadata::default()).object()
}

fn sealed(name: &str, namespace: &str, secret: &str) -> Object {
    let keys = ValuesRef { kind: ValuesKind::Secret, namespace: namespace.into(), name: secret.into() };
    let object = flotilla_core::ObjectRef::of(&team_config("team", name, "")).unwrap();
    let text = include_str!("../../sops/tests/recorded/secret.enc.yaml").to_owned();
    ObjectTemplate::new(object, text, Variables::default(), Metadata::default()).sealed(keys).object()
}

#[tokio::test]
async fn a_template_takes_what_its_units_account_may_read_in_its_units_namespace() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    let secret = |namespace: &str, name: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace},
            "stringData": {"password": format!("{namespace}-{name}")}})
    };
    let mut root = vec![namespace("flux-system"), namespace("team"), account("flux-system", "deployer")];
    root.extend([
        secret("flux-system", "mine"),
        secret("flux-system", "other"),
        secret("kube-system", "crown"),
    ]);
    root.extend(grant("team", "deployer", ("flux-system", "deployer"), &all_of_configmaps()));
    let rules =
        json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["mine"], "verbs": ["get"]}]);
    root.extend(grant("flux-system", "reader", ("flux-system", "deployer"), &rules));
    bench.present("root", UnitSpec::default(), &root);
    let objects = [
        template("mine", "flux-system", "mine"),
        template("other", "flux-system", "other"),
        template("crown", "kube-system", "crown"),
        // So are keys for what SOPS encrypted.
        sealed("sealed", "kube-system", "crown"),
        // Its own namespace, its own Secret: but nothing beside the body says that it is a template.
        template("forged", "flux-system", "mine"),
    ];
    bench.present_as("apps", child(Some("deployer")), &objects, |object| ObjectEntry {
        template: object.id().name != "forged",
        ..object.into()
    });
    bench.publish();
    let report = bench.until("apps", |report| report.findings.len() == 4).await;
    for (finding, name, says) in [
        (0, "crown", "which is not in the unit's own namespace flux-system"),
        (1, "forged", "ConfigMap/forged has the field flotilla.dev/template, which only hub and agent write"),
        (2, "other", "User \"system:serviceaccount:flux-system:deployer\" cannot get resource \"secrets\""),
        (3, "sealed", "which is not in the unit's own namespace flux-system"),
    ] {
        let finding = &report.findings[finding];
        assert_eq!((finding.reason.as_str(), finding.object.name.as_str()), ("SubstitutionFailed", name));
        assert!(finding.message.contains(says), "{}", finding.message);
        assert!(!bench.is_there(&at("ConfigMap", "team", name)).await);
    }
    let mine = at("ConfigMap", "team", "mine").json(&bench.client()).await.unwrap();
    assert_eq!(mine["data"], json!({"value": "flux-system-mine"}));

    // A question is no way around it.
    let ask = |object: Object, template| vec![RehearsedBody { body: object.body().clone(), template }];
    let forged = bench.engine.rehearse(&unit("apps"), ask(objects[0].clone(), false)).await.unwrap_err();
    assert!(forged.to_string().contains("object 0"), "{forged}");
    let crown = bench.engine.rehearse(&unit("apps"), ask(objects[2].clone(), true)).await.unwrap();
    assert_eq!(crown.objects[0].effect, Effect::Refused, "{crown:?}");
}

/// The right that a request needs, unless it only reads.
fn right(seen: &Seen) -> Option<String> {
    let verb = match seen.method.as_str() {
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => return None,
    };
    let path = seen.path.split('?').next()?;
    let parts: Vec<&str> = path.split('/').skip_while(|part| !part.starts_with('v')).skip(1).collect();
    Some(match parts[..] {
        ["namespaces", namespace, resource, ..] => format!("{verb} {resource} in {namespace}"),
        [resource, ..] => format!("{verb} {resource}"),
        [] => format!("{verb} {path}"),
    })
}

#[tokio::test]
async fn the_least_rights_of_the_agent_serve_where_every_unit_has_an_account() {
    let mut bench = Bench::start(&ClusterOptions::default()).await;
    bench.stop_engine().await;
    let client = bench.client();
    // By itself it gives no right to act as anybody, to see Secrets, or to change anything but the agent's own books.
    for file in ["agent.yaml", "agent-reads-everything.yaml"] {
        let text = std::fs::read_to_string(format!("../deploy/{file}")).unwrap();
        let documents = flotilla_yaml::parse(&text).unwrap();
        for document in documents.iter().map(|node| node.to_json().unwrap()) {
            assert_ne!(document["roleRef"]["name"], "cluster-admin", "{file}");
            if document["kind"] == "ClusterRole" && document["metadata"]["name"] == "flotilla-agent" {
                let rules = document["rules"].to_string();
                assert!(!["\"secrets\"", "impersonate"].iter().any(|it| rules.contains(it)), "{rules}");
                assert!(!rules.contains("\"apiGroups\":[\"*\"]"), "{rules}");
            }
            if document["kind"] != "StatefulSet" {
                apply(&client, "kubectl", &document).await.unwrap();
            }
        }
    }
    // The unit at the root runs as an account with rights of its own.
    for object in [
        namespace("ops"),
        account("ops", "root"),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "ops-root"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "namespace": "ops", "name": "root"}]}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "flotilla-agent", "namespace": "ops"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "flotilla-agent-impersonates"},
            "subjects": [{"kind": "ServiceAccount", "namespace": "flotilla-system", "name": "flotilla-agent"}]}),
    ] {
        apply(&client, "kubectl", &object).await.unwrap();
    }
    let proxy = ApiProxy::start(&bench.cluster).await.unwrap();
    let agent = client_of(&bench.cluster, &proxy, "flotilla-system", "flotilla-agent").await;
    bench.start_engine_as(agent);
    let spec = |parent: Option<&str>, account: Option<&str>| UnitSpec {
        parent: parent.map(unit),
        service_account: account.map(|account| account.parse().unwrap()),
        ..UnitSpec::default()
    };
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"kind": "Widget", "plural": "widgets"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}});
    let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w", "namespace": "default"}});
    let objects = [config("a", "1"), config("b", "1"), definition, widget, namespace("web")];
    bench.present("root", spec(None, Some("ops/root")), &objects);
    bench.present("below", spec(Some("root"), Some("ops/root")), &[config("c", "1")]);
    bench.publish();
    bench.until_ready().await;
    let c = at("ConfigMap", "default", "c");
    c.edit(&client, json!({"data": {"value": "2"}})).await.unwrap();
    bench.until_field(&c, "/data/value", json!("1")).await;
    bench.present("root", spec(None, Some("ops/root")), &[&objects[..1], &objects[2..4]].concat());
    bench.publish();
    bench.until_gone(&at("ConfigMap", "default", "b")).await;
    bench.until_gone(&at("Namespace", "", "web")).await;
    // Each of them is used, and nothing else is asked for: what is not in the list could go, or would be refused.
    let seen = proxy.take_seen();
    let (as_accounts, itself): (Vec<_>, Vec<_>) = seen.into_iter().partition(|seen| seen.impersonates);
    assert!(!as_accounts.is_empty(), "impersonate");
    let rights: BTreeSet<String> = itself.iter().filter_map(right).collect();
    let expected = [
        "create configmaps in flotilla-system",
        "create events in default",
        "create subjectaccessreviews",
        "patch configmaps in flotilla-system",
        "update configmaps in flotilla-system",
    ];
    assert_eq!(rights, expected.map(str::to_owned).into());
    assert!(itself.iter().any(|seen| seen.path.contains("watch=")), "watch");
    // Without an account the agent itself has no rights to give.
    bench.present("bare", spec(None, None), &[config("d", "1")]);
    bench.publish();
    let report = bench.until("bare", |report| !report.findings.is_empty()).await;
    assert_eq!(report.findings[0].reason, "Forbidden");
    assert!(
        report.findings[0].message.contains("system:serviceaccount:flotilla-system:flotilla-agent"),
        "{report:?}"
    );
}

#[tokio::test]
async fn sources_of_an_account_are_asked_for_like_its_objects() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    let mut root = vec![namespace("flux-system"), namespace("team"), account("flux-system", "tenant")];
    root.extend(grant("team", "tenant", ("flux-system", "tenant"), &all_of_configmaps()));
    bench.present("root", UnitSpec::default(), &root);
    let source = SourceKindIn { kind: SourceKind::GitRepository, namespace: "team".into() };
    let spec = UnitSpec { defines: vec![source], ..child(Some("tenant")) };
    bench.present("tenant", spec, &[team_config("team", "one", "1")]);
    bench.publish();
    let report = bench.until_phase("tenant", Phase::Failed).await;
    assert!(
        report.message.starts_with(
            "system:serviceaccount:flux-system:tenant may not create gitrepositories.source.toolkit.fluxcd.io in \
             namespace team"
        ),
        "{}",
        report.message
    );
    assert!(!bench.is_there(&at("ConfigMap", "team", "one")).await, "nothing of the unit is applied");
    let rules = json!([{"apiGroups": ["source.toolkit.fluxcd.io"], "resources": ["gitrepositories"], "verbs": ["create"]}]);
    root.extend(grant("team", "sources", ("flux-system", "tenant"), &rules));
    bench.present("root", UnitSpec::default(), &root);
    bench.publish();
    let rbac = "rbac.authorization.k8s.io/v1";
    let binding = flotilla_tests::objects::ObjectRef::new(rbac, "RoleBinding", "team", "sources");
    bench.until_field(&binding, "/roleRef/name", json!("sources")).await;
    bench.engine.request(Request::Reconcile { unit: None }).unwrap();
    bench.until_ready().await;
    assert!(bench.is_there(&at("ConfigMap", "team", "one")).await);
}

#[tokio::test]
async fn what_is_asked_in_the_name_of_an_account_is_read_as_that_account() {
    let mut bench = Bench::start(&ClusterOptions::bare()).await;
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
    let mut root = vec![namespace("team"), account("team", "deployer"), account("team", "other")];
    root.push(team_config("team", "vars", "1"));
    root.extend(grant("team", "reader", ("team", "deployer"), &rules));
    bench.present("root", UnitSpec::default(), &root);
    bench.publish();
    bench.until_ready().await;
    let ask = |kind, namespace: &str, name: &str| {
        let account = (!name.is_empty()).then(|| format!("team/{name}").parse().unwrap());
        Question::of(kind, namespace, "vars", account)
    };
    let there = Reply::Data([("value".to_owned(), "1".to_owned())].into());
    let (map, secret) = (ValuesKind::ConfigMap, ValuesKind::Secret);
    for (question, reply) in [
        (ask(map, "team", ""), Some(there.clone())),
        (ask(map, "team", "deployer"), Some(there)),
        (ask(secret, "team", ""), Some(Reply::Absent)),
        // Whether it is there is no business of who may not read it.
        (ask(secret, "team", "deployer"), None),
        (ask(map, "team", "other"), None),
        (ask(map, "default", "deployer"), None),
    ] {
        let told = bench.engine.reply(&question).await;
        match (&told, reply) {
            (Reply::Refused(why), None) => {
                let user = question.account.as_ref().unwrap().user();
                assert!(why.contains(&user) && why.contains("cannot get"), "{why}");
            }
            (told, reply) => assert_eq!(Some(told), reply.as_ref(), "{question:?}"),
        }
    }
}
