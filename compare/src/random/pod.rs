//! Pod specs: the richest part of what kustomize knows, with every kind of reference to other objects.

use super::rng::Rng;
use super::value::{Value, map, plain, texts};
use super::words::{name, strings};

/// A pod template, with labels and annotations or without.
pub(super) fn template(rng: &mut Rng) -> Value {
    let mut template = Value::Map(Vec::new());
    if rng.chance(85) {
        let mut metadata = Value::Map(Vec::new());
        if rng.chance(85) {
            metadata.set("labels", strings(rng));
        }
        if rng.chance(20) {
            metadata.set("annotations", strings(rng));
        }
        template.set("metadata", metadata);
    }
    template.set("spec", spec(rng));
    template
}

pub(super) fn spec(rng: &mut Rng) -> Value {
    let mut spec = Value::Map(Vec::new());
    let count = rng.between(1, 3);
    spec.set("containers", containers(rng, &["main", "side", "third"], count));
    if rng.chance(15) {
        spec.set("initContainers", containers(rng, &["init", "main"], 1));
    }
    if rng.chance(45) {
        spec.set("volumes", volumes(rng));
    }
    if rng.chance(30) {
        spec.set("serviceAccountName", name(rng));
    }
    if rng.chance(15) {
        spec.set("imagePullSecrets", vec![map([("name", name(rng))])]);
    }
    if rng.chance(12) {
        spec.set("tolerations", vec![map([("key", "a"), ("operator", "Exists")])]);
    }
    if rng.chance(15) {
        let mut constraint = map([("topologyKey", rng.word(&["zone", "host"]))]);
        constraint.set("whenUnsatisfiable", rng.word(&["DoNotSchedule", "ScheduleAnyway"]));
        constraint.set("maxSkew", 1);
        if rng.chance(70) {
            constraint.set("labelSelector", map([("matchLabels", map([("a", "b")]))]));
        }
        spec.set("topologySpreadConstraints", vec![constraint]);
    }
    if rng.chance(12) {
        let selector = || map([("matchLabels", map([("q", "r")]))]);
        let term = map([("labelSelector", selector()), ("topologyKey", "host".into())]);
        let preferred = map([("podAffinityTerm", term.clone()), ("weight", plain("10"))]);
        let which = rng.word(&["podAffinity", "podAntiAffinity"]);
        let terms = if rng.chance(50) {
            map([("requiredDuringSchedulingIgnoredDuringExecution", vec![term])])
        } else {
            map([("preferredDuringSchedulingIgnoredDuringExecution", vec![preferred])])
        };
        spec.set("affinity", map([(which, terms)]));
    }
    if rng.chance(8) {
        spec.set("hostAliases", vec![map([("ip", "1.2.3.4".into()), ("hostnames", texts(["a"]))])]);
    }
    if rng.chance(8) {
        spec.set("securityContext", map([("runAsUser", plain("0"))]));
    }
    spec
}

fn containers(rng: &mut Rng, names: &[&str], count: usize) -> Vec<Value> {
    let count = count.min(names.len());
    names[..count].iter().map(|name| container(rng, name)).collect()
}

fn container(rng: &mut Rng, name: &str) -> Value {
    const IMAGES: [&str; 9] = [
        "nginx",
        "nginx:1.7",
        "repo:5000/nginx:2",
        "busybox@sha256:abc",
        "nginx:1@sha256:ff",
        "x/nginx:3",
        "ghcr.io/a/b:v1.0.0-rc.1",
        "REPO/App:1",
        "$(V)/app:1",
    ];
    let mut container = map([("name", name), ("image", rng.word(&IMAGES))]);
    if rng.chance(50) {
        let names = &["A", "B", "C"][..rng.between(0, 3)];
        container.set("env", names.iter().map(|name| variable(rng, name)).collect::<Vec<_>>());
    }
    if rng.chance(30) {
        let kind = rng.word(&["configMapRef", "secretRef"]);
        container.set("envFrom", vec![map([(kind, map([("name", super::words::name(rng))]))])]);
    }
    if rng.chance(40) {
        container.set("ports", ports(rng));
    }
    if rng.chance(25) {
        let mounts = &["/a", "/b"][..rng.between(1, 2)];
        let mount = |path: &&str| map([("name", "v1"), ("mountPath", path)]);
        container.set("volumeMounts", mounts.iter().map(mount).collect::<Vec<_>>());
    }
    if rng.chance(25) {
        let all = ["a", "--x=$(V)", "b", "$(VAR)"];
        container.set(rng.word(&["args", "command"]), texts(all[..rng.between(0, 4)].iter().copied()));
    }
    if rng.chance(20) {
        let mut limits = Value::Map(Vec::new());
        limits.set("cpu", if rng.chance(50) { plain("1") } else { "100m".into() });
        limits.set("memory", "1Gi");
        container.set("resources", map([("limits", limits)]));
    }
    if rng.chance(4) {
        container.set("lifecycle", plain("null"));
    }
    container
}

fn variable(rng: &mut Rng, key: &str) -> Value {
    if rng.chance(60) {
        return map([("name", key), ("value", rng.word(&["1", "x", "$(VAR)", "true", "", "a b", "$(V)-x"]))]);
    }
    let kind = rng.word(&["configMapKeyRef", "secretKeyRef"]);
    let reference = map([("name", name(rng)), ("key", "k".into())]);
    map([("name", key.into()), ("valueFrom", map([(kind, reference)]))])
}

fn ports(rng: &mut Rng) -> Vec<Value> {
    let mut ports = Vec::new();
    for number in &["80", "443", "8080"][..rng.between(1, 3)] {
        let mut port = map([("containerPort", plain(number))]);
        if rng.chance(50) {
            port.set("protocol", rng.word(&["TCP", "UDP"]));
        }
        if rng.chance(40) {
            port.set("name", format!("p{number}"));
        }
        ports.push(port);
        // The same number under another protocol: merge keys of two fields.
        if rng.chance(10) {
            ports.push(map([("containerPort", plain(number)), ("protocol", "SCTP".into())]));
        }
    }
    ports
}

fn volumes(rng: &mut Rng) -> Vec<Value> {
    let mut volumes = Vec::new();
    for volume in ["v1", "v2", "v3", "v4", "v5"] {
        if rng.chance(60) {
            continue;
        }
        let name = |rng: &mut Rng| map([("name", name(rng))]);
        let (kind, source) = match rng.below(6) {
            0 => ("configMap", name(rng)),
            1 => ("secret", map([("secretName", super::words::name(rng))])),
            2 => ("emptyDir", Value::Map(Vec::new())),
            3 => ("persistentVolumeClaim", map([("claimName", super::words::name(rng))])),
            4 => ("hostPath", map([("path", "/x")])),
            _ => {
                let kind = rng.word(&["configMap", "secret"]);
                ("projected", map([("sources", vec![map([(kind, name(rng))])])]))
            }
        };
        volumes.push(map([("name", volume.into()), (kind, source)]));
    }
    volumes
}
