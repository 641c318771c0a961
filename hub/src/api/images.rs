//! Which images a unit's objects run: those of pod templates, wherever workloads of Kubernetes and of others have them.

use flotilla_core::UnitId;
use serde_json::Value;

use super::show::{Known, manifest};

/// Where a pod's spec is in an object.
const PODS: [&str; 3] = ["/spec", "/spec/template/spec", "/spec/jobTemplate/spec/template/spec"];
const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Whether an object of the unit runs this image.
pub(super) fn unit_has(id: &UnitId, known: &Known, image: &str) -> bool {
    let (Some(manifest), Some(published)) = (manifest(id, known), &known.published) else { return false };
    manifest.objects.iter().any(|entry| {
        let body = published.bodies.get(&entry.digest).map(|object| object.body());
        // Most objects run none: they need not be read.
        body.is_some_and(|body| {
            has_text(body, image.as_bytes())
                && serde_json::from_slice(body)
                    .is_ok_and(|object| of(&object).iter().any(|it| is_of(it, image)))
        })
    })
}

pub(super) fn has_text(body: &[u8], text: &[u8]) -> bool {
    body.windows(text.len()).any(|part| part == text)
}

/// The images of an object.
fn of(object: &Value) -> Vec<&str> {
    let pods = PODS.into_iter().filter_map(|path| object.pointer(path));
    let lists = pods.flat_map(|pod| CONTAINERS.into_iter().filter_map(|field| pod.get(field)?.as_array()));
    lists.flatten().filter_map(|container| container.get("image")?.as_str()).collect()
}

/// Whether a reference is of an image: `nginx` and `library/nginx:1.27` are of `docker.io/library/nginx:1.27`, and `nginx:1.2` is
/// not.
fn is_of(reference: &str, image: &str) -> bool {
    let is_end = |byte: Option<&u8>| byte.is_none_or(|byte| b"/:@".contains(byte));
    let bytes = reference.as_bytes();
    reference.match_indices(image).any(|(at, _)| {
        let before = at.checked_sub(1).and_then(|before| bytes.get(before));
        is_end(before) && is_end(bytes.get(at + image.len()))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn images_are_named_by_whole_parts() {
        for (image, expected) in [
            ("nginx", true),
            ("library/nginx", true),
            ("docker.io", true),
            ("nginx:1.27", true),
            ("docker.io/library/nginx:1.27@sha256:ab", true),
            ("1.27", true),
            ("nginx:1.2", false),
            ("ginx", false),
            ("Nginx", false),
        ] {
            assert_eq!(is_of("docker.io/library/nginx:1.27@sha256:ab", image), expected, "{image}");
        }
    }

    #[test]
    fn images_of_every_workload_are_found() {
        let pod = |image: &str| json!({"containers": [{"name": "a", "image": image}, {"name": "b"}]});
        for (object, expected) in [
            (json!({"kind": "Pod", "spec": pod("a:1")}), vec!["a:1"]),
            (json!({"kind": "Rollout", "spec": {"template": {"spec": pod("b:2")}}}), vec!["b:2"]),
            (
                json!({"kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": {"spec": pod("c:3")}}}}}),
                vec!["c:3"],
            ),
            (json!({"spec": {"initContainers": [{"image": "d"}], "containers": "none"}}), vec!["d"]),
            (json!({"kind": "ConfigMap", "data": {"image": "e"}}), vec![]),
        ] {
            assert_eq!(of(&object), expected);
        }
    }
}
