//! Builds, and fetches what a build turns out to need, until it needs nothing more.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use flotilla_kustomize::{Answer, Answers, BuildError, Options, Output, Request, build_with};
use flotilla_source::{RemoteError, Remotes};

use super::Root;
use super::helm::{HelmArgs, HelmError};

/// Remote bases that name remote bases, and so on; and how many of them.
const ROUNDS: usize = 32;
const MOST: usize = 1000;

/// What a build needs could not be had, or it failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum NeedError {
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error("cannot fetch {what}")]
    Remote {
        what: String,
        #[source]
        source: Box<RemoteError>,
    },
    #[error("cannot render the Helm chart '{chart}'")]
    Helm {
        chart: String,
        #[source]
        source: HelmError,
    },
    #[error("it refers to more than {MOST} remote bases, files and charts, or to {ROUNDS} behind each other")]
    TooMany,
}

/// Where answers come from.
pub(super) struct Needs<'a> {
    pub(super) remotes: &'a Remotes,
    pub(super) helm: &'a HelmArgs,
    /// For what is fetched; it stays while the build reads it.
    pub(super) dir: &'a Path,
}

impl Needs<'_> {
    pub(super) fn build(&self, root: &Root, options: &Options) -> Result<Output, NeedError> {
        let mut answers = Answers::new();
        for _ in 0..ROUNDS {
            let needs = match build_with(&*root.files, &root.folder, options, &answers) {
                Err(BuildError::Needs(needs)) => needs,
                done => return Ok(done?),
            };
            if answers.len() + needs.len() > MOST {
                return Err(NeedError::TooMany);
            }
            for request in needs {
                let dir = self.dir.join(answers.len().to_string());
                let answer = self.answer(root, &request, &dir)?;
                answers.insert(request, answer);
            }
        }
        Err(NeedError::TooMany)
    }

    fn answer(&self, root: &Root, request: &Request, dir: &Path) -> Result<Answer, NeedError> {
        match request {
            Request::Remote(url) => {
                let answer = self.remotes.answer(url, dir, &AtomicBool::new(false));
                answer.map_err(|error| NeedError::Remote {
                    what: flotilla_kustomize::without_secrets(url),
                    source: Box::new(error),
                })
            }
            Request::Helm(chart) => {
                let rendered = self.helm.render(&*root.files, root.remote.is_none(), chart, dir);
                let failed = |source| NeedError::Helm { chart: chart.name.clone(), source };
                Ok(Answer::Text(rendered.map_err(failed)?.into()))
            }
        }
    }
}
