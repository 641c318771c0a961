//! The fields of a Flux `Kustomization` that change what is built, read from its node.

use flotilla_kustomize::{FluxOverlay, FluxPatch, Image, Selector};
use flotilla_yaml::Node;

use crate::field::{Field, Object, Wrong};

/// Reads one field into the overlay. `None`: the field is no part of it.
pub(crate) fn read(overlay: &mut FluxOverlay, name: &str, field: &Field<'_>) -> Option<Result<(), Wrong>> {
    let mut read = || -> Result<bool, Wrong> {
        match name {
            "targetNamespace" => overlay.target_namespace = Some(field.text()?),
            "namePrefix" => overlay.name_prefix = Some(field.str()?.to_owned()),
            "nameSuffix" => overlay.name_suffix = Some(field.str()?.to_owned()),
            "components" => overlay.components = field.strings()?,
            "ignoreMissingComponents" => overlay.ignore_missing_components = field.bool()?,
            "commonMetadata" => {
                let object = field.object(&["labels", "annotations"])?;
                let pairs = |name: &str| {
                    object.get(name).map(Field::pairs).transpose().map(Option::unwrap_or_default)
                };
                overlay.common_labels = pairs("labels")?;
                overlay.common_annotations = pairs("annotations")?;
            }
            "buildMetadata" => {
                let known = ["originAnnotations", "transformerAnnotations"].map(|name| (name, name));
                let items = field.items()?;
                overlay.build_metadata = items
                    .iter()
                    .map(|item| item.choice(&known).map(str::to_owned))
                    .collect::<Result<_, _>>()?;
            }
            "images" => overlay.images = field.items()?.iter().map(image).collect::<Result<_, _>>()?,
            "patchesStrategicMerge" => {
                overlay.patches_strategic_merge =
                    field.items()?.iter().map(mapping_as_json).collect::<Result<_, _>>()?;
            }
            "patchesJson6902" => {
                overlay.patches_json6902 = field.items()?.iter().map(json_patch).collect::<Result<_, _>>()?;
            }
            "patches" => overlay.patches = field.items()?.iter().map(patch).collect::<Result<_, _>>()?,
            _ => return Ok(false),
        }
        Ok(true)
    };
    match read() {
        Ok(true) => Some(Ok(())),
        Ok(false) => None,
        Err(wrong) => Some(Err(wrong)),
    }
}

/// The overlay of a mapping whose fields were read one by one before.
pub(crate) fn of(node: &Node) -> FluxOverlay {
    let mut overlay = FluxOverlay::default();
    for (name, field) in Field::new(node, "spec").entries().into_iter().flatten() {
        let done = read(&mut overlay, name, &field);
        debug_assert!(matches!(done, Some(Ok(()))), "the definition was checked when it was read");
    }
    overlay
}

fn text(object: &Object<'_>, name: &str) -> Result<String, Wrong> {
    object.text(name).map(Option::unwrap_or_default)
}

fn image(field: &Field<'_>) -> Result<Image, Wrong> {
    let object = field.object(&["name", "newName", "newTag", "digest"])?;
    Ok(Image {
        name: object.need("name")?.text()?,
        new_name: text(&object, "newName")?,
        new_tag: text(&object, "newTag")?,
        digest: text(&object, "digest")?,
        ..Image::default()
    })
}

fn patch(field: &Field<'_>) -> Result<FluxPatch, Wrong> {
    let object = field.object(&["patch", "target"])?;
    let target = object.get("target").map(selector).transpose()?;
    Ok(FluxPatch { patch: object.need("patch")?.text()?, target })
}

fn mapping_as_json(field: &Field<'_>) -> Result<String, Wrong> {
    field.entries()?;
    as_json(field)
}

fn as_json(field: &Field<'_>) -> Result<String, Wrong> {
    field.node.to_json().map(|json| json.to_string()).map_err(|error| field.wrong(error.message))
}

/// An entry of `patchesJson6902`: a list of operations, and the object that they are for.
fn json_patch(field: &Field<'_>) -> Result<FluxPatch, Wrong> {
    let object = field.object(&["patch", "target"])?;
    let patch = object.need("patch")?;
    patch.items()?;
    Ok(FluxPatch { patch: as_json(patch)?, target: Some(selector(object.need("target")?)?) })
}

/// A selector of objects, as `patches` and `ignore` have it.
pub(crate) fn selector(field: &Field<'_>) -> Result<Selector, Wrong> {
    let known = ["group", "version", "kind", "name", "namespace", "annotationSelector", "labelSelector"];
    let object = field.object(&known)?;
    Ok(Selector {
        group: text(&object, "group")?,
        version: text(&object, "version")?,
        kind: text(&object, "kind")?,
        name: text(&object, "name")?,
        namespace: text(&object, "namespace")?,
        annotation_selector: text(&object, "annotationSelector")?,
        label_selector: text(&object, "labelSelector")?,
    })
}
