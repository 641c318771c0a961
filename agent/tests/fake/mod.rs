//! An API server in this process that fails on purpose: objects in a map, and a fault for each request that a seed draws.
//!
//! ```text
//!   Engine ─► kube::Client ─► FakeApi ─► fault? ─► objects, by version ─► watches
//! ```
//! It answers as an API server does what the engine asks: discovery, lists in pages, watches, Server-Side Apply with owners
//! of fields, deletions with preconditions. It never says of its own accord that an object is not there which is: what lies
//! so cannot be told from the truth.

#![allow(dead_code, unused_imports, reason = "each test binary uses its part of it")]

mod answer;
mod faults;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use serde_json::{Value, json};
use tokio::sync::watch;

pub use answer::is_ours;
pub use faults::{Faults, Trouble};

use faults::Fault;

/// A kind's plural, a namespace (empty for what is in none), and a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(pub &'static str, pub String, pub String);

impl Key {
    pub fn new(plural: &'static str, namespace: &str, name: &str) -> Self {
        Self(plural, namespace.to_owned(), name.to_owned())
    }
}

/// A kind that is served: group, plural, kind, and whether it is in namespaces. The version is `v1`.
type Served = (&'static str, &'static str, &'static str, bool);

const SERVED: [Served; 8] = [
    ("", "namespaces", "Namespace", false),
    ("", "configmaps", "ConfigMap", true),
    ("", "secrets", "Secret", true),
    ("", "events", "Event", true),
    ("", "nodes", "Node", false),
    ("apiextensions.k8s.io", "customresourcedefinitions", "CustomResourceDefinition", false),
    ("batch", "jobs", "Job", true),
    (WIDGETS, "widgets", "Widget", true),
];
/// The group whose server may be away.
const WIDGETS: &str = "example.com";

pub type Objects = BTreeMap<Key, Value>;
/// What is wrong with the deletion of one of these objects.
type Judge = Box<dyn Fn(&Key, &Objects) -> Option<String> + Send>;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct FakeApi {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

struct State {
    version: u64,
    /// The objects at each version so far; the last is how it is.
    history: Vec<(u64, Objects)>,
    faults: Faults,
    is_away: bool,
    is_unserved: bool,
    judge: Judge,
    broken: Vec<String>,
}

impl State {
    fn now(&self) -> &Objects {
        &self.history.last().expect("there is a version at the beginning").1
    }

    /// Makes a change, which is a new version.
    fn write(&mut self, change: impl FnOnce(&mut Objects, u64)) {
        self.version += 1;
        let mut next = self.now().clone();
        change(&mut next, self.version);
        self.history.push((self.version, next));
    }

    /// Takes an object away, and notes it if nobody should.
    fn remove(&mut self, key: &Key, by_us: bool) {
        if by_us {
            let objects = self.now();
            let is_ours = answer::is_ours(&objects[key]);
            let why = if is_ours { (self.judge)(key, objects) } else { Some("it is not ours".to_owned()) };
            self.broken.extend(why.map(|why| format!("{key:?} was deleted: {why}")));
        }
        self.write(|objects, _| drop(objects.remove(key)));
    }
}

impl FakeApi {
    /// With the namespaces that every cluster has. `judge` says of a deletion that the agent asks for what is wrong with it.
    pub fn new(judge: impl Fn(&Key, &Objects) -> Option<String> + Send + 'static) -> Self {
        let state = State {
            version: 1,
            history: vec![(1, Objects::new())],
            faults: Faults::default(),
            is_away: false,
            is_unserved: false,
            judge: Box::new(judge),
            broken: Vec::new(),
        };
        let api = Self { state: Arc::new(Mutex::new(state)), changed: watch::Sender::new(1) };
        for name in ["default", "kube-system"] {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            api.put("someone", &Key::new("namespaces", "", name), namespace);
        }
        api
    }

    pub fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let api = api.clone();
            async move { api.serve(request).await }
        });
        kube::Client::new(service, "default")
    }

    /// From now on a share of the requests fails.
    pub fn fail(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// Whether the server of the widgets is away.
    pub fn widgets_are_away(&self, away: bool) {
        self.state().is_away = away;
    }

    /// Whether the API server does not know the widgets, as one whose informers are behind.
    pub fn widgets_are_unserved(&self, unserved: bool) {
        self.state().is_unserved = unserved;
    }

    /// Puts an object as somebody else would, with all of its fields theirs.
    pub fn put(&self, manager: &str, key: &Key, mut object: Value) {
        let fields = answer::fields_of(&object);
        object["metadata"]["managedFields"] = json!([{"manager": manager, "operation": "Update", "apiVersion": "v1",
            "fieldsType": "FieldsV1", "fieldsV1": fields}]);
        self.write(|objects, version| {
            answer::complete(&mut object, objects.get(key), version);
            objects.insert(key.clone(), object);
        });
    }

    /// Takes an object away as somebody else would.
    pub fn take_away(&self, key: &Key) {
        let mut state = self.state();
        if state.now().contains_key(key) {
            state.remove(key, false);
        }
        self.tell(state);
    }

    /// Changes an object, with its fields staying whose they are.
    pub fn change(&self, key: &Key, change: impl FnOnce(&mut Value)) {
        self.write(|objects, version| {
            if let Some(object) = objects.get_mut(key) {
                change(object);
                object["metadata"]["resourceVersion"] = version.to_string().into();
            }
        });
    }

    /// Rises with each change.
    pub fn version(&self) -> u64 {
        self.state().version
    }

    /// Sets the value of a ConfigMap as somebody else would.
    pub fn edit(&self, key: &Key, value: &str) {
        self.write(|objects, version| {
            if let Some(object) = objects.get_mut(key) {
                answer::edit(object, value, version);
            }
        });
    }

    pub fn get(&self, key: &Key) -> Option<Value> {
        self.state().now().get(key).cloned()
    }

    /// What was done that must not be.
    pub fn broken(&self) -> Vec<String> {
        self.state().broken.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn write(&self, change: impl FnOnce(&mut Objects, u64)) {
        let mut state = self.state();
        state.write(change);
        self.tell(state);
    }

    fn tell(&self, state: MutexGuard<'_, State>) {
        let version = state.version;
        drop(state);
        self.changed.send_replace(version);
    }

    async fn serve(&self, request: Request<kube::client::Body>) -> Result<Response<Body>, std::io::Error> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.map_err(std::io::Error::other)?;
        let call = answer::Call::read(&parts, &body);
        let fault = self.state().faults.draw(&call);
        let cut = |why: &str| Err(std::io::Error::new(std::io::ErrorKind::ConnectionReset, why.to_owned()));
        match fault {
            Some(Fault::Drop) => return cut("the connection ended before the request"),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Slow(seconds)) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            Some(Fault::Refuse(answer)) => return Ok(answer.response()),
            _ => {}
        }
        if call.is_watch() {
            return Ok(self.watch(call, fault));
        }
        let answer = {
            let mut state = self.state();
            let versions = state.history.len();
            let stale = matches!(fault, Some(Fault::Stale)).then(|| state.faults.pick(versions));
            let answer = answer::answer(&mut state, &call, stale);
            self.tell(state);
            answer
        };
        match fault {
            Some(Fault::Lose) => cut("the connection ended before the answer"),
            Some(Fault::Cut) => Ok(answer.cut_response()),
            Some(Fault::Other(other)) => Ok(other.response()),
            _ => Ok(answer.response()),
        }
    }

    /// What happens from a version on, as lines, until a fault ends it.
    fn watch(&self, call: answer::Call, fault: Option<Fault>) -> Response<Body> {
        let (api, changed) = (self.clone(), self.changed.subscribe());
        let is_silent = matches!(fault, Some(Fault::Stale));
        let begin = (call.version(), changed);
        let lines = futures::stream::unfold(begin, move |(from, mut changed)| {
            let (api, call) = (api.clone(), call.clone());
            async move {
                loop {
                    let news = changed.wait_for(|version| *version > from && !is_silent);
                    let news = tokio::time::timeout(answer::BOOKMARK, news).await.is_ok();
                    if is_silent {
                        continue;
                    }
                    let mut state = api.state();
                    if state.faults.ends_a_watch() {
                        return None;
                    }
                    let mut text = if news {
                        answer::events(&state, &call, from)
                    } else {
                        answer::bookmark(&state, &call)
                    };
                    if state.faults.ends_a_watch() {
                        text = format!("{}\n", answer::gone());
                    }
                    let line = Ok::<_, std::io::Error>(Bytes::from(text));
                    return Some((line, (state.version, changed.clone())));
                }
            }
        });
        Response::new(Body::from_stream(lines))
    }
}
