//! The fields of a Flux `Kustomization` that change what is built, read from its node.

use std::collections::BTreeMap;

use flotilla_kustomize::{FluxOverlay, FluxPatch, Image, Selector};
use flotilla_yaml::Node;

/// Reads one field into the overlay. `None`: the field is no part of it.
pub(crate) fn read(overlay: &mut FluxOverlay, field: &str, value: &Node) -> Option<Result<(), String>> {
    Some(match field {
        "targetNamespace" => string(value).map(|text| overlay.target_namespace = Some(text)),
        "namePrefix" => string(value).map(|text| overlay.name_prefix = Some(text)),
        "nameSuffix" => string(value).map(|text| overlay.name_suffix = Some(text)),
        "components" => items(value).and_then(|paths| {
            overlay.components = paths.map(string).collect::<Result<_, _>>()?;
            Ok(())
        }),
        "ignoreMissingComponents" => value
            .as_bool()
            .map(|ignore| overlay.ignore_missing_components = ignore)
            .ok_or_else(|| "must be true or false".to_owned()),
        "commonMetadata" => fields(value, &["labels", "annotations"]).and_then(|()| {
            let pairs =
                |field: &str| value.get(field).map(strings).transpose().map(Option::unwrap_or_default);
            overlay.common_labels = pairs("labels")?;
            overlay.common_annotations = pairs("annotations")?;
            Ok(())
        }),
        "images" => items(value).and_then(|images| {
            overlay.images = images.map(image).collect::<Result<_, _>>()?;
            Ok(())
        }),
        "patches" => items(value).and_then(|patches| {
            overlay.patches = patches.map(patch).collect::<Result<_, _>>()?;
            Ok(())
        }),
        _ => return None,
    })
}

/// The overlay of a mapping whose fields were read one by one before.
pub(crate) fn of(node: &Node) -> FluxOverlay {
    let mut overlay = FluxOverlay::default();
    for entry in node.as_map().into_iter().flat_map(|map| map.iter()) {
        let done = read(&mut overlay, entry.key.text().unwrap_or_default(), &entry.value);
        debug_assert!(matches!(done, Some(Ok(()))), "the definition was checked when it was read");
    }
    overlay
}

fn image(node: &Node) -> Result<Image, String> {
    fields(node, &["name", "newName", "newTag", "digest"])?;
    let text = |field: &str| node.get(field).map(string).transpose().map(Option::unwrap_or_default);
    let name = text("name")?;
    if name.is_empty() {
        return Err("each entry needs a name".to_owned());
    }
    Ok(Image {
        name,
        new_name: text("newName")?,
        new_tag: text("newTag")?,
        digest: text("digest")?,
        ..Image::default()
    })
}

fn patch(node: &Node) -> Result<FluxPatch, String> {
    fields(node, &["patch", "target"])?;
    let patch = node.get("patch").map(string).transpose()?.filter(|patch| !patch.is_empty());
    let target = node.get("target").map(selector).transpose()?;
    Ok(FluxPatch { patch: patch.ok_or("each entry needs a patch")?, target })
}

fn selector(node: &Node) -> Result<Selector, String> {
    fields(node, &["group", "version", "kind", "name", "namespace", "annotationSelector", "labelSelector"])?;
    let text = |field: &str| node.get(field).map(string).transpose().map(Option::unwrap_or_default);
    Ok(Selector {
        group: text("group")?,
        version: text("version")?,
        kind: text("kind")?,
        name: text("name")?,
        namespace: text("namespace")?,
        annotation_selector: text("annotationSelector")?,
        label_selector: text("labelSelector")?,
    })
}

fn string(node: &Node) -> Result<String, String> {
    node.as_str().map(str::to_owned).ok_or_else(|| "must be a string".to_owned())
}

fn strings(node: &Node) -> Result<BTreeMap<String, String>, String> {
    let map = node.as_map().ok_or("must be a mapping of strings")?;
    map.iter().map(|entry| Ok((string(&entry.key)?, string(&entry.value)?))).collect()
}

pub(crate) fn items(node: &Node) -> Result<impl Iterator<Item = &Node>, String> {
    node.as_seq().map(|items| items.iter()).ok_or_else(|| "must be a list".to_owned())
}

fn fields(node: &Node, known: &[&str]) -> Result<(), String> {
    let map = node.as_map().ok_or("must be a mapping")?;
    match map.keys().find(|key| !known.contains(key)) {
        Some(key) => Err(format!("'{key}' is no field here; known are {}", known.join(", "))),
        None => Ok(()),
    }
}
