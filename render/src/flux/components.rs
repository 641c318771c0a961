//! Flux's own components, as `flux install` writes them into a repository: they are not applied, as Flotilla does their
//! work, but what their flags say of who may do what holds here too.

use std::collections::BTreeMap;

use flotilla_core::Object;
use flotilla_core::report::Problem;
use flotilla_core::unit::UnitKind;
use serde_json::Value;

/// A controller of Flux, as a unit's output deploys it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    pub name: String,
    /// `--flag` and its value; "true" where none is given.
    pub flags: BTreeMap<String, String>,
    /// File and line.
    pub at: (String, u32),
}

/// What an object of Flux's installation is to us.
pub(crate) enum Component {
    /// Goes to the cluster like any other: the namespace, accounts, roles and what there is besides.
    Object,
    /// The definition of a kind that is read at the hub.
    Definition,
    Controller(Controller),
}

const CONTROLLERS: [&str; 7] = [
    "source-controller",
    "source-watcher",
    "kustomize-controller",
    "helm-controller",
    "notification-controller",
    "image-reflector-controller",
    "image-automation-controller",
];

impl Component {
    pub(crate) fn of(object: &Object, at: &(String, u32)) -> Self {
        let id = object.id();
        let is_definition = id.is("apiextensions.k8s.io", "CustomResourceDefinition");
        let of_flux =
            |name: &str| name.ends_with(".toolkit.fluxcd.io") || name.ends_with(".extensions.fluxcd.io");
        if is_definition && of_flux(&id.name) {
            return Self::Definition;
        }
        if !id.is("apps", "Deployment") || !CONTROLLERS.contains(&id.name.as_str()) {
            return Self::Object;
        }
        let value = object.value();
        if value.pointer("/metadata/labels/app.kubernetes.io~1part-of").and_then(Value::as_str)
            != Some("flux")
        {
            return Self::Object;
        }
        let containers = value.pointer("/spec/template/spec/containers").and_then(Value::as_array);
        let args =
            containers.into_iter().flatten().filter_map(|container| container["args"].as_array()).flatten();
        let flag = |arg: &Value| {
            let (name, value) = match arg.as_str()?.strip_prefix("--")? {
                text if text.contains('=') => text.split_once('=')?,
                text => (text, "true"),
            };
            Some((name.to_owned(), value.to_owned()))
        };
        let flags = args.filter_map(flag).collect();
        Self::Controller(Controller { name: id.name.clone(), flags, at: at.clone() })
    }
}

/// What the flags of a cluster's controllers forbid.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lockdown {
    /// `--default-service-account` of the kustomize-controller and the helm-controller.
    kustomization_account: Option<String>,
    release_account: Option<String>,
    /// `--no-cross-namespace-refs`
    pub(crate) own_namespace_only: bool,
    /// `--no-remote-bases`
    pub(crate) no_remote_bases: bool,
    /// The feature gate `StrictPostBuildSubstitutions` of the kustomize-controller, where it is set.
    pub(crate) strict: Option<bool>,
}

/// Flags that say how much is done at once, what is logged and where things are kept: nothing that an object shows.
const NEUTRAL: [&str; 38] = [
    "artifact-digest-algo",
    "artifact-retention-records",
    "artifact-retention-ttl",
    "concurrent",
    "concurrent-ssa",
    "dependency-requeue-interval",
    "enable-leader-election",
    "events-addr",
    "graceful-shutdown-timeout",
    "health-addr",
    "helm-cache-max-size",
    "helm-cache-purge-interval",
    "helm-cache-ttl",
    "helm-chart-limit",
    "helm-chart-file-limit",
    "helm-index-limit",
    "http-retry",
    "insecure-kubeconfig-exec",
    "interval-jitter-percentage",
    "kube-api-burst",
    "kube-api-qps",
    "leader-election-lease-duration",
    "leader-election-release-on-cancel",
    "leader-election-renew-deadline",
    "leader-election-retry-period",
    "log-encoding",
    "log-level",
    "max-retry-delay",
    "metrics-addr",
    "min-retry-delay",
    "oom-watch-interval",
    "oom-watch-memory-threshold",
    "rate-limiter-interval",
    "requeue-dependency",
    "storage-adv-addr",
    "storage-addr",
    "storage-path",
    "token-cache-max-size",
];

const STRICT: &str = "StrictPostBuildSubstitutions";

/// Flags of controllers that read sources for somebody.
const READERS: [&str; 3] = ["kustomize-controller", "helm-controller", "source-watcher"];

impl Lockdown {
    /// Reads the flags of a cluster's controllers; those that we do not follow are named.
    pub(crate) fn of(controllers: &[Controller]) -> (Self, Vec<Problem>) {
        let mut lockdown = Self::default();
        let mut notices = Vec::new();
        for Controller { name, flags, at } in controllers {
            let account = |value: &String| Some(value.clone()).filter(|value| !value.is_empty());
            let mut ignored = Vec::new();
            for (flag, value) in flags {
                match (flag.as_str(), name.as_str()) {
                    ("default-service-account", "kustomize-controller") => {
                        lockdown.kustomization_account = account(value);
                    }
                    ("default-service-account", "helm-controller") => {
                        lockdown.release_account = account(value)
                    }
                    ("no-cross-namespace-refs", reader) if READERS.contains(&reader) => {
                        lockdown.own_namespace_only |= is_true(value);
                    }
                    ("no-remote-bases", _) => lockdown.no_remote_bases |= is_true(value),
                    ("feature-gates", "kustomize-controller") => {
                        let gates = value.split(',').map(str::trim).filter(|gate| !gate.is_empty());
                        let mut others = Vec::new();
                        for gate in gates {
                            // Neither yes nor no leaves it at the stricter default, and is named.
                            match gate.split_once('=').map(|(name, is_on)| (name.trim(), is_on.trim())) {
                                Some((STRICT, is_on)) if is_true(is_on) => lockdown.strict = Some(true),
                                Some((STRICT, is_on)) if is_false(is_on) => lockdown.strict = Some(false),
                                _ => others.push(gate),
                            }
                        }
                        if !others.is_empty() {
                            ignored.push(format!("--{flag}={}", others.join(",")));
                        }
                    }
                    // We do watch all namespaces; controllers of kinds that nobody acts on refer to nothing.
                    ("watch-all-namespaces", _) if is_true(value) => {}
                    ("no-cross-namespace-refs", _) => {}
                    (flag, _) if NEUTRAL.contains(&flag) => {}
                    (flag, _) => ignored.push(format!("--{flag}={value}")),
                }
            }
            if !ignored.is_empty() {
                let message = format!("flags of the {name} that are not honoured: {}", ignored.join(", "));
                notices.push(Problem::error(at.0.clone(), at.1, message).as_notice());
            }
        }
        (lockdown, notices)
    }

    /// Whom a unit of this kind is applied as if it names nobody.
    pub(crate) fn account(&self, kind: UnitKind) -> Option<&str> {
        match kind {
            UnitKind::HelmRelease => self.release_account.as_deref(),
            UnitKind::Root | UnitKind::Kustomization | UnitKind::Other => {
                self.kustomization_account.as_deref()
            }
        }
    }
}

fn is_true(value: &str) -> bool {
    matches!(value, "true" | "1" | "t" | "T" | "TRUE" | "True")
}

fn is_false(value: &str) -> bool {
    matches!(value, "false" | "0" | "f" | "F" | "FALSE" | "False")
}
