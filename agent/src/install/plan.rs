//! What an installation writes and runs. Pure.

use std::path::{Path, PathBuf};

use super::InstallError;

/// The unit that is installed: the one of `deploy/`, for this machine.
const UNIT: &str = include_str!("../../../deploy/flotilla-agent.service");
/// What stands in it for the program, the kubeconfig and the service of Kubernetes.
const PROGRAM: &str = "/usr/local/bin/flotilla-agent";
const KUBECONFIG: &str = "/etc/rancher/k3s/k3s.yaml";
const KUBERNETES: &str = "k3s.service";

pub(super) const UNIT_FILE: &str = "/etc/systemd/system/flotilla-agent.service";
pub(super) const TOKEN_FILE: &str = "/etc/flotilla/join-token";
pub(super) const STATE: &str = "/var/lib/flotilla-agent";
pub(super) const SERVICE: &str = "flotilla-agent.service";
/// Where packages put the program: it stays there.
const PACKAGED: &str = "/usr/bin/flotilla-agent";

/// A Kubernetes that has its own service: where its kubeconfig is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Distribution {
    pub name: &'static str,
    pub kubeconfig: &'static str,
    service: &'static str,
}

pub(super) const DISTRIBUTIONS: [Distribution; 4] = [
    Distribution { name: "k3s", kubeconfig: KUBECONFIG, service: KUBERNETES },
    Distribution { name: "RKE2", kubeconfig: "/etc/rancher/rke2/rke2.yaml", service: "rke2-server.service" },
    Distribution { name: "k0s", kubeconfig: "/var/lib/k0s/pki/admin.conf", service: "k0scontroller.service" },
    Distribution {
        name: "MicroK8s",
        kubeconfig: "/var/snap/microk8s/current/credentials/client.config",
        service: "snap.microk8s.daemon-kubelite.service",
    },
];

/// What is on the machine.
#[derive(Debug, Default)]
pub(super) struct Machine {
    /// Whose kubeconfig is there.
    pub found: Vec<Distribution>,
    /// The program that runs.
    pub program: PathBuf,
    /// The agent has joined, or has a token from an earlier call.
    pub has_identity: bool,
}

/// Files in the order in which they are written; commands in that in which they are run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub kubeconfig: PathBuf,
    pub files: Vec<File>,
    pub commands: Vec<Vec<&'static str>>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct File {
    pub path: PathBuf,
    pub content: Content,
    pub mode: u32,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    Text(String),
    /// The same as this file.
    CopyOf(PathBuf),
}

pub(super) fn plan(
    machine: &Machine,
    kubeconfig: Option<&Path>,
    token: Option<&str>,
    start: bool,
) -> Result<Plan, InstallError> {
    let (kubeconfig, service) = match (kubeconfig, &machine.found[..]) {
        (Some(given), _) => {
            let known = DISTRIBUTIONS.iter().find(|it| Path::new(it.kubeconfig) == given);
            (given.to_owned(), known.map(|it| it.service))
        }
        (None, [one]) => (PathBuf::from(one.kubeconfig), Some(one.service)),
        (None, []) => return Err(InstallError::NoKubernetes),
        (None, several) => {
            let names: Vec<_> = several.iter().map(|it| format!("{} ({})", it.kubeconfig, it.name)).collect();
            return Err(InstallError::SeveralKubernetes(names.join(", ")));
        }
    };
    if token.is_none() && !machine.has_identity {
        return Err(InstallError::NoToken);
    }
    let program = match machine.program == Path::new(PACKAGED) {
        true => PACKAGED,
        false => PROGRAM,
    };
    let mut files = Vec::new();
    if machine.program != Path::new(program) {
        files.push(File {
            path: program.into(),
            content: Content::CopyOf(machine.program.clone()),
            mode: 0o755,
        });
    }
    if let Some(token) = token {
        files.push(File {
            path: TOKEN_FILE.into(),
            content: Content::Text(format!("{}\n", token.trim())),
            mode: 0o600,
        });
    }
    let unit = unit(program, &kubeconfig, service)?;
    files.push(File { path: UNIT_FILE.into(), content: Content::Text(unit), mode: 0o644 });
    let mut commands = vec![vec!["systemctl", "daemon-reload"], vec!["systemctl", "enable", SERVICE]];
    if start {
        // Also where it runs already: with another program or another kubeconfig.
        commands.push(vec!["systemctl", "restart", SERVICE]);
    }
    Ok(Plan { kubeconfig, files, commands })
}

/// The text of the unit. systemd reads `%`, `$`, quotes and spaces in it: a path with anything of the kind is refused.
fn unit(program: &str, kubeconfig: &Path, service: Option<&str>) -> Result<String, InstallError> {
    let invalid = || InstallError::Path(kubeconfig.to_owned());
    let path = kubeconfig.to_str().ok_or_else(invalid)?;
    let is_plain = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-@".contains(&byte));
    if !path.starts_with('/') || !is_plain {
        return Err(invalid());
    }
    let after = service.map(|service| format!(" {service}")).unwrap_or_default();
    let text = UNIT.replace(&format!(" {KUBERNETES}"), &after);
    Ok(text.replace(PROGRAM, program).replace(KUBECONFIG, path))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
