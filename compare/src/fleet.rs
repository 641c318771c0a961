//! A whole fleet repository, rendered here and by Flux's own packages: each unit's objects and each release's values.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use flotilla_core::normalize::normalize;
use flotilla_core::template::{Found, ObjectTemplate, ValuesKind, ValuesRef};
use flotilla_core::{Object, UnitId, UnitKind};
use flotilla_kustomize::files::TreePath;
use flotilla_render::helm::Asked;
use flotilla_render::{
    Artifact, ClusterDefinition, ClusterRender, Inputs, NothingFetched, RenderCache, RenderedUnit,
    render_cluster,
};
use flotilla_yaml::{Kind, Scalar};
use serde_json::{Number, Value};

use crate::flux::Flux;
use crate::tree::Tree;
use crate::verdict::{Outcome, Verdict, first_difference};

/// The folder of clusters in the trees that are compared.
const CLUSTERS: &str = "clusters";

/// What only Flux refuses, as kustomize trips over its own work: what it is, words of its error, and what our objects (a line
/// of JSON each) then hold. See docs/kustomize.md, "What still differs".
type Refused = (&'static str, &'static str, fn(&str) -> bool);
const REFUSED_THERE: [Refused; 7] = [
    ("a text or nothing in place of a number", "yaml: cannot decode !!", |_| true),
    ("a reference to what has no name", "no 'name' field in node", |_| true),
    ("a tab in or after a block that begins with an empty line", "found a tab character ", |_| true),
    ("what makes kustomize panic", "recovered from kustomize build panic", |_| true),
    ("a line separator in a key of JSON", "did not find expected ',' or '}' in File: ", |ours| {
        ours.contains(['\u{2028}', '\u{2029}'])
    }),
    ("a text among the mappings of a list", "expected MappingNode but got ScalarNode", |_| true),
    ("a key of labels that is no text", "unsupported type: map[interface {}]interface {}", has_odd_key),
];

/// Whether labels or annotations have a key that YAML reads as something else than a text.
fn has_odd_key(ours: &str) -> bool {
    let objects = ours.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let is_odd = |key: &String| Scalar::plain(key.as_str()).kind() != Kind::String;
    objects.into_iter().any(|object| {
        let fields = ["/metadata/labels", "/metadata/annotations"].map(|at| object.pointer(at));
        fields.iter().flatten().filter_map(|field| field.as_object()).any(|map| map.keys().any(is_odd))
    })
}

/// How a fleet compares.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Compared {
    /// What differs, a line for each unit and release.
    pub differences: Vec<String>,
    /// What only Flux refuses, and why that is known.
    pub refused_there: Vec<&'static str>,
}

/// What a cluster comes to, by `NAMESPACE/NAME`: objects of Flux's kinds are among those of the unit that defines them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rendered {
    pub units: BTreeMap<String, Result<Vec<Value>, String>>,
    pub releases: BTreeMap<String, Result<Value, String>>,
}

/// A fleet through both: what Flux made of it, and what differs.
///
/// # Errors
/// If Flux cannot be run, or the tree cannot be written.
pub fn compare(flux: &mut Flux, tree: &Tree) -> Result<(Rendered, Compared)> {
    let folder = tempfile::tempdir().context("make a folder for a fleet")?;
    tree.write(folder.path())?;
    let theirs = flux.render(folder.path(), &tree.root)?;
    let compared = compared(&rendered(tree)?, &theirs);
    Ok((theirs, compared))
}

/// Renders the cluster whose root path is the tree's root.
///
/// # Errors
/// If the tree has no such cluster.
pub fn rendered(tree: &Tree) -> Result<Rendered> {
    let fleet = Artifact::new(Arc::new(tree.to_memory()), "main@sha1:1", "the fleet repo");
    let clusters = TreePath::from_root(CLUSTERS)?;
    let root = TreePath::from_root(&tree.root)?;
    let cluster = ClusterDefinition::of_folder(root.name().parse().context("name the cluster")?, root);
    let (cache, sources) = (RenderCache::new(), NothingFetched("is not fetched here"));
    let inputs = Inputs { kube_version: Some("v1.36.3"), ..Inputs::new(&fleet, &clusters, &cache, &sources) };
    let render = render_cluster(&inputs, &cluster)?;
    let mut out = Rendered::default();
    let found = in_the_cluster(&render);
    // What an agent cannot complete it does not apply, and nothing below it begins.
    let mut stuck: BTreeSet<UnitId> = BTreeSet::new();
    let is_stuck = |unit: &RenderedUnit| unit.unit.is_some() && objects(unit, &found).is_err();
    stuck.extend(render.units.iter().filter(|(_, unit)| is_stuck(unit)).map(|(id, _)| id.clone()));
    let is_below = |unit: &RenderedUnit| {
        let mut above = unit.parent.as_ref();
        while let Some(id) = above.filter(|id| !stuck.contains(*id)) {
            above = render.units.get(id).and_then(|unit| unit.parent.as_ref());
        }
        above.is_some()
    };
    for (id, unit) in render.units.iter().filter(|(_, unit)| !is_below(unit)) {
        let name = match id.kind {
            UnitKind::Root => "flux-system/flux-system".to_owned(),
            _ => format!("{}/{}", id.namespace, id.name),
        };
        if id.kind == UnitKind::HelmRelease {
            out.releases.insert(name, Err(reasons(unit)));
        } else {
            out.units.insert(name, objects(unit, &found));
        }
    }
    // Those that wait for helm have their values.
    for Asked { request, .. } in render.requests.values() {
        let name = format!("{}/{}", request.namespace, request.name);
        out.releases.entry(name).and_modify(|values| *values = Ok(Value::Object(request.values.clone())));
    }
    Ok(out)
}

fn reasons(unit: &RenderedUnit) -> String {
    unit.problems
        .iter()
        .filter(|problem| !problem.notice)
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// The ConfigMaps and Secrets that an agent finds once everything is applied. Those that stand in templates are not among
/// them.
fn in_the_cluster(render: &ClusterRender) -> Found {
    let mut found = Found::new();
    let contents = render.units.values().filter_map(|unit| unit.unit.as_ref()).map(|unit| &unit.content);
    for object in contents.flat_map(|content| &content.objects) {
        let id = object.id();
        let kind = match (&*id.group, &*id.kind) {
            ("", "ConfigMap") => ValuesKind::ConfigMap,
            ("", "Secret") => ValuesKind::Secret,
            _ => continue,
        };
        let value = object.value();
        let texts = |field: &str| {
            let pairs = value.get(field).and_then(Value::as_object).into_iter().flatten();
            pairs
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect::<Vec<_>>()
        };
        let mut data = texts("data");
        if kind == ValuesKind::Secret {
            let decoded = |text: String| String::from_utf8(BASE64.decode(text).ok()?).ok();
            data = data.into_iter().filter_map(|(key, text)| Some((key, decoded(text)?))).collect();
            data.extend(texts("stringData"));
        }
        let reference = ValuesRef { kind, namespace: id.namespace.clone(), name: id.name.clone() };
        found.insert(reference, Some(data.into_iter().collect()));
    }
    found
}

/// An object as it is once the agent has completed it.
fn completed(object: &Object, found: &Found) -> Result<Value, String> {
    let Some(template) = ObjectTemplate::of(object) else { return Ok(object.value()) };
    let template = template.map_err(|error| error.to_string())?;
    let mut all = found.clone();
    for place in template.needs() {
        all.entry(place.clone()).or_default();
    }
    template.complete(&all).map(|object| object.value()).map_err(|error| error.to_string())
}

fn objects(unit: &RenderedUnit, found: &Found) -> Result<Vec<Value>, String> {
    let Some(done) = &unit.unit else { return Err(reasons(unit)) };
    let content = &done.content;
    let broken = content.broken_children.values().chain(content.broken_sources.values()).flatten();
    if let Some(problem) = broken.into_iter().next() {
        return Err(problem.to_string());
    }
    let children = content.children.iter().filter_map(|child| child.object.as_ref());
    let sources = content.sources.iter().filter_map(|source| source.object.as_ref());
    let objects = content.objects.iter().map(|object| completed(object, found));
    objects.chain(children.chain(sources).map(|object| Ok(object.value()))).collect()
}

/// Compares what was rendered with what Flux made.
pub fn compared(ours: &Rendered, flux: &Rendered) -> Compared {
    let mut all = Compared::default();
    let mut compare = |id: &str, ours: Outcome, flux: Outcome| {
        if let (Ok(ours), Err(error)) = (&ours, &flux)
            && let Some((known, ..)) =
                REFUSED_THERE.iter().find(|(_, words, holds)| error.contains(words) && holds(ours))
        {
            return all.refused_there.push(known);
        }
        let verdict = Verdict::of(&ours, &flux);
        if !verdict.agrees() {
            all.differences.push(format!("{id} {}: {}", verdict.name(), parting(&ours, &flux)));
        }
    };
    let missing = || Err("is not there".to_owned());
    let ids: BTreeSet<&String> = ours.units.keys().chain(flux.units.keys()).collect();
    for id in ids {
        let text = |rendered: &Rendered| {
            rendered
                .units
                .get(id)
                .map_or_else(missing, |unit| unit.as_ref().map(|all| lines(all)).map_err(Clone::clone))
        };
        compare(id, text(ours), text(flux));
    }
    let ids: BTreeSet<&String> = ours.releases.keys().chain(flux.releases.keys()).collect();
    for id in ids {
        let text = |rendered: &Rendered| {
            let release = rendered.releases.get(id);
            release.map_or_else(missing, |values| {
                values.as_ref().map(|values| plain(values).to_string()).map_err(Clone::clone)
            })
        };
        compare(&format!("release {id}"), text(ours), text(flux));
    }
    all
}

/// How many characters are shown from where two texts part.
const SHOWN: usize = 160;

/// Where two outcomes part. A line holds a whole object, so only what is around that place is shown.
fn parting(ours: &Outcome, flux: &Outcome) -> String {
    let (Ok(mine), Ok(theirs)) = (ours, flux) else { return first_difference(ours, flux) };
    // Lines are sorted: what only one of them has may stand anywhere.
    let (all_mine, all_theirs): (BTreeSet<&str>, BTreeSet<&str>) =
        (mine.lines().collect(), theirs.lines().collect());
    let mine = all_mine.difference(&all_theirs).next().copied().unwrap_or_default();
    let theirs = all_theirs.difference(&all_mine).next().copied().unwrap_or_default();
    let same = mine.chars().zip(theirs.chars()).take_while(|(mine, theirs)| mine == theirs).count();
    let from = |text: &str| text.chars().skip(same.saturating_sub(SHOWN / 4)).take(SHOWN).collect::<String>();
    format!("'{}' here, '{}' there", from(mine), from(theirs))
}

/// Objects as text, sorted: the order is the build's business, which is compared elsewhere.
fn lines(objects: &[Value]) -> String {
    let applied = |object: &Value| {
        let mut object = plain(object);
        normalize(&mut object);
        format!("{object}\n")
    };
    let mut lines: Vec<String> = objects.iter().map(applied).collect();
    lines.sort();
    lines.concat()
}

/// A value with each number in one form: JSON does not tell 1.0 from 1.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), plain(value))).collect(),
        Value::Array(list) => list.iter().map(plain).collect(),
        // A library has no version of its own: there Flux's controller says so too.
        Value::String(text) if text == "kustomize-(devel)" => "kustomize-v5.8.1".into(),
        Value::Number(number) => {
            let float = number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0);
            let whole = float.filter(|float| float.abs() < 9e15).map(|float| Number::from(float as i64));
            Value::Number(whole.unwrap_or_else(|| number.clone()))
        }
        other => other.clone(),
    }
}
