use std::sync::atomic::{AtomicUsize, Ordering};

use flotilla_kustomize::files::{MemoryFiles, TreePath};
use flotilla_render::helm::{Capabilities, ChartFiles, Owner};

use super::*;
use crate::store::{MemoryStore, Records};

struct Fake(Arc<AtomicUsize>);

impl Helm for Fake {
    fn template(&self, request: &TemplateRequest) -> Result<Manifests, HelmError> {
        let run = self.0.fetch_add(1, Ordering::SeqCst);
        match request.name.as_str() {
            "refused" => Err(HelmError::Template("no".into())),
            "unlucky" => Err(HelmError::Machine("not now".into())),
            "broken" => panic!("a bug"),
            name => Ok(Manifests { text: format!("{name} {run}"), draws: !name.starts_with("plain") }),
        }
    }
}

fn request(name: &str) -> (Digest, TemplateRequest) {
    request_of("one", "web", name)
}

fn request_of(cluster: &str, unit: &str, name: &str) -> (Digest, TemplateRequest) {
    let chart = ChartFiles {
        files: Arc::new(MemoryFiles::default()),
        path: TreePath::root(),
        digest: Digest::of(b"chart"),
        default_values: None,
    };
    let request = TemplateRequest {
        owner: Owner { cluster: cluster.parse().unwrap(), unit: UnitId::helm_release("n", unit) },
        chart,
        name: name.parse().unwrap(),
        namespace: "n".parse().unwrap(),
        values: Default::default(),
        capabilities: Capabilities { kube_version: "v1.36.3".parse().unwrap(), api_versions: Vec::new() },
        crds: true,
        no_hooks: false,
        skip_schema: false,
        again: None,
        without: Default::default(),
        from_secrets: false,
    };
    (request.key(), request)
}

fn key(name: &str) -> Digest {
    request(name).0
}

struct Bench {
    data: tempfile::TempDir,
    vault: Arc<Vault>,
    runs: Arc<AtomicUsize>,
}

impl Bench {
    fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let records = Arc::new(Records::open(Arc::new(MemoryStore::default())).unwrap());
        let vault = Arc::new(Vault::open(data.path(), records).unwrap());
        Self { data, vault, runs: Arc::default() }
    }

    fn open(&self) -> Releases {
        Releases::open(self.data.path(), Box::new(Fake(self.runs.clone())), self.vault.clone()).unwrap()
    }
}

fn ask(releases: &Releases, names: &[&str]) {
    let asked = names.iter().map(|name| {
        let (key, request) = request(name);
        (key, Asked { unit: flotilla_core::UnitId::helm_release("n", *name), request })
    });
    releases.ask(&"x".parse().unwrap(), asked.collect(), Instant::now());
}

fn ask_for(releases: &Releases, key: Digest, request: TemplateRequest) {
    let Owner { cluster, unit } = request.owner.clone();
    releases.ask(&cluster, BTreeMap::from([(key, Asked { unit, request })]), Instant::now());
}

/// What the loop does.
fn work(releases: &Releases) {
    while let Some((key, request)) = releases.next() {
        releases.render(key, &request, ());
    }
}

#[test]
fn what_was_rendered_stays_what_it_was() {
    let bench = Bench::new();
    let releases = bench.open();
    assert_eq!(releases.get(key("web")), None);
    ask(&releases, &["web", "refused", "unlucky", "broken"]);
    let pending = Some(Err("helm is rendering the release".to_owned()));
    assert_eq!(releases.get(key("web")), pending);
    work(&releases);
    let web = releases.get(key("web")).unwrap().unwrap();
    assert!(web.starts_with("web "), "{web}");
    assert_eq!(releases.get(key("refused")), Some(Err("helm: no".into())));
    assert_eq!(releases.get(key("unlucky")), Some(Err("not now".into())));
    assert!(releases.get(key("broken")).unwrap().unwrap_err().contains("inside of the hub"));
    releases.begin_round();
    assert_eq!(releases.get(key("unlucky")), Some(Err("not now".into())), "it failed a moment ago");
    for failure in releases.lock().failed.values_mut() {
        failure.due = failure.due.checked_sub(RETRY).unwrap();
    }
    releases.begin_round();
    assert!(releases.get(key("refused")).is_some(), "it would be refused again");
    assert_eq!(releases.get(key("unlucky")), None, "it is tried again");
    ask(&releases, &["unlucky"]);
    work(&releases);
    let again = releases.lock().failed[&key("unlucky")].due.duration_since(Instant::now());
    assert!(again > RETRY && again <= RETRY * 2, "later and later: {again:?}");
    releases.end_round();
    releases.begin_round();
    releases.end_round();
    assert_eq!(releases.get(key("refused")), None, "nobody asked for it in a whole round");

    let again = bench.open();
    assert_eq!(again.get(key("web")), Some(Ok(web)), "a restart runs nothing again");
    assert_eq!(bench.runs.load(Ordering::SeqCst), 5);
    let sealed = std::fs::read(again.path(key("web"))).unwrap();
    std::fs::write(again.path(key("other")), &sealed).unwrap();
    let said = again.get(key("other")).unwrap().unwrap_err();
    assert!(said.contains("damaged"), "it opens under its own key only: {said}");
    std::fs::write(again.path(key("web")), b"broken").unwrap();
    let said = again.get(key("web")).unwrap().unwrap_err();
    assert!(said.contains("damaged") && said.contains(AGAIN), "unknown is not absent: {said}");
}

#[test]
fn failures_are_tried_again_later_and_later() {
    let first = |error: HelmError| (Failure::new(error.clone(), 0), Failure::new(error, 20));
    for (error, at_first, at_last) in [
        (HelmError::Machine("no room".into()), RETRY, RETRY_MOST),
        (HelmError::Template("no".into()), RETRY_REFUSED, RETRY_REFUSED_MOST),
        (HelmError::Limit("took too long".into()), RETRY_REFUSED, RETRY_LIMIT_MOST),
    ] {
        let (early, late) = first(error.clone());
        for (failure, pause) in [(early, at_first), (late, at_last)] {
            let left = failure.due.duration_since(Instant::now());
            assert!(left <= pause && left + Duration::from_secs(5) > pause, "{error}: {left:?}");
            assert!(!failure.is_due());
        }
    }
}

#[test]
fn what_a_chart_draws_is_one_releases_own_and_helm_answers_a_question_once() {
    for (name, runs) in [("drawn", 3), ("plain", 2)] {
        let bench = Bench::new();
        let releases = bench.open();
        let all =
            [("one", "web"), ("one", "other"), ("two", "web")].map(|(c, unit)| request_of(c, unit, name));
        all.iter().cloned().for_each(|(key, request)| ask_for(&releases, key, request));
        work(&releases);
        let texts: BTreeSet<Arc<str>> =
            all.iter().map(|(key, _)| releases.get(*key).unwrap().unwrap()).collect();
        assert_eq!((texts.len(), bench.runs.load(Ordering::SeqCst)), (runs, runs), "{name}");
        // Another Kubernetes is another question, and the same release.
        let (key, mut request) = request_of("three", "web", name);
        request.capabilities.kube_version = "v1.30.0".parse().unwrap();
        assert_eq!(request.key(), key);
        ask_for(&releases, key, request);
        work(&releases);
        assert_eq!(bench.runs.load(Ordering::SeqCst), runs + 1, "{name}");
    }
}

#[test]
fn requests_that_nobody_makes_any_more_are_dropped() {
    let bench = Bench::new();
    let releases = bench.open();
    releases.begin_round();
    ask(&releases, &["one", "two"]);
    releases.end_round();
    releases.begin_round();
    assert!(releases.get(key("two")).unwrap().is_err(), "still waited for");
    releases.end_round();
    assert_eq!(releases.next().map(|(key, _)| key), Some(key("two")));
    assert!(releases.next().is_none() && !releases.is_idle());
}

#[test]
fn a_cluster_is_given_what_it_runs_and_nothing_in_its_place() {
    let bench = Bench::new();
    let releases = bench.open();
    ask(&releases, &["web"]);
    work(&releases);
    let web = Digest::of(releases.get(key("web")).unwrap().unwrap().as_bytes());
    let (other, none) = (Digest::of(b"other"), BTreeSet::new());
    let known = BTreeSet::from([key("lost")]);
    for (name, runs, is_heard, known, expected) in [
        ("web", None, true, &none, Some(Ok(web))),
        ("web", Some(web), true, &none, Some(Ok(web))),
        ("web", Some(web), false, &none, Some(Ok(web))),
        ("web", Some(other), true, &none, Some(Err("is lost"))),
        ("web", Some(other), false, &none, Some(Err("is lost"))),
        ("web", None, false, &none, Some(Err("has not said"))),
        ("new", None, true, &known, None),
        ("new", None, false, &known, Some(Err("has not said"))),
        ("lost", Some(other), true, &known, Some(Err("is lost"))),
        ("lost", None, true, &known, Some(Err("is lost"))),
    ] {
        let runs = runs.map(|content| (key(name), content)).into_iter().collect();
        let is_known = |key| known.contains(&key);
        let renders = ClusterRenders {
            releases: &releases,
            runs,
            units: Default::default(),
            is_heard,
            is_known: &is_known,
        };
        let found = renders.content(key(name));
        match (&found, expected) {
            (Some(Err(said)), Some(Err(part))) => assert!(said.contains(part), "{name}: {said}"),
            _ => assert_eq!(found, expected.map(|found| found.map_err(str::to_owned)), "{name}"),
        }
    }
}

#[test]
fn what_nobody_uses_goes_after_a_while_and_nothing_goes_that_may_be_used() {
    let bench = Bench::new();
    let releases = bench.open();
    ask(&releases, &["used", "unused"]);
    work(&releases);
    let (now, begun) = (SystemTime::now(), Instant::now());
    let there = |name: &str| releases.path(key(name)).exists();
    // After so long by the machine's clock, and so long by the one that never jumps.
    let sweep = |after: Duration, lasted: Duration, used: Option<BTreeSet<Digest>>| {
        releases.sweep(|| used, now + after, begun + lasted);
    };
    let used = || Some(BTreeSet::from([key("used")]));
    let days = |count: u32| SEEN_UNUSED * count;
    sweep(KEPT_UNUSED / 2, days(1), used());
    assert!(there("used") && there("unused"), "there is a time of grace");
    // The clock jumps by years.
    sweep(KEPT_UNUSED * 40, days(1) + SWEEP, used());
    assert!(there("used") && there("unused"), "it was not seen unused for long");
    sweep(KEPT_UNUSED * 40, days(2), None);
    sweep(KEPT_UNUSED * 40, days(3), used());
    assert!(there("used") && there("unused"), "nobody knew what is used");
    sweep(KEPT_UNUSED * 2, days(4), used());
    assert!(there("used") && !there("unused"));
    // What was used is marked, so its own time begins when it is no longer; here the clock had gone back meanwhile.
    sweep(KEPT_UNUSED * 2 + KEPT_UNUSED / 2, days(5), Some(BTreeSet::new()));
    sweep(KEPT_UNUSED * 4, days(6), Some(BTreeSet::new()));
    assert!(there("used"), "marked by a clock that was years ahead");
    sweep(KEPT_UNUSED * 42, days(7), Some(BTreeSet::new()));
    assert!(!there("used"));

    let mut asked = false;
    releases.sweep(
        || {
            asked = true;
            None
        },
        now,
        begun + days(7) + SWEEP / 2,
    );
    assert!(!asked, "once in a while only");
}
