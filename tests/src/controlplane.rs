//! The control plane's binaries: taken from `KUBEBUILDER_ASSETS`, from the cache, or built with Go.
//!
//! The build (`tests/controlplane/`, some minutes) happens once a machine: its result stands in the cache under a
//! digest of what it was made from.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use flotilla_compare::gobuild::GoBuild;
pub use flotilla_compare::gobuild::{CACHE_VARIABLE, Progress};

use crate::process::Recipe;

/// A folder with `etcd`, `kube-apiserver` and, for clusters with a controller-manager, `kube-controller-manager`.
pub const ASSETS_VARIABLE: &str = "KUBEBUILDER_ASSETS";

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/controlplane");
/// Also what the API server reports as its version.
const KUBERNETES_VERSION: &str = "v1.36.3";
const HOW_TO_GET_ONE: &str = "install Go 1.26 or newer (https://go.dev/dl), \
    or set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver and kube-controller-manager";

/// One of the programs that make a control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Component {
    Etcd,
    ApiServer,
    ControllerManager,
}

impl Component {
    fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
        }
    }
}

/// Where the control plane's programs are.
#[derive(Debug, Clone)]
pub struct ControlPlane(Programs);

#[derive(Debug, Clone)]
enum Programs {
    /// A folder with one binary for each component.
    Assets(PathBuf),
    /// Our own binary with a sub-command for each component.
    Built(PathBuf),
}

impl ControlPlane {
    /// Finds the binaries, or builds them. Blocks for minutes in the latter case.
    ///
    /// # Errors
    /// In one line where Go is missing; else with the last lines that Go printed.
    pub fn find_or_build(progress: &mut dyn FnMut(Progress)) -> Result<Self> {
        if let Some(folder) = env::var_os(ASSETS_VARIABLE).filter(|folder| !folder.is_empty()) {
            let folder = PathBuf::from(folder);
            for component in [Component::Etcd, Component::ApiServer] {
                let program = folder.join(component.name());
                ensure!(program.is_file(), "{ASSETS_VARIABLE}: {} is not there", program.display());
            }
            progress(Progress::Found(folder.clone()));
            return Ok(Self(Programs::Assets(folder)));
        }
        let build = GoBuild {
            name: "controlplane",
            source: Path::new(SOURCE),
            packages: &["."],
            flags: &build_flags(),
            how_to_get_one: HOW_TO_GET_ONE,
        };
        Ok(Self(Programs::Built(build.find_or_build(progress)?)))
    }

    pub(crate) fn recipe(&self, component: Component) -> Result<Recipe> {
        match &self.0 {
            Programs::Built(binary) => Ok(Recipe::new(binary).arg(component.name())),
            Programs::Assets(folder) => {
                let program = folder.join(component.name());
                ensure!(
                    program.is_file(),
                    "{} is not there: put it beside kube-apiserver, or unset {ASSETS_VARIABLE}",
                    program.display()
                );
                Ok(Recipe::new(program))
            }
        }
    }
}

fn build_flags() -> [String; 4] {
    let minor = KUBERNETES_VERSION.split('.').nth(1).unwrap_or_default();
    let version = "k8s.io/component-base/version";
    // Outside a release checkout the components take their version from here.
    let link = format!(
        "-s -w -X {version}.gitMajor=1 -X {version}.gitMinor={minor} -X {version}.gitVersion={KUBERNETES_VERSION} \
         -X {version}.gitTreeState=clean"
    );
    ["-trimpath".into(), "-buildvcs=false".into(), "-ldflags".into(), link]
}
