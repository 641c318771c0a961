//! What only the cluster knows, as its agent tells it: values of releases, variables of what the hub reads, APIs.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::question::{Apis, Question, Reply};
use flotilla_core::template::ObjectTemplate;
use flotilla_core::template::ValuesKind::{self, ConfigMap, Secret};
use flotilla_core::{ServiceAccount, UnitId};
use flotilla_render::ClusterRender;
use serde_json::{Value, json};

use crate::world::*;

const NS: &str = "flux-system";

fn release(more: &str) -> String {
    format!(
        "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {{name: web, namespace: {NS}}}\nspec:\n  \
         interval: 1m\n  chart: {{spec: {{chart: charts/web, sourceRef: {{kind: GitRepository, name: flux-system}}}}}}\n{more}"
    )
}

fn map(name: &str, more: &str, data: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {NS}{more}}}\ndata: {data}\n"
    )
}

fn question(kind: ValuesKind, name: &str) -> Question {
    Question::of(kind, NS, name, None)
}

fn data(pairs: &[(&str, &str)]) -> Reply {
    Reply::Data(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
}

fn keys(keys: &[&str]) -> Reply {
    Reply::Keys(keys.iter().map(|key| (*key).to_owned()).collect())
}

fn apis(names: &[(&str, &[&str])]) -> (Question, Reply) {
    let served = names.iter().map(|(version, kinds)| {
        ((*version).to_owned(), kinds.iter().map(|kind| (*kind).to_owned()).collect())
    });
    (Question::apis(), Reply::Apis(Apis { served: served.collect(), stale: BTreeSet::new() }))
}

fn render(files: &[(&str, String)], replies: Option<&[(Question, Reply)]>) -> ClusterRender {
    let mut world = World::new(&[]);
    world.agent = Agent(replies.map(|replies| replies.iter().cloned().collect()));
    world.render(files)
}

/// What helm is asked for the one release: its values. Else why it is held.
fn values(render: &ClusterRender) -> Result<Value, String> {
    let web = &render.units[&UnitId::helm_release(NS, "web")];
    match render.requests.values().next() {
        Some(asked) => Ok(Value::Object(asked.request.values.clone())),
        None => Err(web.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
    }
}

fn chart() -> [(&'static str, String); 1] {
    [("charts/web/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\n".to_owned())]
}

fn release_files(more: &str, others: &[(&'static str, String)]) -> Vec<(&'static str, String)> {
    let own = ("clusters/x/web.yaml", release(more));
    chart().into_iter().chain([own]).chain(others.iter().cloned()).collect()
}

#[test]
fn values_of_a_release_are_what_the_agent_tells_and_unknown_is_never_absent() {
    let (optional, needed) = (", optional: true", "");
    let value = "{kind: ConfigMap, name: vars, valuesKey: v";
    let password = "{kind: Secret, name: access, valuesKey: p, targetPath: password";
    let refused = Reply::Refused("system:serviceaccount:x cannot get".into());
    for (from, end, reply, expected) in [
        (value, optional, Some(data(&[("v", "a: 1")])), Ok(json!({"a": 1}))),
        (value, needed, Some(data(&[("v", "a: 1")])), Ok(json!({"a": 1}))),
        (value, optional, Some(data(&[("other", "a: 1")])), Ok(json!({}))),
        (value, needed, Some(data(&[])), Err("ConfigMap/vars has no key 'v'")),
        (value, optional, Some(Reply::Absent), Ok(json!({}))),
        (
            value,
            needed,
            Some(Reply::Absent),
            Err("ConfigMap/vars is neither in Git nor in the cluster; put it into Git"),
        ),
        (
            value,
            optional,
            Some(refused.clone()),
            Err("the cluster's agent cannot read it: system:serviceaccount:x"),
        ),
        (value, optional, Some(Reply::Failed("500".into())), Err("the cluster's agent cannot read it: 500")),
        (
            value,
            optional,
            None,
            Err("ConfigMap/vars: whether the cluster has it is not known until its agent answers"),
        ),
        (password, optional, Some(Reply::Absent), Ok(json!({}))),
        (password, optional, Some(keys(&["other"])), Ok(json!({}))),
        (
            password,
            optional,
            Some(keys(&["p"])),
            Err("Secret/access is in the cluster, and what is in it is known only there"),
        ),
        (password, needed, Some(keys(&["p"])), Err("`flotilla secret create generic` keeps one at the hub")),
        (password, needed, Some(keys(&["other"])), Err("Secret/access of the cluster has no key 'p'")),
        (password, needed, Some(Reply::Absent), Err("Secret/access is neither in Git nor in the cluster")),
        (password, optional, Some(refused), Err("cannot read it")),
        (password, optional, None, Err("not known until its agent answers")),
    ] {
        let name = if from == value { question(ConfigMap, "vars") } else { question(Secret, "access") };
        let replies: Vec<_> =
            reply.iter().map(|reply| (name.clone(), reply.clone())).chain([apis(&[])]).collect();
        let files = release_files(&format!("  valuesFrom: [{from}{end}}}]\n"), &[]);
        let rendered = render(&files, Some(&replies));
        match (values(&rendered), expected) {
            (Err(said), Err(part)) => assert!(said.contains(part), "{reply:?}: {said}"),
            (found, expected) => assert_eq!(found, expected.map_err(str::to_owned), "{from}{end} {reply:?}"),
        }
        assert_eq!(
            rendered.questions,
            [name, Question::apis()].into(),
            "it is asked for as long as it matters"
        );
        // Without an agent that could answer, it is as it was.
        let said = values(&render(&files, None)).unwrap_err();
        assert!(said.contains("whether the cluster has it, and what is in it, is not known here"), "{said}");
    }
}

#[test]
fn the_authors_word_and_what_git_has_are_not_asked_about() {
    let from = "  valuesFrom: [{kind: ConfigMap, name: own, valuesKey: v}, {kind: Secret, name: access, optional: true}]\n";
    let absent = release(from).replace(
        &format!("namespace: {NS}}}"),
        &format!("namespace: {NS}, annotations: {{flotilla.dev/absent: Secret/access}}}}"),
    );
    let own = ("clusters/x/own.yaml", map("own", "", "{v: 'a: 1'}"));
    let files: Vec<_> = chart().into_iter().chain([("clusters/x/web.yaml", absent), own]).collect();
    let there = [
        (question(Secret, "access"), keys(&["values.yaml"])),
        (question(ConfigMap, "own"), data(&[])),
        apis(&[]),
    ];
    let rendered = render(&files, Some(&there));
    assert_eq!(values(&rendered), Ok(json!({"a": 1})));
    assert_eq!(rendered.questions, [Question::apis()].into());
}

#[test]
fn a_config_map_that_others_change_is_what_the_cluster_has_after_the_apply() {
    let ssa = |word: &str| format!(", annotations: {{kustomize.toolkit.fluxcd.io/ssa: {word}}}");
    let there = data(&[("v", "a: theirs"), ("w", "b: theirs")]);
    for (how, reply, expected) in [
        (ssa("Merge"), Some(there.clone()), Ok(json!({"a": "ours", "b": "theirs"}))),
        (ssa("Merge"), Some(Reply::Absent), Ok(json!({"a": "ours"}))),
        (ssa("Merge"), None, Err("until its agent answers")),
        (ssa("IfNotPresent"), Some(there.clone()), Ok(json!({"a": "theirs", "b": "theirs"}))),
        (ssa("IfNotPresent"), Some(Reply::Absent), Ok(json!({"a": "ours"}))),
        (ssa("Ignore"), Some(there.clone()), Ok(json!({"a": "theirs", "b": "theirs"}))),
        (ssa("Ignore"), Some(Reply::Absent), Err("where it is not applied yet")),
        // Nobody's fields but ours count where nothing says otherwise: it is not even asked.
        (ssa("Override"), Some(there.clone()), Ok(json!({"a": "ours"}))),
        (String::new(), Some(there), Ok(json!({"a": "ours"}))),
    ] {
        let from = "  valuesFrom: [{kind: ConfigMap, name: vars, valuesKey: v}, {kind: ConfigMap, name: vars, valuesKey: w, optional: true}]\n";
        let own = ("clusters/x/vars.yaml", map("vars", &how, "{v: 'a: ours'}"));
        let replies: Vec<_> = reply
            .iter()
            .map(|reply| (question(ConfigMap, "vars"), reply.clone()))
            .chain([apis(&[])])
            .collect();
        match (values(&render(&release_files(from, &[own]), Some(&replies))), expected) {
            (Err(said), Err(part)) => assert!(said.contains(part), "{how} {reply:?}: {said}"),
            (found, expected) => assert_eq!(found, expected.map_err(str::to_owned), "{how} {reply:?}"),
        }
    }
}

fn apps(post_build: &str) -> (&'static str, String) {
    ("clusters/x/apps.yaml", unit("apps", FLEET, &format!("  path: apps\n  postBuild: {post_build}\n")))
}

const FROM: &str = "{substituteFrom: [{kind: ConfigMap, name: vars}]}";

#[test]
fn what_the_hub_reads_has_the_variables_that_the_agent_tells_and_the_rest_is_completed_there() {
    let files = |from: &str| {
        vec![
            apps(from),
            ("apps/child.yaml", unit("child", FLEET, "  path: '${where}'\n")),
            ("apps/named.yaml", config_map("'m-${where}'")),
            ("apps/plain.yaml", map("plain", "", "{a: '${where}'}")),
            ("deep/m.yaml", config_map("m")),
        ]
    };
    let there = (question(ConfigMap, "vars"), data(&[("where", "deep")]));
    let rendered = render(&files(FROM), Some(&[there]));
    assert_eq!(shown(&rendered), ["root: 0", "apps: 2", "child: 1"]);
    let objects = &rendered.units[&UnitId::kustomization(NS, "apps")].unit.as_ref().unwrap().content.objects;
    assert_eq!((objects[0].id().name.as_str(), objects[0].is_template()), ("m-deep", false));
    assert!(objects[1].is_template(), "the agent follows what changes, hub or no hub");
    assert_eq!(rendered.questions, [question(ConfigMap, "vars")].into());

    // Where a Secret is beside it, the agent completes the object under the name that the hub knows.
    let both =
        "{substituteFrom: [{kind: ConfigMap, name: vars}, {kind: Secret, name: keys}], substitute: {s: x}}";
    let mut mixed = vec![apps(both)];
    mixed.push(("apps/m.yaml", map("'m-${where}'", "", "{a: '${password}'}")));
    let there = [(question(ConfigMap, "vars"), data(&[("where", "deep"), ("password", "no")]))];
    let said = shown(&render(&mixed, Some(&there)))[1].clone();
    assert!(
        said.contains("${where} is known to the cluster only (Secret flux-system/keys)"),
        "a later layer may set it: {said}"
    );
    let turned = both.replace(
        "[{kind: ConfigMap, name: vars}, {kind: Secret, name: keys}]",
        "[{kind: Secret, name: keys}, {kind: ConfigMap, name: vars}]",
    );
    mixed[0] = apps(&turned);
    let there = [(question(ConfigMap, "vars"), data(&[("where", "deep")]))];
    let rendered = render(&mixed, Some(&there));
    let object =
        &rendered.units[&UnitId::kustomization(NS, "apps")].unit.as_ref().unwrap().content.objects[0];
    let template = ObjectTemplate::of(object).unwrap().unwrap();
    assert_eq!(object.id().name, "m-deep");
    assert_eq!(template.needs().map(ToString::to_string).collect::<Vec<_>>(), ["Secret flux-system/keys"]);

    for (reply, part) in [
        (
            None,
            "(ConfigMap flux-system/vars: whether the cluster has it is not known until its agent answers)",
        ),
        (
            Some(Reply::Absent),
            "(ConfigMap flux-system/vars: ConfigMap flux-system/vars, which values are taken from, does not exist)",
        ),
        (Some(Reply::Refused("no rights".into())), "cannot read it: no rights)"),
        (Some(data(&[("a.b", "x")])), "'a.b' cannot name a variable"),
        (Some(data(&[("where", "ENC[AES256_GCM,data:x]")])), "is encrypted by SOPS"),
    ] {
        let replies: Vec<_> = reply.into_iter().map(|reply| (question(ConfigMap, "vars"), reply)).collect();
        let said = shown(&render(&files(FROM), Some(&replies)))[1].clone();
        assert!(said.starts_with("apps: held") && said.contains(part), "{said}");
    }
    // One that may be missing, and is.
    let optional = "{substituteFrom: [{kind: ConfigMap, name: vars, optional: true}], substitute: {s: x}}";
    let absent = [(question(ConfigMap, "vars"), Reply::Absent)];
    let said = shown(&render(&files(optional), Some(&absent)))[1].clone();
    assert!(said.contains("variable not set: 'where'"), "{said}");
    let text = unit("child", FLEET, "  path: '${where:=deep}'\n");
    let with_default = [apps(optional), ("apps/child.yaml", text), ("deep/m.yaml", config_map("m"))];
    assert_eq!(shown(&render(&with_default, Some(&absent))), ["root: 0", "apps: 0", "child: 1"]);
}

#[test]
fn another_reply_renders_anew_from_one_memory() {
    let files = [
        apps(FROM),
        ("apps/child.yaml", unit("child", FLEET, "  path: '${where}'\n")),
        ("a/m.yaml", config_map("m")),
        ("b/m.yaml", format!("{}---\n{}", config_map("m"), config_map("n"))),
    ];
    let mut world = World::new(&[]);
    for (at, count) in [("a", 1), ("b", 2), ("a", 1)] {
        let replies: BTreeMap<_, _> = [(question(ConfigMap, "vars"), data(&[("where", at)]))].into();
        world.agent = Agent(Some(replies));
        assert_eq!(world.shown(&files), ["root: 0", "apps: 0", &format!("child: {count}")]);
    }
}

#[test]
fn the_root_takes_variables_that_only_the_cluster_has() {
    let own = unit("flux-system", FLEET, &format!("  path: clusters/x\n  postBuild: {FROM}\n"));
    let files = [
        ("clusters/x/gotk.yaml", own),
        ("clusters/x/child.yaml", unit("child", FLEET, "  path: '${where}'\n")),
        ("deep/m.yaml", config_map("m")),
    ];
    let there = [(question(ConfigMap, "vars"), data(&[("where", "deep")]))];
    assert_eq!(shown(&render(&files, Some(&there))), ["root: 0", "child: 1"]);
    assert!(shown(&render(&files, Some(&[])))[0].starts_with("root: held"));
}

/// A tenant's repository, applied as an account of the namespace `team`, with a unit that takes variables from `vars`.
fn tenant(inside: Vec<(&str, String)>, replies: &[(Question, Reply)]) -> ClusterRender {
    let files = [
        ("clusters/x/source.yaml", git("team/team", "")),
        ("clusters/x/team.yaml", unit("team/team", TEAM, "  serviceAccountName: deployer\n")),
    ];
    let mut world = World::new(&[("team", tree(&inside, "team"))]);
    world.agent = Agent(Some(replies.iter().cloned().collect()));
    world.render(&files)
}

fn account(name: &str) -> Option<ServiceAccount> {
    Some(ServiceAccount { namespace: "team".into(), name: name.into() })
}

#[test]
fn a_tenant_asks_as_its_account_in_its_namespace_and_is_given_no_other_ones_replies() {
    let child = |namespace: &str, account: &str| {
        unit(
            &format!("{namespace}/inner"),
            "{kind: GitRepository, name: team, namespace: team}",
            &format!("  path: inner\n  serviceAccountName: {account}\n  postBuild: {FROM}\n"),
        )
    };
    let inside = |namespace: &str, account: &str| {
        vec![
            ("child.yaml", child(namespace, account)),
            ("inner/m.yaml", config_map("'m-${where}'")),
            ("kustomization.yaml", "resources: [child.yaml]\n".to_owned()),
        ]
    };
    let there = data(&[("where", "x")]);
    let of = |namespace: &str, account| Question::of(ConfigMap, namespace, "vars", account);
    // What others may read, the agent itself among them, is not for this one.
    let others = [(of("team", None), there.clone()), (of("team", account("admin")), there.clone())];
    let rendered = tenant(inside("team", "deployer"), &others);
    assert!(shown(&rendered)[1].contains("until its agent answers"), "{:?}", shown(&rendered));
    assert_eq!(rendered.questions, [of("team", account("deployer"))].into());
    let own = [(of("team", account("deployer")), there)];
    assert_eq!(shown(&tenant(inside("team", "deployer"), &own)), ["root: 0", "inner: 1", "team: 0"]);
    // In another namespace it has no unit at all that could ask.
    assert_eq!(tenant(inside("flux-system", "deployer"), &[]).questions, BTreeSet::new());
}

#[test]
fn who_asks_for_too_much_is_held_alone() {
    let many: Vec<String> =
        (0..250).map(|n| format!("{{kind: ConfigMap, name: m{n:03}, optional: true}}")).collect();
    let child = unit(
        "team/inner",
        "{kind: GitRepository, name: team}",
        &format!(
            "  path: inner\n  serviceAccountName: deployer\n  postBuild: {{substituteFrom: [{}]}}\n",
            many.join(", ")
        ),
    );
    let inside = vec![
        ("child.yaml", child),
        ("inner/m.yaml", config_map("'m-${where}'")),
        ("kustomization.yaml", "resources: [child.yaml]\n".to_owned()),
    ];
    let rendered = tenant(inside, &[]);
    assert_eq!(rendered.questions.len(), 200);
    assert!(shown(&rendered)[1].contains("too much is asked of this cluster"), "{:?}", shown(&rendered));
    assert_eq!(shown(&rendered)[2], "team: 0");
}

#[test]
fn charts_are_told_what_the_cluster_serves_and_what_the_fleet_brings() {
    let crd = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: things.a.io}\nspec: {group: a.io, \
               names: {kind: Thing, plural: things}, scope: Namespaced, versions: [{name: v1, served: true, storage: true}]}\n";
    let files = release_files("", &[("clusters/x/crd.yaml", crd.to_owned())]);
    let told = |render: &ClusterRender| -> Vec<String> {
        let request = &render.requests.values().next().unwrap().request;
        request.capabilities.api_versions.iter().map(ToString::to_string).collect()
    };
    let replies = [apis(&[("b.io/v1", &["Other"]), ("v1", &["Pod"]), ("not an api/x/y", &["--set-file"])])];
    assert_eq!(
        told(&render(&files, Some(&replies))),
        ["a.io/v1", "a.io/v1/Thing", "b.io/v1", "b.io/v1/Other", "v1", "v1/Pod"]
    );
    let alone = told(&render(&files, None));
    assert!(
        alone.contains(&"apps/v1/Deployment".to_owned()) && !alone.contains(&"b.io/v1".to_owned()),
        "{alone:?}"
    );
    // A chart that asks for an API must not be told that there is none because nobody knows.
    for reply in [None, Some(Reply::Failed("500".into())), Some(Reply::Refused("no".into()))] {
        let replies: Vec<_> = reply.into_iter().map(|reply| (Question::apis(), reply)).collect();
        let rendered = render(&files, Some(&replies));
        let said = values(&rendered).unwrap_err();
        assert!(said.contains("the APIs that the cluster serves are not known"), "{said}");
    }
}
