//! `postBuild`: where values come from, what is substituted, what only the cluster can complete.

use flotilla_core::template::{Found, ObjectTemplate};
use flotilla_core::{Object, UnitId};
use serde_json::{Value, json};

use crate::world::*;

const CLUSTER: &str = "apiVersion: flotilla.dev/v1alpha1\nkind: Cluster\nmetadata: {name: x}\n";

fn apps(post_build: &str) -> (&'static str, String) {
    ("clusters/x/apps.yaml", unit("apps", FLEET, &format!("  path: apps\n  postBuild: {post_build}\n")))
}

fn map(name: &str, data: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: flux-system}}\ndata: {data}\n"
    )
}

/// The objects of `apps`, or its problem.
fn rendered(files: &[(&str, String)]) -> Result<Vec<Object>, String> {
    let render = World::new(&[]).render(files);
    let apps = &render.units[&UnitId::kustomization("flux-system", "apps")];
    match &apps.unit {
        Some(unit) => Ok(unit.content.objects.clone()),
        None => Err(apps.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
    }
}

/// `apps` with one ConfigMap whose data is `data`.
fn data(post_build: &str, data: &str, more: &[(&str, String)]) -> Result<Value, String> {
    let mut files = vec![apps(post_build), ("apps/m.yaml", map("m", data))];
    files.extend(more.iter().cloned());
    rendered(&files).map(|objects| objects[0].value()["data"].clone())
}

#[test]
fn values_come_from_the_fleet_then_config_maps_then_the_unit() {
    let text = "{a: '${one}', b: '${two}', c: '${three}', d: '${four:-none}'}";
    let more = [
        (
            "clusters/x/cluster.yaml",
            format!("{CLUSTER}spec: {{variables: {{one: fleet, two: fleet, three: fleet}}}}\n"),
        ),
        ("clusters/x/vars.yaml", map("vars", "{two: map, three: map, four: \"li\\nne\"}")),
        ("clusters/x/more.yaml", map("more", "{three: more}")),
    ];
    let from = "[{kind: ConfigMap, name: vars}, {kind: ConfigMap, name: more}]";
    assert_eq!(
        data(&format!("{{substituteFrom: {from}}}"), text, &more),
        Ok(json!({"a": "fleet", "b": "map", "c": "more", "d": "line"}))
    );
    assert_eq!(
        data(&format!("{{substitute: {{three: unit}}, substituteFrom: {from}}}"), text, &more),
        Ok(json!({"a": "fleet", "b": "map", "c": "unit", "d": "line"}))
    );
}

#[test]
fn substitution_is_of_text_as_flux_does_it() {
    let post_build = "{substitute: {n: '2', s: text, list: '[a, b]'}}";
    let files = [
        apps(post_build),
        ("apps/x.yaml", "apiVersion: x.org/v1\nkind: Thing\nmetadata: {name: t}\nspec: {a: \"${n}\", b: '${s}${n}', c: '${list}', d: '$${s}'}\n".to_owned()),
    ];
    assert_eq!(
        rendered(&files).unwrap()[0].value()["spec"],
        json!({"a": 2, "b": "text2", "c": ["a", "b"], "d": "${s}"})
    );
    assert_eq!(
        data(post_build, "{a: '${nope}'}", &[]),
        Err("apps/m.yaml:1: post build: variable not set: 'nope'; set it, or give a default by ${nope:=value}".into())
    );
    assert_eq!(
        data(post_build, "{a: '${n'}", &[]),
        Err("apps/m.yaml:1: post build: bad substitution: '${n'; a '$' that is meant as such before '{' is written '$$'".into())
    );
    let expected = "apps/m.yaml:1: post build: after substitution: ";
    assert!(data("{substitute: {n: '['}}", "{a: x, b: '${n}'}", &[]).unwrap_err().starts_with(expected));
}

#[test]
fn what_is_not_set_is_an_error_or_nothing_as_the_cluster_or_its_flux_says() {
    let cluster = |spec: &str| format!("{CLUSTER}spec: {{{spec}}}\n");
    let gate = |gates: &str| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: kustomize-controller, namespace: flux-system, labels: \
             {{app.kubernetes.io/part-of: flux}}}}\nspec: {{template: {{spec: {{containers: [{{name: manager, args: \
             ['--feature-gates={gates}']}}]}}}}}}\n"
        )
    };
    let (off, on) = ("A=true,StrictPostBuildSubstitutions=false", "StrictPostBuildSubstitutions=true");
    for (spec, gates, is_strict) in [
        ("", "A=true", true),
        ("", off, false),
        ("", on, true),
        ("", "StrictPostBuildSubstitutions = false", false),
        // Neither yes nor no.
        ("", "StrictPostBuildSubstitutions=no", true),
        ("strictSubstitution: false", on, false),
        ("strictSubstitution: true", off, true),
        // The root itself needs what only its own output says.
        ("substitute: true, variables: {v: x}", off, false),
    ] {
        let root = if spec.starts_with("substitute") { map("own", "{a: 'x${nope}'}") } else { String::new() };
        let more = [
            ("clusters/x/cluster.yaml", cluster(spec)),
            ("clusters/x/flux.yaml", format!("{}---\n{root}", gate(gates))),
        ];
        let found = data("{substitute: {v: x}}", "{a: '${v}${nope}', b: '${nope}'}", &more);
        match is_strict {
            true => assert!(found.unwrap_err().contains("variable not set: 'nope'"), "{spec} {gates}"),
            false => assert_eq!(found, Ok(json!({"a": "x", "b": null})), "{spec} {gates}"),
        }
    }
}

#[test]
fn nothing_is_substituted_where_nobody_asks() {
    assert_eq!(data("{}", "{a: '${x:-d}'}", &[]), Ok(json!({"a": "${x:-d}"})));
    assert_eq!(data("{substitute: {}}", "{a: '${x!y} ${ z'}", &[]), Ok(json!({"a": "${x!y} ${ z"})));
    assert_eq!(data("{substituteStrategy: Always}", "{a: '${x:-d}'}", &[]), Ok(json!({"a": "d"})));
    let no_post_build = [
        ("clusters/x/apps.yaml", unit("apps", FLEET, "  path: apps\n")),
        ("apps/m.yaml", map("m", "{a: '${x}'}")),
    ];
    assert_eq!(rendered(&no_post_build).unwrap()[0].value()["data"], json!({"a": "${x}"}));
    for field in ["labels", "annotations"] {
        let opted_out = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m, {field}: {{kustomize.toolkit.fluxcd.io/substitute: \
             disabled}}}}\ndata: {{a: '${{x}}'}}\n"
        );
        let files = [apps("{substitute: {x: y}}"), ("apps/m.yaml", opted_out)];
        assert_eq!(rendered(&files).unwrap()[0].value()["data"], json!({"a": "${x}"}));
    }
}

#[test]
fn common_metadata_is_not_substituted() {
    let overlay =
        "  path: apps\n  commonMetadata: {labels: {l: '${x}'}}\n  postBuild: {substitute: {x: value}}\n";
    let files =
        [("clusters/x/apps.yaml", unit("apps", FLEET, overlay)), ("apps/m.yaml", map("m", "{a: '${x}'}"))];
    let object = rendered(&files).unwrap()[0].value();
    assert_eq!((&object["metadata"]["labels"]["l"], &object["data"]["a"]), (&json!("${x}"), &json!("value")));
}

#[test]
fn what_only_the_cluster_knows_becomes_a_template() {
    let post_build = "{substitute: {n: '2'}, substituteFrom: [{kind: ConfigMap, name: vars}, {kind: Secret, name: keys}, \
                      {kind: ConfigMap, name: elsewhere, optional: true}]}";
    let files = [
        apps(post_build),
        ("clusters/x/vars.yaml", map("vars", "{user: web}")),
        ("apps/a.yaml", map("a", "{plain: '${n}'}")),
        ("apps/b.yaml", map("b", "{both: '${n}-${user}:${password}'}")),
    ];
    let objects = rendered(&files).unwrap();
    assert_eq!(objects[0].value()["data"], json!({"plain": 2}), "what the unit sets is known");
    let template = ObjectTemplate::of(&objects[1]).expect("a template").unwrap();
    assert_eq!(objects[1].id().to_string(), "ConfigMap flux-system/b");
    let needs: Vec<_> = template.needs().cloned().collect();
    let shown: Vec<_> = needs.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["Secret flux-system/keys", "ConfigMap flux-system/elsewhere"]);
    let password = [("password".to_owned(), "hunter2".to_owned())].into();
    let found = Found::from([(needs[0].clone(), Some(password)), (needs[1].clone(), None)]);
    let done = template.complete(&found).unwrap();
    assert_eq!(done.value()["data"], json!({"both": "2-web:hunter2"}));
    assert!(!format!("{:?}", objects[1].value()).contains("hunter2"));
}

#[test]
fn what_the_hub_reads_must_be_known_to_it() {
    let from = "{substituteFrom: [{kind: Secret, name: keys}]}";
    let child = unit("child", FLEET, "  path: '${where}'\n");
    assert_eq!(
        rendered(&[apps(from), ("apps/child.yaml", child)]),
        Err("apps/child.yaml:1: post build: ${where} is known to the cluster only (Secret flux-system/keys); a \
             Kustomization is read at the hub: set it by spec.postBuild.substitute or in a ConfigMap of the fleet repo"
            .into())
    );
    assert_eq!(
        rendered(&[apps(from), ("apps/m.yaml", config_map("'x-${where}'"))]),
        Err("apps/m.yaml:1: post build: ${where} is known to the cluster only (Secret flux-system/keys); kind, name and \
             namespace must not depend on it: set it by spec.postBuild.substitute or in a ConfigMap of the fleet repo"
            .into())
    );
    let known = [
        apps("{substitute: {where: deep}}"),
        ("apps/child.yaml", unit("child", FLEET, "  path: '${where}'\n")),
        ("deep/m.yaml", config_map("m")),
    ];
    assert_eq!(World::new(&[]).shown(&known), ["root: 0", "apps: 0", "child: 1"]);
}

#[test]
fn what_is_not_acted_on_is_a_notice_whatever_the_cluster_would_put_in() {
    let alert = "apiVersion: notification.toolkit.fluxcd.io/v1beta3\nkind: Provider\nmetadata: {name: chat, namespace: \
                 flux-system}\nspec: {type: slack, address: '${where}'}\n";
    let files = [
        apps("{substituteFrom: [{kind: Secret, name: keys}]}"),
        ("apps/alert.yaml", alert.to_owned()),
        ("apps/m.yaml", config_map("m")),
    ];
    let shown = World::new(&[]).shown(&files);
    assert_eq!(shown[1], "apps: 1 apps/alert.yaml:1: Provider flux-system/chat is not acted on yet");
}

#[test]
fn a_config_map_may_come_from_a_unit_that_is_rendered_later() {
    let files = [
        apps("{substituteFrom: [{kind: ConfigMap, name: vars}]}"),
        ("apps/m.yaml", map("m", "{a: '${x}'}")),
        ("clusters/x/zone.yaml", unit("zone", FLEET, "  path: zone\n  postBuild: {substitute: {v: late}}\n")),
        ("zone/vars.yaml", map("vars", "{x: '${v}'}")),
    ];
    assert_eq!(rendered(&files).unwrap()[0].value()["data"], json!({"a": "late"}));
    // Two that wait for each other: one of them has to ask the cluster.
    let circle = [
        apps("{substituteFrom: [{kind: ConfigMap, name: vars}]}"),
        ("apps/m.yaml", map("m", "{a: '${x}'}")),
        (
            "clusters/x/zone.yaml",
            unit(
                "zone",
                FLEET,
                "  path: zone\n  postBuild: {substituteFrom: [{kind: ConfigMap, name: m}]}\n",
            ),
        ),
        ("zone/vars.yaml", map("vars", "{x: y}")),
    ];
    let objects = rendered(&circle).unwrap();
    assert!(ObjectTemplate::of(&objects[0]).is_some());
    // What is applied is not what Git says: only the cluster can tell.
    let loose = map("vars", "{x: y}")
        .replace("flux-system}", "flux-system, annotations: {kustomize.toolkit.fluxcd.io/ssa: Merge}}");
    let files = [
        apps("{substituteFrom: [{kind: ConfigMap, name: vars}]}"),
        ("apps/m.yaml", map("m", "{a: '${x}'}")),
        ("clusters/x/vars.yaml", loose),
    ];
    assert!(ObjectTemplate::of(&rendered(&files).unwrap()[0]).is_some());
}

#[test]
fn wrong_names_and_encrypted_values_are_refused() {
    for (post_build, vars, expected) in [
        (
            "{substitute: {a-b: x}}",
            "{}",
            "clusters/x/apps.yaml:9:27: spec.postBuild.substitute: 'a-b' cannot name a variable: use letters, digits and '_'",
        ),
        (
            "{substituteFrom: [{kind: Deployment, name: x}]}",
            "{}",
            "clusters/x/apps.yaml:9:39: spec.postBuild.substituteFrom[0].kind: 'Deployment' is none of ConfigMap, Secret",
        ),
        (
            "{substituteFrom: [{kind: ConfigMap, name: vars}]}",
            "{a.b: x}",
            "clusters/x/apps.yaml:1: spec.postBuild.substituteFrom: ConfigMap flux-system/vars: 'a.b' cannot name a variable: use letters, digits and '_'",
        ),
        (
            "{substitute: {a: 'ENC[AES256_GCM,data:x]'}}",
            "{}",
            "clusters/x/apps.yaml:1: spec.postBuild.substitute: a value is encrypted by SOPS; variables have to stand in clear, or in a Secret",
        ),
    ] {
        let vars = [("clusters/x/vars.yaml", map("vars", vars))];
        assert_eq!(data(post_build, "{a: b}", &vars), Err(expected.into()));
    }
    let encrypted = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: 'ENC[AES256_GCM,data:x]'}\nsops: {mac: x}\n";
    assert_eq!(
        rendered(&[
            ("clusters/x/apps.yaml", unit("apps", FLEET, "  path: apps\n")),
            ("apps/s.yaml", encrypted.to_owned())
        ]),
        Err("apps/s.yaml:1: is encrypted by SOPS, and the Kustomization that applies it has no spec.decryption; nothing of \
             it is applied"
            .into())
    );
}

#[test]
fn a_root_takes_variables_where_it_says_so() {
    let root = |more: &str| {
        let files = [
            ("clusters/x/cluster.yaml", format!("{CLUSTER}spec: {{variables: {{region: eu}}{more}}}\n")),
            ("clusters/x/m.yaml", map("m", "{a: '${region}'}")),
        ];
        let render = World::new(&[]).render(&files);
        render.units[&UnitId::root()].unit.as_ref().unwrap().content.objects[0].value()["data"]["a"].clone()
    };
    assert_eq!(root(""), json!("${region}"));
    assert_eq!(root(", substitute: true"), json!("eu"));
    // The Kustomization that Flux applies the path by, with a ConfigMap of the same path.
    let own = unit(
        "flux-system",
        FLEET,
        "  path: clusters/x\n  postBuild: {substituteFrom: [{kind: ConfigMap, name: vars}]}\n",
    );
    let files = [
        ("clusters/x/own.yaml", own),
        ("clusters/x/vars.yaml", map("vars", "{region: us}")),
        ("clusters/x/m.yaml", map("m", "{a: '${region}'}")),
    ];
    let render = World::new(&[]).render(&files);
    let objects = &render.units[&UnitId::root()].unit.as_ref().unwrap().content.objects;
    assert_eq!(objects[0].value()["data"]["a"], json!("us"));
}

#[test]
fn clusters_share_the_build_and_not_the_values() {
    let world = World::new(&[]);
    let files = |region: &str| {
        [
            ("clusters/x/cluster.yaml", format!("{CLUSTER}spec: {{variables: {{region: {region}}}}}\n")),
            apps("{}"),
            ("apps/m.yaml", map("m", "{a: '${region}'}")),
        ]
    };
    let value = |region: &str| {
        let render = world.render(&files(region));
        let apps = render.units[&UnitId::kustomization("flux-system", "apps")].unit.clone().unwrap();
        apps.content.objects[0].value()["data"]["a"].clone()
    };
    assert_eq!(value("eu"), json!("eu"));
    let builds = world.cache.builds();
    assert_eq!(value("us"), json!("us"));
    assert_eq!(world.cache.builds(), builds + 1, "the root's file changed, the apps' did not");
}

#[test]
fn variables_do_not_name_two_objects_the_same() {
    let named = |first: &str, second: &str| {
        rendered(&[
            apps("{substitute: {env: prod}}"),
            ("apps/a.yaml", map(first, "{a: b}")),
            ("apps/b.yaml", map(second, "{a: b}")),
        ])
    };
    assert_eq!(
        named("'${env}-m'", "prod-m"),
        Err("apps/b.yaml:1: post build: the variables name two objects ConfigMap prod-m; the other one is at apps/a.yaml:1"
            .into())
    );
    assert!(named("prod-m", "'${none:=prod}-m'").is_err());
    assert_eq!(named("'${env}-m'", "'${env}-n'").unwrap().len(), 2);
    let other_namespace = map("prod-m", "{a: b}").replace("flux-system", "elsewhere");
    let files = [
        apps("{substitute: {env: prod}}"),
        ("apps/a.yaml", map("'${env}-m'", "{}")),
        ("apps/b.yaml", other_namespace),
    ];
    assert_eq!(rendered(&files).unwrap().len(), 2);
}

#[test]
fn a_root_that_says_something_else_of_itself_in_each_build_is_held() {
    let files = |value: &str| {
        let own = format!("  path: clusters/x\n  postBuild: {{substitute: {{a: '{value}'}}}}\n");
        [
            ("clusters/x/own.yaml", unit("flux-system", FLEET, &own)),
            ("clusters/x/m.yaml", map("m", "{a: '${a:-none}'}")),
        ]
    };
    assert_eq!(World::new(&[]).shown(&files("x")), ["root: 1"]);
    assert_eq!(World::new(&[]).shown(&files("${a:-x}")), ["root: 1"]);
    let shown = World::new(&[]).shown(&files("${a:-x}y"));
    assert!(shown[0].contains("was another thing in each of 8 builds"), "{shown:?}");
}

#[test]
fn the_roots_own_kustomization_may_have_any_name() {
    let files = |name: &str, more: &str| {
        let own = "  path: clusters/x\n  postBuild: {substitute: {region: us}}\n";
        [
            ("clusters/x/own.yaml", unit(name, FLEET, own)),
            ("clusters/x/m.yaml", map("'m-${region:-none}'", "{}")),
            (
                "clusters/x/app.yaml",
                unit("app", FLEET, &format!("  path: app\n  dependsOn: [{{name: {name}}}]\n")),
            ),
            ("clusters/x/more.yaml", more.to_owned()),
            ("app/m.yaml", map("app", "{}")),
        ]
    };
    for name in ["flux-system", "prod"] {
        let render = World::new(&[]).render(&files(name, ""));
        assert_eq!(shown(&render), ["root: 1", "app: 1"]);
        let root = render.units[&UnitId::root()].unit.as_ref().unwrap();
        assert_eq!(root.content.objects[0].id().name, "m-us");
    }
    // Of two, neither is known to be it.
    let again = unit("again", FLEET, "  path: clusters/x\n");
    let render = World::new(&[]).render(&files("prod", &again));
    let root = render.units[&UnitId::root()].unit.as_ref().unwrap();
    assert_eq!(root.content.objects[0].id().name, "m-${region:-none}");
}

/// Clusters share what their variables do not change: objects in memory, and manifests whole.
#[test]
fn what_is_the_same_in_two_clusters_is_there_once() {
    let cluster = |name: &str| {
        let text = format!(
            "apiVersion: flotilla.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}}}\nspec: {{path: fleet, variables: {{site: {name}}}}}\n"
        );
        (format!("clusters/{name}.yaml"), text)
    };
    let apps = |name: &str, more: &str| unit(name, FLEET, &format!("  path: apps/{name}\n{more}"));
    let own = map("plain", "{a: b}") + "---\n" + &map("own", "{a: '${site}'}");
    let file = |(path, text): (&str, String)| (path.to_owned(), text);
    let files = [
        ("fleet/own.yaml", apps("own", "  postBuild: {substitute: {tier: web}}\n")),
        ("fleet/same.yaml", apps("same", "")),
        ("apps/own/own.yaml", own),
        ("apps/same/same.yaml", map("same", "{a: b}")),
    ];
    let files = files.map(file).into_iter().chain([cluster("one"), cluster("two")]).collect();
    let world = World::new(&[]);
    let renders = ["one", "two"].map(|name| world.render_in(name, &files));
    let [one, two] = renders.each_ref().map(|render| {
        let of = |name: &str| render.units[&UnitId::kustomization("flux-system", name)].unit.clone().unwrap();
        (of("own"), of("same"))
    });
    let is_shared = |name: &str| {
        let [one, two] =
            [&one, &two].map(|(own, _)| own.content.objects.iter().find(|o| o.id().name == name).unwrap());
        one.body().as_ptr() == two.body().as_ptr()
    };
    assert!(is_shared("plain") && !is_shared("own"));
    assert!(std::sync::Arc::ptr_eq(&one.1.manifest, &two.1.manifest));
    assert_ne!(one.0.manifest, two.0.manifest);
}
