//! What this machine must have, and what to install where it does not.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::bail;

use crate::workspace;

/// The Go module that the test control planes are built from; its `go.mod` says which Go it takes.
const CONTROL_PLANE: &str = "tests/controlplane";

/// What a folder of ready-made binaries must hold.
const PROGRAMS: [&str; 3] = ["etcd", "kube-apiserver", "kube-controller-manager"];

/// Checks that there is git, and Go (or ready-made binaries) to start control planes if `clusters` are to be started.
/// The error is one line that says what to install.
pub(crate) fn check(clusters: bool) -> anyhow::Result<()> {
    let mut missing = Vec::new();
    if !succeeds(Command::new("git").arg("--version")) {
        missing.push("git (Debian: `apt-get install git`)".to_owned());
    }
    if clusters {
        let assets = std::env::var_os("KUBEBUILDER_ASSETS").filter(|folder| !folder.is_empty());
        missing.extend(control_plane(assets.as_deref().map(Path::new)));
    }
    if !missing.is_empty() {
        bail!("please install {}", missing.join(", and "));
    }
    Ok(())
}

/// Whether there is a Go at all.
pub(crate) fn go() -> bool {
    succeeds(Command::new("go").args(["env", "GOROOT"]).current_dir("/"))
}

/// What is missing to start control planes, if anything is.
fn control_plane(assets: Option<&Path>) -> Option<String> {
    if let Some(assets) = assets {
        let lacks: Vec<_> = PROGRAMS.into_iter().filter(|name| !assets.join(name).is_file()).collect();
        return (!lacks.is_empty()).then(|| {
            format!("{} into {}, which KUBEBUILDER_ASSETS names", lacks.join(" and "), assets.display())
        });
    }
    if succeeds(Command::new("go").arg("version").current_dir(workspace::root().join(CONTROL_PLANE))) {
        return None;
    }
    let hint = "(https://go.dev/dl), or set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver and kube-controller-manager";
    // In the module's folder `go version` also fails where Go is too old and may not fetch a newer one.
    let what = if go() { "a newer Go" } else { "Go" };
    Some(format!("{what}, {} or later {hint}", go_version().unwrap_or_else(|| "1.26".to_owned())))
}

/// The Go version that the control plane's module asks for.
fn go_version() -> Option<String> {
    let module = std::fs::read_to_string(workspace::root().join(CONTROL_PLANE).join("go.mod")).ok()?;
    module.lines().find_map(|line| line.strip_prefix("go ")).map(|version| version.trim().to_owned())
}

fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_made_binaries_are_enough_and_half_of_them_are_not() {
        let folder = std::env::temp_dir().join(format!("flotilla-needs-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let all = control_plane(Some(&folder)).unwrap();
        assert!(all.starts_with("etcd and kube-apiserver and kube-controller-manager into "), "{all}");
        std::fs::write(folder.join("etcd"), "").unwrap();
        let two = control_plane(Some(&folder)).unwrap();
        assert!(two.starts_with("kube-apiserver and kube-controller-manager into "), "{two}");
        for program in PROGRAMS {
            std::fs::write(folder.join(program), "").unwrap();
        }
        assert_eq!(control_plane(Some(&folder)), None);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_control_plane_says_which_go_it_takes() {
        let version = go_version().unwrap();
        assert!(version.starts_with("1."), "{version}");
    }

    #[test]
    fn a_program_that_is_not_there_does_not_succeed() {
        assert!(!succeeds(&mut Command::new("flotilla-no-such-program")));
    }
}
