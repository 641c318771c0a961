//! Entries of a kustomization's smaller fields.

use super::rng::Rng;
use super::value::{Value, map, plain, texts};
use super::words::strings;

/// An entry of `images`.
pub(super) fn image(rng: &mut Rng) -> Value {
    let names = ["nginx", "busybox", "repo:5000/nginx", "x/nginx", ".*nginx", "ghcr.io/a/b", "REPO/App"];
    let mut image = map([("name", rng.word(&names))]);
    match rng.below(7) {
        0 => image.set("newTag", rng.word(&["9", "v1.0", "1e3"])),
        1 => image.set("newName", "other/img"),
        2 => image.set("digest", "sha256:12"),
        3 => {
            image.set("newName", "nm");
            image.set("newTag", "2");
        }
        4 => {
            image.set("newTag", "3");
            image.set("digest", "sha256:34");
        }
        5 => image.set("newTag", ""),
        _ => image.set("tagSuffix", "-x"),
    }
    image
}

pub(super) fn labels(rng: &mut Rng) -> Value {
    let mut entries = Vec::new();
    for _ in 0..rng.between(1, 2) {
        let mut entry = map([("pairs", strings(rng))]);
        if rng.chance(35) {
            entry.set("includeSelectors", rng.chance(70));
        }
        if rng.chance(40) {
            entry.set("includeTemplates", rng.chance(80));
        }
        if rng.chance(20) {
            let paths = ["spec/made/labels", "metadata/annotations", "spec/jobTemplate/metadata/labels"];
            let mut spec = map([("path", rng.word(&paths).into()), ("create", plain("true"))]);
            if rng.chance(40) {
                spec.set("kind", rng.word(&["Custom", "Deployment", "CronJob"]));
            }
            entry.set("fields", vec![spec]);
        }
        entries.push(entry);
    }
    entries.into()
}

pub(super) fn sort_options(rng: &mut Rng) -> Value {
    let order = rng.word(&["fifo", "legacy"]);
    let mut options = map([("order", order)]);
    if order == "legacy" && rng.chance(50) {
        let legacy = map([
            ("orderFirst", texts(["Deployment", "Custom"])),
            ("orderLast", texts(["Namespace", "ConfigMap"])),
        ]);
        options.set("legacySortOptions", legacy);
    }
    options
}
