//! Releases of Helm, executed against an API server whose connections end before or after anything was done.

#![allow(unreachable_pub, reason = "the parts of this one test")]

mod fake;

use std::sync::Mutex;
use std::time::Duration;

use fake::{FakeApi, Faults, Key};
use flotilla_agent::release::{Executor, Objects};
use flotilla_core::Digest;
use flotilla_core::unit::release::{Options, Propagation};
use flotilla_helm::content::Content;
use flotilla_helm::engine::decide::Rest;
use flotilla_helm::engine::machine::{Answer, End, Want};
use flotilla_helm::engine::objects::named;
use flotilla_helm::engine::{ActionOptions, Target, Wanted};
use flotilla_helm::record::{Json, Record};
use flotilla_helm::{Release, Status, manifest, owner};
use serde_json::{Value, json};

/// Applies ConfigMaps and widgets, as the apply engine would.
struct Applied {
    api: FakeApi,
    log: Mutex<Vec<u64>>,
}

impl Objects for Applied {
    async fn apply(&self, revision: &Release, _: &ActionOptions) -> Answer {
        for object in named(&revision.manifest, &revision.namespace).unwrap() {
            let (version, plural) = match &*object.id.kind {
                "Widget" => ("example.com/v1", "widgets"),
                _ => ("v1", "configmaps"),
            };
            let mut value = json!({"apiVersion": version, "kind": object.id.kind.to_string(),
                "metadata": {"name": object.id.name.to_string(), "namespace": "default"}});
            owner::mark(value.as_object_mut().unwrap(), "web", "default");
            self.api.put("flotilla", &Key::new(plural, "default", &object.id.name), value);
        }
        self.log.lock().unwrap().push(revision.revision);
        Answer::Done
    }

    async fn ready(&self, _: &Release, _: bool) -> Answer {
        Answer::Done
    }
}

fn config(name: &str) -> Key {
    Key::new("configmaps", "default", name)
}

fn job(name: &str) -> Key {
    Key::new("jobs", "default", name)
}

fn secret(revision: u64) -> Key {
    Key::new("secrets", "default", &format!("sh.helm.release.v1.web.v{revision}"))
}

fn target() -> Target {
    Target {
        name: "web".parse().unwrap(),
        namespace: "default".parse().unwrap(),
        storage_namespace: "default".parse().unwrap(),
    }
}

fn wanted(version: &str, objects: &[&str], hooks: &[(&str, &str)], options: &Options) -> Want {
    let objects =
        objects.iter().map(|name| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n"));
    let hooks = hooks.iter().map(|(name, says)| {
        format!("apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}, annotations: {{{says}}}}}\n")
    });
    let documents: Vec<String> = objects.chain(hooks).collect();
    let sorted = manifest::sort(documents.iter().map(|it| ("web/templates/a.yaml", it.as_str()))).unwrap();
    let content = Content {
        config: Json::of(&json!({"replicas": 2})),
        manifest: manifest::joined(&sorted.objects),
        hooks: sorted.hooks,
        notes: "Thank you.\n".to_owned(),
    };
    Want::Run(Box::new(Wanted {
        target: target(),
        digest: Digest::of(version.as_bytes()),
        spec: Digest::of(version.as_bytes()),
        chart: Json::of(&json!({"metadata": {"name": "web", "version": version}})),
        content,
        options: options.clone(),
    }))
}

const HOOKS: [(&str, &str); 3] = [
    ("migrate", "helm.sh/hook: 'pre-install,pre-upgrade'"),
    ("greet", "helm.sh/hook: post-install, helm.sh/hook-delete-policy: hook-succeeded"),
    ("bye", "helm.sh/hook: pre-delete, helm.sh/hook-delete-policy: hook-succeeded"),
];

struct World {
    api: FakeApi,
    applied: Applied,
    /// The hooks that ended, by the uids of their Jobs.
    ended: Mutex<Vec<(String, String)>>,
}

impl World {
    fn new() -> Self {
        // Nothing that somebody else made is deleted.
        let api = FakeApi::new(|_, _| None);
        let applied = Applied { api: api.clone(), log: Mutex::default() };
        Self { api, applied, ended: Mutex::default() }
    }

    async fn run(&self, want: &Want) -> End {
        let executor =
            Executor::new(self.api.client(), None, target(), Propagation::Background, &self.applied);
        let work = async {
            loop {
                match tokio::time::timeout(Duration::from_secs(3_600), executor.run(want)).await {
                    Ok(Ok(end)) => return end,
                    // The coordinator comes back later.
                    Ok(Err(error)) => eprintln!("{error}"),
                    Err(_) => panic!("it never ends"),
                }
            }
        };
        tokio::select! {
            end = work => end,
            () = self.end_jobs() => unreachable!(),
        }
    }

    /// As the controller of Jobs.
    async fn end_jobs(&self) {
        loop {
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            for name in ["migrate", "greet", "bye"] {
                let running = self.api.get(&job(name)).filter(|job| job["status"].is_null());
                let Some(running) = running else { continue };
                self.api.change(&job(name), |job| {
                    job["status"] = json!({"conditions": [{"type": "Complete", "status": "True"}]});
                });
                let uid = running["metadata"]["uid"].as_str().unwrap().to_owned();
                self.ended.lock().unwrap().push((name.to_owned(), uid));
            }
        }
    }

    fn record(&self, revision: u64) -> Option<Record> {
        self.api
            .get(&secret(revision))
            .map(|secret| Record::of_secret(secret.to_string().as_bytes()).unwrap())
    }

    fn status(&self, revision: u64) -> Option<Status> {
        self.record(revision).map(|record| record.release.info.status)
    }

    /// Which hooks ran since that was asked last.
    fn ended(&self) -> Vec<String> {
        std::mem::take(&mut *self.ended.lock().unwrap()).into_iter().map(|(name, _)| name).collect()
    }

    fn is_there(&self, key: &Key) -> bool {
        self.api.get(key).is_some()
    }
}

async fn lives(world: &World) {
    let options = Options::default();
    let in_sync = End::Rest(Rest::InSync);
    assert_eq!(world.run(&wanted("1", &["a", "b"], &HOOKS, &options)).await, in_sync);
    assert_eq!(world.ended(), ["migrate", "greet"]);
    assert_eq!(world.status(1), Some(Status::Deployed));
    assert!(world.is_there(&job("migrate")) && !world.is_there(&job("greet")));
    let record = world.record(1).unwrap();
    assert_eq!(
        (record.release.info.notes.as_str(), record.release.config.text()),
        ("Thank you.\n", "{\"replicas\":2}")
    );

    // What is somebody else's by now is not deleted.
    world.api.change(&config("b"), |object| object["metadata"]["annotations"] = Value::Null);
    assert_eq!(world.run(&wanted("2", &["a", "c"], &HOOKS, &options)).await, in_sync);
    assert_eq!(world.ended(), ["migrate"]);
    assert_eq!((world.status(1), world.status(2)), (Some(Status::Superseded), Some(Status::Deployed)));
    assert!(world.is_there(&config("b")) && world.is_there(&config("c")));
    assert_eq!(world.run(&wanted("3", &["a"], &HOOKS, &options)).await, in_sync);
    assert!(world.is_there(&config("a")) && !world.is_there(&config("c")));
    assert_eq!(world.ended(), ["migrate"]);

    let gone = Want::Gone { target: target(), options: Box::new(options) };
    assert_eq!(world.run(&gone).await, End::Rest(Rest::Gone));
    assert_eq!(world.ended(), ["bye"]);
    assert!(!world.is_there(&config("a")) && (1..5).all(|revision| !world.is_there(&secret(revision))));
    assert_eq!(world.api.broken(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_release_is_installed_upgraded_and_uninstalled() {
    let world = World::new();
    lives(&world).await;
    assert_eq!(*world.applied.log.lock().unwrap(), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn lost_connections_neither_skip_nor_repeat_a_hook() {
    for seed in 0..6 {
        let world = World::new();
        world.api.fail(Faults::connections(seed, 25));
        lives(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_in_sync_is_only_read() {
    let world = World::new();
    let want = wanted("1", &["a"], &[], &Options::default());
    world.run(&want).await;
    let before = world.api.version();
    assert_eq!(world.run(&want).await, End::Rest(Rest::InSync));
    assert_eq!(world.api.version(), before);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_read_stops_it() {
    let world = World::new();
    let want = wanted("1", &["a"], &[], &Options::default());
    world.run(&want).await;
    world.api.change(&secret(1), |secret| secret["data"]["release"] = json!("bm90aGluZw=="));
    let executor = Executor::new(world.api.client(), None, target(), Propagation::Background, &world.applied);
    let before = world.api.version();
    for want in [want, Want::Gone { target: target(), options: Box::default() }] {
        let error = executor.run(&want).await.unwrap_err().to_string();
        assert!(error.contains("default/sh.helm.release.v1.web.v1 cannot be read"), "{error}");
    }
    assert_eq!(world.api.version(), before);
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_is_refused_fails_the_release() {
    let world = World::new();
    let hooks = [("no-such-kind", "helm.sh/hook: pre-install")];
    let mut want = wanted("1", &["a"], &hooks, &Options::default());
    let Want::Run(wanted) = &mut want else { unreachable!() };
    wanted.content.hooks[0].manifest =
        "apiVersion: example.org/v1\nkind: Odd\nmetadata: {name: no-such-kind}\n".into();
    assert!(matches!(world.run(&want).await, End::Rest(Rest::Stuck(_))));
    let info = world.record(1).unwrap().release.info;
    assert_eq!(info.status, Status::Failed);
    assert!(info.description.contains("the cluster serves no Odd in example.org/v1"), "{}", info.description);
    assert!(!world.is_there(&config("a")));
}

/// Its definition says that there is such a kind, and the API server that was asked does not serve it.
#[tokio::test(start_paused = true)]
async fn what_is_not_served_for_a_moment_is_neither_gone_nor_passed_over() {
    let widget = Key::new("widgets", "default", "w");
    let definition = Key::new("customresourcedefinitions", "", "widgets.example.com");
    let gone = || Want::Gone { target: target(), options: Box::default() };
    let mut without = wanted("2", &["a"], &[], &Options::default());
    for (what, next, rest) in
        [("uninstalled", gone(), Rest::Gone), ("upgraded", without.clone(), Rest::InSync)]
    {
        let world = World::new();
        let mut first = wanted("1", &["a"], &[], &Options::default());
        let Want::Run(of) = &mut first else { unreachable!() };
        of.content.manifest.push_str(
            "---\n# Source: web/templates/w.yaml\napiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\n",
        );
        world.api.put(
            "someone",
            &definition,
            json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": {"name": "widgets.example.com"}, "spec": {"names": {"kind": "Widget"}}}),
        );
        world.run(&first).await;
        world.api.widgets_are_unserved(true);
        let served_again = async {
            tokio::time::sleep(Duration::from_mins(1)).await;
            assert!(world.is_there(&widget), "{what}");
            world.api.widgets_are_unserved(false);
        };
        let (end, ()) = tokio::join!(world.run(&next), served_again);
        assert!(!world.is_there(&widget), "{what}: {end:?}");
        assert_eq!(end, End::Rest(rest), "{what}");
    }
    // Nothing defines the kind any more: with it went its objects.
    let world = World::new();
    let Want::Run(of) = &mut without else { unreachable!() };
    of.content.manifest.push_str("---\napiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\n");
    world.run(&without).await;
    world.api.widgets_are_unserved(true);
    world.api.take_away(&widget);
    assert_eq!(world.run(&gone()).await, End::Rest(Rest::Gone));
}
