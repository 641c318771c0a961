//! Where each value of a unit was written.

use flotilla_kustomize::files::Files;
use flotilla_kustomize::{Answers, BuildError, Output, build_flux};

use crate::content::Definition;
use crate::overlay;

/// Builds the path of a Kustomization or a root, before anything is substituted in it or decrypted. `files` are those of its source.
///
/// # Errors
/// [`BuildError::Needs`] where it takes remote bases; [`BuildError::Failed`] where it does not build.
pub fn origins(files: &dyn Files, definition: &Definition) -> Result<Output, BuildError> {
    build_flux(files, &definition.path, &overlay::of(&definition.overlay), &Answers::new())
}
