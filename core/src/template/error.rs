//! Why a template does not become an object.

use flotilla_sops::service::Ask;

use super::ValuesRef;
use crate::decrypt::OpenError;
use crate::envsubst;
use crate::object::InvalidObject;

/// Why a template does not become an object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error(transparent)]
    Substitution(#[from] envsubst::Error),
    #[error("after substitution: {0}")]
    NoDocument(String),
    #[error("{0}, which may set a variable, is known to the cluster only")]
    Unknown(ValuesRef),
    #[error("{0}, which values are taken from, does not exist")]
    NotFound(ValuesRef),
    #[error("{reference}: {message}")]
    Name { reference: ValuesRef, message: String },
    #[error("after substitution: {0}")]
    Object(#[from] InvalidObject),
    #[error("substitution turned {was} into {is}: kind, name and namespace must not depend on the cluster")]
    Identity { was: String, is: String },
    #[error("the keys in {0} do not open it: {1}")]
    Keys(ValuesRef, String),
    #[error("the keys in {0} do not open it: {1}")]
    Shut(ValuesRef, Box<OpenError>),
    #[error("it takes values from {0}, which is not in the unit's own namespace {1}")]
    Elsewhere(ValuesRef, String),
}

impl TemplateError {
    /// Which key services have to be asked before the object can be completed.
    pub fn asks(&self) -> Option<&[Ask]> {
        match self {
            Self::Shut(_, error) => error.asks(),
            _ => None,
        }
    }
}
