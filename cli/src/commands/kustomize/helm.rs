//! Charts of a kustomization, by the `helm` program: fetched where they are not in the tree, then rendered.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use flotilla_kustomize::HelmRequest;
use flotilla_kustomize::files::{Entry, Files, Kind, PathError, ReadError, TreePath};

use super::disk::absolute;

/// How charts are rendered.
#[derive(Debug, Args)]
pub(super) struct HelmArgs {
    /// Render the charts that kustomizations name, by the helm program
    #[arg(long)]
    enable_helm: bool,
    /// The helm program
    #[arg(long, value_name = "PATH", default_value = "helm")]
    helm_command: PathBuf,
    /// API versions that charts see
    #[arg(long, value_name = "VERSION")]
    helm_api_versions: Vec<String>,
    /// Kubernetes version that charts see
    #[arg(long, value_name = "VERSION")]
    helm_kube_version: Option<String>,
    /// Let helm say more
    #[arg(long)]
    helm_debug: bool,
}

/// A chart could not be rendered.
#[derive(Debug, thiserror::Error)]
pub(super) enum HelmError {
    #[error("cannot run '{program}'; install Helm, or name the program by --helm-command")]
    Start {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("`{command}` failed: {said}")]
    Failed { command: String, said: String },
    #[error("there is no chart at {folder}, and the kustomization names no repo to get it from")]
    NoChart { folder: TreePath },
    #[error("the chart has no place in the tree")]
    Folder(#[source] PathError),
    #[error(transparent)]
    Values(Box<flotilla_kustomize::Error>),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("cannot read {path}")]
    ReadValues {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("what it renders is not UTF-8 text")]
    NotText,
}

impl HelmArgs {
    pub(super) fn enabled(&self) -> bool {
        self.enable_helm
    }

    /// The manifests of a chart, using `dir` for whatever is needed on the way.
    pub(super) fn render(
        &self,
        files: &dyn Files,
        on_disk: bool,
        request: &HelmRequest,
        dir: &Path,
    ) -> Result<String, HelmError> {
        let folder = request.chart_folder().map_err(HelmError::Folder)?;
        let is_there = matches!(files.entry(&folder)?, Some(Entry { kind: Kind::Folder, .. }));
        let own = read_values(files, &folder, is_there)?;
        let chart = match is_there.then_some(folder) {
            Some(path) if on_disk => absolute(&path),
            Some(path) => {
                let out = dir.join("chart");
                copy(files, &path, &out)?;
                out
            }
            None => self.pull(request, dir)?,
        };
        let own = match own {
            None if !is_there => read_pulled_values(&chart)?,
            own => own,
        };
        let mut values = Vec::new();
        for (n, text) in request
            .values(own.as_deref())
            .map_err(|error| HelmError::Values(Box::new(error)))?
            .iter()
            .enumerate()
        {
            let path = dir.join(format!("values-{n}.yaml"));
            write(&path, text.as_bytes())?;
            values.push(path);
        }
        let output = self.run(&self.arguments(request, &chart, &values), dir)?;
        String::from_utf8(output).map_err(|_| HelmError::NotText)
    }

    fn pull(&self, request: &HelmRequest, dir: &Path) -> Result<PathBuf, HelmError> {
        if request.repo.is_empty() {
            let folder = request.chart_folder().map_err(HelmError::Folder)?;
            return Err(HelmError::NoChart { folder });
        }
        let into = dir.join("pulled");
        let mut args: Vec<OsString> =
            vec!["pull".into(), "--untar".into(), flag("--untardir", into.as_os_str())];
        let is_oci = request.repo.starts_with("oci://");
        if !is_oci {
            args.push(flag("--repo", &request.repo));
        }
        if !request.version.is_empty() {
            args.push(flag("--version", &request.version));
        }
        args.extend(request.devel.then(|| "--devel".into()));
        // What follows is no flag, whatever it is.
        args.push("--".into());
        args.push(match is_oci {
            true => format!("{}/{}", request.repo.trim_end_matches('/'), request.name).into(),
            false => (&request.name).into(),
        });
        self.run(&args, dir)?;
        Ok(into.join(&request.name))
    }

    fn arguments(&self, request: &HelmRequest, chart: &Path, values: &[PathBuf]) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["template".into()];
        if request.release_name.is_empty() {
            args.push("--generate-name".into());
        }
        let mut option = |name: &str, value: &OsString| {
            if !value.is_empty() {
                args.push(flag(name, value));
            }
        };
        option("--name-template", &(&request.name_template).into());
        option("--namespace", &(&request.namespace).into());
        values.iter().for_each(|path| option("--values", &path.into()));
        let given = &self.helm_api_versions;
        let versions = if given.is_empty() { &request.api_versions } else { given };
        versions.iter().for_each(|version| option("--api-versions", &version.into()));
        option("--kube-version", &self.helm_kube_version.as_ref().unwrap_or(&request.kube_version).into());
        for (flag, is_set) in [
            ("--include-crds", request.include_crds),
            ("--no-hooks", request.skip_hooks),
            ("--skip-tests", request.skip_tests),
            ("--devel", request.devel),
            ("--debug", self.helm_debug),
        ] {
            args.extend(is_set.then(|| flag.into()));
        }
        // What follows is no flag, whatever it is.
        args.push("--".into());
        if !request.release_name.is_empty() {
            args.push((&request.release_name).into());
        }
        args.push(chart.into());
        args
    }

    fn run(&self, args: &[OsString], dir: &Path) -> Result<Vec<u8>, HelmError> {
        let program = self.helm_command.display().to_string();
        fs::create_dir_all(dir).map_err(|source| HelmError::Write { path: dir.to_owned(), source })?;
        let output = Command::new(&self.helm_command)
            .args(args)
            // The user's plugins and repositories would make the result another one elsewhere.
            .env("HELM_CONFIG_HOME", dir.join("helm/config"))
            .env("HELM_CACHE_HOME", dir.join("helm/cache"))
            .env("HELM_DATA_HOME", dir.join("helm/data"))
            .output()
            .map_err(|source| HelmError::Start { program: program.clone(), source })?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let command =
            args.first().map_or(program.clone(), |first| format!("{program} {}", first.to_string_lossy()));
        Err(HelmError::Failed { command, said: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
    }
}

/// The chart's own `values.yaml`, where the chart is in the tree and has one.
fn read_values(files: &dyn Files, folder: &TreePath, is_there: bool) -> Result<Option<Vec<u8>>, HelmError> {
    let Ok(path) = folder.join("values.yaml") else { return Ok(None) };
    if !is_there || files.entry(&path)?.is_none() {
        return Ok(None);
    }
    Ok(Some(files.read(&path)?.to_vec()))
}

/// Likewise, of a chart that was fetched.
fn read_pulled_values(chart: &Path) -> Result<Option<Vec<u8>>, HelmError> {
    let path = chart.join("values.yaml");
    match fs::read(&path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(HelmError::ReadValues { path, source }),
    }
}

/// A flag and its value as one argument: the value cannot be taken for another flag.
fn flag(name: &str, value: impl AsRef<OsStr>) -> OsString {
    let mut flag = OsString::from(name);
    flag.push("=");
    flag.push(value);
    flag
}

fn write(path: &Path, content: &[u8]) -> Result<(), HelmError> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent)
        .and_then(|()| fs::write(path, content))
        .map_err(|source| HelmError::Write { path: path.to_owned(), source })
}

fn copy(files: &dyn Files, folder: &TreePath, into: &Path) -> Result<(), HelmError> {
    for (name, entry) in files.list(folder)? {
        let Ok(path) = folder.join(&name) else { continue };
        match entry.kind {
            Kind::Folder => copy(files, &path, &into.join(&name))?,
            Kind::File => write(&into.join(&name), &files.read(&path)?)?,
            Kind::Symlink => {}
        }
    }
    Ok(())
}
