//! Building as Flux does: a kustomization made by scanning where there is none, the fields of Flux's own
//! `Kustomization` laid on top, and files read from anywhere in the source.

use std::collections::BTreeMap;

use flotilla_yaml::Pos;

use crate::decode::Text;
use crate::error::{BuildError, Fail, Res, fail};
use crate::files::{Files, Kind, ReadError, TreePath};
use crate::kustomization::Kustomization;
use crate::load::{Context, Loader, NAMES, Tree};
use crate::node_ops::{map_under, put_string};
use crate::parts::{Image, Patch, Selector};
use crate::request::Answers;
use crate::resmap::ResMap;
use crate::target::Target;
use crate::{LoadRestrictor, Options, Output, Reorder, finish};

/// What a Flux `Kustomization` adds to the kustomization of its path.
#[derive(Debug, Clone, Default)]
pub struct FluxOverlay {
    pub target_namespace: Option<String>,
    pub name_prefix: Option<String>,
    pub name_suffix: Option<String>,
    /// Labels and annotations of `commonMetadata`: set on every object, over its own.
    pub common_labels: BTreeMap<String, String>,
    pub common_annotations: BTreeMap<String, String>,
    pub patches: Vec<FluxPatch>,
    pub images: Vec<Image>,
    /// Folders of components, relative to the path.
    pub components: Vec<String>,
    pub ignore_missing_components: bool,
    /// Options of `buildMetadata`, on top of those of the file.
    pub build_metadata: Vec<String>,
}

/// An entry of `spec.patches`.
#[derive(Debug, Clone, Default)]
pub struct FluxPatch {
    pub patch: String,
    pub target: Option<Selector>,
}

/// Whether a folder has a kustomization file.
pub fn has_kustomization(files: &dyn Files, folder: &TreePath) -> Result<bool, ReadError> {
    for name in NAMES {
        let path = folder.join(name).expect("a plain name");
        if files.entry(&path)?.is_some_and(|e| e.kind == Kind::File) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What Flux takes for the resources of a folder without a kustomization: every `.yaml` and `.yml` file below it,
/// and every folder with a kustomization of its own as a whole. What Flux's sources leave out by default
/// (`.git`, `.github`, …) is left out.
pub fn generate(files: &dyn Files, folder: &TreePath) -> Result<Vec<TreePath>, ReadError> {
    let mut found = Vec::new();
    scan(files, folder, &mut found)?;
    Ok(found)
}

fn scan(files: &dyn Files, folder: &TreePath, found: &mut Vec<TreePath>) -> Result<(), ReadError> {
    for (name, entry) in files.list(folder)? {
        let Ok(path) = folder.join(&name) else { continue };
        match entry.kind {
            Kind::Symlink => {}
            Kind::Folder if is_left_out(&name, true) => {}
            Kind::Folder if has_kustomization(files, &path)? => found.push(path),
            Kind::Folder => scan(files, &path, found)?,
            Kind::File => {
                let is_yaml = name.ends_with(".yaml") || name.ends_with(".yml");
                if is_yaml && !is_left_out(&name, false) {
                    found.push(path);
                }
            }
        }
    }
    Ok(())
}

/// What a Flux source leaves out of its artifact unless told otherwise, as far as it could be YAML.
fn is_left_out(name: &str, folder: bool) -> bool {
    if folder {
        return matches!(name, ".git" | ".github" | ".circleci");
    }
    matches!(
        name,
        ".travis.yml"
            | ".gitlab-ci.yml"
            | "appveyor.yml"
            | ".drone.yml"
            | "cloudbuild.yaml"
            | "codeship-services.yml"
            | "codeship-steps.yml"
            | ".goreleaser.yml"
            | ".goreleaser.yaml"
            | ".sops.yaml"
            | ".flux.yaml"
    )
}

/// Builds a folder as Flux's kustomize-controller does.
///
/// # Errors
/// As [`build`](crate::build). An error in the overlay has no file: its field is that of the Flux `Kustomization`.
pub fn build_flux(
    files: &dyn Files,
    root: &TreePath,
    overlay: &FluxOverlay,
    answers: &Answers,
) -> Result<Output, BuildError> {
    let options =
        Options { load_restrictor: LoadRestrictor::None, reorder: Reorder::Legacy, ..Options::default() };
    let mut cx = Context::new(&options, answers);
    let result = run(&mut cx, files, root, overlay);
    finish(cx, result)
}

fn run(cx: &mut Context, files: &dyn Files, root: &TreePath, overlay: &FluxOverlay) -> Res<ResMap> {
    let loader = Loader::new(Tree::Own(files), root.clone(), false)?;
    let (mut kustomization, name, source) = if has_kustomization(files, root)? {
        let file = loader.load_kustomization(cx)?;
        let document = file.kustomization()?;
        let read = Kustomization::read(&document)?;
        (read, file.path.name().to_owned(), file.source)
    } else {
        (generated(files, root)?, NAMES[0].to_owned(), 0)
    };
    add(&mut kustomization, files, root, overlay)?;
    let mut target = Target::with(cx, loader, kustomization, name, source)?;
    let mut map = target.build(cx)?;
    for resource in &mut map.0 {
        for (field, pairs) in
            [("labels", &overlay.common_labels), ("annotations", &overlay.common_annotations)]
        {
            if pairs.is_empty() {
                continue;
            }
            let metadata = map_under(&mut resource.node, "metadata")?;
            let node = metadata.get_or_insert_with(field, flotilla_yaml::Node::map);
            if !node.is_map() {
                *node = flotilla_yaml::Node::map();
            }
            let map = node.as_map_mut().expect("made above");
            pairs.iter().for_each(|(key, value)| put_string(map, key, value, Pos::default()));
        }
    }
    Ok(map)
}

/// The kustomization of a folder that has none.
fn generated(files: &dyn Files, root: &TreePath) -> Res<Kustomization> {
    let paths = generate(files, root)?;
    let prefix = if root.is_root() { 0 } else { root.as_str().len() + 1 };
    let resources: Vec<Text> =
        paths.iter().map(|p| Text::new(&p.as_str()[prefix..], Pos::default())).collect();
    let mut kustomization =
        Kustomization { empty: resources.is_empty(), resources, ..Kustomization::default() };
    kustomization.kind.text = "Kustomization".into();
    Ok(kustomization)
}

/// Lays the fields of the Flux `Kustomization` over those of the file, as Flux's generator does.
fn add(k: &mut Kustomization, files: &dyn Files, root: &TreePath, overlay: &FluxOverlay) -> Res<()> {
    let text = |text: &String| Text::new(text, Pos::default());
    for (value, field) in [
        (&overlay.target_namespace, &mut k.namespace),
        (&overlay.name_prefix, &mut k.name_prefix),
        (&overlay.name_suffix, &mut k.name_suffix),
    ] {
        if let Some(value) = value {
            *field = text(value);
            k.empty &= value.is_empty();
        }
    }
    for patch in &overlay.patches {
        k.patches.push(Patch { patch: text(&patch.patch), target: patch.target.clone(), ..Patch::default() });
        k.empty = false;
    }
    for image in &overlay.images {
        match k.images.iter_mut().find(|(i, _)| i.name == image.name) {
            Some(known) => *known = (image.clone(), Pos::default()),
            None => k.images.push((image.clone(), Pos::default())),
        }
        k.empty = false;
    }
    for option in &overlay.build_metadata {
        if k.build_metadata.iter().all(|o| o.text != *option) {
            k.build_metadata.push(text(option));
        }
        k.empty = false;
    }
    for component in &overlay.components {
        let named = |e: Fail| e.field("spec.components");
        if component.starts_with('/') || crate::load::is_remote(component) {
            return fail!("component path '{component}' must be local and relative").map_err(named);
        }
        let path = root.join(component).map_err(|e| named(Fail::new(e.to_string())))?;
        if overlay.ignore_missing_components && files.entry(&path)?.is_none() {
            continue;
        }
        k.components.push(text(component));
        k.empty = false;
    }
    Ok(())
}
