//! What tenants take away from themselves, in repositories of their own.

use flotilla_core::desired::HoldCode;
use flotilla_core::{Authority, UnitId};

use super::*;
use crate::store::{AuditRecord, ClusterRecord};
use crate::view::{FleetView, HeldChange};

/// A tenant's repository, and the unit of the fleet repo that applies it as his account.
fn tenant(bench: &Bench, name: &str) -> String {
    format!(
        "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {{name: repo, namespace: {name}}}\nspec:\n  \
         interval: 1h\n  url: file://{}\n  ref: {{branch: main}}\n---\n{}",
        bench.path(name).display(),
        unit(name, "deploy", "serviceAccountName: sa\n  sourceRef: {kind: GitRepository, name: repo}")
    )
}

fn unit(namespace: &str, path: &str, more: &str) -> String {
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: {path}, namespace: \
         {namespace}}}\nspec:\n  path: {path}\n  prune: true\n  interval: 1m\n  {more}\n"
    )
}

fn maps(namespace: &str, count: usize) -> String {
    let one = |n| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m{n}, namespace: {namespace}}}\n---\n")
    };
    (0..count).map(one).collect()
}

fn shown(bench: &Bench, id: &UnitId) -> String {
    let of = |cluster: &str| {
        let published = bench.board.current(&cluster.parse().unwrap());
        match published.and_then(|published| published.state.units().get(id).cloned()) {
            Some(UnitEntry::Present(unit)) => unit.objects.len().to_string(),
            Some(UnitEntry::Hold(hold)) => match hold.code {
                HoldCode::LossHeld | HoldCode::ChangeHeld => format!("waits, reaches {}", hold.authority),
                code => format!("held {code:?}"),
            },
            Some(UnitEntry::Removed(_)) => "removed".to_owned(),
            None => "nothing".to_owned(),
        }
    };
    assert_eq!(of("x"), of("y"));
    of("x")
}

fn held(view: FleetView) -> Vec<HeldChange> {
    view.change.map(|change| change.held).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tenant_removes_makes_nobody_else_wait() {
    const CHILDREN: usize = 12;
    let bench = Bench::new();
    for cluster in ["x", "y"] {
        let audit = AuditRecord::new(1, "test", "enrol", cluster);
        let adopted =
            bench.records.adopt_cluster(&cluster.parse().unwrap(), &ClusterRecord::default(), &audit);
        assert!(adopted.unwrap());
    }
    let child = |n: usize| {
        let more = "targetNamespace: alpha\n  sourceRef: {kind: GitRepository, name: repo}";
        (format!("deploy/child-{n}.yaml"), unit("alpha", &format!("child-{n}"), more))
    };
    let children: Vec<(String, String)> = (0..CHILDREN).map(child).collect();
    let mut alpha = vec![("deploy/maps.yaml".to_owned(), maps("alpha", 80))];
    alpha.extend(children.clone());
    alpha.extend((0..CHILDREN).map(|n| (format!("child-{n}/map.yaml"), map("own"))));
    let alpha: Vec<(&str, &str)> = alpha.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    commit(&bench.path("alpha"), &alpha);
    commit(&bench.path("beta"), &[("deploy/maps.yaml", &maps("beta", 10))]);
    let apps = unit("flux-system", "apps", "sourceRef: {kind: GitRepository, name: flux-system}");
    for cluster in ["x", "y"] {
        let root = format!("clusters/{cluster}/root.yaml");
        let text = format!("{}---\n{}---\n{apps}", tenant(&bench, "alpha"), tenant(&bench, "beta"));
        commit(&bench.path("fleet"), &[(&root, &text), ("apps/maps.yaml", &maps("default", 10))]);
    }
    let library = bench.library(|_| {});
    let mut worker = bench.worker(&library);
    let shutdown = tokio_util::sync::CancellationToken::new();
    let fetching = tokio::spawn(run(library.clone(), worker.attempts(), shutdown.clone()));
    let of = |name: &str| UnitId::kustomization(name, "deploy");
    let (a, b, apps) = (of("alpha"), of("beta"), UnitId::kustomization("flux-system", "apps"));
    let last = UnitId::kustomization("alpha", "child-11");
    until(&mut worker, &library, || shown(&bench, &last) == "1" && shown(&bench, &b) == "10").await;

    std::fs::remove_dir_all(bench.path("alpha").join("deploy")).unwrap();
    commit(&bench.path("alpha"), &[("deploy/maps.yaml", &maps("alpha", 5))]);
    commit(&bench.path("beta"), &[("deploy/maps.yaml", &maps("beta", 8))]);
    commit(&bench.path("fleet"), &[("apps/maps.yaml", &maps("default", 7))]);
    library.fetched(&library.hurry(|_, _| true)).await;
    let waits = "waits, reaches the namespace alpha";
    until(&mut worker, &library, || shown(&bench, &b) == "8" && shown(&bench, &apps) == "7").await;
    until(&mut worker, &library, || shown(&bench, &a) == waits).await;
    assert_eq!(shown(&bench, &last), waits, "it stops no pruning of others");
    let first = held(worker.round());
    let words: Vec<&Authority> = first.iter().map(|held| &held.word).collect();
    assert_eq!(words, [&Authority::Namespaces(["alpha".to_owned()].into())]);
    assert!(first[0].why.contains("by who has the namespace alpha"), "{}", first[0].why);

    // What waits is the same, whatever others do meanwhile; approved, it goes.
    commit(&bench.path("fleet"), &[("apps/maps.yaml", &maps("default", 5))]);
    assert_eq!(held(worker.fetch_and_round()), first);
    assert_eq!(shown(&bench, &apps), "5");
    let audit = AuditRecord::new(1, "ann", "change.approve", first[0].digest);
    bench.records.approve_change(&first[0].losses, &audit).unwrap();
    assert_eq!(held(worker.round()), []);
    assert_eq!((shown(&bench, &a).as_str(), shown(&bench, &last).as_str()), ("5", "removed"));
    shutdown.cancel();
    fetching.await.unwrap().unwrap();
}
