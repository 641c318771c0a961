use super::*;
use serde_json::json;

#[test]
fn identity_is_read_or_refused_by_name() {
    let object = json!({"kind": "Deployment", "apiVersion": "apps/v1",
            "metadata": {"namespace": "web", "name": "frontend"}});
    let reference = ObjectRef::of(&object).unwrap();
    assert_eq!(reference.api_version(), "apps/v1");
    assert_eq!(reference.to_string(), "Deployment.apps web/frontend");

    for (object, message) in [
        (
            json!([]),
            "a document is not an object: expected a mapping with apiVersion, kind and metadata.name",
        ),
        (json!({"kind": "Service", "metadata": {"name": "x"}}), "apiVersion is missing in Service/x"),
        (
            json!({"apiVersion": "v1", "metadata": {"name": "x"}}),
            "kind is missing in an object 'x' without kind",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Service"}),
            "metadata.name is missing in a Service without name",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": 7}}),
            "metadata.name of a Service without name must be a non-empty string",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "x-"}}),
            "a Pod without name has metadata.generateName and no name; give it a name, an unnamed object cannot \
                 be kept",
        ),
    ] {
        assert_eq!(ObjectRef::of(&object).unwrap_err().to_string(), message);
    }
}

#[test]
fn our_own_fields_are_nobodys() {
    for field in ["flotilla.dev/template", "flotilla.dev/", "flotilla.dev/of-the-future"] {
        let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}});
        object[field] = json!({});
        let says = format!(
            "ConfigMap/x has the field {field}, which only hub and agent write between them; remove it"
        );
        assert_eq!(Object::new(&object).unwrap_err().to_string(), says);
        let body = Bytes::from(object.to_string());
        assert_eq!(Object::from_body(body, false).unwrap_err().to_string(), says);
    }
    let annotated = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x",
            "annotations": {"flotilla.dev/drift": "report"}}, "data": {"flotilla.dev/template": "a"}});
    assert!(Object::new(&annotated).is_ok());
}

#[test]
fn what_fits_one_object_of_one_cluster_is_refused_by_name() {
    let object = |metadata: Value| {
        let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
        object["metadata"]["name"] = "x".into();
        Object::new(&object).map(drop).map_err(|error| error.to_string())
    };
    for field in ["uid", "resourceVersion"] {
        let says = object(json!({field: "12345"})).unwrap_err();
        let wanted = format!("ConfigMap x has metadata.{field}, which the API server gives to one object");
        assert!(says.starts_with(&wanted), "{says}");
        assert_eq!(object(json!({field: null})), Ok(()));
        assert_eq!(object(json!({field: ""})), Ok(()));
        assert_eq!(object(json!({"annotations": {field: "12345"}})), Ok(()));
    }
}

#[test]
fn what_could_not_be_read_back_is_refused() {
    let nested = |levels: usize| {
        let inner = (0..levels)
            .fold(json!(1), |inner, n| if n % 2 == 0 { json!([inner]) } else { json!({"a": inner}) });
        json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": "x"}, "spec": inner})
    };
    let fits = Object::new(&nested(MAX_NESTING - 1)).unwrap();
    assert_eq!(fits.value(), nested(MAX_NESTING - 1));
    assert_eq!(Object::from_body(fits.body().clone(), false).unwrap(), fits);
    let error = Object::new(&nested(MAX_NESTING)).unwrap_err().to_string();
    assert_eq!(error, "A x is nested deeper than 120 levels, which cannot be sent");
}

#[test]
fn the_order_of_keys_does_not_change_the_digest() {
    let a = serde_json::from_str(r#"{"kind":"A","apiVersion":"v1","metadata":{"name":"x","labels":{}}}"#)
        .unwrap();
    let b = serde_json::from_str(r#"{"apiVersion":"v1","metadata":{"labels":{},"name":"x"},"kind":"A"}"#)
        .unwrap();
    let (a, b) = (Object::new(&a).unwrap(), Object::new(&b).unwrap());
    assert_eq!(a.digest(), b.digest());
    assert_eq!(Object::from_body(a.body().clone(), false).unwrap(), b);
}

#[test]
fn integers_beyond_64_bits_with_a_sign_are_floats_as_kubernetes_reads_them() {
    for (written, kept) in [
        ("9223372036854775807", "9223372036854775807"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("9223372036854775808", "9223372036854776000"),
        ("18446744073709551615", "1.8446744073709552e19"),
    ] {
        let object = |number: &str| -> Value {
            let text = format!(
                r#"{{"apiVersion":"e.org/v1","kind":"W","metadata":{{"name":"w"}},"spec":{{"a":[{{"n":{number}}}]}}}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let found = Object::new(&object(written)).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(found.body()).unwrap(), object(kept), "{written}");
        assert_eq!(Object::from_body(found.body().clone(), false).unwrap(), found);
    }
}
