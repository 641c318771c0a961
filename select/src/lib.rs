//! How Kubernetes' tools choose objects: by Go's regular expressions ([`Regexp`]) and by label selectors ([`Labels`]).
//!
//! Both mean here what they mean there, and what is wrong there is wrong here. Go's syntax (RE2's) is near enough to that
//! of the `regex` crate to look the same and mean something else: `[a&&b]`, `\141`, `(?x)`, `a**`.

mod class;
mod labels;
mod regexp;
mod syntax;

pub use labels::{Labels, SelectorError};
pub use regexp::{Regexp, RegexpError};
