//! Reading files and folders for a build: where a kustomization may reach, cycles, and the numbers of files.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use flotilla_yaml::{Node, Pos};

use crate::Options;
use crate::decode::Text;
use crate::documents;
use crate::error::{Fail, Res, fail};
use crate::files::{Files, Kind, TreePath};
use crate::request::{Answer, Answers, Request};
use crate::schema::Schema;
use crate::work::Work;

/// Kustomizations of which each names the next one, by `resources`, `components` or plugins.
pub(crate) const MAX_CHAIN: usize = 50;

/// What a whole build shares.
pub(crate) struct Context<'a> {
    pub(crate) options: &'a Options,
    pub(crate) answers: &'a Answers,
    pub(crate) work: Rc<Work>,
    /// The files read so far; a [`Pos`]'s `source` is the place in this list, from 1.
    pub(crate) sources: Vec<TreePath>,
    pub(crate) needs: Vec<Request>,
    pub(crate) notices: Vec<String>,
    pub(crate) schema: Arc<Schema>,
    /// Whether an `openapi` field decided the schema; the first one in a build does.
    pub(crate) schema_is_set: bool,
    /// Whether the built-in schema has been asked for anything before one was set. It is kept beside that one then, as
    /// kustomize does, which reads it only when it is asked.
    pub(crate) builtin_is_known: bool,
}

impl<'a> Context<'a> {
    pub(crate) fn new(options: &'a Options, answers: &'a Answers) -> Self {
        Self {
            options,
            answers,
            work: Rc::new(Work::new(options.limits)),
            sources: Vec::new(),
            needs: Vec::new(),
            notices: Vec::new(),
            schema: Schema::builtin(),
            schema_is_set: false,
            builtin_is_known: false,
        }
    }

    /// Numbers a file.
    pub(crate) fn source(&mut self, path: &TreePath) -> u32 {
        let known = self.sources.iter().rposition(|p| p == path);
        let index = known.unwrap_or_else(|| {
            self.sources.push(path.clone());
            self.sources.len() - 1
        });
        index as u32 + 1
    }

    /// A place for the beginning of a notice: `file:line: `.
    pub(crate) fn place(&self, pos: Pos) -> String {
        let file = (pos.source as usize).checked_sub(1).and_then(|n| self.sources.get(n));
        file.map_or_else(String::new, |file| format!("{file}:{}: ", pos.line))
    }

    /// The schema, which is asked about kinds from here on.
    pub(crate) fn schema_for_merging(&mut self) -> Arc<Schema> {
        self.builtin_is_known |= !self.schema_is_set;
        self.schema.clone()
    }

    /// An answer, or a note that it is needed.
    pub(crate) fn answer(&mut self, request: Request) -> Option<Answer> {
        let answer = self.answers.get(&request).cloned();
        if answer.is_none() && !self.needs.contains(&request) {
            self.needs.push(request);
        }
        answer
    }
}

/// A tree that is read: the build's own, or that of a remote base.
#[derive(Clone)]
pub(crate) enum Tree<'a> {
    Own(&'a dyn Files),
    /// With its address, and the path by which its files are called.
    Remote(Arc<dyn Files>, String, TreePath),
}

impl Tree<'_> {
    pub(crate) fn files(&self) -> &dyn Files {
        match self {
            Tree::Own(files) => *files,
            Tree::Remote(files, ..) => &**files,
        }
    }

    pub(crate) fn shown(&self, path: &TreePath) -> String {
        self.files().shown(path)
    }

    fn name(&self) -> &str {
        match self {
            Tree::Own(_) => "",
            Tree::Remote(_, url, _) => url,
        }
    }

    /// What a file of it is called in positions: those of remote trees have a place of their own.
    fn call(&self, path: &TreePath) -> TreePath {
        match self {
            Tree::Own(_) => path.clone(),
            Tree::Remote(_, _, name) => name.below(path),
        }
    }
}

/// A kustomization's folder, and what it may read from there.
#[derive(Clone)]
pub(crate) struct Loader<'a> {
    pub(crate) tree: Tree<'a>,
    pub(crate) root: TreePath,
    restrict: bool,
    /// The folders on the way here, of which none may be entered again.
    visited: Vec<(String, TreePath)>,
}

/// A file that was read.
pub(crate) struct Loaded {
    /// As the kustomization names it.
    name: String,
    pub(crate) path: TreePath,
    pub(crate) source: u32,
    pub(crate) bytes: Arc<[u8]>,
}

/// What stands at a path of a `resources` entry.
pub(crate) enum Found {
    File,
    Folder,
    Missing,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(tree: Tree<'a>, root: TreePath, restrict: bool) -> Res<Self> {
        let entry = tree.files().entry(&root)?;
        match entry.map(|e| e.kind) {
            Some(Kind::Folder) => {
                let visited = vec![(tree.name().to_owned(), root.clone())];
                Ok(Self { tree, root, restrict, visited })
            }
            None => {
                let mut missing = root.clone();
                while let Some(parent) = missing.parent() {
                    if tree.files().entry(&parent)?.is_some() {
                        break;
                    }
                    missing = parent;
                }
                fail!(
                    "must build at directory: not a valid directory: '{}' doesn't exist ({}: no such file or directory)",
                    tree.shown(&root),
                    tree.shown(&missing)
                )
                .map_err(|e: Fail| e.hint(MISSING))
            }
            Some(_) => fail!("must build at directory: '{}': file is not directory", tree.shown(&root)),
        }
    }

    fn resolve(&self, path: &str) -> Res<TreePath> {
        if let Some(absolute) = path.starts_with('/').then(|| self.tree.files().absolute(path)).flatten() {
            return Ok(absolute);
        }
        self.root.join(path).map_err(|e| {
            Fail::new(e.to_string()).hint("only what is in the same source can be named, by a relative path")
        })
    }

    /// What a path names.
    pub(crate) fn find(&self, path: &str) -> Res<Found> {
        if is_remote(path) {
            return Ok(Found::Missing);
        }
        let resolved = self.resolve(path)?;
        Ok(match self.tree.files().entry(&resolved)?.map(|e| e.kind) {
            Some(Kind::Folder) => Found::Folder,
            Some(Kind::File) => Found::File,
            Some(Kind::Symlink) => return Err(symlink(&self.tree.shown(&resolved))),
            None => Found::Missing,
        })
    }

    /// Reads a file. Errors are at the place that names it.
    pub(crate) fn load(&self, cx: &mut Context, path: &Text) -> Res<Loaded> {
        self.load_unplaced(cx, &path.text).map_err(|e| e.at(path.pos))
    }

    fn load_unplaced(&self, cx: &mut Context, path: &str) -> Res<Loaded> {
        if path.starts_with("http://") || path.starts_with("https://") {
            let request = Request::Remote(path.to_owned());
            return match cx.answer(request) {
                Some(Answer::Text(text)) => {
                    let name = TreePath::from_root(&path.replace("://", "/"))
                        .map_err(|e| Fail::new(e.to_string()))?;
                    cx.work.spend_bytes(text.len())?;
                    let source = cx.source(&name);
                    Ok(Loaded { source, name: path.to_owned(), path: name, bytes: text.as_bytes().into() })
                }
                Some(Answer::Tree { .. }) => fail!("'{path}' is a folder, where a file is needed"),
                None => fail!("'{path}' has to be fetched"),
            };
        }
        if path.is_empty() {
            return fail!("the name of a file is empty").map_err(|e: Fail| e.hint(EMPTY));
        }
        let resolved = self.resolve(path)?;
        match self.tree.files().entry(&resolved)?.map(|e| e.kind) {
            None => {
                return fail!("{}: no such file or directory", self.tree.shown(&resolved))
                    .map_err(|e: Fail| e.hint(MISSING));
            }
            Some(Kind::Folder) => {
                return fail!("{}: is a directory, where a file is needed", self.tree.shown(&resolved));
            }
            Some(Kind::Symlink) => return Err(symlink(&self.tree.shown(&resolved))),
            Some(Kind::File) => {}
        }
        if self.restrict && !resolved.is_within(&self.root) {
            let (file, root) = (self.tree.shown(&resolved), self.tree.shown(&self.root));
            return fail!("security; file '{file}' is not in or below '{root}'")
                .map_err(|e: Fail| e.hint("move it there, or build with the load restrictor off"));
        }
        let source = cx.source(&self.tree.call(&resolved));
        // It is there, so what is wrong is wrong with itself: too large, damaged.
        let here = |error| Fail::from(error).at(Pos { source, ..Pos::default() });
        let bytes = self.tree.files().read(&resolved).map_err(here)?;
        cx.work.spend_bytes(bytes.len()).map_err(|e| e.at(Pos { source, ..Pos::default() }))?;
        Ok(Loaded { source, name: path.to_owned(), path: resolved, bytes })
    }

    /// Enters a folder.
    pub(crate) fn enter(&self, path: &Text) -> Res<Loader<'a>> {
        let enter = || {
            if path.text.is_empty() {
                return fail!("the name of a folder is empty").map_err(|e: Fail| e.hint(EMPTY));
            }
            if path.text.starts_with('/') {
                return fail!("new root '{}' cannot be absolute", path.text)
                    .map_err(|e: Fail| e.hint("name the folder by a relative path"));
            }
            let root = self.resolve(&path.text)?;
            for (tree, visited) in self.visited.iter().rev() {
                if tree == self.tree.name() && visited.is_within(&root) {
                    return fail!(
                        "cycle detected: candidate root '{}' contains visited root '{}'",
                        self.tree.shown(&root),
                        self.tree.shown(visited)
                    )
                    .map_err(|e: Fail| e.hint("take this entry out, or the one that led here"));
                }
            }
            let loader = Loader::new(self.tree.clone(), root, self.restrict)?;
            self.behind(loader)
        };
        enter().map_err(|e: Fail| e.at(path.pos))
    }

    /// Enters a remote base.
    pub(crate) fn enter_remote(&self, url: &Text, files: Arc<dyn Files>, root: TreePath) -> Res<Loader<'a>> {
        if self.visited.iter().any(|(tree, folder)| *tree == url.text && folder.is_within(&root)) {
            return fail!("cycle detected: URI '{0}' referenced by previous URI '{0}'", url.text)
                .map_err(|e: Fail| e.at(url.pos));
        }
        let name = remote_name(&url.text, &root);
        let tree = Tree::Remote(files, url.text.clone(), name);
        let loader = Loader::new(tree, root, true).map_err(|e| e.at(url.pos))?;
        self.behind(loader).map_err(|e| e.at(url.pos))
    }

    /// Notes the way to a folder that is entered from here.
    fn behind(&self, mut loader: Loader<'a>) -> Res<Loader<'a>> {
        if self.visited.len() >= MAX_CHAIN {
            let first = self.visited.first().map(|(_, root)| self.tree.shown(root)).unwrap_or_default();
            return fail!(
                "'{}' is the last of {MAX_CHAIN} kustomizations that each name the next one, beginning with '{first}'; \
                 it names '{}', which is too many",
                self.tree.shown(&self.root),
                self.tree.shown(&loader.root)
            )
            .map_err(|e: Fail| e.hint("name what is at the end of the chain directly"));
        }
        loader.visited.splice(0..0, self.visited.iter().cloned());
        Ok(loader)
    }
}

/// What to do about a path that names nothing.
pub(crate) const MISSING: &str = "correct the path, or add it";
/// What to do about a path without a letter; null is one too.
const EMPTY: &str = "give its path, or take the entry out";

fn symlink(path: &str) -> Fail {
    Fail::new(format!("'{path}' is a symlink; symlinks are not followed"))
        .hint("put the file itself there, or name the one that it leads to")
}

/// The names of a kustomization file.
pub const NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

impl Loader<'_> {
    /// Reads the folder's kustomization file.
    pub(crate) fn load_kustomization(&self, cx: &mut Context) -> Res<Loaded> {
        let mut found = Vec::new();
        for name in NAMES {
            let path = self.resolve(name)?;
            match self.tree.files().entry(&path)?.map(|e| e.kind) {
                Some(Kind::File) => found.push(name),
                Some(Kind::Symlink) => return Err(symlink(&self.tree.shown(&path))),
                Some(Kind::Folder) | None => {}
            }
        }
        match found[..] {
            [] => fail!(
                "unable to find one of 'kustomization.yaml', 'kustomization.yml' or 'Kustomization' in directory '{}'",
                self.tree.shown(&self.root)
            )
            .map_err(|e: Fail| e.hint("a folder is named for its kustomization; name files one by one")),
            [name] => self.load_unplaced(cx, name),
            _ => fail!("Found multiple kustomization files under: {}\n", self.tree.shown(&self.root))
                .map_err(|e: Fail| e.hint(format!("keep one of {}", found.join(", ")))),
        }
    }
}

impl Loaded {
    pub(crate) fn text(&self) -> Res<Cow<'_, str>> {
        flotilla_yaml::decode(&self.bytes).map_err(|e| {
            let pos = Pos { source: self.source, ..e.pos };
            let (message, hint) = e.message.split_once("; ").unwrap_or((&e.message, "save it as UTF-8"));
            Fail::new(format!("{} cannot be read: {message}", self.name)).at(pos).hint(hint)
        })
    }

    /// The documents of a file of resources.
    pub(crate) fn documents(&self, cx: &mut Context) -> Res<Vec<Node>> {
        let text = self.text()?;
        let is_wide = self.bytes.starts_with(&[0xff, 0xfe]) || self.bytes.starts_with(&[0xfe, 0xff]);
        // kustomize looks for lines of dashes in the bytes, and finds none in UTF-16.
        let parsed = if is_wide {
            documents::first_resource(cx, &text, self.source)
        } else {
            documents::parse(cx, &text, self.source)
        };
        parsed.map_err(|e| self.malformed(e))
    }

    pub(crate) fn malformed(&self, e: Fail) -> Fail {
        Fail { message: format!("MalformedYAMLError: yaml: {} in File: {}", e.message, self.name), ..e }
    }

    /// The document of a kustomization file; null for an empty one. Of a key that stands twice the last one counts.
    pub(crate) fn kustomization(&self, cx: &mut Context) -> Res<Node> {
        let options = flotilla_yaml::Options {
            skip_comments: true,
            last_key_wins: true,
            source: self.source,
            ..Default::default()
        };
        documents::first(cx, &self.text()?, &options).map_err(|e| Fail {
            message: format!("invalid Kustomization: error converting YAML to JSON: yaml: {}", e.message),
            ..e
        })
    }

    /// The one document of a configuration file; null for an empty one.
    pub(crate) fn document(&self, cx: &mut Context) -> Res<Node> {
        let options =
            flotilla_yaml::Options { skip_comments: true, source: self.source, ..Default::default() };
        documents::first(cx, &self.text()?, &options).map_err(|e| self.malformed(e))
    }
}

/// The address of a remote base as a path, without the folder in its tree, what `?` begins and what may be a password.
fn remote_name(url: &str, root: &TreePath) -> TreePath {
    let address = url.split('?').next().unwrap_or_default();
    let address = address.strip_prefix("git::").unwrap_or(address);
    let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
    let rest = if scheme.is_empty() { rest } else { rest.rsplit_once('@').map_or(rest, |(_, host)| host) };
    let rest = rest.trim_end_matches('/');
    let repository = rest.strip_suffix(root.as_str()).filter(|_| !root.is_root()).unwrap_or(rest);
    TreePath::from_root(&format!("{scheme}/{repository}")).unwrap_or_default()
}

/// Whether an entry that names no file or folder of the tree is the address of something remote.
pub(crate) fn is_remote(path: &str) -> bool {
    let schemes = ["https://", "http://", "ssh://", "git::", "git@", "file://", "gh:"];
    schemes.iter().any(|s| path.starts_with(s))
        || path.starts_with("github.com/")
        || path.starts_with("github.com:")
        || (path.split('/').next().is_some_and(|host| host.contains('@') && host.contains(':')))
        || path.contains("?ref=")
        || path.contains(".git/") && !path.starts_with('.')
}
