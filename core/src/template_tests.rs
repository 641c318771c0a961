use super::*;

fn reference(kind: ValuesKind, name: &str) -> ValuesRef {
    ValuesRef { kind, namespace: "flux-system".into(), name: name.into() }
}

fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn from(kind: ValuesKind, name: &str, optional: bool) -> Layer {
    Layer::From { reference: reference(kind, name), optional }
}

fn variables() -> Variables {
    let mut variables = Variables::default();
    variables.add(values(&[("fleet", "f"), ("region", "fleet"), ("size", "1")])).unwrap();
    variables.layers.push(from(ValuesKind::ConfigMap, "vars", false));
    variables.layers.push(from(ValuesKind::Secret, "more", true));
    variables.add(values(&[("region", "inline\n")])).unwrap();
    variables
}

const TEXT: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\n  namespace: d\ndata:\n  a: ${region}-${fleet}\n  \
                        b: \"${size}\"\nnum: ${size}\n";

#[test]
fn large_integers_become_what_a_double_holds_where_something_is_substituted() {
    let text = "a: 12345678901234567\nb: 9007199254740993\nc: [-9007199254740993]\nd: '12345678901234567'\ne: 9223372036854775807\n";
    let number = |variables: &Variables| variables.substitute(text).unwrap().to_json().unwrap();
    let rounded = json!({"a": 12345678901234568_i64, "b": 9007199254740992_i64, "c": [-9007199254740992_i64],
                             "d": "12345678901234567", "e": 9223372036854776000_u64});
    assert_eq!(number(&variables()), rounded);
    assert_eq!(number(&Variables::default())["a"], json!(12345678901234567_i64));
}

#[test]
fn what_is_not_set_is_an_error_or_nothing_as_the_unit_says() {
    let text = "a: '${missing}'\nb: '${#missing}'\nc: ${missing:-x}\nd: '${missing/a/b}'\n";
    let found = Found::from([
        (reference(ValuesKind::ConfigMap, "vars"), Some(values(&[]))),
        (reference(ValuesKind::Secret, "more"), None),
    ]);
    let strict = variables().completed(&found).unwrap();
    assert!(strict.substitute(text).unwrap_err().to_string().contains("missing"));
    let lenient = Variables { lenient: true, ..strict };
    let expected = json!({"a": "", "b": "0", "c": "x", "d": ""});
    assert_eq!(lenient.substitute(text).unwrap().to_json().unwrap(), expected);
    // It goes along to the agent, and is not written where it says nothing.
    let sent = serde_json::to_value(&lenient).unwrap();
    assert_eq!(sent["lenient"], json!(true));
    assert_eq!(serde_json::from_value::<Variables>(sent).unwrap(), lenient);
    assert_eq!(serde_json::to_value(variables()).unwrap().get("lenient"), None);
    assert!(Variables { lenient: true, ..variables() }.completed(&found).unwrap().lenient);
}

fn template() -> ObjectTemplate {
    let object =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "d"}});
    let metadata = Metadata { labels: values(&[("team", "${region}")]), ..Metadata::default() };
    ObjectTemplate::new(ObjectRef::of(&object).unwrap(), TEXT.to_owned(), variables(), metadata)
}

#[test]
fn later_layers_cover_earlier_ones_and_the_cluster_may_cover_what_is_below() {
    let all = variables();
    assert_eq!(all.lookup("region"), Known::Value("inline"));
    assert_eq!(all.lookup("fleet"), Known::Perhaps(&reference(ValuesKind::Secret, "more")));
    let found = Found::from([
        (reference(ValuesKind::ConfigMap, "vars"), Some(values(&[("size", "2"), ("region", "map")]))),
        (reference(ValuesKind::Secret, "more"), None),
    ]);
    let known = all.completed(&found).unwrap();
    assert_eq!(
        (known.lookup("size"), known.lookup("fleet"), known.lookup("region"), known.lookup("nope")),
        (Known::Value("2"), Known::Value("f"), Known::Value("inline"), Known::NotSet)
    );
    assert!(all.clone().add(values(&[("my.key", "x")])).unwrap_err().contains("'my.key'"));
}

#[test]
fn what_only_the_cluster_knows_has_no_value_before_it_was_asked() {
    for lenient in [false, true] {
        let all = Variables { lenient, ..variables() };
        assert_eq!((all.value("fleet"), all.value("region")), (None, Some("inline")));
        for text in ["a: ${fleet}", "a: ${fleet:-default}", "a: ${region:-${size}}"] {
            let error = all.substitute(text).unwrap_err().to_string();
            assert!(
                error.ends_with("which may set a variable, is known to the cluster only"),
                "{text}: {error}"
            );
        }
        assert!(all.substitute("a: ${region}").is_ok());
    }
}

#[test]
fn a_template_travels_as_an_object_and_becomes_one() {
    let object = template().object();
    assert_eq!(object.id().to_string(), "ConfigMap d/x");
    let read = ObjectTemplate::of(&object).unwrap().unwrap();
    assert_eq!(read, template());
    let needed: Vec<_> = read.needs().map(ToString::to_string).collect();
    assert_eq!(needed, ["ConfigMap flux-system/vars", "Secret flux-system/more"]);
    let found = Found::from([
        (reference(ValuesKind::ConfigMap, "vars"), Some(values(&[("size", "2")]))),
        (reference(ValuesKind::Secret, "more"), Some(values(&[("fleet", "g")]))),
    ]);
    let done = read.complete(&found).unwrap();
    assert_eq!(
        done.value(),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "num": 2, "data": {"a": "inline-g", "b": "2"},
                "metadata": {"name": "x", "namespace": "d", "labels": {"team": "${region}"}}})
    );
    assert!(ObjectTemplate::of(&done).is_none());
    // The body alone says nothing: what travels beside it does.
    let body = object.body().clone();
    let says = "ConfigMap/x has the field flotilla.dev/template, which only hub and agent write between them; remove it";
    assert_eq!(Object::from_body(body.clone(), false).unwrap_err().to_string(), says);
    assert_eq!(Object::from_body(body, true).unwrap(), object);
    let plain = Object::from_body(done.body().clone(), true).unwrap();
    assert!(ObjectTemplate::of(&plain).unwrap().is_err(), "what holds no template is none");
    assert_eq!(read.needs_in("flux-system").unwrap().len(), 2);
    assert_eq!(
        read.needs_in("d").unwrap_err().to_string(),
        "it takes values from ConfigMap flux-system/vars, which is not in the unit's own namespace d"
    );
}

#[test]
fn a_completed_template_is_no_template() {
    let text = format!("{FIELD}: {{text: a}}\n{TEXT}");
    let content = Content { text, ..template().content };
    let found = Found::from([
        (reference(ValuesKind::ConfigMap, "vars"), Some(values(&[("size", "2")]))),
        (reference(ValuesKind::Secret, "more"), None),
    ]);
    let error = ObjectTemplate { content, ..template() }.complete(&found).unwrap_err();
    assert!(error.to_string().contains("which only hub and agent write"), "{error}");
}

#[test]
fn what_keeps_a_template_from_becoming_an_object_is_said() {
    let vars = reference(ValuesKind::ConfigMap, "vars");
    let more = reference(ValuesKind::Secret, "more");
    let error = |size: &str| {
        let found = Found::from([(vars.clone(), Some(values(&[("size", size)]))), (more.clone(), None)]);
        template().complete(&found).unwrap_err().to_string()
    };
    assert_eq!(error("[").split(':').next(), Some("after substitution"));
    assert_eq!(
        error("1\n---\na: b"),
        "after substitution: ".to_owned() + error("1---a: b").strip_prefix("after substitution: ").unwrap()
    );
    let nothing = Found::from([(vars.clone(), None), (more.clone(), None)]);
    assert_eq!(
        template().complete(&nothing).unwrap_err().to_string(),
        "ConfigMap flux-system/vars, which values are taken from, does not exist"
    );
    let renamed = ObjectTemplate {
        content: Content { text: TEXT.replace("name: x", "name: ${size}y"), ..template().content },
        ..template()
    };
    let found = Found::from([(vars.clone(), Some(values(&[("size", "1")]))), (more.clone(), None)]);
    assert_eq!(
        renamed.complete(&found).unwrap_err().to_string(),
        "substitution turned ConfigMap d/x into ConfigMap d/1y: kind, name and namespace must not depend on the cluster"
    );
}

#[test]
fn metadata_is_set_over_what_flux_reads() {
    let metadata = Metadata { labels: values(&[("team", "x")]), ..Metadata::default() };
    for (labels, expected) in [
        (json!({"a": "b", "team": "y"}), json!({"a": "b", "team": "x"})),
        (json!({"a": "b", "n": 1}), json!({"team": "x"})),
        (json!({"a": {"b": "c"}}), json!({"team": "x"})),
        (json!({"a": null, "b": "c"}), json!({"a": "", "b": "c", "team": "x"})),
        (json!({"a": null, "n": 1}), json!({"team": "x"})),
        (json!(null), json!({"team": "x"})),
        (json!(["a"]), json!({"team": "x"})),
    ] {
        let mut object = json!({"metadata": {"labels": labels, "annotations": {"n": 1}}});
        metadata.set(&mut object);
        let annotations = json!({"n": 1});
        assert_eq!(object, json!({"metadata": {"labels": expected, "annotations": annotations}}), "{labels}");
    }
}

#[test]
fn without_any_variable_nothing_is_substituted_unless_asked_for() {
    let mut none = Variables::default();
    none.add(BTreeMap::new()).unwrap();
    assert_eq!(none.substitute("a: ${x:-d}").unwrap().get("a").and_then(Node::text), Some("${x:-d}"));
    none.always = true;
    assert_eq!(none.substitute("a: ${x:-d}").unwrap().get("a").and_then(Node::text), Some("d"));
}
