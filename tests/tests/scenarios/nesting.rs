//! What somebody who may write a tenant's repository tries by what it defines, on a cluster with RBAC.

use anyhow::ensure;
use flotilla_tests::fleet::{Fleet, HubOptions, SOON};
use flotilla_tests::git::{Repo, file};
use flotilla_tests::manifests::{config_map_in, namespace};
use flotilla_tests::objects::ObjectRef;
use flotilla_tests::wait::{always, eventually};
use flotilla_tests::{ClusterOptions, Clusters};

use crate::WHILE;

const TENANT: &str = "system:serviceaccount:apps:deployer";

/// The tenant's rights: everything in `apps` but rights, Flux's kinds included. `admin` may do anything.
const RIGHTS: &str = "\
apiVersion: v1
kind: ServiceAccount
metadata: {name: deployer, namespace: apps}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: powerless, namespace: apps}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: admin, namespace: flux-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: admin}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: ServiceAccount, name: admin, namespace: flux-system}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: deployer, namespace: apps}
rules:
- {apiGroups: ['', apps, kustomize.toolkit.fluxcd.io, source.toolkit.fluxcd.io, rbac.authorization.k8s.io], resources: ['*'], verbs: [get, list, watch, create, update, patch, delete]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: deployer, namespace: apps}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: deployer}
subjects: [{kind: ServiceAccount, name: deployer, namespace: apps}]
";

/// A Kustomization, by `NAMESPACE/NAME`, of the repository of that name in its namespace.
fn unit(name: &str, repository: &str, path: &str, more: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap();
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: {name}, namespace: \
         {namespace}}}\nspec:\n  prune: true\n  interval: 1m\n  path: {path}\n  sourceRef: {{kind: GitRepository, name: \
         {repository}}}\n{more}"
    )
}

fn git(name: &str, url: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap();
    format!(
        "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {{name: {name}, namespace: \
         {namespace}}}\nspec: {{interval: 1s, url: '{url}', ref: {{branch: main}}}}\n"
    )
}

/// Whom a unit is told to be refused as, in its own words or those of its parent.
async fn refused(fleet: &Fleet, units: &[&str], says: &str) {
    eventually(SOON, || async {
        let all = fleet.units("one").await?;
        let of = units.iter().filter_map(|unit| all.get(*unit));
        let told: Vec<String> = of
            .flat_map(|unit| {
                let findings = unit.findings.iter().map(|finding| finding.message.clone());
                let problems = unit.problems.iter().map(ToString::to_string);
                findings.chain(problems).chain([unit.message.clone()]).collect::<Vec<_>>()
            })
            .collect();
        ensure!(told.iter().any(|text| text.contains(says)), "{units:?}: {told:?}");
        anyhow::Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_gains_no_rights_by_nesting() {
    let tenant = Repo::new().unwrap();
    let binding = |kind: &str, place: &str, role: &str| {
        format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\nmetadata: {{name: taken{place}}}\nroleRef: {{apiGroup: \
             rbac.authorization.k8s.io, kind: ClusterRole, name: {role}}}\nsubjects: [{{kind: ServiceAccount, name: deployer, \
             namespace: apps}}]\n"
        )
    };
    let takes = binding("ClusterRoleBinding", "", "cluster-admin");
    let own = |name: &str| config_map_in("apps", name, "1");
    tenant
        .commit(
            "begin",
            &[
                file("good/own.yaml", own("own")),
                // Itself, without its account.
                file("good/self.yaml", unit("apps/team", "team", "takes", "")),
                // Below it: without an account, and as others of the namespace.
                file("good/inherits.yaml", unit("apps/inherits", "team", "takes", "")),
                file(
                    "good/names.yaml",
                    unit("apps/names", "team", "takes", "  serviceAccountName: powerless\n"),
                ),
                // Rights that the account has not, given in its own namespace.
                file("good/grants.yaml", unit("apps/grants", "team", "grants", "")),
                // Objects pushed into another namespace by the unit rather than by the file.
                file(
                    "good/pushes.yaml",
                    unit("apps/pushes", "team", "pushes", "  targetNamespace: flux-system\n"),
                ),
                // The fleet repo's own root, and a source of the platform's namespace.
                file(
                    "good/reads.yaml",
                    unit("apps/reads", "flux-system", "clusters/one", "")
                        .replace("name: flux-system}", "name: flux-system, namespace: flux-system}"),
                ),
                file("takes/own.yaml", own("through-takes")),
                file("takes/takes.yaml", &*takes),
                file("grants/grants.yaml", binding("RoleBinding", ", namespace: apps", "cluster-admin")),
                file("pushes/pushed.yaml", own("pushed")),
                // As an account of the platform, by a unit in its namespace, with a source there.
                file("rogue/source.yaml", git("flux-system/rogue", &tenant.url())),
                file(
                    "rogue/unit.yaml",
                    unit("flux-system/takeover", "rogue", "takes", "  serviceAccountName: admin\n"),
                ),
                file("rogue/inner.yaml", unit("flux-system/silent", "rogue", "takes", "")),
            ],
        )
        .unwrap();
    let repo = Repo::new().unwrap();
    let account = "  serviceAccountName: deployer\n";
    repo.commit(
        "begin",
        &[
            file(
                "clusters/one/namespaces.yaml",
                format!("{}---\n{}", namespace("apps"), namespace("flux-system")),
            ),
            file("clusters/one/rights.yaml", RIGHTS),
            file("clusters/one/source.yaml", git("apps/team", &tenant.url())),
            file("clusters/one/team.yaml", unit("apps/team", "team", "good", account)),
            file("clusters/one/rogue.yaml", unit("apps/rogue", "team", "rogue", account)),
        ],
    )
    .unwrap();
    let allowed = format!("file://{}", tenant.path().display());
    let args = ["--allow-source", &allowed].map(str::to_owned).to_vec();
    let options = HubOptions { args, ..HubOptions::default() };
    let url = repo.url();
    let mut fleet = Fleet::new(repo, &url, &options).await.unwrap();
    let clusters = Clusters::new().await.unwrap();
    let [cluster] = clusters.start(["one"], &ClusterOptions::bare()).await.unwrap();
    fleet.join("one", cluster).await.unwrap();

    // What is theirs is done.
    let object = |kind: &str, name: &str| ObjectRef::new("v1", kind, "apps", name);
    fleet.appears("one", &object("ConfigMap", "own")).await.unwrap();
    fleet.appears("one", &object("ConfigMap", "through-takes")).await.unwrap();
    let flux = |name: &str| format!("kustomization/{name}");
    for (unit, says) in [
        ("apps/inherits", TENANT),
        ("apps/names", "system:serviceaccount:apps:powerless"),
        ("apps/grants", "attempting to grant RBAC permissions not currently held"),
        ("apps/pushes", TENANT),
        ("apps/reads", "reads its own namespace only"),
    ] {
        refused(&fleet, &[&flux(unit)], says).await;
    }
    // Either the source or the unit in the platform's namespace is refused; nothing of it is applied.
    for unit in ["flux-system/takeover", "flux-system/silent"] {
        let says = "is not taken: kustomization/apps/rogue is applied as a service account";
        refused(&fleet, &[&flux(unit), &flux("apps/rogue")], says).await;
    }
    let nothing = [
        ObjectRef::global("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "taken"),
        ObjectRef::new("rbac.authorization.k8s.io/v1", "RoleBinding", "apps", "taken"),
        ObjectRef::new("v1", "ConfigMap", "flux-system", "pushed"),
    ];
    always(WHILE, || async {
        for object in &nothing {
            ensure!(fleet.uid("one", object).await?.is_none(), "{object} is there");
        }
        anyhow::Ok(())
    })
    .await
    .unwrap();

    // With the rights it is done: it was these that were missing.
    let more = RIGHTS
        .replace("name: deployer, namespace: apps}\nrules", "name: deployer, namespace: flux-system}\nrules");
    let role = more.split("---\n").nth(4).unwrap();
    let bound = RIGHTS.split("---\n").nth(5).unwrap().replace(
        "name: deployer, namespace: apps}\nroleRef",
        "name: deployer, namespace: flux-system}\nroleRef",
    );
    fleet.commit("Trust", &[file("clusters/one/trust.yaml", format!("{role}---\n{bound}"))]).await.unwrap();
    fleet.cli(&["reconcile", "one"]).await.ok();
    fleet.appears("one", &ObjectRef::new("v1", "ConfigMap", "flux-system", "pushed")).await.unwrap();
}
