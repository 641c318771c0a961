//! The `helm` program in its fences, by scripts in its place.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flotilla_core::{Digest, UnitId};
use flotilla_kustomize::files::{MemoryFiles, TreePath};
use flotilla_render::helm::{
    Capabilities, ChartFiles, Helm, HelmError, Limits, Owner, Program, TemplateRequest,
};

fn request() -> TemplateRequest {
    let files = MemoryFiles::new([("web/Chart.yaml", "name: web\nversion: 1.0.0\n")]);
    TemplateRequest {
        owner: Owner { cluster: "one".parse().unwrap(), unit: UnitId::helm_release("apps", "web") },
        chart: ChartFiles {
            files: Arc::new(files),
            path: TreePath::from_root("web").unwrap(),
            digest: Digest::of(b"web"),
            default_values: None,
        },
        name: "web".parse().unwrap(),
        namespace: "apps".parse().unwrap(),
        values: serde_json::Map::new(),
        capabilities: Capabilities {
            kube_version: "v1.36.3".parse().unwrap(),
            api_versions: vec!["x/v1".parse().unwrap()],
        },
        crds: true,
        no_hooks: false,
        skip_schema: false,
        again: None,
        without: Default::default(),
        from_secrets: false,
    }
}

/// A program that runs this script.
fn program(folder: &Path, script: &str) -> PathBuf {
    let path = folder.join("helm");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// What comes of a run of this script.
fn run(script: &str, change: impl FnOnce(&mut Limits)) -> Result<String, HelmError> {
    let folder = tempfile::tempdir().unwrap();
    let path = program(folder.path(), script);
    let mut limits = Limits { time: Duration::from_secs(30), ..Limits::default() };
    change(&mut limits);
    Program::new(&path, limits).template(&request()).map(|manifests| manifests.text)
}

#[test]
fn it_is_told_what_is_asked_for_and_nothing_of_the_machine() {
    let args = run("echo \"$@\"", |_| {}).unwrap();
    assert!(args.starts_with("template --namespace=apps --values /"), "{args}");
    assert!(args.contains("--kube-version=v1.36.3 --api-versions=x/v1 --include-crds -- web /"), "{args}");
    let environment = run("export -p", |_| {}).unwrap();
    let names = environment.lines().filter_map(|line| line.strip_prefix("export ")?.split('=').next());
    let mut names: Vec<&str> =
        names.filter(|name| !matches!(*name, "PWD" | "OLDPWD" | "SHLVL" | "_")).collect();
    names.sort_unstable();
    let own = [
        "GOGC",
        "GOMEMLIMIT",
        "HELM_CACHE_HOME",
        "HELM_CONFIG_HOME",
        "HELM_DATA_HOME",
        "HELM_PLUGINS",
        "HOME",
        "TMPDIR",
        "TZ",
    ];
    assert_eq!(names, own, "{environment}");
    let home = environment.lines().find(|line| line.contains(" HOME=")).unwrap();
    assert!(!home.contains(&std::env::var("HOME").unwrap_or_else(|_| "nobody".into())), "{home}");
}

#[test]
fn it_is_ended_when_it_takes_too_much() {
    let begun = Instant::now();
    let late = run("exec /bin/sleep 600", |limits| limits.time = Duration::from_secs(1)).unwrap_err();
    assert!(matches!(&late, HelmError::Limit(said) if said == "took longer than 1 s"), "{late}");
    // One that closes what it says and goes on is not waited for either.
    let silent = run("exec >&- 2>&-; exec /bin/sleep 600", |limits| limits.time = Duration::from_secs(1));
    assert!(matches!(&silent, Err(HelmError::Limit(_))), "{silent:?}");
    assert!(begun.elapsed() < Duration::from_secs(60));

    let endless = run("while :; do echo 0123456789; done", |limits| limits.output = 1000).unwrap_err();
    assert!(
        matches!(&endless, HelmError::Limit(said) if said == "rendered more than 1000 bytes"),
        "{endless}"
    );
    let memory = run("ulimit -v", |limits| limits.memory = 64 << 20).unwrap();
    assert_eq!(memory.trim(), (4 * 64 * 1024).to_string());
    let full =
        run("echo 'fatal error: runtime: out of memory' >&2; exit 2", |limits| limits.memory = 64 << 20);
    assert!(full.unwrap_err().to_string().contains("more than its 64 MiB of memory"));
    let chart = run("exit 0", |limits| limits.chart = 10).unwrap_err();
    assert!(matches!(&chart, HelmError::Limit(said) if said.contains("too many bytes")), "{chart}");
}

#[test]
fn what_it_says_is_the_reason() {
    let failed =
        run("echo 'Error: no such value\n\nUse --debug flag to render out invalid YAML' >&2; exit 1", |_| {});
    assert!(matches!(&failed, Err(HelmError::Template(said)) if said == "no such value"), "{failed:?}");
    let gone = Program::new("/nowhere/helm", Limits::default()).template(&request()).unwrap_err();
    assert!(matches!(&gone, HelmError::Machine(said) if said.contains("install helm 3 or 4")), "{gone}");
}

#[test]
fn runs_that_follow_each_other_share_the_chart_until_there_is_a_rest() {
    let folder = tempfile::tempdir().unwrap();
    let path = program(folder.path(), "for last; do :; done; echo \"$last\"");
    let helm = Program::new(&path, Limits::default());
    let chart = |request: &TemplateRequest| PathBuf::from(helm.template(request).unwrap().text.trim());
    let first = chart(&request());
    assert!(first.join("Chart.yaml").exists());
    assert_eq!(chart(&TemplateRequest { name: "other".parse().unwrap(), ..request() }), first);
    let mut defaults = request();
    defaults.chart.default_values = Some([("a".to_owned(), 1.into())].into_iter().collect());
    let second = chart(&defaults);
    assert_ne!(second, first, "its default values are others");
    assert_eq!(std::fs::read_to_string(second.join("values.yaml")).unwrap(), "{\"a\":1}");
    helm.rest();
    assert!(!first.exists() && !second.exists());
    assert!(chart(&request()).join("Chart.yaml").exists());
}

#[test]
fn it_reaches_nothing_but_its_own_files() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "s3cret").unwrap();
    let path = program(
        folder.path(),
        &format!(
            "for last; do :; done\nread_it() {{ cat \"$1\" >/dev/null 2>&1 && echo \"read $1\"; }}\nread_it {}\nread_it \
             /etc/passwd\nread_it /proc/self/environ\nread_it \"$last/Chart.yaml\"\n(echo x > \"$last/new\") 2>/dev/null && echo \
             'wrote to the chart'\n(echo x > \"$HOME/new\") && echo 'wrote to its home'\n(exec 3<>/dev/tcp/127.0.0.1/9) \
             2>/dev/null && echo connected\nid -u",
            secret.display()
        ),
    );
    // Where this runs as root, another user runs the program, and has to reach it.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let helm = Program::new(&path, Limits::default());
    let in_force = helm.in_force();
    let said = helm.template(&request()).unwrap().text;
    assert!(said.contains("Chart.yaml") && said.contains("wrote to its home"), "{said}");
    if in_force.landlock {
        for forbidden in ["secret", "/etc/passwd", "/proc/self", "wrote to the chart"] {
            assert!(!said.contains(forbidden), "{forbidden}: {said}");
        }
    }
    if in_force.nobody {
        assert!(said.contains("65534"), "{said}");
    }
}
