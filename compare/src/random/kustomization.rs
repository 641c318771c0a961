//! One kustomization file and the files that it needs, out of the fields that a tree uses.

use std::collections::BTreeMap;

use super::generators::{self, Generated};
use super::objects::Object;
use super::patches::{operations, selecting, strategic};
use super::rng::Rng;
use super::value::{Value, map, object, texts};
use super::words::strings;
use super::{configuration, fields, plugins, replacements};
use crate::tree::Content;

/// The fields that a tree may use. Each tree uses some of them only, those the more: so any two meet often.
pub const FIELDS: [&str; 28] = [
    "namespace",
    "namePrefix",
    "nameSuffix",
    "commonLabels",
    "labels",
    "commonAnnotations",
    "images",
    "replicas",
    "configMapGenerator",
    "secretGenerator",
    "generatorOptions",
    "patchesStrategicMerge",
    "patches",
    "patches",
    "patches",
    "patchesJson6902",
    "replacements",
    "replacements",
    "vars",
    "configurations",
    "crds",
    "openapi",
    "generators",
    "transformers",
    "transformers",
    "buildMetadata",
    "sortOptions",
    "components",
];

/// Where a kustomization stands in its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layer {
    Base,
    Middle,
    Top,
    Component,
}

/// A tree in the making.
pub(super) struct Maker<'a> {
    pub(super) rng: &'a mut Rng,
    pub(super) files: BTreeMap<String, Content>,
    pub(super) fields: Vec<&'static str>,
    /// The objects that the kustomization at hand sees.
    pub(super) objects: Vec<Object>,
    /// What layers below it have generated.
    pub(super) generated: Vec<Generated>,
    /// What it generates itself.
    pub(super) new_generated: Vec<Generated>,
    /// Names of vars, of which there may be one each in a tree.
    pub(super) vars: Vec<&'static str>,
    serial: usize,
}

impl<'a> Maker<'a> {
    pub(super) fn new(rng: &'a mut Rng) -> Self {
        let mut fields: Vec<&str> = FIELDS.into_iter().filter(|_| rng.chance(30)).collect();
        if rng.chance(4) {
            fields.push("validators");
        }
        fields.dedup();
        Self {
            rng,
            files: BTreeMap::new(),
            fields,
            objects: Vec::new(),
            generated: Vec::new(),
            new_generated: Vec::new(),
            vars: Vec::new(),
            serial: 0,
        }
    }

    /// A number that is not given twice in a tree.
    pub(super) fn serial(&mut self) -> usize {
        self.serial += 1;
        self.serial
    }

    pub(super) fn bytes(&mut self, folder: &str, name: &str, bytes: Vec<u8>) {
        self.files.insert(format!("{folder}/{name}"), Content::Bytes(bytes));
    }

    /// Adds a file of YAML documents, in one style or another.
    pub(super) fn file(&mut self, folder: &str, name: &str, documents: Vec<Value>) {
        let style = self.style();
        self.files.insert(format!("{folder}/{name}"), Content::Documents { documents, style });
    }

    fn style(&mut self) -> Option<u64> {
        self.rng.chance(60).then(|| self.rng.number())
    }

    /// Writes the kustomization of a folder. `resources` and `components` are its first fields.
    pub(super) fn kustomization(
        &mut self,
        folder: &str,
        layer: Layer,
        resources: Vec<String>,
        components: Vec<String>,
    ) {
        let mut file = Value::Map(Vec::new());
        if layer == Layer::Component {
            file.set("apiVersion", "kustomize.config.k8s.io/v1alpha1");
            file.set("kind", "Component");
        } else if self.rng.chance(70) {
            file.set("apiVersion", "kustomize.config.k8s.io/v1beta1");
            file.set("kind", "Kustomization");
        }
        self.resources(&mut file, resources);
        if !components.is_empty() {
            file.set("components", texts(components));
        }
        for field in self.fields.clone() {
            if self.rng.chance(60) {
                self.field(&mut file, field, folder, layer);
            }
        }
        let made = std::mem::take(&mut self.new_generated);
        self.generated.extend(made);
        let name = self.rng.word(&[
            "kustomization.yaml",
            "kustomization.yaml",
            "kustomization.yml",
            "Kustomization",
        ]);
        self.file(folder, name, vec![file]);
    }

    /// Folders may stand under the old name.
    fn resources(&mut self, file: &mut Value, resources: Vec<String>) {
        let old = self.rng.chance(5);
        let (bases, others): (Vec<_>, Vec<_>) = resources
            .into_iter()
            .partition(|path| old && !path.ends_with(".yaml") && !path.ends_with(".json"));
        if !others.is_empty() {
            file.set("resources", texts(others));
        }
        if !bases.is_empty() {
            file.set("bases", texts(bases));
        }
    }

    fn field(&mut self, file: &mut Value, field: &'static str, folder: &str, layer: Layer) {
        let value = match field {
            "namespace" => self.rng.word(&["ns1", "ns3", "prod"]).into(),
            "namePrefix" => self.rng.word(&["p-", "dev-", "a."]).into(),
            "nameSuffix" => self.rng.word(&["-s", "-v1"]).into(),
            "commonLabels" | "commonAnnotations" => strings(self.rng),
            "labels" => fields::labels(self.rng),
            "images" => {
                let count = self.rng.between(1, 2);
                (0..count).map(|_| fields::image(self.rng)).collect::<Vec<_>>().into()
            }
            "generatorOptions" => generators::options(self.rng),
            "configMapGenerator" => generators::list(self, "ConfigMap", folder),
            "secretGenerator" => generators::list(self, "Secret", folder),
            "buildMetadata" => self.build_metadata(),
            "sortOptions" => fields::sort_options(self.rng),
            "openapi" if layer != Layer::Component => self.openapi(folder),
            "configurations" => self.one_file(folder, "configuration", configuration::configuration),
            "crds" => {
                let definitions = configuration::definitions(self);
                self.json(folder, "crd", &definitions)
            }
            "generators" => self.plugins(folder, |maker| plugins::generator(maker, folder)),
            "components" | "openapi" => return,
            // The rest changes objects that there are.
            _ if self.objects.is_empty() => return,
            "replicas" => match self.replicas() {
                Some(replicas) => replicas,
                None => return,
            },
            "patches" => self.patches(folder),
            "patchesStrategicMerge" => self.patches_strategic_merge(folder),
            "patchesJson6902" => self.patches_json6902(folder),
            "replacements" => self.replacements(folder),
            "vars" => replacements::vars(self),
            "transformers" => self.plugins(folder, plugins::transformer),
            "validators" => self.plugins(folder, plugins::validator),
            other => unreachable!("the field {other} is not made"),
        };
        if !matches!(&value, Value::List(list) if list.is_empty()) {
            file.set(field, value);
        }
    }

    fn replicas(&mut self) -> Option<Value> {
        let workloads: Vec<&Object> = self.objects.iter().filter(|object| object.is_workload()).collect();
        let workload = (!workloads.is_empty()).then(|| self.rng.pick(&workloads))?;
        let entry = object([("name", workload.name.as_str().into()), ("count", self.rng.below(9).into())]);
        Some(vec![entry].into())
    }

    fn patches(&mut self, folder: &str) -> Value {
        let mut entries = Vec::new();
        for _ in 0..self.rng.between(1, 3) {
            if self.objects.is_empty() {
                break;
            }
            let object = self.patched();
            let mut entry = Value::Map(Vec::new());
            if self.rng.chance(35) {
                entry.set("target", selecting(self.rng, &object));
                let document = operations(self.rng, &object);
                self.document(folder, &mut entry, document);
            } else {
                let mut patch = self.strategic(&object);
                if self.rng.chance(35) {
                    entry.set("target", selecting(self.rng, &object));
                    self.rename(&mut entry, &mut patch);
                }
                self.document(folder, &mut entry, patch);
            }
            entries.push(entry);
        }
        entries.into()
    }

    /// An object that is about to be patched.
    fn patched(&mut self) -> Object {
        let n = self.rng.below(self.objects.len());
        let object = self.objects[n].clone();
        self.objects[n].touched = true;
        object
    }

    /// A patch for an object, which may be gone after it.
    pub(super) fn strategic(&mut self, object: &Object) -> Value {
        let patch = strategic(self.rng, object);
        if patch.get("$patch").and_then(Value::as_text) == Some("delete") {
            self.objects.retain(|other| !other.same_id(object));
        }
        patch
    }

    /// With a target, a patch need not name the object that it is for, and may give it another name or kind.
    fn rename(&mut self, entry: &mut Value, patch: &mut Value) {
        if !self.rng.chance(30) {
            return;
        }
        let name = self.rng.word(&["any", "renamed"]);
        let serial = self.serial();
        patch.set("metadata", map([("name", format!("{name}-{serial}"))]));
        let mut options = Value::Map(Vec::new());
        if self.rng.chance(40) {
            options.set("allowNameChange", true);
        }
        if self.rng.chance(15) {
            patch.set("kind", "Renamed");
            options.set("allowKindChange", true);
        }
        if !options.as_map().is_empty() {
            entry.set("options", options);
        }
    }

    /// A patch in a file or inline.
    fn document(&mut self, folder: &str, entry: &mut Value, document: Value) {
        if self.rng.chance(50) {
            entry.set("patch", Value::Inline(vec![document]));
        } else {
            let name = format!("patch-{}.yaml", self.serial());
            entry.set("path", name.as_str());
            // What begins with a bracket has to be JSON.
            let style = (!document.as_list().is_empty()).then_some(None);
            let style = style.unwrap_or_else(|| self.style());
            let content = Content::Documents { documents: vec![document], style };
            self.files.insert(format!("{folder}/{name}"), content);
        }
    }

    fn patches_strategic_merge(&mut self, folder: &str) -> Value {
        let count = self.rng.between(1, 2);
        let objects: Vec<Object> = (0..count).map(|_| self.patched()).collect();
        let mut documents: Vec<Value> = Vec::new();
        for (n, object) in objects.iter().enumerate() {
            if !objects[..n].iter().any(|earlier| earlier.same_id(object)) {
                documents.push(self.strategic(object));
            }
        }
        if self.rng.chance(50) {
            return vec![Value::Inline(documents)].into();
        }
        let name = format!("strategic-{}.yaml", self.serial());
        self.file(folder, &name, documents);
        texts([name])
    }

    fn patches_json6902(&mut self, folder: &str) -> Value {
        let object = self.patched();
        let (group, version) = object.group_version();
        let mut target = map([("version", version), ("kind", object.kind), ("name", object.name.as_str())]);
        if !group.is_empty() {
            target.set("group", group);
        }
        if let Some(namespace) = object.namespace {
            target.set("namespace", namespace);
        }
        let mut entry = map([("target", target)]);
        let document = operations(self.rng, &object);
        self.document(folder, &mut entry, document);
        vec![entry].into()
    }

    fn replacements(&mut self, folder: &str) -> Value {
        let list = replacements::list(self);
        if self.rng.chance(75) {
            return list;
        }
        let name = format!("replacement-{}.yaml", self.serial());
        // A file holds one replacement or a list of them.
        let document = match list.as_list() {
            [one] => one.clone(),
            _ => list,
        };
        self.file(folder, &name, vec![document]);
        vec![map([("path", name)])].into()
    }

    fn plugins(&mut self, folder: &str, make: impl Fn(&mut Self) -> Value) -> Value {
        let count = self.rng.between(1, 2);
        let configs: Vec<Value> = (0..count).map(|_| make(self)).collect();
        if self.rng.chance(50) {
            return configs.into_iter().map(|config| Value::Inline(vec![config])).collect::<Vec<_>>().into();
        }
        let name = format!("plugin-{}.yaml", self.serial());
        self.file(folder, &name, configs);
        texts([name])
    }

    fn one_file(&mut self, folder: &str, name: &str, make: impl Fn(&mut Self) -> Value) -> Value {
        let name = format!("{name}-{}.yaml", self.serial());
        let document = make(self);
        self.file(folder, &name, vec![document]);
        texts([name])
    }

    fn json(&mut self, folder: &str, name: &str, document: &Value) -> Value {
        let name = format!("{name}-{}.json", self.serial());
        self.files.insert(format!("{folder}/{name}"), Content::json(document));
        texts([name])
    }

    fn openapi(&mut self, folder: &str) -> Value {
        if self.rng.chance(30) {
            return map([("version", "v1.21.2")]);
        }
        let document = configuration::schema(self);
        let path = self.json(folder, "schema", &document);
        map([("path", path.as_list()[0].clone())])
    }

    fn build_metadata(&mut self) -> Value {
        let all = ["originAnnotations", "transformerAnnotations", "managedByLabel"];
        texts(all.into_iter().filter(|_| self.rng.chance(45)))
    }
}
