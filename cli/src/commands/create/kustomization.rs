//! `flotilla create kustomization`

use clap::{ArgAction, Args};
use serde_json::{Value, json};

use super::{GoDuration, ObjectArgs, dependency, go_duration, list, only_true, reference};
use crate::commands::manifest::WriteArgs;

#[derive(Debug, Args)]
pub(crate) struct KustomizationArgs {
    #[command(flatten)]
    object: ObjectArgs,
    /// Source, as [KIND/]NAME[.NAMESPACE]: a GitRepository if no kind is given
    #[arg(long, value_parser = source)]
    source: Value,
    /// Path in the source
    #[arg(long, default_value = "./", value_parser = path)]
    path: String,
    /// Delete what is no longer in the source
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value_t = false, value_name = "BOOL", hide_possible_values = true)]
    prune: bool,
    /// Ready only when all that is applied is healthy
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value_t = false, value_name = "BOOL", hide_possible_values = true)]
    wait: bool,
    /// Ready only when these are healthy, as KIND/NAME.NAMESPACE; --wait covers all
    #[arg(long, value_name = "OBJECT", value_delimiter = ',', value_parser = health_check)]
    health_check: Vec<Value>,
    /// How long health is waited for
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = go_duration)]
    health_check_timeout: GoDuration,
    /// Kustomizations that must be ready before, as [NAMESPACE/]NAME
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = dependency)]
    depends_on: Vec<Value>,
    /// Account to apply as
    #[arg(long, value_name = "NAME")]
    service_account: Option<String>,
    /// Namespace of all objects, whatever they say
    #[arg(long, value_name = "NAMESPACE")]
    target_namespace: Option<String>,
    /// How soon to try again after a failure
    #[arg(long, value_name = "DURATION", value_parser = go_duration)]
    retry_interval: Option<GoDuration>,
    #[command(flatten)]
    write: WriteArgs,
}

fn source(text: &str) -> Result<Value, String> {
    const KINDS: [&str; 4] = ["GitRepository", "OCIRepository", "Bucket", "ExternalArtifact"];
    reference(text, &KINDS, Some("GitRepository"))
}

fn path(text: &str) -> Result<String, String> {
    let path = text.strip_prefix("./").unwrap_or(text);
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(format!("'{text}' leads out of the source; write a path like ./apps/web"));
    }
    Ok(format!("./{path}"))
}

fn health_check(text: &str) -> Result<Value, String> {
    let mut check = reference(text, &["Deployment", "DaemonSet", "StatefulSet", "HelmRelease"], None)?;
    if check["namespace"].is_null() {
        return Err(format!("'{text}' is not of the form KIND/NAME.NAMESPACE"));
    }
    if check["kind"] == "HelmRelease" {
        check["apiVersion"] = json!("helm.toolkit.fluxcd.io/v2");
    }
    Ok(check)
}

impl KustomizationArgs {
    pub(super) fn object(self) -> (Value, WriteArgs) {
        let has_checks = self.wait || !self.health_check.is_empty();
        let spec = json!({
            "dependsOn": list(self.depends_on),
            "healthChecks": list(self.health_check).filter(|_| !self.wait),
            "path": self.path,
            "prune": self.prune,
            "retryInterval": self.retry_interval.map(|interval| interval.to_string()),
            "serviceAccountName": self.service_account,
            "sourceRef": self.source,
            "targetNamespace": self.target_namespace,
            "timeout": has_checks.then(|| self.health_check_timeout.to_string()),
            "wait": only_true(self.wait),
        });
        (self.object.object("kustomize.toolkit.fluxcd.io/v1", "Kustomization", spec), self.write)
    }
}
