//! What a Flux source leaves out of its artifact: `.sourceignore` files, `spec.ignore` and Flux's own list.
//!
//! ```text
//!   Flux's list, then every `.sourceignore` of the tree, then `spec.ignore` ─► Rules: the last match decides
//!   Files ─► Ignored: the same tree without what the rules match
//! ```
//!
//! The patterns are those of `.gitignore` as source-controller reads them, which is not quite Git's way: a path is held
//! against each pattern by itself, so that `!/a/b/` takes back `a/b` though `/*` left out `a`.

use std::collections::HashMap;
use std::sync::Arc;

use ring::digest::{Context, SHA256};

use crate::files::{ContentId, Entry, Files, Kind, ReadError, TreePath, Visits};

/// The file of patterns, in any folder, for what is below that folder.
pub const FILE: &str = ".sourceignore";

/// Patterns of one tree at most: each path is held against each of them.
const MAX_PATTERNS: usize = 10_000;
/// Of all of them together.
const MAX_BYTES: usize = 1 << 18;

/// Left out unless a later pattern takes it back.
const DEFAULTS: [&str; 24] = [
    ".git/",
    ".gitignore",
    ".gitmodules",
    ".gitattributes",
    "*.jpg",
    "*.jpeg",
    "*.gif",
    "*.png",
    "*.wmv",
    "*.flv",
    "*.tar.gz",
    "*.zip",
    ".github/",
    ".circleci/",
    ".travis.yml",
    ".gitlab-ci.yml",
    "appveyor.yml",
    ".drone.yml",
    "cloudbuild.yaml",
    "codeship-services.yml",
    "codeship-steps.yml",
    "**/.goreleaser.yml",
    "**/.sops.yaml",
    "**/.flux.yaml",
];

/// Patterns in order: the last one that matches a path decides.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    patterns: Vec<Pattern>,
    /// Of all patterns, as they are written.
    bytes: usize,
    /// Of all patterns, for the ids of folders.
    digest: [u8; 32],
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    /// The folder that it is for.
    domain: Vec<String>,
    parts: Vec<String>,
    /// `!`: takes back.
    includes: bool,
    /// Ends with `/`: matches folders, and whatever is in them.
    folders_only: bool,
}

impl Rules {
    /// The rules of a source's tree.
    ///
    /// # Errors
    /// Where a folder or a `.sourceignore` cannot be read.
    pub fn of(files: &dyn Files, spec_ignore: Option<&str>) -> Result<Self, ReadError> {
        let mut found = Vec::new();
        find(files, &TreePath::root(), &mut found, &mut None, &mut Visits::default())?;
        Self::from_found(&found, spec_ignore)
    }

    fn from_found(found: &[IgnoreFile], spec_ignore: Option<&str>) -> Result<Self, ReadError> {
        let mut rules = Self::defaults();
        for IgnoreFile { folder, text } in found {
            rules.add(text, folder);
            rules.check(folder, FILE)?;
        }
        rules.add(spec_ignore.unwrap_or_default(), &TreePath::root());
        rules.check(&TreePath::root(), "spec.ignore")?;
        Ok(rules)
    }

    fn check(&self, folder: &TreePath, last: &str) -> Result<(), ReadError> {
        let wrong = |reason: String| Err(ReadError { path: folder.clone(), reason });
        if self.patterns.len() > MAX_PATTERNS {
            return wrong(format!(
                "with its {last} there are more than {MAX_PATTERNS} patterns; leave some out"
            ));
        }
        if self.bytes > MAX_BYTES {
            return wrong(format!(
                "with its {last} there are more than {MAX_BYTES} bytes of patterns; leave some out"
            ));
        }
        Ok(())
    }

    /// Flux's own list alone.
    pub fn defaults() -> Self {
        let mut rules = Self::default();
        rules.add(&DEFAULTS.join("\n"), &TreePath::root());
        rules
    }

    /// Adds the patterns of a text for what is below a folder.
    pub fn add(&mut self, text: &str, folder: &TreePath) {
        let mut digest = Context::new(&SHA256);
        digest.update(&self.digest);
        digest.update(folder.as_str().as_bytes());
        digest.update(b"\n");
        digest.update(text.as_bytes());
        self.digest.copy_from_slice(digest.finish().as_ref());
        let is_pattern = |line: &&str| !line.starts_with('#') && !line.trim().is_empty();
        let lines = text.lines().filter(is_pattern);
        self.bytes += lines.clone().map(str::len).sum::<usize>();
        self.patterns.extend(lines.map(|line| Pattern::read(line, folder)));
    }

    /// Whether a path is left out.
    pub fn leave_out(&self, path: &TreePath, is_folder: bool) -> bool {
        let parts: Vec<&str> = path.as_str().split('/').filter(|part| !part.is_empty()).collect();
        let decides = self.patterns.iter().rev().find(|pattern| pattern.matches(&parts, is_folder));
        decides.is_some_and(|pattern| !pattern.includes)
    }

    /// Whether anything may be taken back below a folder that is left out.
    fn may_take_back(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.includes)
    }
}

/// A `.sourceignore` and the folder that it stands in.
#[derive(Debug, Clone)]
struct IgnoreFile {
    folder: TreePath,
    text: Arc<str>,
}

/// The rules of trees that follow each other, as the commits of one repository do: only folders that changed are looked
/// through again. Ids of content have to be of one origin.
#[derive(Debug, Default)]
pub struct RulesMemory {
    last: Option<(ContentId, Arc<Rules>)>,
    /// What was found below folders near the root.
    folders: Remembered,
}

type Remembered = HashMap<TreePath, (ContentId, Vec<IgnoreFile>)>;

/// How deep folders are remembered one by one: `apps/web`.
const REMEMBERED_DEPTH: usize = 2;

impl RulesMemory {
    /// As [`Rules::of`], without `spec.ignore`.
    ///
    /// # Errors
    /// See [`Rules::of`].
    pub fn rules(&mut self, files: &dyn Files) -> Result<Arc<Rules>, ReadError> {
        let root = files.entry(&TreePath::root())?.map(|entry| entry.id);
        if let (Some(root), Some((last, rules))) = (root, &self.last)
            && root == *last
        {
            return Ok(rules.clone());
        }
        let mut found = Vec::new();
        let mut kept = HashMap::new();
        let memory = &mut Some((&self.folders, &mut kept));
        find(files, &TreePath::root(), &mut found, memory, &mut Visits::default())?;
        self.folders = kept;
        let rules = Arc::new(Rules::from_found(&found, None)?);
        self.last = root.map(|root| (root, rules.clone()));
        Ok(rules)
    }
}

/// Finds the `.sourceignore` files of a folder and all below, a folder before what is in it. As deep as paths go.
fn find(
    files: &dyn Files,
    folder: &TreePath,
    found: &mut Vec<IgnoreFile>,
    memory: &mut Option<(&Remembered, &mut Remembered)>,
    visits: &mut Visits,
) -> Result<(), ReadError> {
    visits.enter(folder)?;
    let entries = files.list(folder)?;
    if entries.iter().any(|(name, entry)| name == FILE && entry.kind == Kind::File) {
        let text = files.read(&child(folder, FILE)?)?;
        found.push(IgnoreFile { folder: folder.clone(), text: String::from_utf8_lossy(&text).into() });
    }
    for (name, entry) in entries {
        if entry.kind != Kind::Folder || name == ".git" {
            continue;
        }
        // Where no path leads, nothing is read, and what patterns there are for it do not matter.
        let Ok(path) = folder.join(&name) else { continue };
        let is_remembered = path.as_str().split('/').count() == REMEMBERED_DEPTH;
        let Some((before, kept)) = memory.as_mut().filter(|_| is_remembered) else {
            find(files, &path, found, memory, visits)?;
            continue;
        };
        let below = match before.get(&path).filter(|(id, _)| *id == entry.id) {
            Some((_, below)) => below.clone(),
            None => {
                let mut below = Vec::new();
                find(files, &path, &mut below, &mut None, visits)?;
                below
            }
        };
        found.extend(below.iter().cloned());
        kept.insert(path, (entry.id, below));
    }
    Ok(())
}

impl Pattern {
    fn read(line: &str, folder: &TreePath) -> Self {
        let (includes, mut text) = match line.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, line),
        };
        if !text.ends_with("\\ ") {
            text = text.trim_end_matches(' ');
        }
        let (folders_only, text) = match text.strip_suffix('/') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let split = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
        let domain = if folder.is_root() { Vec::new() } else { split(folder.as_str()) };
        Self { domain, parts: split(text), includes, folders_only }
    }

    fn matches(&self, path: &[&str], is_folder: bool) -> bool {
        let depth = self.domain.len();
        if path.len() <= depth || path.iter().zip(&self.domain).any(|(part, wanted)| part != wanted) {
            return false;
        }
        let path = &path[depth..];
        match &self.parts[..] {
            [name] => self.matches_name(name, path, is_folder),
            _ => self.matches_path(path, is_folder),
        }
    }

    /// A pattern without `/` matches a name at any depth, and what is below it.
    fn matches_name(&self, pattern: &str, path: &[&str], is_folder: bool) -> bool {
        let Some(at) = path.iter().position(|name| glob(pattern, name)) else { return false };
        !(self.folders_only && !is_folder && at + 1 == path.len())
    }

    /// A pattern with `/` matches from the top, and what is below what it matches.
    fn matches_path(&self, path: &[&str], is_folder: bool) -> bool {
        let (mut rest, mut matched, mut any_depth) = (path, false, false);
        for (n, part) in self.parts.iter().enumerate() {
            let is_last = n + 1 == self.parts.len();
            match part.as_str() {
                "" => any_depth = false,
                "**" if is_last => break,
                "**" => any_depth = true,
                part if part.contains("**") || rest.is_empty() => return false,
                part if any_depth => {
                    any_depth = false;
                    match rest.iter().position(|name| glob(part, name)) {
                        Some(at) => (matched, rest) = (true, &rest[at + 1..]),
                        None => (matched, rest) = (false, &[]),
                    }
                }
                part if !glob(part, rest[0]) => return false,
                _ => {
                    rest = &rest[1..];
                    // What ends before the pattern does is not matched by it.
                    matched = is_last || !rest.is_empty();
                }
            }
        }
        matched && !(self.folders_only && !is_folder && rest.is_empty())
    }
}

/// Shell patterns within one name: `*`, `?`, `[a-z]`, `[^a]`, `\x`. A malformed one matches nothing.
fn glob(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // Where to go on after the last `*`: it takes one more character each time.
    let (mut p, mut n, mut star) = (0, 0, None);
    loop {
        match pattern.get(p) {
            None if n == name.len() => return true,
            Some('*') => {
                star = Some((p + 1, n));
                p += 1;
                continue;
            }
            Some(_) if n < name.len() => {
                if let Some(next) = one(&pattern, p, name[n]) {
                    (p, n) = (next, n + 1);
                    continue;
                }
            }
            _ => {}
        }
        match star {
            Some((after, taken)) if taken < name.len() => {
                star = Some((after, taken + 1));
                (p, n) = (after, taken + 1);
            }
            _ => return false,
        }
    }
}

/// Matches one character; gives where the pattern goes on.
fn one(pattern: &[char], at: usize, c: char) -> Option<usize> {
    match pattern[at] {
        '?' => Some(at + 1),
        '\\' => (*pattern.get(at + 1)? == c).then_some(at + 2),
        '[' => class(pattern, at + 1, c),
        literal => (literal == c).then_some(at + 1),
    }
}

fn class(pattern: &[char], mut at: usize, c: char) -> Option<usize> {
    let negated = *pattern.get(at)? == '^';
    at += usize::from(negated);
    let read = |at: usize| -> Option<(char, usize)> {
        match *pattern.get(at)? {
            '\\' => Some((*pattern.get(at + 1)?, at + 2)),
            '-' | ']' => None,
            c => Some((c, at + 1)),
        }
    };
    let (mut found, mut first) = (false, true);
    while first || *pattern.get(at)? != ']' {
        first = false;
        let (low, next) = read(at)?;
        let (high, next) = if pattern.get(next) == Some(&'-') { read(next + 1)? } else { (low, next) };
        found |= low <= c && c <= high;
        at = next;
    }
    (found != negated).then_some(at + 1)
}

/// A tree without what rules leave out of it. A folder that is left out is still there if something in it is not.
pub struct Ignored {
    files: Arc<dyn Files>,
    rules: Arc<Rules>,
}

impl Ignored {
    /// The tree of a source as Flux would pack it.
    ///
    /// # Errors
    /// See [`Rules::of`].
    pub fn new(files: Arc<dyn Files>, spec_ignore: Option<&str>) -> Result<Self, ReadError> {
        let rules = Rules::of(&*files, spec_ignore)?;
        Ok(Self::with(files, rules))
    }

    /// A tree without what some rules leave out.
    pub fn with(files: Arc<dyn Files>, rules: impl Into<Arc<Rules>>) -> Self {
        Self { files, rules: rules.into() }
    }

    /// Of a folder, what is in it decides, so its id takes in the rules.
    fn seen(&self, path: &TreePath, entry: Entry) -> Result<Option<Entry>, ReadError> {
        if !self.is_there(path, entry.kind)? {
            return Ok(None);
        }
        if entry.kind != Kind::Folder {
            return Ok(Some(entry));
        }
        let mut digest = Context::new(&SHA256);
        digest.update(&self.rules.digest);
        digest.update(&entry.id.0);
        let mut id = [0; 32];
        id.copy_from_slice(digest.finish().as_ref());
        Ok(Some(Entry { kind: Kind::Folder, id: ContentId(id) }))
    }

    /// A folder that is left out is there if anything below it is taken back.
    fn is_there(&self, path: &TreePath, kind: Kind) -> Result<bool, ReadError> {
        let (mut open, mut visits) = (vec![(path.clone(), kind)], Visits::default());
        while let Some((path, kind)) = open.pop() {
            let is_folder = kind == Kind::Folder;
            if path.is_root() || !self.rules.leave_out(&path, is_folder) {
                return Ok(true);
            }
            if is_folder && self.rules.may_take_back() {
                visits.enter(&path)?;
                for (name, entry) in self.files.list(&path)? {
                    open.extend(path.join(&name).map(|path| (path, entry.kind)));
                }
            }
        }
        Ok(false)
    }
}

impl Files for Ignored {
    fn entry(&self, path: &TreePath) -> Result<Option<Entry>, ReadError> {
        match self.files.entry(path)? {
            Some(entry) => self.seen(path, entry),
            None => Ok(None),
        }
    }

    fn read(&self, path: &TreePath) -> Result<Arc<[u8]>, ReadError> {
        if self.rules.leave_out(path, false) {
            let reason = "it is left out of the source (.sourceignore, spec.ignore or Flux's own list)";
            return Err(ReadError { path: path.clone(), reason: reason.into() });
        }
        self.files.read(path)
    }

    fn list(&self, folder: &TreePath) -> Result<Vec<(String, Entry)>, ReadError> {
        let mut seen = Vec::new();
        for (name, entry) in self.files.list(folder)? {
            if let Some(entry) = self.seen(&child(folder, &name)?, entry)? {
                seen.push((name, entry));
            }
        }
        Ok(seen)
    }
}

fn child(folder: &TreePath, name: &str) -> Result<TreePath, ReadError> {
    folder.join(name).map_err(|error| ReadError::of_path(folder, &error))
}

#[cfg(test)]
#[path = "ignore_tests.rs"]
mod tests;
