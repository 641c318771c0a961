//! A kustomize build as a pure function: a file tree and a root in, documents out.
//!
//! ```text
//!   Files, root ──► target ──► resources in order ──► Output { documents, notices }
//!                     │
//!                     └─ needs something remote? ──► BuildError::Needs(requests), answered by the caller,
//!                                                    who builds again with the answers
//! ```
//!
//! Nothing here opens a file, a socket or a program. The rules, and the words of errors where users know them, are
//! those of kustomize 5.8; `flux` adds how Flux builds. Every value of the output keeps its position
//! ([`flotilla_yaml::Pos`]), whose `source` is a place in [`Output::sources`]: the file and line that set it.

mod config;
mod crds;
mod decode;
mod defaults;
mod documents;
mod error;
mod fieldspec;
pub mod files;
mod flux;
mod generate;
mod gvk;
mod helm;
pub mod ignore;
mod jsonpatch;
mod kustomization;
mod load;
mod merge;
mod metadata;
mod nameref;
mod node_ops;
mod notes;
mod parts;
mod plugin;
mod request;
mod resmap;
mod resource;
mod schema;
mod selector;
mod target;
mod transform;
mod vars;
mod work;

use flotilla_yaml::{Node, Pos, SmolStr};

pub use error::{BuildError, Error};
use error::{Fail, Res};
use files::{Files, TreePath};
pub use flux::{FluxOverlay, FluxPatch, build_flux, build_flux_within, generate, has_kustomization};
pub use gvk::is_cluster_scoped;
pub use load::NAMES;
use load::{Context, Loader, Tree};
pub use parts::{Image, Selector};
pub use request::{Answer, Answers, HelmRequest, Request, ValuesMerge, without_secrets};
use resmap::ResMap;
use target::Target;
pub use work::Limits;

/// How to build; the default is a plain `kustomize build`.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub load_restrictor: LoadRestrictor,
    pub reorder: Reorder,
    /// `--enable-managedby-label`
    pub add_managed_by: bool,
    /// `--enable-helm`: charts become requests; without it they are an error.
    pub helm: bool,
    pub limits: Limits,
}

/// Which files a kustomization may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LoadRestrictor {
    /// Those in or below its own folder.
    #[default]
    RootOnly,
    /// Any of the tree.
    None,
}

/// The order of the documents where the kustomization does not say (`sortOptions`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reorder {
    /// Namespaces and definitions first, webhooks last.
    #[default]
    Legacy,
    /// As read.
    None,
}

/// What a build gives.
#[derive(Debug, Clone, Default)]
pub struct Output {
    pub documents: Vec<Document>,
    /// What is worth saying but no error: deprecated fields, unused vars.
    pub notices: Vec<String>,
    /// The files that were read; a [`Pos`]'s `source` counts them from 1.
    pub sources: Vec<TreePath>,
}

/// One object.
#[derive(Debug, Clone)]
pub struct Document {
    pub node: Node,
    /// Where the object was written, or the generator that made it.
    pub origin: Origin,
    /// The namespace that it belongs to, `default` where it names none; `None` for a kind without namespaces.
    pub namespace: Option<SmolStr>,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    pub file: Option<TreePath>,
    /// From 1; 0 where it is not known.
    pub line: u32,
}

impl Output {
    /// The text that `kustomize build` prints.
    ///
    /// # Errors
    /// Where a document has a value or key that JSON cannot hold, with the object, file and line.
    pub fn to_yaml(&self) -> Result<String, Error> {
        let nodes: Vec<Node> = self.documents.iter().map(|d| d.node.clone()).collect();
        flotilla_yaml::print_documents(&nodes).map_err(|error| {
            // It is said of the place alone; the first document that fails by itself is the one.
            let failed = nodes
                .into_iter()
                .find(|node| flotilla_yaml::print_documents(std::slice::from_ref(node)).is_err());
            let object = failed
                .map_or_else(String::new, |node| format!("{}: ", resource::Resource::new(node).shown()));
            Fail::new(format!("{object}{}", error.message))
                .at(error.pos)
                .into_error(&self.sources, &ToString::to_string)
        })
    }

    /// The file and line that a node of a document came from.
    pub fn origin_of(&self, node: &Node) -> Origin {
        origin(&self.sources, node.pos)
    }
}

fn origin(sources: &[TreePath], pos: Pos) -> Origin {
    let file = (pos.source as usize).checked_sub(1).and_then(|n| sources.get(n)).cloned();
    let line = if file.is_some() { pos.line } else { 0 };
    Origin { file, line }
}

/// Builds the kustomization of a folder.
///
/// # Errors
/// [`BuildError::Needs`] where it refers to anything outside the tree; [`BuildError::Failed`] otherwise.
pub fn build(files: &dyn Files, root: &TreePath, options: &Options) -> Result<Output, BuildError> {
    build_with(files, root, options, &Answers::new())
}

/// As [`build`], with the answers to what an earlier build needed.
///
/// # Errors
/// See [`build`].
pub fn build_with(
    files: &dyn Files,
    root: &TreePath,
    options: &Options,
    answers: &Answers,
) -> Result<Output, BuildError> {
    let mut cx = Context::new(options, answers);
    let result = run(&mut cx, files, root);
    finish(cx, files, result)
}

fn run(cx: &mut Context, files: &dyn Files, root: &TreePath) -> Res<ResMap> {
    let restrict = cx.options.load_restrictor == LoadRestrictor::RootOnly;
    let loader = Loader::new(Tree::Own(files), root.clone(), restrict)?;
    Target::read(cx, loader)?.build(cx)
}

/// Gives positions their files. What is needed from outside goes before an error, which may come from its absence.
fn finish(cx: Context, files: &dyn Files, result: Res<ResMap>) -> Result<Output, BuildError> {
    let Context { sources, needs, notices, .. } = cx;
    if !needs.is_empty() {
        return Err(BuildError::Needs(needs));
    }
    let map = result.map_err(|e| BuildError::Failed(e.into_error(&sources, &|path| files.shown(path))))?;
    let document = |r: resource::Resource| {
        let id = r.id();
        let namespace = (!id.is_cluster_scoped()).then(|| id.effective_namespace().into());
        Document { origin: origin(&sources, r.pos), node: r.node, namespace }
    };
    let documents = map.0.into_iter().map(document).collect();
    Ok(Output { documents, notices, sources })
}
