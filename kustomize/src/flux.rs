//! Building as Flux does: a kustomization made by scanning where there is none, the fields of Flux's own
//! `Kustomization` laid on top, and files read from anywhere in the source. Source of behaviour: the generator of
//! `github.com/fluxcd/pkg/kustomize`, which reads the file of `spec.path`, changes it and writes it anew for kustomize.

use std::collections::BTreeMap;

use flotilla_yaml::{Pos, Schema};

use crate::decode::{Text, Unknown};
use crate::error::{BuildError, Fail, Res, fail};
use crate::files::{Files, Kind, ReadError, TreePath, Visits};
use crate::kustomization::Kustomization;
use crate::load::{Context, Loaded, Loader, NAMES, Tree};
use crate::node_ops::{map_under, put_string};
use crate::parts::{Image, Patch, Selector};
use crate::request::Answers;
use crate::resmap::ResMap;
use crate::target::Target;
use crate::work::Limits;
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
    /// Of API versions before `v1`: each a patch as text.
    pub patches_strategic_merge: Vec<String>,
    pub patches_json6902: Vec<FluxPatch>,
    pub images: Vec<Image>,
    /// Folders of components, relative to the path.
    pub components: Vec<String>,
    pub ignore_missing_components: bool,
    /// Options of `buildMetadata`, in place of those of the file.
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
        let path = folder.join(name).map_err(|error| ReadError::of_path(folder, &error))?;
        if files.entry(&path)?.is_some_and(|e| e.kind == Kind::File) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What Flux takes for the resources of a folder without a kustomization: every `.yaml` and `.yml` file below it,
/// and every folder with a kustomization of its own as a whole. What a source leaves out ([`crate::ignore`]) is not in
/// `files`.
pub fn generate(files: &dyn Files, folder: &TreePath) -> Result<Vec<TreePath>, ReadError> {
    let (mut found, mut visits) = (Vec::new(), Visits::default());
    let listed = |folder: &TreePath, visits: &mut Visits| -> Result<_, ReadError> {
        visits.enter(folder)?;
        Ok((folder.clone(), files.list(folder)?.into_iter()))
    };
    let mut open = vec![listed(folder, &mut visits)?];
    while let Some((folder, entries)) = open.last_mut() {
        let Some((name, entry)) = entries.next() else {
            open.pop();
            continue;
        };
        let path = folder.join(&name).map_err(|error| ReadError::of_path(folder, &error))?;
        match entry.kind {
            Kind::Symlink => {}
            Kind::Folder if has_kustomization(files, &path)? => found.push(path),
            Kind::Folder => open.push(listed(&path, &mut visits)?),
            Kind::File => {
                if name.ends_with(".yaml") || name.ends_with(".yml") {
                    found.push(path);
                }
            }
        }
        if found.len() > MAX_FOUND {
            let reason = format!("there are more than {MAX_FOUND} files; name a smaller folder");
            return Err(ReadError { path: found.swap_remove(0), reason });
        }
    }
    Ok(found)
}

/// Files and folders that are taken for the resources of one folder.
const MAX_FOUND: usize = 50_000;

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
    build_flux_within(files, root, overlay, answers, Limits::default())
}

/// As [`build_flux`], within limits of the caller's.
///
/// # Errors
/// See [`build_flux`].
pub fn build_flux_within(
    files: &dyn Files,
    root: &TreePath,
    overlay: &FluxOverlay,
    answers: &Answers,
    limits: Limits,
) -> Result<Output, BuildError> {
    let (load_restrictor, reorder) = (LoadRestrictor::None, Reorder::Legacy);
    let options = Options { load_restrictor, reorder, limits, ..Options::default() };
    let mut cx = Context::new(&options, answers);
    // Flux loads the built-in schema before each build, so that one of the kustomization adds to it.
    cx.builtin_is_known = true;
    let result = run(&mut cx, files, root, overlay);
    finish(cx, files, result)
}

fn run(cx: &mut Context, files: &dyn Files, root: &TreePath, overlay: &FluxOverlay) -> Res<ResMap> {
    let loader = Loader::new(Tree::Own(files), root.clone(), false)?;
    let (mut kustomization, name, source) = if has_kustomization(files, root)? {
        let file = loader.load_kustomization(cx)?;
        let read = rewritten(cx, &file)?;
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
            // Flux reads nothing as an empty text, and a mapping with anything else in it as none.
            let is_text = |node: &flotilla_yaml::Node| node.as_str().is_some() || node.is_null();
            if !node.as_map().is_some_and(|map| map.iter().all(|entry| is_text(&entry.value))) {
                // It has to be one that can be printed, all the same.
                let printed = node.clone().printed().and_then(|node| node.to_json_as(Schema::Kustomize));
                printed.map_err(|error| Fail::new(error.message).at(error.pos))?;
                *node = flotilla_yaml::Node::map();
            }
            let map = node.as_map_mut().expect("made above");
            for value in map.values_mut().filter(|value| value.is_null()) {
                *value = flotilla_yaml::Node::string("").at_pos(value.pos);
            }
            pairs.iter().for_each(|(key, value)| put_string(map, key, value, Pos::default()));
        }
    }
    Ok(map)
}

/// The kustomization of a file as Flux's generator writes it anew: without fields that kustomize does not know, numbers and
/// booleans as text where text belongs, and never empty, for without resources it asks for the annotations of origins.
fn rewritten(cx: &mut Context, file: &Loaded) -> Res<Kustomization> {
    let document = file.kustomization(cx)?;
    let mut kustomization = match Kustomization::read(&document) {
        Ok(kustomization) => kustomization,
        Err(strict) => {
            let kustomization = Kustomization::read_as(&document, Unknown::Convert)?;
            let at = strict.field.as_deref().unwrap_or_default();
            cx.notices.push(format!(
                "{}:{}: {at}: {}: kustomize refuses this; here, as in Flux, an unknown field is ignored and a number or \
                 boolean is read as text",
                file.path, strict.pos.line, strict.message
            ));
            kustomization
        }
    };
    let resources = document.as_map().and_then(|map| {
        map.iter().find(|entry| entry.key.text().is_some_and(|key| key.eq_ignore_ascii_case("resources")))
    });
    let has_resources = resources.and_then(|entry| entry.value.as_seq()).is_some_and(|list| !list.is_empty());
    if !has_resources {
        kustomization.build_metadata = vec![Text::new("originAnnotations", Pos::default())];
        kustomization.empty = false;
    }
    Ok(kustomization)
}

/// The kustomization of a folder that has none.
fn generated(files: &dyn Files, root: &TreePath) -> Res<Kustomization> {
    let paths = generate(files, root)?;
    let prefix = if root.is_root() { 0 } else { root.as_str().len() + 1 };
    let resources: Vec<Text> =
        paths.iter().map(|p| Text::new(&p.as_str()[prefix..], Pos::default())).collect();
    // Without resources Flux writes this namespace, so that there is something to build: components may fill it.
    let namespace = Text::new(if resources.is_empty() { "_placeholder" } else { "" }, Pos::default());
    let mut kustomization = Kustomization { resources, namespace, ..Kustomization::default() };
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
        }
    }
    let patch = |from: &FluxPatch| Patch {
        patch: text(&from.patch),
        target: from.target.clone(),
        ..Patch::default()
    };
    k.patches.extend(overlay.patches.iter().map(patch));
    k.patches_strategic_merge.extend(overlay.patches_strategic_merge.iter().map(text));
    k.patches_json6902.extend(overlay.patches_json6902.iter().map(patch));
    for image in &overlay.images {
        let Some((known, pos)) = k.images.iter_mut().find(|(known, _)| known.name == image.name) else {
            k.images.push((image.clone(), Pos::default()));
            continue;
        };
        if !image.new_name.is_empty() {
            known.new_name.clone_from(&image.new_name);
        }
        // Both choose the version: setting one clears the other.
        if !image.new_tag.is_empty() || !image.digest.is_empty() {
            known.new_tag.clone_from(&image.new_tag);
            known.digest.clone_from(&image.digest);
        }
        // It stands in no file of the source any more.
        *pos = Pos::default();
    }
    if !overlay.build_metadata.is_empty() {
        k.build_metadata = overlay.build_metadata.iter().map(text).collect();
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
    }
    Ok(())
}
