//! The real helm, built with Go once a machine from `tests/helm/`, whose `go.mod` pins every version.

use std::path::{Path, PathBuf};

use anyhow::Result;
use flotilla_compare::gobuild::{GoBuild, Progress};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/helm");

/// Finds the program, or builds it: some minutes.
///
/// # Errors
/// See [`GoBuild::find_or_build`].
pub fn find_or_build(progress: &mut dyn FnMut(Progress)) -> Result<PathBuf> {
    let flags = ["-trimpath", "-buildvcs=false", "-ldflags", "-s -w"].map(str::to_owned);
    let build = GoBuild {
        name: "helm",
        source: Path::new(SOURCE),
        packages: &["helm.sh/helm/v4/cmd/helm"],
        flags: &flags,
        how_to_get_one: "install Go 1.26 or newer (https://go.dev/dl)",
    };
    build.find_or_build(progress)
}

/// The files of a small chart with what real ones have: helpers, a subchart, a CRD, a schema, notes, a test, a
/// password that is drawn.
pub const CHART: &[(&str, &str)] = &[
    ("Chart.yaml", "apiVersion: v2\nname: own\nversion: 0.1.0\nappVersion: '7'\n"),
    ("values.yaml", "replicas: 1\nhook: false\nold: false\nname: ''\n"),
    ("values.schema.json", r#"{"type": "object", "properties": {"replicas": {"type": "integer"}}}"#),
    ("templates/NOTES.txt", "Thank you for {{ .Release.Name }}.\n"),
    (
        "templates/check.yaml",
        "{{- if .Values.refused }}{{ fail (printf \"refused: %s\" .Values.refused) }}{{ end }}\n",
    ),
    (
        "templates/_helpers.tpl",
        "{{- define \"own.labels\" -}}\napp: {{ .Release.Name }}\nversion: {{ .Chart.AppVersion | quote }}\n{{- end }}\n",
    ),
    (
        "templates/config.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}\n  labels:\n    {{- include \"own.labels\" . \
         | nindent 4 }}\ndata:\n  replicas: {{ .Values.replicas | quote }}\n  kubernetes: {{ .Capabilities.KubeVersion.Version \
         }}\n  monitors: {{ .Capabilities.APIVersions.Has \"example.org/v1/Monitor\" | quote }}\n",
    ),
    (
        "templates/secret.yaml",
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {{ .Release.Name }}\nstringData:\n  password: {{ randAlphaNum 20 \
         }}\n{{- if .Values.old }}\n{{- $old := lookup \"v1\" \"Secret\" .Release.Namespace .Release.Name }}\n  old: {{ $old \
         }}\n{{- end }}\n",
    ),
    (
        "templates/hook.yaml",
        "{{- if .Values.hook }}\napiVersion: batch/v1\nkind: Job\nmetadata:\n  name: migrate\n  annotations: {helm.sh/hook: \
         pre-upgrade}\n{{- end }}\n",
    ),
    (
        "templates/tests/test.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: test\n  annotations: {helm.sh/hook: test}\n",
    ),
    (
        "crds/monitors.yaml",
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: \
         monitors.example.org}\nspec:\n  group: example.org\n  scope: Namespaced\n  names: {kind: Monitor, plural: monitors, \
         singular: monitor, listKind: MonitorList}\n  versions: [{name: v1, served: true, storage: true, schema: \
         {openAPIV3Schema: {type: object}}}]\n",
    ),
    ("charts/sub/Chart.yaml", "apiVersion: v2\nname: sub\nversion: 0.2.0\n"),
    (
        "charts/sub/templates/service.yaml",
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {{ .Release.Name }}-sub\nspec:\n  ports: [{port: {{ \
         .Values.global.port | default 80 }}}]\n",
    ),
];
