//! What the API server answers where nothing fails.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{Method, Response, request::Parts};
use serde_json::{Map, Value, json};

use super::{Key, Objects, SERVED, Served, State, WIDGETS};

const MANAGER: &str = "flotilla";

/// An answer.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    code: u16,
    body: Bytes,
    later: Option<u64>,
}

impl Answer {
    pub(super) fn json(code: u16, value: &Value) -> Self {
        Self { code, body: value.to_string().into(), later: None }
    }

    pub(super) fn text(code: u16, text: &str) -> Self {
        Self { code, body: text.to_owned().into(), later: None }
    }

    /// A refusal; `about` names the object that it is about.
    pub(super) fn status(code: u16, reason: &str, message: &str, about: Option<&str>) -> Self {
        let details = about.map_or(json!({}), |name| json!({"name": name}));
        Self::json(
            code,
            &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
                "message": message, "details": details}),
        )
    }

    /// To come back after so many seconds.
    pub(super) fn later(self, seconds: u64) -> Self {
        Self { later: Some(seconds), ..self }
    }

    fn head(&self) -> http::response::Builder {
        let mut head = Response::builder().status(self.code).header("content-type", "application/json");
        if let Some(seconds) = self.later {
            head = head.header("retry-after", seconds);
        }
        head
    }

    pub(super) fn response(&self) -> Response<Body> {
        self.head().body(Body::from(self.body.clone())).unwrap()
    }

    /// Half of it.
    pub(super) fn cut_response(&self) -> Response<Body> {
        let half = self.body.slice(..self.body.len() / 2);
        let end = || std::io::Error::new(std::io::ErrorKind::ConnectionReset, "the connection ended");
        self.head().body(Body::from_stream(futures::stream::iter([Ok(half), Err(end())]))).unwrap()
    }
}

/// What is asked for.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    path: Vec<String>,
    query: BTreeMap<String, String>,
    body: Value,
    is_names: bool,
}

impl Call {
    pub(super) fn read(parts: &Parts, body: &[u8]) -> Self {
        let decoded = |text: &str| text.replace("%3D", "=").replace("%2F", "/").replace("%2C", ",");
        let pairs = parts.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key.to_owned(), decoded(value))
        };
        let accept = parts.headers.get("accept").and_then(|value| value.to_str().ok()).unwrap_or_default();
        Self {
            method: parts.method.clone(),
            path: parts.uri.path().trim_matches('/').split('/').map(str::to_owned).collect(),
            query: pairs.map(pair).collect(),
            body: serde_json::from_slice(body).unwrap_or_default(),
            is_names: accept.contains("PartialObjectMetadataList"),
        }
    }

    pub(super) fn is_watch(&self) -> bool {
        self.query.contains_key("watch")
    }

    /// Whether one object is asked for, or the nodes, which are listed and not watched.
    pub(super) fn is_read(&self) -> bool {
        self.method == Method::GET
            && self.target().is_some_and(|(served, _, name)| !name.is_empty() || served.1 == "nodes")
    }

    pub(super) fn version(&self) -> u64 {
        self.query.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or_default()
    }

    fn says(&self, key: &str, value: &str) -> bool {
        self.query.get(key).is_some_and(|found| found == value)
    }

    /// The kind, the namespace (empty for all) and the name (empty for the collection).
    fn target(&self) -> Option<(&'static Served, String, String)> {
        let parts: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let (group, rest) = match parts.as_slice() {
            ["api", "v1", rest @ ..] => ("", rest),
            ["apis", group, "v1", rest @ ..] => (*group, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            rest => ("", rest),
        };
        let (plural, name) = match rest {
            [plural] => (*plural, ""),
            [plural, name] => (*plural, *name),
            _ => return None,
        };
        let served = SERVED.iter().find(|served| served.0 == group && served.1 == plural)?;
        Some((served, namespace.to_owned(), name.to_owned()))
    }

    /// The object that is sent, with all of its fields the caller's if it says who it is.
    fn owned(&self) -> Value {
        let mut object = self.body.clone();
        let made = self.target().is_some_and(|(served, ..)| ["secrets", "jobs"].contains(&served.1));
        if let Some(manager) = self.query.get("fieldManager").filter(|_| made) {
            object["metadata"]["managedFields"] = json!([{"manager": manager, "operation": "Update", "apiVersion": "v1",
                "fieldsType": "FieldsV1", "fieldsV1": fields_of(&self.body)}]);
        }
        object
    }

    /// Whether a list or watch is about this object.
    fn chooses(&self, plural: &str, namespace: &str, key: &Key, object: &Value) -> bool {
        let label = self.query.get("labelSelector");
        let name = self.query.get("fieldSelector").and_then(|text| text.strip_prefix("metadata.name="));
        key.0 == plural
            && (namespace.is_empty() || namespace == key.1)
            && label.is_none_or(|label| label.split(',').all(|label| is_labelled(object, label)))
            && name.is_none_or(|name| name == key.2)
    }
}

/// What the request comes to. `stale`: reads are of that entry of the history.
pub(super) fn answer(state: &mut State, call: &Call, stale: Option<usize>) -> Answer {
    match call.path.join("/").as_str() {
        "api" => return discovery(state, true),
        "apis" => return discovery(state, false),
        "version" => return Answer::json(200, &json!({"gitVersion": "v1.36.0"})),
        _ => {}
    }
    let Some((served, namespace, name)) = call.target() else {
        return Answer::text(404, "404 page not found\n");
    };
    if served.0 == WIDGETS && state.is_unserved {
        return Answer::text(404, "404 page not found\n");
    }
    if served.0 == WIDGETS && state.is_away {
        return Answer::status(503, "ServiceUnavailable", "the server of it is away", None);
    }
    let key = Key(served.1, namespace.clone(), name.clone());
    let missing =
        |key: &Key| Answer::status(404, "NotFound", &format!("{} is not there", key.2), Some(&key.2));
    // What is put into a namespace needs it.
    let home = Key::new("namespaces", "", &namespace);
    let homeless = served.3
        && state.now().get(&home).is_none_or(|home| !home["metadata"]["deletionTimestamp"].is_null());
    match call.method {
        Method::GET if name.is_empty() => list(state, call, served, &namespace, stale),
        Method::GET => {
            let old = stale.and_then(|at| state.history[at].1.get(&key));
            old.or(state.now().get(&key)).map_or_else(|| missing(&key), |object| Answer::json(200, object))
        }
        Method::POST | Method::PUT | Method::PATCH if homeless => missing(&home),
        // For people only, and many.
        Method::POST if served.1 == "events" => Answer::json(201, &call.body),
        Method::POST => {
            let name = call.body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let key = Key(served.1, namespace, name);
            if state.now().contains_key(&key) {
                return Answer::status(409, "AlreadyExists", "it is there already", Some(&key.2));
            }
            put(state, &key, call.owned())
        }
        Method::PUT => {
            let Some(there) = state.now().get(&key) else { return missing(&key) };
            if there["metadata"]["resourceVersion"] != call.body["metadata"]["resourceVersion"] {
                return Answer::status(409, "Conflict", "the object has been modified", Some(&key.2));
            }
            put(state, &key, call.owned())
        }
        Method::PATCH => apply(state, call, &key),
        Method::DELETE => {
            let Some(there) = state.now().get(&key) else { return missing(&key) };
            let wanted = &call.body["preconditions"]["uid"];
            if !wanted.is_null() && *wanted != there["metadata"]["uid"] {
                return Answer::status(409, "Conflict", "the uid is another one", Some(&key.2));
            }
            let version = &call.body["preconditions"]["resourceVersion"];
            if !version.is_null() && *version != there["metadata"]["resourceVersion"] {
                return Answer::status(409, "Conflict", "the object has been modified", Some(&key.2));
            }
            if key.0 == "namespaces" {
                let inside: Vec<Key> = state.now().keys().filter(|inner| inner.1 == key.2).cloned().collect();
                inside.iter().for_each(|inner| state.remove(inner, true));
            }
            state.remove(&key, true);
            Answer::json(200, &json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
        }
        _ => Answer::status(405, "MethodNotAllowed", "not so", None),
    }
}

fn discovery(state: &State, core: bool) -> Answer {
    let of = |&(group, plural, kind, namespaced): &Served| {
        let scope = if namespaced { "Namespaced" } else { "Cluster" };
        json!({"metadata": if core { json!({}) } else { json!({"name": group}) }, "versions": [{"version": "v1",
            "resources": [{"resource": plural, "responseKind": {"kind": kind}, "scope": scope,
                "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"]}]}]})
    };
    let mut groups: Vec<Value> =
        SERVED.iter().filter(|served| served.0.is_empty() == core && served.0 != WIDGETS).map(of).collect();
    match (core, state.is_away) {
        _ if state.is_unserved => {}
        (false, false) => groups.extend(SERVED.iter().filter(|served| served.0 == WIDGETS).map(of)),
        (false, true) => groups.push(json!({"metadata": {"name": WIDGETS},
            "versions": [{"version": "v1", "freshness": "Stale", "resources": []}]})),
        (true, _) => {}
    }
    Answer::json(200, &json!({"kind": "APIGroupDiscoveryList", "metadata": {}, "items": groups}))
}

fn list(state: &State, call: &Call, served: &Served, namespace: &str, stale: Option<usize>) -> Answer {
    // What is watched is read from a cache; what is asked for once is not.
    let stale = stale.filter(|_| call.query.contains_key("labelSelector"));
    let (version, objects) = stale.map_or_else(|| state.history.last().unwrap(), |at| &state.history[at]);
    let chosen = objects.iter().filter(|(key, object)| call.chooses(served.1, namespace, key, object));
    let skip: usize = call.query.get("continue").and_then(|more| more.parse().ok()).unwrap_or_default();
    // Small pages, so that there is more than one.
    let most = call.query.get("limit").map_or(usize::MAX, |_| 3);
    let mut items: Vec<Value> = chosen.skip(skip).map(|(_, object)| object.clone()).collect();
    let more = if items.len() > most { (skip + most).to_string() } else { String::new() };
    items.truncate(most);
    for item in &mut items {
        if let Some(fields) = item.as_object_mut() {
            fields.remove("kind");
            fields.remove("apiVersion");
        }
    }
    let kind = if call.is_names { "PartialObjectMetadata" } else { served.2 };
    let metadata = json!({"resourceVersion": version.to_string(), "continue": more});
    Answer::json(
        200,
        &json!({"kind": format!("{kind}List"), "apiVersion": "v1", "metadata": metadata, "items": items}),
    )
}

fn put(state: &mut State, key: &Key, mut object: Value) -> Answer {
    state.write(|objects, version| {
        complete(&mut object, objects.get(key), version);
        objects.insert(key.clone(), object.clone());
    });
    Answer::json(200, &state.now()[key])
}

/// Server-Side Apply, with owners for each value below `data` and for everything else together.
fn apply(state: &mut State, call: &Call, key: &Key) -> Answer {
    let before = state.now().get(key).cloned();
    let mut next = call.body.clone();
    let mut managers: Vec<Value> = Vec::new();
    if let Some(before) = &before {
        if call.path.len() > 1 && next.is_array() {
            return Answer::status(422, "Invalid", "this server takes no such patch", Some(&key.2));
        }
        let mine = next["data"].as_object().cloned().unwrap_or_default();
        let mut conflicts = Vec::new();
        for entry in before["metadata"]["managedFields"].as_array().into_iter().flatten() {
            if entry["manager"] == MANAGER {
                continue;
            }
            let mut entry = entry.clone();
            let theirs = entry["fieldsV1"]["f:data"].as_object().cloned().unwrap_or_default();
            for field in theirs.keys() {
                let name = field.trim_start_matches("f:");
                match mine.get(name) {
                    Some(value) if *value != before["data"][name] => {
                        conflicts.push((name.to_owned(), entry["manager"].clone()));
                        entry["fieldsV1"]["f:data"].as_object_mut().unwrap().remove(field);
                    }
                    Some(_) => {}
                    None => next["data"][name] = before["data"][name].clone(),
                }
            }
            managers.push(entry);
        }
        if !conflicts.is_empty() && !call.says("force", "true") {
            let cause = |(field, manager): &(String, Value)| {
                json!({"reason": "FieldManagerConflict", "field": format!(".data.{field}"),
                    "message": format!("conflict with {manager}")})
            };
            let causes: Vec<Value> = conflicts.iter().map(cause).collect();
            return Answer::json(
                409,
                &json!({"kind": "Status", "status": "Failure", "code": 409, "reason": "Conflict",
                    "message": "conflicts", "details": {"name": key.2, "causes": causes}}),
            );
        }
    }
    managers
        .push(json!({"manager": MANAGER, "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
        "fieldsV1": fields_of(&call.body)}));
    next["metadata"]["managedFields"] = managers.into();
    if call.says("dryRun", "All") {
        complete(&mut next, before.as_ref(), state.version);
        return Answer::json(200, &next);
    }
    let unchanged = |before: &Value| {
        let mut same = next.clone();
        complete(&mut same, Some(before), 0);
        same["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
        same == *before
    };
    if before.as_ref().is_some_and(unchanged) {
        return Answer::json(200, &state.now()[key]);
    }
    put(state, key, next)
}

/// Whether an object has a label, or has it with this value.
fn is_labelled(object: &Value, selector: &str) -> bool {
    let (name, value) =
        selector.split_once('=').map_or((selector, None), |(name, value)| (name, Some(value)));
    let found = object["metadata"]["labels"][name].as_str();
    found.is_some() && value.is_none_or(|value| found == Some(value))
}

/// Whether the agent applied the object.
pub fn is_ours(object: &Value) -> bool {
    let entries = object["metadata"]["managedFields"].as_array();
    entries.into_iter().flatten().any(|entry| entry["manager"] == MANAGER)
}

/// The fields of an object as an owner's entry has them; lists are one field.
pub(super) fn fields_of(object: &Value) -> Value {
    let Value::Object(fields) = object else { return json!({}) };
    let known = ["apiVersion", "kind", "name", "namespace", "uid", "resourceVersion", "managedFields"];
    let fields = fields.iter().filter(|(name, _)| !known.contains(&name.as_str()));
    fields.map(|(name, value)| (format!("f:{name}"), fields_of(value))).collect::<Map<_, _>>().into()
}

/// What the API server fills in: one that is there keeps its uid.
pub(super) fn complete(object: &mut Value, before: Option<&Value>, version: u64) {
    let uid =
        before.map_or_else(|| json!(format!("uid-{version}")), |before| before["metadata"]["uid"].clone());
    object["metadata"]["uid"] = uid;
    object["metadata"]["resourceVersion"] = version.to_string().into();
}

/// Sets a value, which is the editor's from then on.
pub(super) fn edit(object: &mut Value, value: &str, version: u64) {
    object["data"]["value"] = value.into();
    object["metadata"]["resourceVersion"] = version.to_string().into();
    let Some(entries) = object["metadata"]["managedFields"].as_array_mut() else { return };
    for entry in entries.iter_mut() {
        if let Some(data) = entry["fieldsV1"]["f:data"].as_object_mut() {
            data.remove("f:value");
        }
    }
    entries.push(
        json!({"manager": "someone", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:data": {"f:value": {}}}}),
    );
}

/// What happened since a version, a line for each object that became another, came or went.
pub(super) fn events(state: &State, call: &Call, from: u64) -> String {
    let Some((served, namespace, name)) = call.target() else { return String::new() };
    assert!(name.is_empty(), "watches are of collections");
    let chosen = |objects: &Objects| -> Objects {
        let chosen = objects.iter().filter(|(key, object)| call.chooses(served.1, &namespace, key, object));
        chosen.map(|(key, object)| (key.clone(), object.clone())).collect()
    };
    let at = state.history.partition_point(|(version, _)| *version <= from);
    let Some(begin) = at.checked_sub(1) else { return format!("{}\n", gone()) };
    let mut lines = String::new();
    for pair in state.history[begin..].windows(2) {
        let (before, (version, after)) = (chosen(&pair[0].1), &pair[1]);
        let after = chosen(after);
        for (key, object) in &after {
            let kind = match before.get(key) {
                None => "ADDED",
                Some(old) if old != object => "MODIFIED",
                Some(_) => continue,
            };
            lines.push_str(&format!("{}\n", json!({"type": kind, "object": object})));
        }
        for (key, object) in before.iter().filter(|(key, _)| !after.contains_key(*key)) {
            let mut object = object.clone();
            object["metadata"]["resourceVersion"] = version.to_string().into();
            assert_eq!(key.0, served.1);
            lines.push_str(&format!("{}\n", json!({"type": "DELETED", "object": object})));
        }
    }
    lines
}

pub(super) fn bookmark(state: &State, call: &Call) -> String {
    let kind = call.target().map_or("", |(served, ..)| served.2);
    let object =
        json!({"kind": kind, "apiVersion": "v1", "metadata": {"resourceVersion": state.version.to_string()}});
    format!("{}\n", json!({"type": "BOOKMARK", "object": object}))
}

pub(super) fn gone() -> Value {
    json!({"type": "ERROR", "object": {"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired",
        "message": "too old resource version"}})
}

/// So long a watch is waited for at most.
pub(super) const BOOKMARK: Duration = Duration::from_secs(60);
