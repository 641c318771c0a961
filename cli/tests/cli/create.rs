//! `flotilla create`: the YAML that Flux's own command prints for the same flags, as files too.

use serde_json::Value;

use crate::crds::wrong_with;
use crate::run;

fn split(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// A line of `create`, and the spec that it prints.
const CASES: &[(&str, &str, &str)] = &[
    (
        "source git podinfo --url=https://example.com/podinfo --branch=master",
        "source.toolkit.fluxcd.io/v1 GitRepository podinfo flux-system",
        "  interval: 1m0s\n  ref:\n    branch: master\n  url: https://example.com/podinfo\n",
    ),
    (
        "source git podinfo -n apps --url=https://example.com/podinfo --tag-semver=>=3.2.0 --interval=10m --secret-ref auth",
        "source.toolkit.fluxcd.io/v1 GitRepository podinfo apps",
        "  interval: 10m0s\n  ref:\n    semver: '>=3.2.0'\n  secretRef:\n    name: auth\n  url: https://example.com/podinfo\n",
    ),
    (
        "source git podinfo --url=ssh://git@example.com/podinfo --tag 1.2.3 --branch main --secret-ref key \
         --recurse-submodules --ignore-paths docs/,*.md --fetch-timeout 2m --export",
        "source.toolkit.fluxcd.io/v1 GitRepository podinfo flux-system",
        "  ignore: |-\n    docs/\n    *.md\n  interval: 1m0s\n  recurseSubmodules: true\n  ref:\n    tag: 1.2.3\n  secretRef:\n    \
         name: key\n  timeout: 2m0s\n  url: ssh://git@example.com/podinfo\n",
    ),
    (
        "source git podinfo --url=https://example.com/p --commit 0123456789012345678901234567890123456789 --branch main",
        "source.toolkit.fluxcd.io/v1 GitRepository podinfo flux-system",
        "  interval: 1m0s\n  ref:\n    branch: main\n    commit: \"0123456789012345678901234567890123456789\"\n  url: \
         https://example.com/p\n",
    ),
    (
        "source git podinfo --url=https://example.com/p --ref-name refs/pull/7/head --sparse-checkout-paths a,b \
         --proxy-secret-ref proxy",
        "source.toolkit.fluxcd.io/v1 GitRepository podinfo flux-system",
        "  interval: 1m0s\n  proxySecretRef:\n    name: proxy\n  ref:\n    name: refs/pull/7/head\n  sparseCheckout:\n  - a\n  - \
         b\n  url: https://example.com/p\n",
    ),
    (
        "source oci podinfo --url=oci://example.com/manifests/podinfo --tag=6.1.6 --interval=10m",
        "source.toolkit.fluxcd.io/v1 OCIRepository podinfo flux-system",
        "  interval: 10m0s\n  provider: generic\n  ref:\n    tag: 6.1.6\n  url: oci://example.com/manifests/podinfo\n",
    ),
    (
        "source oci podinfo --url=oci://example.com/m --tag-semver 6.x --secret-ref auth --cert-ref certs --insecure",
        "source.toolkit.fluxcd.io/v1 OCIRepository podinfo flux-system",
        "  certSecretRef:\n    name: certs\n  insecure: true\n  interval: 1m0s\n  provider: generic\n  ref:\n    semver: 6.x\n  \
         secretRef:\n    name: auth\n  url: oci://example.com/m\n",
    ),
    (
        "source helm podinfo --url=https://example.com/charts --interval=1h --pass-credentials --secret-ref auth",
        "source.toolkit.fluxcd.io/v1 HelmRepository podinfo flux-system",
        "  interval: 1h0m0s\n  passCredentials: true\n  secretRef:\n    name: auth\n  url: https://example.com/charts\n",
    ),
    (
        "source helm podinfo --url=oci://example.com/charts",
        "source.toolkit.fluxcd.io/v1 HelmRepository podinfo flux-system",
        "  interval: 1m0s\n  type: oci\n  url: oci://example.com/charts\n",
    ),
    (
        "source bucket podinfo --bucket-name=podinfo --endpoint=minio.example.com:9000 --insecure --secret-ref keys --region x",
        "source.toolkit.fluxcd.io/v1 Bucket podinfo flux-system",
        "  bucketName: podinfo\n  endpoint: minio.example.com:9000\n  insecure: true\n  interval: 1m0s\n  provider: generic\n  \
         region: x\n  secretRef:\n    name: keys\n",
    ),
    (
        "kustomization kyverno --source=GitRepository/kyverno --path=./config/release --prune=true --interval=60m \
         --wait=true --health-check-timeout=3m",
        "kustomize.toolkit.fluxcd.io/v1 Kustomization kyverno flux-system",
        "  interval: 1h0m0s\n  path: ./config/release\n  prune: true\n  sourceRef:\n    kind: GitRepository\n    name: kyverno\n  \
         timeout: 3m0s\n  wait: true\n",
    ),
    (
        "ks apps -n team --source podinfo.flux-system --depends-on infra,flux-system/base --target-namespace web \
         --service-account deployer --retry-interval 30s --label a=b,c=d --health-check Deployment/web.web,HelmRelease/x.team",
        "kustomize.toolkit.fluxcd.io/v1 Kustomization apps team a=b c=d",
        "  dependsOn:\n  - name: infra\n  - name: base\n    namespace: flux-system\n  healthChecks:\n  - kind: Deployment\n    name: \
         web\n    namespace: web\n  - apiVersion: helm.toolkit.fluxcd.io/v2\n    kind: HelmRelease\n    name: x\n    namespace: \
         team\n  interval: 1m0s\n  path: ./\n  prune: false\n  retryInterval: 30s\n  serviceAccountName: deployer\n  sourceRef:\n    \
         kind: GitRepository\n    name: podinfo\n    namespace: flux-system\n  targetNamespace: web\n  timeout: 2m0s\n",
    ),
    (
        "helmrelease podinfo --interval=10m --source=HelmRepository/podinfo --chart=podinfo --chart-version=>4.0.0",
        "helm.toolkit.fluxcd.io/v2 HelmRelease podinfo flux-system",
        "  chart:\n    spec:\n      chart: podinfo\n      reconcileStrategy: ChartVersion\n      sourceRef:\n        kind: \
         HelmRepository\n        name: podinfo\n      version: '>4.0.0'\n  interval: 10m0s\n",
    ),
    (
        "hr podinfo -n apps --source=GitRepository/podinfo.flux-system --chart=./charts/podinfo --reconcile-strategy Revision \
         --release-name p --target-namespace web --create-target-namespace --crds CreateReplace --depends-on db \
         --values-from Secret/s,ConfigMap/c --service-account d --chart-interval 5m",
        "helm.toolkit.fluxcd.io/v2 HelmRelease podinfo apps",
        "  chart:\n    spec:\n      chart: ./charts/podinfo\n      interval: 5m0s\n      reconcileStrategy: Revision\n      \
         sourceRef:\n        kind: GitRepository\n        name: podinfo\n        namespace: flux-system\n  dependsOn:\n  - name: db\n  \
         install:\n    crds: Create\n    createNamespace: true\n  interval: 1m0s\n  releaseName: p\n  serviceAccountName: d\n  \
         targetNamespace: web\n  upgrade:\n    crds: CreateReplace\n  valuesFrom:\n  - kind: Secret\n    name: s\n  - kind: \
         ConfigMap\n    name: c\n",
    ),
    (
        "hr podinfo --chart-ref OCIRepository/podinfo.flux-system",
        "helm.toolkit.fluxcd.io/v2 HelmRelease podinfo flux-system",
        "  chartRef:\n    kind: OCIRepository\n    name: podinfo\n    namespace: flux-system\n  interval: 1m0s\n",
    ),
];

#[tokio::test]
async fn objects_are_those_of_flux() -> anyhow::Result<()> {
    for (line, what, spec) in CASES {
        let made = run(&[&["create"][..], &split(line)].concat()).await?;
        assert_eq!((made.code, made.stderr.as_str()), (0, ""), "{line}: {made:?}");
        let words = split(what);
        let [version, kind, name, namespace] = words[..4] else { panic!("{what}") };
        let labels: String =
            words[4..].iter().map(|pair| format!("    {}\n", pair.replace('=', ": "))).collect();
        let labels = if labels.is_empty() { labels } else { format!("  labels:\n{labels}") };
        let expected = format!(
            "---\napiVersion: {version}\nkind: {kind}\nmetadata:\n{labels}  name: {name}\n  namespace: \
             {namespace}\nspec:\n{spec}"
        );
        assert_eq!(made.stdout, expected, "{line}");
        let object = flotilla_yaml::parse(&made.stdout)?.remove(0).to_json()?;
        assert_eq!(wrong_with(&object), Vec::<String>::new(), "{line}");
    }
    Ok(())
}

#[tokio::test]
async fn values_are_merged() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = |name: &str, text: &str| -> anyhow::Result<String> {
        let path = folder.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    };
    let one = file("one.yaml", "replicas: 1\nimage: {name: a, tag: '1'}\nlist: [1, 2]\n")?;
    let two = file("two.yaml", "image: {tag: '2'}\nlist: [3]\nextra: null\n")?;
    let base = split("create hr web --source HelmRepository/web --chart web");
    let both = format!("{one},{two}");
    let made = run(&[&base[..], &["--values", &both]].concat()).await?;
    let object = flotilla_yaml::parse(&made.stdout)?.remove(0).to_json()?;
    let expected = serde_json::json!(
        {"replicas": 1, "image": {"name": "a", "tag": "2"}, "list": [3], "extra": Value::Null}
    );
    assert_eq!(object["spec"]["values"], expected, "{made:?}");
    let list = file("list.yaml", "[1]\n")?;
    let refused = run(&[&base[..], &["--values", &list]].concat()).await?;
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.stderr.contains("list.yaml: values must be a mapping"), "{refused:?}");
    assert_eq!(run(&[&base[..], &["--values", "nowhere.yaml"]].concat()).await?.code, 10);
    Ok(())
}

#[tokio::test]
async fn what_a_hub_would_refuse_is_not_printed() -> anyhow::Result<()> {
    for (line, field) in [
        ("create source git a --url ftp://example.com/a --branch main", "spec.url"),
        ("create source git a --url https://u:p@example.com/a --branch main", "spec.url"),
        ("create source oci a --url oci://example.com/a --tag 1 --provider aws", "spec.provider"),
        ("create source helm a --url git://example.com", "spec.url"),
        ("create source bucket a --bucket-name b --endpoint https://example.com", "spec.endpoint"),
    ] {
        let refused = run(&split(line)).await?;
        assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{line}: {refused:?}");
        assert!(refused.stderr.contains(field), "{line}: {refused:?}");
    }
    let unknown = run(&split("create hr a --source Pod/a --chart b")).await?;
    assert_eq!(unknown.code, 2, "{unknown:?}");
    assert!(unknown.stderr.contains("HelmRepository, GitRepository, Bucket"), "{unknown:?}");
    Ok(())
}

#[tokio::test]
async fn objects_are_written_and_nothing_else_is_lost() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let repo = folder.path().to_str().unwrap();
    let create = async |more: &str| {
        let line = format!("create source git a --url https://example.com/a --repo {repo} {more}");
        run(&split(&line)).await
    };
    let file = folder.path().join("clusters/one/a.yaml");
    let first = create("--branch main --path clusters/one/a.yaml").await?;
    assert_eq!(
        (first.code, first.stdout.as_str(), first.stderr.as_str()),
        (0, "", "wrote clusters/one/a.yaml\n")
    );
    let printed = create("--branch main").await?.stdout;
    assert_eq!(std::fs::read_to_string(&file)?, printed);
    let same = create("--branch main --path clusters/one/a.yaml").await?;
    assert_eq!(same.stderr, "clusters/one/a.yaml holds it already\n");
    let changed = create("--branch next --path clusters/one/a.yaml").await?;
    assert_eq!((changed.code, changed.stderr.as_str()), (0, "replaced clusters/one/a.yaml\n"));
    assert!(std::fs::read_to_string(&file)?.contains("branch: next"));

    // Something else, and something that is not an object at all, stays.
    for other in
        ["kind: ConfigMap\napiVersion: v1\nmetadata: {name: a}\n", "a: [\n", &format!("{printed}---\na: 1\n")]
    {
        std::fs::write(&file, other)?;
        let refused = create("--branch main --path clusters/one/a.yaml").await?;
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.contains("holds something else"), "{refused:?}");
        assert_eq!(std::fs::read_to_string(&file)?, other);
    }
    let forced = create("--branch main --path clusters/one/a.yaml --force").await?;
    assert_eq!((forced.code, std::fs::read_to_string(&file)?), (0, printed));
    for path in ["../a.yaml", "/etc/a.yaml", "a.txt"] {
        let refused = create(&format!("--branch main --path {path}")).await?;
        assert_eq!(refused.code, 2, "{path}: {refused:?}");
    }
    assert!(!folder.path().parent().unwrap().join("a.yaml").exists());

    // A kustomization that does not list it would leave it out.
    std::fs::write(folder.path().join("clusters/one/kustomization.yaml"), "resources: [./a.yaml]\n")?;
    let listed = create("--branch other --path clusters/one/a.yaml").await?;
    assert!(!listed.stderr.contains("does not list"), "{listed:?}");
    let line = format!("create ks b --source a --path ./deploy --write clusters/one/b.yaml --repo {repo}");
    let unlisted = run(&split(&line)).await?;
    assert_eq!(unlisted.code, 0, "{unlisted:?}");
    assert!(unlisted.stderr.contains("kustomization.yaml does not list it"), "{unlisted:?}");
    assert!(std::fs::read_to_string(folder.path().join("clusters/one/b.yaml"))?.contains("path: ./deploy\n"));
    Ok(())
}
