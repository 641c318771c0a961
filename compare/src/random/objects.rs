//! Objects of every kind that kustomize's tables know, and one of a custom kind.

use super::paths::{Place, places};
use super::pod;
use super::rng::Rng;
use super::value::{Value, map, plain, texts};
use super::words::{NAMES, name, scalar, selector, strings};

/// An object and what identifies it where it is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Object {
    pub(super) api_version: &'static str,
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) namespace: Option<&'static str>,
    pub(super) value: Value,
    /// Whether a patch may have changed it since: then only its metadata is surely there.
    pub(super) touched: bool,
}

/// Kinds with their versions.
pub(super) const KINDS: [(&str, &str); 32] = [
    ("Deployment", "apps/v1"),
    ("StatefulSet", "apps/v1"),
    ("DaemonSet", "apps/v1"),
    ("ReplicaSet", "apps/v1"),
    ("Job", "batch/v1"),
    ("CronJob", "batch/v1"),
    ("Pod", "v1"),
    ("ReplicationController", "v1"),
    ("Service", "v1"),
    ("ConfigMap", "v1"),
    ("Secret", "v1"),
    ("ServiceAccount", "v1"),
    ("Namespace", "v1"),
    ("PersistentVolumeClaim", "v1"),
    ("PersistentVolume", "v1"),
    ("Role", "rbac.authorization.k8s.io/v1"),
    ("ClusterRole", "rbac.authorization.k8s.io/v1"),
    ("RoleBinding", "rbac.authorization.k8s.io/v1"),
    ("ClusterRoleBinding", "rbac.authorization.k8s.io/v1"),
    ("Ingress", "networking.k8s.io/v1"),
    ("IngressClass", "networking.k8s.io/v1"),
    ("NetworkPolicy", "networking.k8s.io/v1"),
    ("HorizontalPodAutoscaler", "autoscaling/v2"),
    ("PodDisruptionBudget", "policy/v1"),
    ("Custom", "example.com/v1"),
    ("CustomResourceDefinition", "apiextensions.k8s.io/v1"),
    ("ValidatingWebhookConfiguration", "admissionregistration.k8s.io/v1"),
    ("MutatingWebhookConfiguration", "admissionregistration.k8s.io/v1"),
    ("StorageClass", "storage.k8s.io/v1"),
    ("PriorityClass", "scheduling.k8s.io/v1"),
    ("APIService", "apiregistration.k8s.io/v1"),
    ("Deployment", "apps/v1"),
];

/// Kinds that have no namespace.
const CLUSTER_WIDE: [&str; 11] = [
    "Namespace",
    "PersistentVolume",
    "ClusterRole",
    "ClusterRoleBinding",
    "IngressClass",
    "CustomResourceDefinition",
    "ValidatingWebhookConfiguration",
    "MutatingWebhookConfiguration",
    "StorageClass",
    "PriorityClass",
    "APIService",
];

impl Object {
    /// A new object of a random kind.
    pub(super) fn random(rng: &mut Rng) -> Self {
        let (kind, api_version) = *rng.pick(&KINDS);
        let name = (*rng.pick(&NAMES)).to_owned();
        Self::of(rng, kind, api_version, name)
    }

    pub(super) fn of(rng: &mut Rng, kind: &'static str, api_version: &'static str, name: String) -> Self {
        let mut metadata = map([("name", name.as_str())]);
        let namespaced = !CLUSTER_WIDE.contains(&kind);
        let namespace = (namespaced && rng.chance(25)).then(|| rng.word(&["ns1", "ns2", "default"]));
        if let Some(namespace) = namespace {
            metadata.set("namespace", namespace);
        }
        if rng.chance(40) {
            metadata.set("labels", strings(rng));
        }
        if rng.chance(35) {
            metadata.set("annotations", strings(rng));
        }
        if rng.chance(4) {
            metadata.set("finalizers", texts(["f1"]));
        }
        let mut value =
            map([("apiVersion", api_version.into()), ("kind", kind.into()), ("metadata", metadata)]);
        if rng.chance(5) {
            anchored(rng, &mut value);
        }
        for (key, field) in body(rng, kind).as_map() {
            value.set(key, field.clone());
        }
        Self { api_version, kind, name, namespace, value, touched: false }
    }

    /// A mapping with apiVersion, kind and metadata that name this object, as a patch begins.
    pub(super) fn head(&self) -> Value {
        let mut metadata = map([("name", self.name.as_str())]);
        if let Some(namespace) = self.namespace {
            metadata.set("namespace", namespace);
        }
        map([("apiVersion", self.api_version.into()), ("kind", self.kind.into()), ("metadata", metadata)])
    }

    /// Group and version of `apiVersion`.
    pub(super) fn group_version(&self) -> (&'static str, &'static str) {
        self.api_version.split_once('/').unwrap_or(("", self.api_version))
    }

    /// The places in it that are still there.
    pub(super) fn places(&self) -> Vec<Place<'_>> {
        if self.touched { Vec::new() } else { places(&self.value) }
    }

    /// The places in it that hold scalars.
    pub(super) fn scalars(&self) -> Vec<Place<'_>> {
        let mut places = self.places();
        places.retain(|place| place.value.is_scalar() && *place.value != plain("null"));
        places
    }

    pub(super) fn same_id(&self, other: &Self) -> bool {
        (self.kind, &self.name) == (other.kind, &other.name)
    }

    pub(super) fn is_workload(&self) -> bool {
        matches!(self.kind, "Deployment" | "StatefulSet" | "ReplicaSet" | "ReplicationController")
    }
}

/// Labels that are shared with annotations by an anchor, or merged by `<<`.
fn anchored(rng: &mut Rng, value: &mut Value) {
    let Value::Map(entries) = value else { return };
    let Some((_, metadata)) = entries.iter_mut().find(|(key, _)| key == "metadata") else { return };
    if let Value::Map(entries) = metadata {
        // The anchor has to come first.
        entries.retain(|(key, _)| key != "labels" && key != "annotations");
    }
    let shared = map([("a", "1"), ("shared", "on")]);
    metadata.set("labels", Value::Anchor("shared", Box::new(shared)));
    if rng.chance(50) {
        metadata.set("annotations", Value::Alias("shared"));
    } else {
        metadata.set("annotations", map([("<<", Value::Alias("shared")), ("own", "x".into())]));
    }
}

/// What a kind holds beside its metadata.
pub(super) fn body(rng: &mut Rng, kind: &str) -> Value {
    match kind {
        "Deployment" | "DaemonSet" | "StatefulSet" | "ReplicaSet" | "ReplicationController" => {
            map([("spec", workload(rng, kind))])
        }
        "Job" => map([("spec", map([("template", pod::template(rng))]))]),
        "CronJob" => {
            let job = map([("spec", map([("template", pod::template(rng))]))]);
            map([("spec", map([("schedule", "* * * * *".into()), ("jobTemplate", job)]))])
        }
        "Pod" => map([("spec", pod::spec(rng))]),
        "Service" => {
            let mut spec = map([("ports", service_ports(rng))]);
            if rng.chance(85) {
                spec.set("selector", strings(rng));
            }
            map([("spec", spec)])
        }
        "ConfigMap" => config_map(rng),
        "Secret" if rng.chance(60) => {
            map([("type", "Opaque".into()), ("data", map([("k", "djE="), ("tls.crt", "YQ==")]))])
        }
        "Secret" => map([("stringData", map([("s", "t")]))]),
        "Role" | "ClusterRole" => {
            let rule = map([
                ("apiGroups", texts([""])),
                ("resources", texts([rng.word(&["configmaps", "secrets", "services"])])),
                ("resourceNames", vec![name(rng)].into()),
                ("verbs", texts(["get"])),
            ]);
            map([("rules", vec![rule])])
        }
        "RoleBinding" | "ClusterRoleBinding" => binding(rng),
        "Ingress" => ingress(rng),
        "IngressClass" => map([("spec", map([("controller", "x.y/z")]))]),
        "PersistentVolumeClaim" => {
            let mut spec = map([("accessModes", texts(["ReadWriteOnce"]))]);
            spec.set("storageClassName", name(rng));
            if rng.chance(30) {
                spec.set("volumeName", name(rng));
            }
            map([("spec", spec)])
        }
        "PersistentVolume" => {
            let claim = map([("name", name(rng)), ("namespace", "ns1".into())]);
            map([("spec", map([("storageClassName", name(rng)), ("claimRef", claim)]))])
        }
        "HorizontalPodAutoscaler" => {
            let target =
                map([("apiVersion", "apps/v1".into()), ("kind", "Deployment".into()), ("name", name(rng))]);
            map([("spec", map([("scaleTargetRef", target), ("minReplicas", plain("1"))]))])
        }
        "NetworkPolicy" => network_policy(rng),
        "PodDisruptionBudget" => {
            map([("spec", map([("selector", selector(rng)), ("minAvailable", plain("1"))]))])
        }
        "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration" => {
            let service = map([("name", name(rng)), ("namespace", rng.word(&["ns1", "default"]).into())]);
            let hook = map([("name", "w.x".into()), ("clientConfig", map([("service", service)]))]);
            map([("webhooks", vec![hook])])
        }
        "CustomResourceDefinition" => {
            let spec = map([("group", "example.com".into()), ("names", map([("kind", "Custom")]))]);
            map([("spec", spec)])
        }
        "StorageClass" => {
            map([("provisioner", "x".into()), ("parameters", map([("secretName", name(rng))]))])
        }
        "PriorityClass" => map([("value", plain("10"))]),
        "APIService" => {
            let service = map([("name", name(rng)), ("namespace", "ns1".into())]);
            map([("spec", map([("service", service), ("version", "v1".into())]))])
        }
        "Custom" => custom(rng),
        _ => Value::Map(Vec::new()),
    }
}

fn workload(rng: &mut Rng, kind: &str) -> Value {
    let mut spec = Value::Map(Vec::new());
    if rng.chance(70) {
        let selector = if kind == "ReplicationController" { strings(rng) } else { selector(rng) };
        spec.set("selector", selector);
    }
    if kind != "DaemonSet" && rng.chance(55) {
        spec.set("replicas", rng.between(0, 3));
    }
    if kind == "Deployment" && rng.chance(15) {
        let strategy = if rng.chance(50) {
            map([("type", "RollingUpdate".into()), ("rollingUpdate", map([("maxSurge", plain("1"))]))])
        } else {
            map([("type", "Recreate")])
        };
        spec.set("strategy", strategy);
    }
    spec.set("template", pod::template(rng));
    if kind == "StatefulSet" {
        if rng.chance(60) {
            spec.set("serviceName", name(rng));
        }
        if rng.chance(40) {
            let mut metadata = map([("name", "vct")]);
            if rng.chance(40) {
                metadata.set("labels", strings(rng));
            }
            let claim = map([("metadata", metadata), ("spec", map([("storageClassName", name(rng))]))]);
            spec.set("volumeClaimTemplates", vec![claim]);
        }
    }
    spec
}

fn service_ports(rng: &mut Rng) -> Vec<Value> {
    let mut ports = Vec::new();
    for number in &["80", "443", "53"][..rng.between(1, 3)] {
        let mut port = map([("port", plain(number))]);
        if rng.chance(40) {
            port.set("protocol", rng.word(&["TCP", "UDP"]));
        }
        if rng.chance(40) {
            port.set("targetPort", if rng.chance(50) { plain("8080") } else { "http".into() });
        }
        if rng.chance(30) {
            port.set("name", format!("p{number}"));
        }
        ports.push(port);
    }
    ports
}

fn config_map(rng: &mut Rng) -> Value {
    let mut data = map([("k", rng.word(&["v", "1", "multi\nline\n", "x: 1\ny: 2", "true", "$(VAR)"]))]);
    data.set("j", rng.word(&["{\"a\": 1, \"b\": {\"c\": \"d\"}}", "a=b", "x,y,z", "h:80:tcp", " a b "]));
    if rng.chance(15) {
        data.set("app.yaml", "server:\n  host: a\n  ports:\n  - 1\n  - 2\n");
    }
    let mut body = map([("data", data)]);
    if rng.chance(8) {
        body.set("binaryData", map([("b", "AAEC")]));
    }
    if rng.chance(5) {
        body.set("immutable", true);
    }
    body
}

fn binding(rng: &mut Rng) -> Value {
    let role = map([
        ("apiGroup", "rbac.authorization.k8s.io".into()),
        ("kind", rng.word(&["Role", "ClusterRole"]).into()),
        ("name", name(rng)),
    ]);
    let mut subjects = Vec::new();
    for _ in 0..rng.between(1, 2) {
        let mut subject = map([("kind", rng.word(&["ServiceAccount", "User"]).into()), ("name", name(rng))]);
        if rng.chance(50) {
            subject.set("namespace", rng.word(&["ns1", "ns2", "default"]));
        }
        subjects.push(subject);
    }
    map([("roleRef", role), ("subjects", subjects.into())])
}

fn ingress(rng: &mut Rng) -> Value {
    let backend = map([("service", map([("name", name(rng)), ("port", map([("number", plain("80"))]))]))]);
    let path = map([("path", "/".into()), ("pathType", "Prefix".into()), ("backend", backend.clone())]);
    let rule = map([("host", "h".into()), ("http", map([("paths", vec![path])]))]);
    let mut spec = map([("rules", vec![rule])]);
    if rng.chance(50) {
        spec.set("tls", vec![map([("hosts", texts(["h"])), ("secretName", name(rng))])]);
    }
    if rng.chance(40) {
        spec.set("ingressClassName", name(rng));
    }
    if rng.chance(20) {
        spec.set("defaultBackend", backend);
    }
    map([("spec", spec)])
}

fn network_policy(rng: &mut Rng) -> Value {
    let peer = map([("podSelector", map([("matchLabels", map([("c", "d")]))]))]);
    let pods = if rng.chance(50) { Value::Map(Vec::new()) } else { selector(rng) };
    let mut spec = map([("podSelector", pods)]);
    let (direction, side) = if rng.chance(60) { ("ingress", "from") } else { ("egress", "to") };
    spec.set(direction, vec![map([(side, vec![peer])])]);
    map([("spec", spec)])
}

fn custom(rng: &mut Rng) -> Value {
    let list = vec![map([("name", "a".into()), ("v", plain("1"))]), map([("name", "b")])];
    let mut nested = map([("e", Value::Map(Vec::new())), ("l", Value::List(Vec::new()))]);
    nested.set("x", scalar(rng));
    let spec = map([
        ("list", list.into()),
        ("nested", nested),
        ("containers", vec![map([("name", "main"), ("image", "nginx:1")])].into()),
        ("selector", map([("matchLabels", map([("a", "b")]))])),
        ("s", scalar(rng)),
        ("configRef", map([("name", name(rng))])),
        ("url", "https://h.example:80/p?q=1".into()),
    ]);
    map([("spec", spec)])
}
