//! ArtifactGenerators: new trees from those of other sources, by rules of what is copied where, as `cp` would.
//!
//! ```text
//!   @repo/apps/**        ─► @artifact/       everything in apps, without the folder
//!   @repo/apps           ─► @artifact/       the folder apps
//!   @repo/apps/*/a.yaml  ─► @artifact/       each match at its own path
//!   @repo/a.yaml         ─► @artifact/b.yaml one file under another name
//! ```
//!
//! Nothing is read for a copy: the new tree points into the old ones. Archives are read where they are taken apart. Source of behaviour: source-watcher 2.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use flotilla_core::Digest;
use flotilla_core::glob::Pattern;
use flotilla_core::source::{AliasPath, ArtifactGenerator, CopyRule, CopyStrategy, GeneratedArtifact};
use flotilla_kustomize::files::{ContentId, Entry, Files, Kind, ReadError, TreePath};
use serde_json::{Map, Value};

use crate::helm::values;
use crate::pattern;
use crate::source::{Artifact, Unavailable};
use crate::unpack::{Unpacked, is_archive, unpacked};
use crate::work::{MOST, Most, Work, weight};

/// The most files of one artifact.
const LIMIT: usize = 50_000;

/// Makes what a generator puts out.
///
/// # Errors
/// What of a rule cannot be done, by its artifact.
pub fn generate(
    generator: &ArtifactGenerator,
    inputs: &BTreeMap<String, Artifact>,
) -> Result<BTreeMap<String, Artifact>, Unavailable> {
    within(MOST, generator, inputs)
}

fn within(
    most: Most,
    generator: &ArtifactGenerator,
    inputs: &BTreeMap<String, Artifact>,
) -> Result<BTreeMap<String, Artifact>, Unavailable> {
    let expanded = match &generator.path_pattern {
        None => None,
        Some(AliasPath { alias, path }) => {
            let input = inputs.get(alias).ok_or_else(|| format!("there is no source @{alias}"));
            let made = input.and_then(|input| pattern::expand(path, &*input.files, &generator.artifacts));
            Some(made.map_err(|why| Unavailable::new(format!("spec.pathPattern: {why}")))?)
        }
    };
    let artifacts = expanded.as_ref().unwrap_or(&generator.artifacts);
    let origin = Digest::of_parts(inputs.values().map(|input| &input.origin.as_bytes()[..]));
    let (mut made, mut work) = (BTreeMap::new(), Work::within(most));
    for artifact in artifacts {
        let tree = build(artifact, inputs, &mut work)
            .map_err(|why| Unavailable::new(format!("artifact {}: {why}", artifact.name)))?;
        let of = |alias: &String| inputs.get(alias);
        let revision = match artifact.revision.as_ref().and_then(of) {
            Some(input) => input.revision.clone(),
            None => format!("latest@blake3:{}", Digest::from(tree.root().id.0)),
        };
        let origin_revision = artifact.origin_revision.as_ref().and_then(of);
        let origin_revision = origin_revision
            .map(|input| input.origin_revision.clone().unwrap_or_else(|| input.revision.clone()));
        let files: Arc<dyn Files> = Arc::new(tree);
        made.insert(artifact.name.clone(), Artifact { files, revision, origin_revision, origin });
    }
    Ok(made)
}

fn build(
    artifact: &GeneratedArtifact,
    inputs: &BTreeMap<String, Artifact>,
    work: &mut Work,
) -> Result<Tree, String> {
    let mut draft = Draft { files: BTreeMap::new(), work };
    for rule in &artifact.copy {
        let input =
            inputs.get(&rule.from.alias).ok_or_else(|| format!("there is no source @{}", rule.from.alias))?;
        draft.apply(rule, &input.files).map_err(|why| {
            format!("copying @{}/{} to @artifact/{}: {why}", rule.from.alias, rule.from.path, rule.to)
        })?;
    }
    Ok(draft.finish())
}

/// A file of the new tree.
#[derive(Clone)]
enum Kept {
    Elsewhere { files: Arc<dyn Files>, path: TreePath, id: ContentId },
    Here { content: Arc<[u8]>, id: ContentId },
}

impl Kept {
    fn id(&self) -> ContentId {
        match self {
            Self::Elsewhere { id, .. } | Self::Here { id, .. } => *id,
        }
    }

    fn read(&self) -> Result<Arc<[u8]>, ReadError> {
        match self {
            Self::Elsewhere { files, path, .. } => files.read(path),
            Self::Here { content, .. } => Ok(content.clone()),
        }
    }
}

struct Draft<'a> {
    files: BTreeMap<TreePath, Kept>,
    work: &'a mut Work,
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', ']'])
}

impl Draft<'_> {
    fn apply(&mut self, rule: &CopyRule, files: &Arc<dyn Files>) -> Result<(), String> {
        if let Some(pattern) = rule.exclude.iter().find(|pattern| pattern.contains('{')) {
            return Err(format!(
                "'{pattern}': alternatives in braces are not supported; write one pattern each"
            ));
        }
        let to = TreePath::from_root(&rule.to).map_err(|error| error.to_string())?;
        if !is_pattern(&rule.from.path) {
            return self.one(rule, files, &to);
        }
        let parts: Vec<&str> = rule.from.path.split('/').filter(|part| !part.is_empty()).collect();
        let fixed: Vec<&str> = parts.iter().take_while(|part| !is_pattern(part)).copied().collect();
        let base = path(&fixed.join("/"))?;
        let mut matches = Vec::new();
        if rule.strategy == CopyStrategy::Extract {
            find_deep(&**files, &base, &parts, &mut matches, self.work)?;
        } else {
            find(&**files, &TreePath::root(), &parts, &mut matches, self.work)?;
        }
        let before = matches.len();
        self.work.steps((before as u64).saturating_mul(1 + weight(&rule.exclude)))?;
        matches.retain(|found| !is_excluded(found, &base, &rule.exclude));
        if matches.is_empty() {
            let why = if before == 0 { "nothing matches" } else { "everything that matches is excluded" };
            return Err(why.to_owned());
        }
        if rule.strategy == CopyStrategy::Extract {
            for found in matches.iter().filter(|found| is_archive(found.name())) {
                self.extract(files, found, &to)?;
            }
            return Ok(());
        }
        // `folder/**` is what the folder holds; of any other pattern the whole path stays.
        let strip = rule.from.path.strip_suffix("/**").map(path).transpose()?.unwrap_or_default();
        for found in matches {
            let rest = found.as_str().strip_prefix(strip.as_str()).filter(|_| found.is_within(&strip));
            let at = to.join(rest.unwrap_or(found.as_str()).trim_start_matches('/'));
            self.copy(rule, files, &found, &at.map_err(|error| error.to_string())?, &base)?;
        }
        Ok(())
    }

    /// One file or folder.
    fn one(&mut self, rule: &CopyRule, files: &Arc<dyn Files>, to: &TreePath) -> Result<(), String> {
        let from = path(&rule.from.path)?;
        let entry = files.entry(&from).map_err(|error| error.to_string())?;
        let below = |name: &str| to.join(name).map_err(|error| error.to_string());
        match entry.map(|entry| entry.kind) {
            None | Some(Kind::Symlink) => Err("there is no such file or folder".to_owned()),
            Some(Kind::Folder) if rule.strategy == CopyStrategy::Extract => {
                Err("only an archive can be extracted; this is a folder".to_owned())
            }
            Some(Kind::Folder) => self.copy(rule, files, &from, &below(from.name())?, &from),
            Some(Kind::File) => {
                if is_excluded(&from, &TreePath::root(), &rule.exclude) {
                    return Ok(());
                }
                if rule.strategy == CopyStrategy::Extract {
                    if !is_archive(from.name()) {
                        return Err(
                            "only an archive can be extracted; this is not a .tar.gz or .tgz file".to_owned()
                        );
                    }
                    return self.extract(files, &from, to);
                }
                let is_folder = !self.below(to)?.is_empty();
                let into = rule.to.is_empty() || rule.to.ends_with('/') || is_folder;
                let at = if into { below(from.name())? } else { to.clone() };
                self.copy(rule, files, &from, &at, &TreePath::root())
            }
        }
    }

    /// What an archive holds, below a folder.
    fn extract(&mut self, files: &Arc<dyn Files>, from: &TreePath, to: &TreePath) -> Result<(), String> {
        let packed = files.read(from).map_err(|error| error.to_string())?;
        let Unpacked { files, bytes } = unpacked(&packed).map_err(|why| format!("{from}: {why}"))?;
        self.work.bytes(bytes)?;
        for (path, content) in files {
            let at = to.join(path.as_str()).map_err(|error| format!("{from}: {error}"))?;
            let id = ContentId(*Digest::of(&content).as_bytes());
            self.put(at, Kept::Here { content: content.into(), id })?;
        }
        Ok(())
    }

    fn put(&mut self, at: TreePath, kept: Kept) -> Result<(), String> {
        if self.files.len() >= LIMIT {
            return Err(format!("there are more than {LIMIT} files"));
        }
        self.work.file()?;
        // A file takes the place of a folder, and the other way round.
        let mut above = at.parent();
        while let Some(folder) = above {
            self.files.remove(&folder);
            above = folder.parent();
        }
        for path in self.below(&at)? {
            self.files.remove(&path);
        }
        self.files.insert(at, kept);
        Ok(())
    }

    /// What is in a folder.
    fn below(&mut self, folder: &TreePath) -> Result<Vec<TreePath>, String> {
        let later = self.files.range((Bound::Excluded(folder), Bound::Unbounded)).map(|(path, _)| path);
        // Between a folder and what is in it stand names that go on where its own ends.
        let later: Vec<&TreePath> =
            later.take_while(|path| path.as_str().starts_with(folder.as_str())).collect();
        self.work.steps(later.len() as u64)?;
        Ok(later.into_iter().filter(|path| path.is_within(folder)).cloned().collect())
    }

    fn copy(
        &mut self,
        rule: &CopyRule,
        files: &Arc<dyn Files>,
        from: &TreePath,
        at: &TreePath,
        base: &TreePath,
    ) -> Result<(), String> {
        let text = |error: ReadError| error.to_string();
        let Some(entry) = files.entry(from).map_err(text)? else { return Ok(()) };
        match entry.kind {
            Kind::Symlink => Ok(()),
            Kind::Folder => {
                for (name, _) in self.work.list(&**files, from, weight(&rule.exclude))? {
                    let join = |folder: &TreePath| folder.join(&name).map_err(|error| error.to_string());
                    let (from, at) = (join(from)?, join(at)?);
                    if !is_excluded(&from, base, &rule.exclude) {
                        self.copy(rule, files, &from, &at, base)?;
                    }
                }
                Ok(())
            }
            Kind::File => {
                let new = Kept::Elsewhere { files: files.clone(), path: from.clone(), id: entry.id };
                let is_yaml = at.name().ends_with(".yaml") || at.name().ends_with(".yml");
                let kept = match self.files.get(at) {
                    Some(old) if rule.strategy == CopyStrategy::Merge && is_yaml => {
                        merged(old, &new, self.work)?
                    }
                    _ => new,
                };
                self.put(at.clone(), kept)
            }
        }
    }

    fn finish(self) -> Tree {
        let mut folders: BTreeMap<TreePath, BTreeMap<String, Entry>> = BTreeMap::new();
        folders.entry(TreePath::root()).or_default();
        for (path, kept) in &self.files {
            let file = Entry { kind: Kind::File, id: kept.id() };
            let mut folder = path.parent();
            folders
                .entry(folder.clone().unwrap_or_default())
                .or_default()
                .insert(path.name().to_owned(), file);
            while let Some(inner) = folder.filter(|folder| !folder.is_root()) {
                folder = inner.parent();
                let above = folders.entry(folder.clone().unwrap_or_default()).or_default();
                let unknown = Entry { kind: Kind::Folder, id: ContentId([0; 32]) };
                above.entry(inner.name().to_owned()).or_insert(unknown);
            }
        }
        // Deepest first: what is in a folder has its id before the folder.
        let mut paths: Vec<TreePath> = folders.keys().cloned().collect();
        paths.sort_by_key(|path| {
            std::cmp::Reverse(path.as_str().split('/').filter(|part| !part.is_empty()).count())
        });
        let mut root = ContentId([0; 32]);
        for path in paths {
            let id = folder_id(&folders[&path]);
            match path.parent() {
                Some(parent) => {
                    let entry = Entry { kind: Kind::Folder, id };
                    folders.entry(parent).or_default().insert(path.name().to_owned(), entry);
                }
                None => root = id,
            }
        }
        Tree { files: self.files, folders, root: Entry { kind: Kind::Folder, id: root } }
    }
}

fn folder_id(entries: &BTreeMap<String, Entry>) -> ContentId {
    let parts = entries.iter().flat_map(|(name, entry)| {
        let kind: &[u8] = if entry.kind == Kind::Folder { b"folder" } else { b"file" };
        [name.as_bytes(), kind, &entry.id.0[..]]
    });
    ContentId(*Digest::of_parts(parts).as_bytes())
}

fn path(text: &str) -> Result<TreePath, String> {
    TreePath::from_root(text).map_err(|error| error.to_string())
}

/// YAML files merged as Helm merges values: mappings into each other, all else replaced.
fn merged(old: &Kept, new: &Kept, work: &mut Work) -> Result<Kept, String> {
    let mut read = |kept: &Kept| -> Result<Map<String, Value>, String> {
        let content = kept.read().map_err(|error| error.to_string())?;
        work.bytes(content.len() as u64)?;
        let text = std::str::from_utf8(&content).map_err(|error| error.to_string())?;
        let documents = flotilla_yaml::parse(text).map_err(|error| error.to_string())?;
        match documents.first().map(flotilla_yaml::Node::to_json) {
            None => Ok(Map::new()),
            Some(Ok(Value::Object(map))) => Ok(map),
            Some(Ok(Value::Null)) => Ok(Map::new()),
            Some(Ok(_)) => Err("only mappings can be merged".to_owned()),
            Some(Err(error)) => Err(error.message),
        }
    };
    let mut map = read(old)?;
    values::merge(&mut map, read(new)?);
    let text = flotilla_yaml::write(&flotilla_yaml::Node::from_json(&Value::Object(map)));
    let id = ContentId(*Digest::of(text.as_bytes()).as_bytes());
    Ok(Kept::Here { content: text.into_bytes().into(), id })
}

/// The paths that match, a part of the pattern for each part of the path; `**` is one part, as for Go's `fs.Glob`.
fn find(
    files: &dyn Files,
    folder: &TreePath,
    parts: &[&str],
    found: &mut Vec<TreePath>,
    work: &mut Work,
) -> Result<(), String> {
    let Some((first, rest)) = parts.split_first() else {
        found.push(folder.clone());
        return Ok(());
    };
    match files.entry(folder).map_err(|error| error.to_string())? {
        Some(entry) if entry.kind == Kind::Folder => {}
        _ => return Ok(()),
    }
    let pattern = Pattern::new(first);
    for (name, entry) in work.list(files, folder, weight(&[first]))? {
        if entry.kind != Kind::Symlink && pattern.matches(&name) {
            find(files, &folder.join(&name).map_err(|error| error.to_string())?, rest, found, work)?;
        }
    }
    Ok(())
}

/// The files below a folder that match; `**` stands for any number of parts.
fn find_deep(
    files: &dyn Files,
    folder: &TreePath,
    parts: &[&str],
    found: &mut Vec<TreePath>,
    work: &mut Work,
) -> Result<(), String> {
    match files.entry(folder).map_err(|error| error.to_string())? {
        Some(entry) if entry.kind == Kind::Folder => {}
        _ => return Ok(()),
    }
    for (name, entry) in work.list(files, folder, weight(parts))? {
        let path = folder.join(&name).map_err(|error| error.to_string())?;
        match entry.kind {
            Kind::Folder => find_deep(files, &path, parts, found, work)?,
            Kind::File if covers(parts, &path.as_str().split('/').collect::<Vec<_>>()) => found.push(path),
            Kind::File | Kind::Symlink => {}
        }
    }
    Ok(())
}

/// Whether a pattern of `exclude` covers a path: as it is, below the part of the rule that is no pattern, or by its name.
fn is_excluded(at: &TreePath, base: &TreePath, exclude: &[String]) -> bool {
    let below = at.as_str().strip_prefix(base.as_str()).map(|rest| rest.trim_start_matches('/'));
    exclude.iter().any(|pattern| {
        let matches = |text: &str| {
            let (pattern, text): (Vec<&str>, Vec<&str>) =
                (pattern.split('/').collect(), text.split('/').collect());
            covers(&pattern, &text)
        };
        matches(at.as_str())
            || below.filter(|_| at.is_within(base)).is_some_and(matches)
            || !pattern.contains('/') && Pattern::new(pattern).matches(at.name())
    })
}

/// `**` stands for any number of parts.
fn covers(pattern: &[&str], text: &[&str]) -> bool {
    let (mut at, mut part) = (0, 0);
    // Where the last `**` stands, and the first part that it does not take. Those before it need not be tried again.
    let mut star: Option<(usize, usize)> = None;
    while part < text.len() {
        match pattern.get(at) {
            Some(&"**") => {
                star = Some((at, part));
                at += 1;
            }
            Some(one) if Pattern::new(one).matches(text[part]) => (at, part) = (at + 1, part + 1),
            _ => match star {
                Some((place, taken)) => {
                    star = Some((place, taken + 1));
                    (at, part) = (place + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|part| *part == "**")
}

/// A finished tree.
struct Tree {
    files: BTreeMap<TreePath, Kept>,
    folders: BTreeMap<TreePath, BTreeMap<String, Entry>>,
    root: Entry,
}

impl Tree {
    fn root(&self) -> Entry {
        self.root
    }
}

impl Files for Tree {
    fn entry(&self, path: &TreePath) -> Result<Option<Entry>, ReadError> {
        let Some(parent) = path.parent() else { return Ok(Some(self.root)) };
        Ok(self.folders.get(&parent).and_then(|entries| entries.get(path.name())).copied())
    }

    fn read(&self, path: &TreePath) -> Result<Arc<[u8]>, ReadError> {
        match self.files.get(path) {
            Some(kept) => kept.read().map_err(|error| ReadError { path: path.clone(), ..error }),
            None => Err(ReadError { path: path.clone(), reason: "no such file".into() }),
        }
    }

    fn held(&self) -> u64 {
        let here = |kept: &Kept| match kept {
            Kept::Here { content, .. } => content.len() as u64,
            Kept::Elsewhere { .. } => 0,
        };
        self.files.values().map(here).sum()
    }

    fn list(&self, folder: &TreePath) -> Result<Vec<(String, Entry)>, ReadError> {
        let entries = self.folders.get(folder).into_iter().flatten();
        Ok(entries.map(|(name, entry)| (name.clone(), *entry)).collect())
    }
}

#[cfg(test)]
#[path = "generate_tests.rs"]
mod tests;
