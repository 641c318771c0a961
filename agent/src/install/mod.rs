//! `flotilla-agent install` and `uninstall`: the agent as a service of systemd, beside the Kubernetes of this machine.
//!
//! ```text
//!   options, what is on the machine ─► plan (pure) ─► files, then systemctl
//! ```

mod plan;

use std::path::{Path, PathBuf};
use std::process::Command;

use flotilla_runtime::files::{self, FileError};
use flotilla_runtime::token::{JoinToken, TokenError};

use plan::{Content, DISTRIBUTIONS, Machine, Plan, SERVICE, STATE, TOKEN_FILE, UNIT_FILE};

/// Options of `flotilla-agent install`.
#[derive(Debug, clap::Args)]
pub struct InstallArgs {
    /// File with the token to join the hub with (flotilla cluster token NAME); - reads it from standard input. Not needed where the
    /// agent has joined already
    #[arg(long, value_name = "FILE")]
    pub join_token_file: Option<PathBuf>,
    /// Kubeconfig of the cluster; without it that of k3s, RKE2, k0s or MicroK8s on this machine is used
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Do not start the service now; it starts with the machine
    #[arg(long)]
    pub no_start: bool,
    /// Install below this folder, as in an image of a machine; systemd is not told
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Options of `flotilla-agent uninstall`.
#[derive(Debug, clap::Args)]
pub struct UninstallArgs {
    /// Delete the agent's keys and state too: it needs a new join token to come back
    #[arg(long)]
    pub delete_state: bool,
    /// Uninstall below this folder; systemd is not told
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
}

/// Why nothing, or not all, was installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error(
        "no Kubernetes was found on this machine: none of k3s, RKE2, k0s and MicroK8s has its kubeconfig; name it with \
         --kubeconfig, where it will be if it is not there yet"
    )]
    NoKubernetes,
    #[error("there is more than one Kubernetes on this machine; name a kubeconfig with --kubeconfig: {0}")]
    SeveralKubernetes(String),
    #[error(
        "this agent has not joined a hub: give its token with --join-token-file (flotilla cluster token NAME makes one)"
    )]
    NoToken,
    #[error(
        "{} cannot stand in a systemd unit: use a path from the root of letters, digits and the characters / . _ - @", .0.display()
    )]
    Path(PathBuf),
    #[error("cannot read the join token from {}", path.display())]
    ReadToken { path: PathBuf, source: std::io::Error },
    #[error("the join token cannot be used")]
    Token(#[from] TokenError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot make the folder {}", path.display())]
    Folder { path: PathBuf, source: std::io::Error },
    #[error("cannot delete {}", path.display())]
    Delete { path: PathBuf, source: std::io::Error },
    #[error("cannot find out which program this is")]
    Program(#[source] std::io::Error),
    #[error(
        "this machine was not started by systemd; start the agent by another service manager, with `flotilla-agent run`"
    )]
    NoSystemd,
    #[error("cannot run {0}")]
    Run(String, #[source] std::io::Error),
    #[error("{0} failed: {1}")]
    Failed(String, String),
}

/// Installs the service, or brings it up to date. Answers what was done, a line each.
///
/// # Errors
/// What failed; what was done before stays, and another call goes on.
pub fn install(args: &InstallArgs) -> Result<Vec<String>, InstallError> {
    let token = args.join_token_file.as_deref().map(read_token).transpose()?;
    let root = &args.root;
    let is_here = root == Path::new("/");
    if is_here && !args.dry_run && !files::is_there(Path::new("/run/systemd/system"))? {
        return Err(InstallError::NoSystemd);
    }
    let plan = plan::plan(&look(root)?, args.kubeconfig.as_deref(), token.as_deref(), !args.no_start)?;
    let mut done = vec![format!("uses the kubeconfig {}", plan.kubeconfig.display())];
    done.extend(plan.files.iter().map(|file| format!("writes {}", below(root, &file.path).display())));
    if is_here {
        done.extend(plan.commands.iter().map(|command| format!("runs {}", command.join(" "))));
    }
    if !args.dry_run {
        execute(&plan, root, is_here)?;
    }
    Ok(done)
}

/// Stops and removes the service. What runs in the cluster stays.
///
/// # Errors
/// As [`install`].
pub fn uninstall(args: &UninstallArgs) -> Result<Vec<String>, InstallError> {
    let root = &args.root;
    let unit = below(root, Path::new(UNIT_FILE));
    let is_here = root == Path::new("/");
    if is_here && files::is_there(&unit)? {
        run(&["systemctl", "disable", "--now", SERVICE])?;
    }
    let mut done = Vec::new();
    for path in [unit, below(root, Path::new(TOKEN_FILE))] {
        files::remove(&path)?;
        done.push(format!("removed {}", path.display()));
    }
    if is_here {
        run(&["systemctl", "daemon-reload"])?;
    }
    let state = below(root, Path::new(STATE));
    if args.delete_state && files::is_there(&state)? {
        std::fs::remove_dir_all(&state)
            .map_err(|source| InstallError::Delete { path: state.clone(), source })?;
        done.push(format!("deleted {}", state.display()));
    } else {
        done.push(format!("{} stays, by which the agent can come back", state.display()));
    }
    Ok(done)
}

/// A path of the machine whose root this is.
fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn look(root: &Path) -> Result<Machine, InstallError> {
    let mut found = Vec::new();
    for distribution in DISTRIBUTIONS {
        if files::is_there(&below(root, Path::new(distribution.kubeconfig)))? {
            found.push(distribution);
        }
    }
    let enrolment = below(root, &Path::new(STATE).join("enrolment.json"));
    let has_identity = files::is_there(&enrolment)? || files::is_there(&below(root, Path::new(TOKEN_FILE)))?;
    let program = std::env::current_exe().map_err(InstallError::Program)?;
    Ok(Machine { found, program, has_identity })
}

/// The token, once it is known to be one.
fn read_token(path: &Path) -> Result<String, InstallError> {
    let read = match path == Path::new("-") {
        true => std::io::read_to_string(std::io::stdin()),
        false => std::fs::read_to_string(path),
    };
    let text = read.map_err(|source| InstallError::ReadToken { path: path.to_owned(), source })?;
    JoinToken::decode(&text)?;
    Ok(text)
}

fn execute(plan: &Plan, root: &Path, is_here: bool) -> Result<(), InstallError> {
    for file in &plan.files {
        let path = below(root, &file.path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|source| InstallError::Folder { path: folder.to_owned(), source })?;
        }
        let content = match &file.content {
            Content::Text(text) => text.clone().into_bytes(),
            Content::CopyOf(from) => files::read(from)?,
        };
        files::write_atomic(&path, &content, file.mode)?;
    }
    if is_here {
        plan.commands.iter().try_for_each(|command| run(command))?;
    }
    Ok(())
}

fn run(command: &[&str]) -> Result<(), InstallError> {
    let shown = command.join(" ");
    let output = Command::new(command[0]).args(&command[1..]).output();
    let output = output.map_err(|error| InstallError::Run(shown.clone(), error))?;
    if output.status.success() {
        return Ok(());
    }
    Err(InstallError::Failed(shown, String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use flotilla_runtime::tls::CaHash;
    use flotilla_runtime::token::TokenSecret;

    use super::*;

    #[test]
    fn an_image_of_a_machine_gets_the_service_and_loses_it_again() {
        let folder = tempfile::tempdir().unwrap();
        let (root, token_file) = (folder.path().join("root"), folder.path().join("token"));
        let args = |dry_run| InstallArgs {
            join_token_file: Some(token_file.clone()),
            kubeconfig: None,
            no_start: false,
            root: root.clone(),
            dry_run,
        };
        std::fs::write(&token_file, "not a token").unwrap();
        assert!(matches!(install(&args(false)), Err(InstallError::Token(_))));
        let token = JoinToken {
            cluster: "edge-1".into(),
            hubs: vec!["hub.example:8443".parse().unwrap()],
            cas: vec![CaHash::of(b"ca")],
            secret: TokenSecret::generate(),
        };
        std::fs::write(&token_file, token.encode()).unwrap();
        assert!(matches!(install(&args(false)), Err(InstallError::NoKubernetes)));
        let k3s = root.join("etc/rancher/k3s");
        std::fs::create_dir_all(&k3s).unwrap();
        std::fs::write(k3s.join("k3s.yaml"), "").unwrap();
        assert!(install(&args(true)).unwrap().iter().any(|line| line.contains("etc/flotilla/join-token")));
        assert!(!root.join("etc/systemd").exists(), "a dry run writes nothing");

        let done = install(&args(false)).unwrap();
        assert!(done.iter().all(|line| !line.contains("systemctl")), "{done:?}");
        let kept = root.join("etc/flotilla/join-token");
        assert_eq!(std::fs::read_to_string(&kept).unwrap().trim(), token.encode());
        assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
        let program = root.join("usr/local/bin/flotilla-agent");
        assert_eq!(std::fs::metadata(program).unwrap().permissions().mode() & 0o777, 0o755);
        // Again, without a token: it has one.
        install(&InstallArgs { join_token_file: None, ..args(false) }).unwrap();

        let state = root.join("var/lib/flotilla-agent");
        std::fs::create_dir_all(&state).unwrap();
        let away = |delete_state| uninstall(&UninstallArgs { delete_state, root: root.clone() }).unwrap();
        away(false);
        assert!(!kept.exists() && !root.join("etc/systemd/system/flotilla-agent.service").exists());
        assert!(state.exists() && k3s.join("k3s.yaml").exists());
        away(true);
        assert!(!state.exists());
    }
}
