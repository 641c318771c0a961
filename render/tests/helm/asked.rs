//! When helm is asked, and when it is asked again.

use flotilla_core::UnitId;
use flotilla_core::unit::DriftMode;
use flotilla_render::helm::TemplateRequest;
use flotilla_render::source::Revision;
use serde_json::json;

use super::{CHART, REPOSITORY, World, config_map, files, held, objects, release, unit, web};

#[test]
fn a_chart_is_asked_once_the_releases_before_it_are_there() {
    let unit = |name: &str, more: &str| {
        format!(
            "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: {name}, namespace: \
             apps}}\nspec:\n  prune: true\n  interval: 1m\n  path: {name}\n  sourceRef: {{kind: GitRepository, name: \
             flux-system, namespace: flux-system}}\n{more}"
        )
    };
    let web = release("web", &format!("{CHART}  dependsOn: [{{name: between}}]\n"));
    let mut files = vec![
        ("clusters/x/repository.yaml", REPOSITORY.to_owned()),
        ("clusters/x/a.yaml", unit("apps", "  dependsOn: [{name: infra}]\n")),
        ("clusters/x/b.yaml", unit("infra", "")),
        ("apps/web.yaml", web),
        ("apps/between.yaml", release("between", CHART)),
        ("infra/crds.yaml", release("crds", CHART)),
        ("infra/other.yaml", release("other", CHART)),
    ];
    let definition = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: \
                      routes.example.org}\nspec:\n  group: example.org\n  names: {kind: Route}\n  versions: [{name: v1}]\n";
    let helm = |request: &TemplateRequest| {
        let knows = request.capabilities.api_versions.contains(&"example.org/v1/Route".parse().unwrap());
        match request.name.as_str() {
            "crds" => Ok(definition.to_owned()),
            "other" => Ok(String::new()),
            _ if knows => Ok(String::new()),
            name => Err(format!("{name} needs routes")),
        }
    };
    let world = World::default();
    let (render, asked) = world.render(&files, helm);
    let turns: Vec<&str> = asked.iter().map(|request| request.name.as_str()).collect();
    assert_eq!(turns[2..], ["between", "web"], "{turns:?}");
    let problems: Vec<_> = render.units.values().flat_map(|unit| &unit.problems).collect();
    assert!(problems.is_empty(), "{problems:?}");

    // What does not render holds nobody: those that come after it are rendered without what it would bring.
    let world = World::default();
    let refuse = |request: &TemplateRequest| match request.name.as_str() {
        "crds" => Err("no".into()),
        _ => Ok(String::new()),
    };
    let (render, asked) = world.render(&files, refuse);
    assert_eq!(asked.len(), 4);
    let web: UnitId = "helmrelease/apps/web".parse().unwrap();
    assert!(render.units[&web].unit.is_some(), "{:?}", render.units[&web]);
    // They are rendered again when it does render: none of them was applied before it.
    world.kept.0.lock().unwrap().retain(|_, answer| answer.is_ok());
    let (render, asked) = world.render(&files, helm);
    let turns: Vec<&str> = asked.iter().map(|request| request.name.as_str()).collect();
    assert_eq!(turns, ["crds", "between", "web"]);
    assert!(render.units.values().all(|unit| unit.unit.is_some()));
    // What it put out once counts, though it is held now: nothing is rendered anew.
    world.kept.0.lock().unwrap().retain(|_, text| text.as_deref().is_ok_and(|text| !text.contains("Route")));
    let (render, asked) = world.render(&files, refuse);
    assert_eq!(asked.len(), 1);
    assert!(render.units[&web].unit.is_some());

    // In a circle nobody is first.
    files[6].1 = release("other", &format!("{CHART}  dependsOn: [{{name: web}}]\n"));
    let circle = release("web", &format!("{CHART}  dependsOn: [{{name: other}}]\n"));
    files[3].1 = circle;
    let (render, _) = World::default().render(&files, helm);
    assert!(render.units[&web].unit.is_none());
}

#[test]
fn a_release_is_a_unit_with_what_helm_answers() {
    let world = World::default();
    let spec = format!(
        "{CHART}  targetNamespace: shop\n  values: {{replicas: 2}}\n  dependsOn: [{{name: db}}]\n  timeout: 2m\n"
    );
    let mut all = files(&spec, "");
    all.push(("clusters/x/db.yaml", release("db", CHART)));

    let first = world.once(&all);
    assert!(held(&first)[0].message.contains("comes after helmrelease/apps/db"), "{:?}", held(&first));
    assert_eq!(first.requests.values().map(|asked| asked.request.name.as_str()).collect::<Vec<_>>(), ["db"]);
    let (render, asked) = world.render(&all, config_map);
    let request = asked.iter().find(|request| request.name.as_str() == "shop-web").unwrap();
    assert_eq!(
        (request.namespace.as_str(), &request.values),
        ("shop", json!({"replicas": 2}).as_object().unwrap())
    );
    assert_eq!(request.chart.path.as_str(), "web");
    assert_eq!(request.capabilities.kube_version.as_str(), "v1.36.3");
    let expected = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shop-web", "namespace": "shop"},
        "data": {"values": "{\"replicas\":2}"},
    });
    assert_eq!(objects(&render), [expected]);
    let spec = unit(&render).manifest.spec.clone();
    assert_eq!(spec.depends_on, [UnitId::helm_release("apps", "db")]);
    assert_eq!((spec.timeout, spec.interval, spec.wait, spec.prune), (120, 60, true, true));
    assert_eq!(spec.drift, DriftMode::Report, "without drift detection nothing is put back");
    assert_eq!(
        render.sources.keys().map(ToString::to_string).collect::<Vec<_>>(),
        ["HelmRepository/apps/charts", "HelmChart/apps/apps-db", "HelmChart/apps/apps-web",]
    );
    assert_eq!(render.units[&web()].revision, Some(Revision::Of("1.2.3".into())));
}

#[test]
fn helm_runs_again_for_what_changes_the_answer_and_for_nothing_else() {
    let world = World::default();
    let base = format!("{CHART}  values: {{a: 1, b: {{c: 2}}}}\n");
    let crd = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: \
               monitors.example.org}\nspec: {group: example.org, names: {kind: Monitor}, versions: [{name: v1, \
               served: true}, {name: v0, served: false}]}\n";
    assert_eq!(world.render(&files(&base, ""), config_map).1.len(), 1);
    for (what, spec, more, runs) in [
        ("nothing", base.clone(), "", 0),
        ("order and style of values", format!("{CHART}  values:\n    b:\n      c: 2\n    a: 1\n"), "", 0),
        ("interval and timeout", format!("{base}  timeout: 9m\n"), "", 0),
        ("a new API in the cluster", base.clone(), crd, 0),
        ("post-renderers", format!("{base}  commonMetadata: {{labels: {{x: y}}}}\n"), "", 0),
        ("a value", format!("{CHART}  values: {{a: 2, b: {{c: 2}}}}\n"), "", 1),
        ("the name", format!("{base}  releaseName: other\n"), "", 1),
        ("the namespace", format!("{base}  releaseName: web\n  targetNamespace: other\n"), "", 1),
        ("back again", base.clone(), "", 0),
    ] {
        assert_eq!(world.render(&files(&spec, more), config_map).1.len(), runs, "{what}");
    }
    let asked = World::default().render(&files(&base, crd), config_map).1;
    let apis = &asked[0].capabilities.api_versions;
    assert!(
        apis.is_sorted() && !apis.iter().any(|api| api.as_str().starts_with("example.org/v0")),
        "{apis:?}"
    );
    for served in ["example.org/v1", "example.org/v1/Monitor", "networking.k8s.io/v1/Ingress", "v1/Secret"] {
        assert!(apis.iter().any(|api| api.as_str() == served), "{served}: {apis:?}");
    }
}

#[test]
fn values_of_a_unit_that_does_not_render_any_more_stay() {
    let unit = "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: values, namespace: \
                apps}\nspec: {interval: 1m, prune: true, path: values, sourceRef: {kind: GitRepository, name: \
                flux-system, namespace: flux-system}}\n";
    let values = "apiVersion: v1\nkind: Secret\nmetadata: {name: stored, namespace: apps}\nstringData: {values.yaml: \
                  'auth: {user: git}'}\n";
    let from = "  valuesFrom: [{kind: Secret, name: stored, optional: true}]\n";
    let world = World::default();
    let mut all = files(&format!("{CHART}{from}"), unit);
    all.push(("values/values.yaml", values.to_owned()));
    let (_, asked) = world.render(&all, config_map);
    assert_eq!(asked[0].values["auth"], json!({"user": "git"}), "Git's goes before the hub's");
    all[3].1 = "broken: [".to_owned();
    let (render, asked) = world.render(&all, config_map);
    assert!(render.units[&UnitId::kustomization("apps", "values")].unit.is_none());
    assert!(
        asked.is_empty() && render.units[&web()].unit.is_some(),
        "nothing is rendered with other values in their place"
    );
}

#[test]
fn the_author_may_have_a_release_rendered_anew() {
    let world = World::default();
    let mut all = files(CHART, "");
    for (annotation, runs) in
        [("", 1), ("flotilla.dev/render: '2'", 1), ("flotilla.dev/render: '2'", 0), ("", 0)]
    {
        all[1].1 = release("web", CHART)
            .replace("namespace: apps}", &format!("namespace: apps, annotations: {{{annotation}}}}}"));
        assert_eq!(world.render(&all, config_map).1.len(), runs, "{annotation}");
    }
}

/// Nobody would ever fetch such a chart, so nobody is to wait for it.
#[test]
fn a_chart_of_a_repository_that_nobody_defines_is_wrong() {
    let chart = "apiVersion: source.toolkit.fluxcd.io/v1\nkind: HelmChart\nmetadata: {name: own, namespace: flux-system}\nspec: \
                 {interval: 1m, chart: x, sourceRef: {kind: HelmRepository, name: nope}}\n";
    for spec in [
        "  chart: {spec: {chart: x, sourceRef: {kind: HelmRepository, name: nope, namespace: flux-system}}}\n",
        "  chart: {spec: {chart: x, sourceRef: {kind: Bucket, name: nope, namespace: flux-system}}}\n",
        "  chartRef: {kind: HelmChart, name: own, namespace: flux-system}\n",
    ] {
        let mut all = files(spec, "");
        all.push(("clusters/x/chart.yaml", chart.to_owned()));
        let (render, asked) = World::default().render(&all, config_map);
        let [problem] = &held(&render)[..] else { panic!("{spec}: {:?}", held(&render)) };
        assert!(asked.is_empty() && !problem.waiting, "{spec}: {problem}");
        assert!(problem.message.ends_with("/flux-system/nope is not defined in this cluster"), "{problem}");
    }
}

#[test]
fn a_chart_of_the_fleet_repo_needs_no_fetch() {
    let spec = "  chart:\n    spec: {chart: ./charts/own, sourceRef: {kind: GitRepository, name: flux-system, namespace: \
                flux-system}}\n";
    let mut all = files(spec, "");
    all.push(("charts/own/Chart.yaml", "name: own\n".to_owned()));
    let (render, asked) = World::default().render(&all, config_map);
    assert_eq!((asked[0].chart.path.as_str(), objects(&render).len()), ("charts/own", 1));
    all.pop();
    let (render, _) = World::default().render(&all, config_map);
    assert!(held(&render)[0].message.contains("no Chart.yaml in charts/own"), "{:?}", held(&render));
}

#[test]
fn a_version_that_is_none_holds_the_releases_of_its_cluster() {
    let world = World { kubernetes: "v1.36.3 --set-file=a=/x", ..World::default() };
    let (render, asked) = world.render(&files(CHART, ""), config_map);
    assert!(held(&render)[0].message.contains("cannot be used"), "{:?}", held(&render));
    assert!(asked.is_empty());
}
