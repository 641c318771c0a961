//! HelmReleases: what helm is asked, when it is asked again, and what becomes of its answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use flotilla_core::report::Problem;
use flotilla_core::source::{ArtifactGenerator, Source};
use flotilla_core::unit::DriftMode;
use flotilla_core::{Digest, UnitId};
use flotilla_kustomize::files::{MemoryFiles, TreePath};
use flotilla_render::helm::{Asked, Renders, TemplateRequest};
use flotilla_render::source::Revision;
use flotilla_render::{
    Artifact, ClusterDefinition, ClusterRender, Content, Inputs, RenderCache, RenderedUnit, Sources,
    Unavailable, Unit, render_cluster,
};
use serde_json::{Value, json};

mod installed;

/// A chart from a repository is there at once, whatever its name.
struct Charts;

impl Sources for Charts {
    fn content(&self, source: &Source) -> Result<Artifact, Unavailable> {
        let files = MemoryFiles::new([
            ("web/Chart.yaml", "name: web\n"),
            ("web/values.yaml", "a: 1\n"),
            ("web/small.yaml", "size: 1\nkeep: true\n"),
            ("web/large.yaml", "size: 9\n"),
        ]);
        Ok(Artifact::new(Arc::new(files), "1.2.3", &source.id.to_string()))
    }

    fn generate(
        &self,
        _: &ArtifactGenerator,
        _: &BTreeMap<String, Artifact>,
    ) -> Result<BTreeMap<String, Artifact>, Unavailable> {
        Err(Unavailable::new("no generators here"))
    }

    fn secret(&self, namespace: &str, name: &str) -> Result<Option<BTreeMap<String, Vec<u8>>>, Unavailable> {
        let data = |key: &str, value: &[u8]| Ok(Some(BTreeMap::from([(key.to_owned(), value.to_owned())])));
        match (namespace, name) {
            ("apps", "stored" | "access") => data("values.yaml", b"auth: {user: hub}"),
            ("apps", "bytes") => data("values.yaml", b"\xff"),
            ("apps", "sops") => data("values.yaml", b"a: ENC[AES256_GCM,data:x]"),
            ("apps", "locked") => Err(Unavailable::new("does not open")),
            _ => Ok(None),
        }
    }
}

#[derive(Default)]
struct Kept(Mutex<BTreeMap<Digest, Result<Arc<str>, String>>>);

impl Renders for Kept {
    fn get(&self, key: Digest) -> Option<Result<Arc<str>, String>> {
        self.0.lock().unwrap().get(&key).cloned()
    }
}

struct World {
    /// What the agent says.
    kubernetes: &'static str,
    cache: RenderCache,
    kept: Kept,
    /// What the cluster says.
    drift: DriftMode,
    /// What units put out when they last could.
    last: Mutex<BTreeMap<UnitId, Arc<Content>>>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            kubernetes: "v1.36.3",
            cache: RenderCache::default(),
            kept: Kept::default(),
            drift: DriftMode::default(),
            last: Mutex::default(),
        }
    }
}

impl World {
    fn once(&self, files: &[(&str, String)]) -> ClusterRender {
        let clusters = TreePath::from_root("clusters").unwrap();
        let root = TreePath::from_root("clusters/x").unwrap();
        let mut cluster = ClusterDefinition::of_folder("x".parse().unwrap(), root);
        cluster.policy.drift = self.drift;
        let files = MemoryFiles::new(files.iter().map(|(path, content)| (*path, content.as_str())));
        let fleet = Artifact::new(Arc::new(files), "main@sha1:1", "fleet");
        self.cache.begin_round();
        let last_good = |id: &UnitId| self.last.lock().unwrap().get(id).cloned();
        let inputs = Inputs {
            renders: &self.kept,
            last_good: &last_good,
            kube_version: Some(self.kubernetes),
            ..Inputs::new(&fleet, &clusters, &self.cache, &Charts)
        };
        let render = render_cluster(&inputs, &cluster).unwrap();
        let good = |(id, unit): (&UnitId, &Arc<RenderedUnit>)| {
            Some((id.clone(), unit.unit.as_ref()?.content.clone()))
        };
        self.last.lock().unwrap().extend(render.units.iter().filter_map(good));
        render
    }

    /// Renders until helm has answered everything; gives what it was asked too.
    fn render(
        &self,
        files: &[(&str, String)],
        helm: impl Fn(&TemplateRequest) -> Result<String, String>,
    ) -> (ClusterRender, Vec<TemplateRequest>) {
        let mut asked = Vec::new();
        loop {
            let render = self.once(files);
            if render.requests.is_empty() {
                return (render, asked);
            }
            for (key, Asked { request, .. }) in render.requests {
                self.kept.0.lock().unwrap().insert(key, helm(&request).map(Into::into));
                asked.push(request);
            }
        }
    }
}

fn release(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {{name: {name}, namespace: \
         apps}}\nspec:\n  interval: 1m\n{spec}"
    )
}

const CHART: &str =
    "  chart:\n    spec: {chart: web, version: 1.x, sourceRef: {kind: HelmRepository, name: charts}}\n";
const REPOSITORY: &str = "apiVersion: source.toolkit.fluxcd.io/v1\nkind: HelmRepository\nmetadata: {name: charts, \
                          namespace: apps}\nspec: {interval: 1m, url: https://example.org/charts}\n";

fn files(spec: &str, more: &str) -> Vec<(&'static str, String)> {
    vec![
        ("clusters/x/repository.yaml", REPOSITORY.to_owned()),
        ("clusters/x/web.yaml", release("web", spec)),
        ("clusters/x/more.yaml", more.to_owned()),
    ]
}

fn config_map(request: &TemplateRequest) -> Result<String, String> {
    Ok(format!(
        "---\n# Source: web/templates/config.yaml\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {}\ndata:\n  \
         values: '{}'\n",
        request.name,
        Value::Object(request.values.clone())
    ))
}

fn web() -> UnitId {
    UnitId::helm_release("apps", "web")
}

fn unit(render: &ClusterRender) -> Unit {
    let unit = &render.units[&web()];
    unit.unit.clone().unwrap_or_else(|| panic!("held: {:?}", unit.problems))
}

fn objects(render: &ClusterRender) -> Vec<Value> {
    unit(render).content.objects.iter().map(|object| object.value()).collect()
}

fn held(render: &ClusterRender) -> Vec<Problem> {
    let unit = &render.units[&web()];
    assert!(unit.unit.is_none(), "it rendered");
    unit.problems.clone()
}

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

#[test]
fn values_come_in_order_from_what_the_cluster_is_given() {
    let more = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: defaults, namespace: apps}\ndata:\n  values.yaml: |\n    \
                a: 1\n    b: {c: 1, d: 1}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: access, namespace: \
                apps}\nstringData: {password: 'x,y'}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: loose, \
                namespace: apps, annotations: {kustomize.toolkit.fluxcd.io/ssa: IfNotPresent}}\ndata: {values.yaml: \
                '{}'}\n";
    let from = "  valuesFrom:\n  - {kind: ConfigMap, name: defaults}\n  - {kind: Secret, name: access, valuesKey: \
                password, targetPath: auth.password, literal: true}\n  - {kind: ConfigMap, name: nowhere, optional: \
                true}\n  - {kind: Secret, name: access, valuesKey: none, optional: true}\n  values: {b: {c: 2}}\n";
    // Nobody here knows whether the cluster has it.
    let mut all = files(&format!("{CHART}{from}"), more);
    let (render, asked) = World::default().render(&all, config_map);
    let problem = &held(&render)[0];
    assert!(problem.message.contains("ConfigMap/nowhere is in nothing that is rendered"), "{problem:?}");
    assert!(problem.message.contains("flotilla.dev/absent: ConfigMap/nowhere"), "{problem:?}");
    assert!(asked.is_empty());
    let annotated = |names: &str| {
        release("web", &format!("{CHART}{from}")).replace(
            "namespace: apps}",
            &format!("namespace: apps, annotations: {{flotilla.dev/absent: '{names}'}}}}"),
        )
    };
    for (names, says) in [
        ("nowhere", "'nowhere' is not of the form Secret/NAME"),
        ("ConfigMap/nowhere,", "'' is not of the form"),
        ("Pod/nowhere", "not of the form"),
        ("Secret/nowhere", "ConfigMap/nowhere is in nothing"),
    ] {
        all[1].1 = annotated(names);
        let (render, asked) = World::default().render(&all, config_map);
        assert!(held(&render)[0].message.contains(says), "{names}: {:?}", held(&render));
        assert!(asked.is_empty());
    }
    all[1].1 = annotated("Secret/other, ConfigMap/nowhere");
    let (render, asked) = World::default().render(&all, config_map);
    let expected = json!({"a": 1, "b": {"c": 2, "d": 1}, "auth": {"password": "x,y"}});
    assert_eq!(Value::Object(asked[0].values.clone()), expected);
    assert!(asked[0].from_secrets && render.units[&web()].problems.is_empty());
    let run = unit(&render).manifest.spec.render.map(|render| render.key);
    assert_eq!(run, Some(asked[0].key()), "the agent knows what it runs");

    // What the hub keeps counts where the cluster's units do not have it.
    let from = "  valuesFrom:\n  - {kind: Secret, name: stored}\n  - {kind: Secret, name: access, valuesKey: password, \
                targetPath: auth.password, literal: true}\n";
    let (_, asked) = World::default().render(&files(&format!("{CHART}{from}"), more), config_map);
    assert_eq!(asked[0].values["auth"], json!({"user": "hub", "password": "x,y"}));

    for (from, says) in [
        ("[{kind: ConfigMap, name: nowhere}]", "ConfigMap/nowhere is in nothing that is rendered"),
        ("[{kind: ConfigMap, name: defaults, valuesKey: x}]", "has no key 'x'"),
        ("[{kind: Secret, name: access, valuesKey: password}]", "'password': line 1 is no YAML mapping"),
        (
            "[{kind: Secret, name: access, valuesKey: password, targetPath: 'a['}]",
            "cannot be used at its targetPath",
        ),
        ("[{kind: ConfigMap, name: defaults, targetPath: 'a['}]", "is not an index"),
        ("[{kind: ConfigMap, name: stored}]", "ConfigMap/stored is in nothing that is rendered"),
        (
            "[{kind: ConfigMap, name: loose, optional: true}]",
            "ConfigMap/loose: is completed or changed in the cluster",
        ),
        ("[{kind: Secret, name: nowhere}]", "`flotilla secret create generic` keeps one"),
        ("[{kind: Secret, name: bytes}]", "Secret/bytes, key 'values.yaml': is not UTF-8 text"),
        ("[{kind: Secret, name: bytes, optional: true}]", "key 'values.yaml': is not UTF-8 text"),
        ("[{kind: Secret, name: sops}]", "is encrypted by SOPS"),
        ("[{kind: Secret, name: locked, optional: true}]", "Secret/locked: does not open"),
        ("[{kind: Pod, name: x}]", "'Pod' is none of Secret, ConfigMap"),
    ] {
        let (render, asked) =
            World::default().render(&files(&format!("{CHART}  valuesFrom: {from}\n"), more), config_map);
        let problem = &held(&render)[0];
        assert!(
            problem.message.contains(says) && problem.field.starts_with("spec.valuesFrom"),
            "{problem:?}"
        );
        assert_eq!((problem.file.as_str(), asked.len()), ("clusters/x/web.yaml", 0));
    }
}

#[test]
fn inline_values_are_those_of_the_api_server_and_files_are_read_as_helm_does() {
    for (text, inline, file) in [
        ("a: yes", json!({"a": "yes"}), json!({"a": true})),
        ("a: 'yes'", json!({"a": "yes"}), json!({"a": "yes"})),
        ("on: n", json!({"on": "n"}), json!({"true": false})),
        ("a: 2024-01-01", json!({"a": "2024-01-01T00:00:00Z"}), json!({"a": "2024-01-01"})),
        (
            "a: [0755, 0x1F, 1.50, 12:30]",
            json!({"a": [493, 31, 1.5, "12:30"]}),
            json!({"a": [493, 31, 1.5, "12:30"]}),
        ),
        ("a: {b: !!binary aGk=}", json!({"a": {"b": "hi"}}), json!({"a": {"b": "hi"}})),
        ("a: {b: , c: ~}", json!({"a": {"b": "", "c": null}}), json!({"a": {"b": null, "c": null}})),
        ("a: 9007199254740993", json!({"a": 9007199254740992_i64}), json!({"a": 9007199254740992_i64})),
        (
            "a: [-12345678901234567]",
            json!({"a": [-12345678901234568_i64]}),
            json!({"a": [-12345678901234568_i64]}),
        ),
    ] {
        let (_, asked) =
            World::default().render(&files(&format!("{CHART}  values: {{{text}}}\n"), ""), config_map);
        assert_eq!(Value::Object(asked[0].values.clone()), inline, "{text} inline");
        let map = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: v, namespace: apps}}\ndata:\n  values.yaml: |\n    {text}\n"
        );
        let from = format!("{CHART}  valuesFrom: [{{kind: ConfigMap, name: v}}]\n");
        let (_, asked) = World::default().render(&files(&from, &map), config_map);
        assert_eq!(Value::Object(asked[0].values.clone()), file, "{text} in a file");
    }
}

#[test]
fn values_files_take_the_place_of_the_charts_own() {
    let chart = |files: &str| CHART.replace("version: 1.x", &format!("version: 1.x, valuesFiles: {files}"));
    let (_, asked) = World::default().render(&files(&chart("[small.yaml, large.yaml]"), ""), config_map);
    let defaults = asked[0].chart.default_values.clone().map(Value::Object);
    assert_eq!(defaults, Some(json!({"size": 9, "keep": true})));
    let (render, _) = World::default().render(&files(&chart("[none.yaml]"), ""), config_map);
    assert!(held(&render)[0].message.contains("no file web/none.yaml"), "{:?}", held(&render));
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
fn crds_are_kept_and_post_renderers_leave_them_alone() {
    let output = "---\n# Source: web/crds/monitor.yaml\napiVersion: apiextensions.k8s.io/v1\nkind: \
                  CustomResourceDefinition\nmetadata: {name: monitors.example.org}\n---\n# Source: \
                  web/templates/all.yaml\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Service, metadata: \
                  {name: web}}\n- {apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: \
                  web}}\n---\n# Source: web/templates/test.yaml\napiVersion: v1\nkind: Pod\nmetadata: {name: t, \
                  annotations: {helm.sh/hook: test}}\n---\n# Source: web/templates/empty.yaml\n# nothing\n";
    let helm = |_: &TemplateRequest| Ok(output.to_owned());
    let spec = format!(
        "{CHART}  targetNamespace: apps\n  install: {{createNamespace: true}}\n  commonMetadata: {{labels: {{team: a}}}}\n  postRenderers: \
         [{{kustomize: {{patches: [{{target: {{kind: Service}}, patch: '[{{\"op\": \"add\", \
         \"path\": \"/spec\", \"value\": {{\"type\": \"NodePort\"}}}}]'}}]}}}}]\n"
    );
    let (render, _) = World::default().render(&files(&spec, ""), helm);
    let kept = json!({
        "kustomize.toolkit.fluxcd.io/prune": "disabled", "kustomize.toolkit.fluxcd.io/ssa": "IfNotPresent",
    });
    assert_eq!(
        objects(&render),
        [
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "apps", "annotations": kept}}),
            json!({
                "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": {"name": "monitors.example.org", "annotations": kept},
            }),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                "metadata": {"name": "web", "labels": {"team": "a"}},
            }),
            json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"name": "web", "namespace": "apps", "labels": {"team": "a"}}, "spec": {"type": "NodePort"},
            }),
        ]
    );
    let origins = &unit(&render).content.origins;
    assert_eq!(origins[1].0, "web/crds/monitor.yaml");
    assert_eq!(origins[2].0, "web/templates/all.yaml");

    for (policy, expected) in [
        ("install: {crds: Skip}", None),
        ("install: {crds: Skip}\n  upgrade: {crds: CreateReplace}", Some(1)),
        ("upgrade: {crds: Create}", Some(2)),
    ] {
        let (render, asked) = World::default().render(&files(&format!("{CHART}  {policy}\n"), ""), helm);
        let objects = objects(&render);
        let crd = objects.iter().find(|object| object["kind"] == "CustomResourceDefinition");
        let marks = crd.map(|crd| crd["metadata"]["annotations"].as_object().unwrap().len());
        assert_eq!((marks, asked[0].crds), (expected, expected.is_some()), "{policy}");
    }
}

#[test]
fn drift_is_corrected_where_the_release_asks_for_it() {
    for (detection, mode, rules) in [
        ("{mode: enabled}", DriftMode::Correct, 0),
        (
            "{mode: enabled, ignore: [{paths: [/spec/replicas], target: {kind: Deployment}}]}",
            DriftMode::Correct,
            1,
        ),
        ("{mode: warn}", DriftMode::Report, 0),
        ("{}", DriftMode::Report, 0),
    ] {
        let spec = format!("{CHART}  driftDetection: {detection}\n");
        let (render, _) = World::default().render(&files(&spec, ""), config_map);
        let spec = unit(&render).manifest.spec.clone();
        assert_eq!((spec.drift, spec.ignore.len()), (mode, rules), "{detection}");
    }
}

#[test]
fn what_a_release_says_of_its_drift_goes_over_what_the_cluster_says() {
    use DriftMode::{Correct, Ignore, Report};
    for (detection, annotation, expected) in [
        ("", None, [Report, Report, Ignore]),
        ("  driftDetection: {mode: disabled}\n", None, [Report, Report, Ignore]),
        ("  driftDetection: {mode: warn}\n", None, [Report; 3]),
        ("  driftDetection: {mode: enabled}\n", None, [Correct; 3]),
        ("  driftDetection: {mode: enabled}\n", Some("ignore"), [Ignore; 3]),
        ("", Some("correct"), [Correct; 3]),
    ] {
        for (drift, expected) in [Correct, Report, Ignore].into_iter().zip(expected) {
            let mut files = files(&format!("{CHART}{detection}"), "");
            if let Some(mode) = annotation {
                let with = format!("metadata: {{annotations: {{flotilla.dev/drift: {mode}}}, ");
                files[1].1 = files[1].1.replacen("metadata: {", &with, 1);
            }
            let (render, _) = World { drift, ..World::default() }.render(&files, config_map);
            assert_eq!(
                unit(&render).manifest.spec.drift,
                expected,
                "{detection} {annotation:?} in {drift:?}"
            );
        }
    }
}

#[test]
fn hooks_and_refusals_hold_the_release_by_name() {
    let hook = "---\n# Source: web/templates/job.yaml\napiVersion: batch/v1\nkind: Job\nmetadata: {name: migrate, \
                annotations: {helm.sh/hook: 'pre-install,pre-upgrade'}}\n";
    for (answer, says) in [
        (Ok(hook.to_owned()), "Job migrate (pre-install,pre-upgrade, web/templates/job.yaml)"),
        (Err("helm: values don't meet the schema".to_owned()), "don't meet the schema"),
        (Ok("---\n# Source: web/templates/x.yaml\na: [\n".to_owned()), "is no YAML"),
        (Ok("---\n# Source: web/templates/x.yaml\nkind: ConfigMap\n".to_owned()), "apiVersion"),
    ] {
        let (render, _) = World::default().render(&files(CHART, ""), |_| answer.clone());
        let problem = &held(&render)[0];
        assert!(problem.message.contains(says) && !problem.file.is_empty(), "{problem:?}");
    }
}

#[test]
fn what_is_not_supported_is_refused_at_its_line() {
    for (spec, says, line) in [
        (format!("{CHART}  kubeConfig: {{secretRef: {{name: x}}}}\n"), "has an agent of its own", 8),
        (
            format!("{CHART}  chartRef: {{kind: OCIRepository, name: x}}\n"),
            "one of spec.chart and spec.chartRef",
            5,
        ),
        ("  values: {}\n".to_owned(), "one of spec.chart and spec.chartRef", 5),
        (format!("{CHART}  typo: 1\n"), "'typo' is not a field here", 8),
        (format!("{CHART}  releaseName: {}\n", "x".repeat(54)), "is not a valid release name", 8),
        (
            format!("{CHART}  releaseName: --set-file=a=/x\n"),
            "'--set-file=a=/x' is not a valid release name",
            8,
        ),
        (format!("{CHART}  targetNamespace: --debug\n"), "'--debug' is not a valid namespace", 8),
        (format!("{CHART}  values: [1]\n"), "must be a mapping", 8),
        (format!("{CHART}  postRenderers: [{{kustomize: {{patches: 1}}}}]\n"), "must be a list", 8),
    ] {
        let (render, _) = World::default().render(&files(&spec, ""), config_map);
        let problem = &held(&render)[0];
        assert!(problem.message.contains(says), "{problem:?}");
        assert_eq!((problem.file.as_str(), problem.line), ("clusters/x/web.yaml", line), "{problem:?}");
    }
    let (render, _) =
        World::default().render(&files(&format!("{CHART}  test: {{enable: true}}\n"), ""), config_map);
    let notice = &render.units[&UnitId::root()].problems[0];
    assert!(notice.notice && notice.message.contains("has no effect"), "{notice:?}");
}

#[test]
fn the_namespace_in_git_counts() {
    let declared = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {team: a}}\n";
    let spec = format!("{CHART}  targetNamespace: shop\n  install: {{createNamespace: true}}\n");
    let namespaces = |render: &ClusterRender, id: &UnitId| {
        let unit = render.units[id].unit.clone().unwrap_or_else(|| panic!("{:?}", render.units[id]));
        assert_eq!(unit.content.objects.len(), unit.manifest.objects.len());
        assert_eq!(unit.content.objects.len(), unit.content.origins.len());
        unit.content.objects.iter().filter(|object| object.id().kind == "Namespace").count()
    };
    for (more, own, at_root) in [("", 1, 0), (declared, 0, 1), (&declared.replace("shop", "other"), 1, 1)] {
        let (render, _) = World::default().render(&files(&spec, more), config_map);
        assert_eq!(
            (namespaces(&render, &web()), namespaces(&render, &UnitId::root())),
            (own, at_root),
            "{more}"
        );
    }
    // Two that make it agree, and one that brings it in its chart makes none.
    let mut all = files(&spec, "");
    all.push(("clusters/x/other.yaml", release("other", &spec)));
    let (render, _) = World::default().render(&all, config_map);
    assert_eq!(
        (namespaces(&render, &web()), namespaces(&render, &UnitId::helm_release("apps", "other"))),
        (1, 1)
    );
    let (render, _) = World::default().render(&files(&spec, ""), |_| Ok(declared.to_owned()));
    assert_eq!(namespaces(&render, &web()), 1);
    // Without a namespace of its own there is nothing to make.
    let spec = format!("{CHART}  install: {{createNamespace: true}}\n");
    let (render, _) = World::default().render(&files(&spec, ""), config_map);
    assert_eq!(namespaces(&render, &web()), 0);
    let notice = &render.units[&UnitId::root()].problems[0];
    assert!(notice.notice && notice.message.contains("no effect without targetNamespace"), "{notice:?}");
    // What the fleet's own files declare counts, whatever account applies it.
    let tenant = "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: tenant, namespace: \
                  team}\nspec: {interval: 1m, prune: true, path: tenant, serviceAccountName: sa, sourceRef: {kind: \
                  GitRepository, name: flux-system, namespace: flux-system}}\n";
    let spec = format!("{CHART}  targetNamespace: shop\n  install: {{createNamespace: true}}\n");
    let mut all = files(&spec, tenant);
    all.push(("tenant/namespace.yaml", declared.to_owned()));
    let (render, _) = World::default().render(&all, config_map);
    assert_eq!(namespaces(&render, &web()), 0);
}

#[test]
fn charts_that_install_flux_are_left_out() {
    for (chart, path) in [
        ("flux-operator", "charts/flux-operator/Chart.yaml"),
        ("flux-instance", "charts/flux-instance/Chart.yaml"),
        ("flux2", "charts/flux2/Chart.yaml"),
    ] {
        let spec = format!(
            "  chart:\n    spec: {{chart: ./charts/{chart}, sourceRef: {{kind: GitRepository, name: flux-system, namespace: \
             flux-system}}}}\n"
        );
        let mut all = files(&spec, "");
        all.push((path, format!("name: {chart}\n")));
        let (render, asked) = World::default().render(&all, config_map);
        assert!(asked.is_empty() && unit(&render).content.objects.is_empty(), "{chart}");
        let notice = &render.units[&web()].problems[0];
        assert!(notice.notice && notice.message.contains("Flux's own"), "{notice:?}");
    }
}

#[test]
fn crds_that_are_templates_are_objects_like_the_others() {
    let output = "---\n# Source: own/templates/crds/things.yaml\napiVersion: apiextensions.k8s.io/v1\nkind: \
                  CustomResourceDefinition\nmetadata: {name: things.example.org}\n---\n# Source: \
                  own/charts/sub/crds/stray.yaml\napiVersion: v1\nkind: Service\nmetadata: {name: stray}\n";
    let (render, _) = World::default().render(&files(CHART, ""), |_| Ok(output.to_owned()));
    let expected = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.org"},
    });
    assert_eq!(objects(&render), [expected]);
    let notice = &render.units[&web()].problems[0];
    assert!(notice.notice && notice.message.starts_with("Service stray is in crds/"), "{notice:?}");
}

#[test]
fn a_version_that_is_none_holds_the_releases_of_its_cluster() {
    let world = World { kubernetes: "v1.36.3 --set-file=a=/x", ..World::default() };
    let (render, asked) = world.render(&files(CHART, ""), config_map);
    assert!(held(&render)[0].message.contains("cannot be used"), "{:?}", held(&render));
    assert!(asked.is_empty());
}

#[test]
fn fields_of_older_versions_mean_what_they_meant() {
    let chart =
        CHART.replace("version: 1.x", "version: 1.x, valuesFile: large.yaml, valuesFiles: [small.yaml]");
    let spec = format!(
        "{chart}  postRenderers: [{{kustomize: {{patchesStrategicMerge: [{{apiVersion: v1, kind: ConfigMap, metadata: \
         {{name: web}}, data: {{one: '1'}}}}], patchesJson6902: [{{target: {{kind: ConfigMap, name: web}}, patch: [{{op: \
         add, path: /data/two, value: '2'}}]}}]}}}}]\n"
    );
    let mut all = files(&spec, "");
    let (render, _) = World::default().render(&all, config_map);
    assert!(!held(&render).is_empty(), "they are no fields of v2");
    for version in ["v2beta1", "v2beta2"] {
        all[1].1 = release("web", &spec).replace("io/v2", &format!("io/{version}"));
        let (render, asked) = World::default().render(&all, config_map);
        let defaults = asked[0].chart.default_values.clone().map(Value::Object);
        assert_eq!(defaults, Some(json!({"size": 1, "keep": true})));
        assert_eq!(objects(&render)[0]["data"]["one"], "1");
        assert_eq!(objects(&render)[0]["data"]["two"], "2");
    }
}
