use super::*;

#[test]
fn an_answer_is_of_the_object_that_was_asked_for() {
    for (body, is_about_it) in [
        (
            r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"uid":"1","name":"x"},"data":{"a":"\n"}}"#,
            true,
        ),
        (r#"{"kind":"ConfigMap","metadata":{"name":"y"}}"#, false),
        (r#"{"kind":"Secret","metadata":{"name":"x"}}"#, false),
        (r#"{"kind":"ConfigMapList","metadata":{},"items":[]}"#, false),
        (r#"{"kind":"Status","status":"Success","metadata":{}}"#, false),
        ("{}", false),
        ("", false),
        ("<html>log in</html>", false),
    ] {
        assert_eq!(is_about(body.as_bytes(), "ConfigMap", "x"), is_about_it, "{body}");
    }
}

#[test]
fn half_a_list_is_not_an_empty_one() {
    for (body, is_list) in [
        (r#"{"kind":"PodList","metadata":{"resourceVersion":"7"},"items":[]}"#, true),
        (r#"{"kind":"PodList","items":null}"#, true),
        (r#"{"kind":"PodList","metadata":{"resourceVersion":"7"}}"#, false),
        (r#"{"kind":"PodList"}"#, false),
        (r#"{"kind":"PodList","items":{}}"#, false),
        (r#"{"kind":"PodList","items":[]"#, false),
        ("{}", false),
        ("null", false),
    ] {
        assert_eq!(serde_json::from_str::<Answer<String>>(body).is_ok(), is_list, "{body}");
    }
}

#[test]
fn refusals_are_told_apart_by_what_they_are_about() {
    let fields = |failure: &Failure| failure.fields().to_vec();
    let says = |code: u16, message: &str| {
        let body = serde_json::json!({"kind": "Status", "reason": "Some", "message": message, "code": code,
                "details": {"name": "x", "causes": [{"reason": "FieldValueDuplicate", "message": "m", "field": "spec.ports[1].name"}]}});
        refusal(code, body.to_string().as_bytes())
    };
    let invalid = says(422, "Service \"x\" is invalid: spec.ports[1].name: Duplicate value: \"http\"");
    assert_eq!(fields(&invalid), ["spec.ports[1].name"]);
    assert!(fields(&says(409, "conflict")).is_empty());
    // The words of one API server for each; content, admission, refusal.
    for (code, message, expected) in [
        (422, "Service \"x\" is invalid: spec.ports[1].name: Duplicate value: \"http\"", (true, false, true)),
        (
            422,
            "PriorityClass.scheduling.k8s.io \"x\" is invalid: value: Forbidden: may not be changed in an update.",
            (true, false, true),
        ),
        (
            403,
            "pods \"x\" is forbidden: User \"system:serviceaccount:a:b\" cannot patch resource \"pods\" in API group \"\" in the namespace \"a\"",
            (false, false, false),
        ),
        (
            403,
            "roles.rbac.authorization.k8s.io \"x\" is forbidden: user \"u\" (groups=[]) is attempting to grant RBAC permissions not currently held",
            (false, false, false),
        ),
        (
            403,
            "pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\": hostNetwork",
            (false, true, true),
        ),
        (
            403,
            "pods \"x\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1",
            (false, true, true),
        ),
        // What is missing may come with the unit.
        (
            403,
            "pods \"x\" is forbidden: error looking up service account a/b: serviceaccount \"b\" not found",
            (false, true, false),
        ),
        (403, "pods \"x\" is forbidden: no PriorityClass with name p was found", (false, true, false)),
        (404, "namespaces \"a\" not found", (false, false, false)),
        (403, "admission webhook \"w.example.com\" denied the request: no", (false, true, true)),
        (
            400,
            "admission webhook \"w.example.com\" denied the request: spec is immutable",
            (true, true, true),
        ),
        (
            500,
            "failed to create typed patch object (a/x; v1, Kind=ConfigMap): .foo: field not declared in schema",
            (false, false, true),
        ),
        (400, "admission webhook \"w.example.com\" does not support dry run", (false, true, false)),
        (500, "failed calling webhook \"w.example.com\": connection refused", (false, false, false)),
        (503, "the server is currently unable to handle the request", (false, false, false)),
    ] {
        let failure = says(code, message);
        let told = (failure.is_of_content(), failure.is_admission(), failure.is_refusal());
        assert_eq!(told, expected, "{code} {message}");
    }
}

#[test]
fn an_object_that_is_not_there_is_told_from_a_path_that_is_not_served() {
    let gone = r#"{"kind":"Status","status":"Failure","message":"configmaps \"x\" not found","reason":"NotFound",
            "details":{"name":"x","kind":"configmaps"},"code":404}"#;
    let unserved = r#"{"kind":"Status","status":"Failure","message":"the server could not find the requested resource",
            "reason":"NotFound","details":{},"code":404}"#;
    for (code, body, not_found, not_served) in [
        (404, gone, true, false),
        (404, unserved, false, true),
        (404, "404 page not found\n", false, true),
        (404, "<html>a proxy's own page</html>", false, true),
        (404, "", false, true),
        (403, gone, false, false),
        (500, gone, false, false),
    ] {
        let failure = refusal(code, body.as_bytes());
        assert_eq!(
            (failure.is_not_found(), failure.is_not_served()),
            (not_found, not_served),
            "{code} {body}"
        );
    }
}
