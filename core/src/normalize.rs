//! The form in which an object is sent to the API server: without what a Server-Side Apply of it would leave behind, fight
//! over or be refused for, though it says nothing of what is wanted. As Flux's `ssa/normalize` does, and further where
//! controllers write what manifests hold a placeholder for.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

/// What the API server writes into `metadata` and takes from nobody.
const WRITTEN: [&str; 8] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Brings an object into the form in which it is applied.
pub fn normalize(object: &mut Value) {
    let api_version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    let (group, _) = api_version.rsplit_once('/').unwrap_or_default();
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    let named = (group.to_owned(), kind.to_owned());
    let Some(root) = object.as_object_mut() else { return };
    // Controllers write it, and an old one may have fields that the API server no longer knows.
    root.remove("status");
    if let Some(metadata) = root.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| !WRITTEN.contains(&key.as_str()));
        for field in ["labels", "annotations"] {
            texts(metadata.get_mut(field));
        }
    }
    match (named.0.as_str(), named.1.as_str()) {
        ("", "Secret") => string_data(root),
        ("rbac.authorization.k8s.io", "ClusterRole") => aggregated(root),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            ca_bundle(object.pointer_mut("/spec/conversion/webhook/clientConfig"));
        }
        ("apiregistration.k8s.io", "APIService") => ca_bundle(object.pointer_mut("/spec")),
        (
            "admissionregistration.k8s.io",
            "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration",
        ) => {
            let hooks = object.get_mut("webhooks").and_then(Value::as_array_mut).into_iter().flatten();
            hooks.for_each(|hook| ca_bundle(hook.get_mut("clientConfig")));
        }
        _ => {}
    }
}

/// Makes an empty text of nothing, as Kubernetes' clients do where they set a label or annotation beside it.
fn texts(pairs: Option<&mut Value>) {
    let values = pairs.and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut);
    values.filter(|value| value.is_null()).for_each(|value| *value = "".into());
}

/// Moves `stringData` into `data`. The API server does so too, but books it as `stringData`, so that a key that leaves it
/// stays (kubernetes/kubernetes#108008).
fn string_data(secret: &mut Map<String, Value>) {
    // What is no map of texts is the API server's to refuse.
    let is_text = |value: &Value| value.is_string() || value.is_null();
    let fits = |value: Option<&Value>| match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(map)) => map.values().all(is_text),
        Some(_) => false,
    };
    if !fits(secret.get("stringData")) || !fits(secret.get("data")) {
        return;
    }
    let Some(texts) = secret.remove("stringData") else { return };
    let Value::Object(texts) = texts else { return };
    let data = secret.entry("data").or_insert(Value::Null);
    if data.is_null() {
        *data = Value::Object(Map::new());
    }
    if let Some(data) = data.as_object_mut() {
        // A null is an empty text to the API server.
        data.extend(
            texts
                .into_iter()
                .map(|(key, text)| (key, STANDARD.encode(text.as_str().unwrap_or_default()).into())),
        );
    }
}

/// The rules of a role that is made of others are their controller's, whatever the manifest says.
fn aggregated(role: &mut Map<String, Value>) {
    if role.get("aggregationRule").is_some_and(Value::is_object) {
        role.remove("rules");
    }
}

/// Takes a placeholder out of a client configuration: what injects the real bundle is not to be fought.
fn ca_bundle(config: Option<&mut Value>) {
    let Some(config) = config.and_then(Value::as_object_mut) else { return };
    if config.get("caBundle").and_then(Value::as_str).is_some_and(|text| !holds_certificate(text)) {
        config.remove("caBundle");
    }
}

/// Whether a text is the base64 of PEM with a certificate in it, as far as can be told without reading the certificate.
fn holds_certificate(bundle: &str) -> bool {
    let packed = |text: &str| text.split_ascii_whitespace().collect::<String>();
    let Some(pem) = STANDARD.decode(packed(bundle)).ok().and_then(|bytes| String::from_utf8(bytes).ok())
    else {
        return false;
    };
    pem.split("-----BEGIN CERTIFICATE-----").skip(1).any(|rest| {
        let body = rest.split_once("-----END CERTIFICATE-----").map(|(body, _)| packed(body));
        body.and_then(|body| STANDARD.decode(body).ok()).is_some_and(|der| is_sequence(&der))
    })
}

/// Whether these bytes are one DER sequence with content.
fn is_sequence(der: &[u8]) -> bool {
    let [0x30, first, rest @ ..] = der else { return false };
    let (length, content) = match usize::from(*first) {
        short @ ..0x80 => (short, rest),
        long => {
            let Some((digits, content)) = rest.split_at_checked(long - 0x80) else { return false };
            if digits.len() > 4 {
                return false;
            }
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), content)
        }
    };
    length > 0 && length == content.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(api_version: &str, kind: &str, before: Value, after: Value) {
        let object = |mut fields: Value| {
            fields["apiVersion"] = api_version.into();
            fields["kind"] = kind.into();
            fields
        };
        let mut found = object(before.clone());
        normalize(&mut found);
        assert_eq!(found, object(after), "{kind} {before}");
        let once = found.clone();
        normalize(&mut found);
        assert_eq!(found, once, "twice is as once");
    }

    #[test]
    fn what_the_api_server_writes_is_left_out() {
        let metadata = json!({"name": "x", "uid": null, "resourceVersion": "", "creationTimestamp": null, "generation": 7,
            "selfLink": "/x", "deletionTimestamp": "2020-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0,
            "managedFields": [], "ownerReferences": [], "finalizers": ["a"], "annotations": {"uid": "u"}});
        let kept =
            json!({"name": "x", "ownerReferences": [], "finalizers": ["a"], "annotations": {"uid": "u"}});
        let inner = json!({"status": 1, "metadata": {"uid": 1}});
        for (api_version, kind) in [
            ("apps/v1", "Deployment"),
            ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
            ("example.com/v1", "Widget"),
        ] {
            let before =
                json!({"metadata": metadata, "spec": inner, "status": {"ready": 7, "unknownOfOld": 1}});
            check(api_version, kind, before, json!({"metadata": kept, "spec": inner}));
        }
    }

    #[test]
    fn labels_and_annotations_are_texts() {
        for field in ["labels", "annotations"] {
            let before = json!({"metadata": {field: {"a": null, "b": "c"}}, "spec": {field: {"a": null}}});
            let after = json!({"metadata": {field: {"a": "", "b": "c"}}, "spec": {field: {"a": null}}});
            check("v1", "ConfigMap", before, after);
            // Refused by the API server, in its words.
            for odd in [json!({"metadata": {field: {"a": 1}}}), json!({"metadata": {field: null}})] {
                check("v1", "ConfigMap", odd.clone(), odd);
            }
        }
    }

    #[test]
    fn string_data_becomes_data() {
        for (before, after) in [
            (json!({"stringData": {"a": "one", "b": ""}}), json!({"data": {"a": "b25l", "b": ""}})),
            (
                json!({"stringData": {"a": "one"}, "data": {"a": "dHdv", "c": "dHdv"}}),
                json!({"data": {"a": "b25l", "c": "dHdv"}}),
            ),
            (json!({"stringData": {"a": null}, "data": null}), json!({"data": {"a": ""}})),
            (json!({"stringData": {"ü": "ü\n"}}), json!({"data": {"ü": "w7wK"}})),
            (json!({"stringData": null, "type": "x/y"}), json!({"type": "x/y"})),
            (json!({"stringData": {}}), json!({"data": {}})),
            // Refused by the API server, in its words.
            (json!({"stringData": {"a": 1}}), json!({"stringData": {"a": 1}})),
            (json!({"stringData": "a"}), json!({"stringData": "a"})),
            (json!({"stringData": {"a": "b"}, "data": []}), json!({"stringData": {"a": "b"}, "data": []})),
        ] {
            check("v1", "Secret", before, after);
        }
        let other = json!({"stringData": {"a": "b"}});
        check("v1", "ConfigMap", other.clone(), other.clone());
        check("example.com/v1", "Secret", other.clone(), other);
    }

    #[test]
    fn rules_of_an_aggregated_role_are_its_controllers() {
        let rule = json!({"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]});
        for rules in
            [json!([]), json!(null), json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}])]
        {
            let role = json!({"aggregationRule": rule, "rules": rules});
            check("rbac.authorization.k8s.io/v1", "ClusterRole", role, json!({"aggregationRule": rule}));
            for plain in [json!({"rules": rules}), json!({"aggregationRule": null, "rules": rules})] {
                check("rbac.authorization.k8s.io/v1", "ClusterRole", plain.clone(), plain);
            }
        }
    }

    #[test]
    fn placeholders_of_ca_bundles_are_left_out() {
        let pem = |der: &[u8]| {
            let text = format!(
                "# of a test\n-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
                STANDARD.encode(der)
            );
            STANDARD.encode(text)
        };
        let mut long = vec![0x30, 0x82, 0x01, 0x00];
        long.resize(4 + 256, 7);
        for (bundle, stays) in [
            (pem(&[0x30, 0x03, 0x02, 0x01, 0x00]), true),
            (pem(&long), true),
            (pem(&long[..100]), false),
            (pem(&[0x30, 0x00]), false),
            (pem(&[]), false),
            (pem(b"no certificate"), false),
            ("Cg==".to_owned(), false),
            (String::new(), false),
            ("${CA_BUNDLE}".to_owned(), false),
            (STANDARD.encode("-----BEGIN CERTIFICATE-----\nMII"), false),
            (STANDARD.encode([0xff, 0xfe]), false),
        ] {
            let full = json!({"caBundle": bundle, "service": {"name": "s"}});
            let config = if stays { full.clone() } else { json!({"service": {"name": "s"}}) };
            check(
                "apiextensions.k8s.io/v1",
                "CustomResourceDefinition",
                json!({"spec": {"conversion": {"strategy": "Webhook", "webhook": {"clientConfig": full}}}}),
                json!({"spec": {"conversion": {"strategy": "Webhook", "webhook": {"clientConfig": config}}}}),
            );
            for kind in ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"] {
                check(
                    "admissionregistration.k8s.io/v1",
                    kind,
                    json!({"webhooks": [{"name": "a", "clientConfig": full}, {"name": "b"}]}),
                    json!({"webhooks": [{"name": "a", "clientConfig": config}, {"name": "b"}]}),
                );
            }
            check("apiregistration.k8s.io/v1", "APIService", json!({"spec": full}), json!({"spec": config}));
            check("example.com/v1", "APIService", json!({"spec": full}), json!({"spec": full}));
        }
    }
}
