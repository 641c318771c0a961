//! A helm that shows what it is given: the same here and, as a script, for kustomize.
//!
//! What it renders is a ConfigMap with the chart's `Chart.yaml` and the files of values, in their order. Charts that are
//! not in the tree's own folders come from `remote/NAME-VERSION/`.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use flotilla_kustomize::files::{Files, TreePath};
use flotilla_kustomize::{Answer, BuildError, HelmRequest};

/// The folder of the charts that would be fetched.
pub(crate) const REMOTE: &str = "remote";

const SCRIPT: &str = r#"#!/bin/sh
show() { printf '  %s: |\n' "$1"; sed 's/^/    /' "$2"; }
case "$1" in
version) echo v4.3.0 ;;
pull)
    into="$4"; shift 4
    while [ $# -gt 0 ]; do case "$1" in --repo) shift ;; --version) shift; version="$1" ;; *) name="$1" ;; esac; shift; done
    mkdir -p "$into" && cp -r "$CHARTS/$name-$version" "$into/$name" ;;
template)
    shift
    printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: out}\ndata:\n'
    n=0
    while [ $# -gt 0 ]; do
        if [ -d "$1" ]; then show chart "$1/Chart.yaml"; fi
        if [ "$1" = -f ]; then shift; n=$((n + 1)); show "values-$n" "$1"; fi
        shift
    done ;;
*) echo "no command '$1'" >&2; exit 1 ;;
esac
"#;

/// Writes the program for kustomize.
pub(crate) fn program(folder: &Path) -> PathBuf {
    let path = folder.join("helm");
    fs::write(&path, SCRIPT).expect("a program");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a program");
    path
}

fn show(text: &mut String, name: &str, content: &str) {
    writeln!(text, "  {name}: |").unwrap();
    for line in content.lines() {
        writeln!(text, "    {line}").unwrap();
    }
}

/// What the program renders.
pub(crate) fn answer(files: &dyn Files, request: &HelmRequest) -> Result<Answer, BuildError> {
    let local = request.chart_folder().expect("a folder");
    let remote =
        TreePath::from_root(&format!("{REMOTE}/{}-{}", request.name, request.version)).expect("a path");
    let chart = if files.entry(&local).expect("a tree").is_some() { local } else { remote };
    let read = |name: &str| files.read(&chart.join(name).expect("a path")).ok();
    let values = request.values(read("values.yaml").as_deref())?;
    let mut text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: out}\ndata:\n".to_owned();
    let about = read("Chart.yaml").expect("a chart");
    show(&mut text, "chart", std::str::from_utf8(&about).expect("text"));
    for (n, values) in values.iter().enumerate() {
        show(&mut text, &format!("values-{}", n + 1), values);
    }
    Ok(Answer::Text(text.into()))
}
