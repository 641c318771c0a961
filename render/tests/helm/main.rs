//! HelmReleases: what helm is asked, when it is asked again, and what becomes of its answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use flotilla_core::report::Problem;
use flotilla_core::source::{ArtifactGenerator, Source};
use flotilla_core::unit::DriftMode;
use flotilla_core::{Digest, UnitId};
use flotilla_kustomize::files::{MemoryFiles, TreePath};
use flotilla_render::helm::{Asked, Renders, TemplateRequest};
use flotilla_render::{
    Artifact, ClusterDefinition, ClusterRender, Content, Inputs, RenderCache, RenderedUnit, Sources,
    Unavailable, Unit, render_cluster,
};
use serde_json::Value;

mod asked;
mod fields;
mod installed;
mod objects;
mod values;

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
