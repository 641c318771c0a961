//! The `pathPattern` of an ArtifactGenerator: one set of artifacts for each folder that matches, with what its captures
//! took from the path. `apps/{app}/envs/{env}`; a capture is part of one name. Source of behaviour: source-watcher 2.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::names::is_dns_label;
use flotilla_core::source::{AliasPath, CopyRule, GeneratedArtifact};
use flotilla_kustomize::files::{Files, Kind, TreePath, Visits};

/// Captures of one name, with what is between them.
const PIECES: usize = 64;
/// Artifacts of one generator.
const MOST: usize = 1000;

/// What captures took, by their names.
type Captures = BTreeMap<String, String>;

/// A piece of a pattern or of a field.
#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    Capture(String),
}

/// The artifacts for every folder that matches.
///
/// # Errors
/// What is wrong with the pattern, or with what a field comes to.
pub(crate) fn expand(
    pattern: &str,
    files: &dyn Files,
    artifacts: &[GeneratedArtifact],
) -> Result<Vec<GeneratedArtifact>, String> {
    let parts: Vec<Vec<Piece>> = pattern.split('/').map(pieces).collect::<Result<_, _>>()?;
    if parts.iter().any(|part| part.len() > PIECES) {
        return Err(format!("a part of the path has more than {PIECES} captures and texts between them"));
    }
    let names: Vec<&String> = parts.iter().flatten().filter_map(name).collect();
    if let Some(twice) = names.iter().enumerate().find(|(n, name)| names[..*n].contains(name)) {
        return Err(format!("the capture {{{}}} is there twice", twice.1));
    }
    let mut matches = Vec::new();
    find(files, &TreePath::root(), &parts, &Captures::new(), &mut matches, &mut Visits::default())?;
    let mut made: Vec<GeneratedArtifact> = Vec::new();
    let mut folders: BTreeMap<String, String> = BTreeMap::new();
    for (folder, captures) in matches {
        for artifact in artifacts {
            if made.len() == MOST {
                return Err(format!("the pattern comes to more than {MOST} artifacts"));
            }
            let artifact = filled(artifact, &captures).map_err(|why| format!("{folder}: {why}"))?;
            if let Some(other) = folders.insert(artifact.name.clone(), folder.to_string()) {
                return Err(format!("{other} and {folder} both come to the artifact '{}'", artifact.name));
            }
            made.push(artifact);
        }
    }
    Ok(made)
}

fn name(piece: &Piece) -> Option<&String> {
    match piece {
        Piece::Capture(name) => Some(name),
        Piece::Text(_) => None,
    }
}

fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        let capture = from.strip_prefix('{').and_then(|from| from.split_once('}'));
        let Some((name, after)) = capture else {
            return Err(format!("'{text}' has a brace without its other one"));
        };
        let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_name || name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(format!("'{{{name}}}' is not a name of a capture: letters, digits and '_'"));
        }
        pieces.extend((!before.is_empty()).then(|| Piece::Text(before.to_owned())));
        pieces.push(Piece::Capture(name.to_owned()));
        rest = after;
    }
    pieces.extend((!rest.is_empty()).then(|| Piece::Text(rest.to_owned())));
    Ok(pieces)
}

fn find(
    files: &dyn Files,
    folder: &TreePath,
    parts: &[Vec<Piece>],
    captures: &Captures,
    found: &mut Vec<(TreePath, Captures)>,
    visits: &mut Visits,
) -> Result<(), String> {
    let Some((part, rest)) = parts.split_first() else {
        found.push((folder.clone(), captures.clone()));
        return Ok(());
    };
    visits.enter(folder).map_err(|error| error.to_string())?;
    for (name, entry) in files.list(folder).map_err(|error| error.to_string())? {
        let mut captures = captures.clone();
        if entry.kind == Kind::Folder && matches(part, &name, &mut captures, &mut BTreeSet::new()) {
            let below = folder.join(&name).map_err(|error| error.to_string())?;
            find(files, &below, rest, &captures, found, visits)?;
        }
    }
    Ok(())
}

/// As a regular expression with `.+` for each capture: the earlier ones take as much as they can. `dead` are the rests
/// that did not match, by their lengths: a pattern of a tenant must not take for ever.
fn matches(
    pieces: &[Piece],
    text: &str,
    captures: &mut Captures,
    dead: &mut BTreeSet<(usize, usize)>,
) -> bool {
    let rest = (pieces.len(), text.len());
    if dead.contains(&rest) {
        return false;
    }
    let found = match pieces.split_first() {
        None => text.is_empty(),
        Some((Piece::Text(fixed), rest)) => {
            text.strip_prefix(fixed.as_str()).is_some_and(|text| matches(rest, text, captures, dead))
        }
        Some((Piece::Capture(name), rest)) => {
            let ends = text.char_indices().map(|(at, c)| at + c.len_utf8()).collect::<Vec<_>>();
            ends.into_iter().rev().any(|end| {
                captures.insert(name.clone(), text[..end].to_owned());
                matches(rest, &text[end..], captures, dead)
            })
        }
    };
    if !found {
        dead.insert(rest);
    }
    found
}

/// Names are in lower case; paths are as they were found.
fn filled(artifact: &GeneratedArtifact, captures: &Captures) -> Result<GeneratedArtifact, String> {
    let put = |text: &str, lower: bool| -> Result<String, String> {
        let mut out = String::new();
        for piece in pieces(text)? {
            match piece {
                Piece::Text(text) => out.push_str(&text),
                Piece::Capture(name) => {
                    let value = captures.get(&name);
                    let value = value.ok_or_else(|| format!("'{text}': the pattern has no {{{name}}}"))?;
                    out.push_str(&if lower { value.to_lowercase() } else { value.clone() });
                }
            }
        }
        Ok(out)
    };
    let name = put(&artifact.name, true)?;
    if name.len() > 253 || !name.split('.').all(is_dns_label) {
        return Err(format!(
            "'{name}' is not a name of an artifact: lower-case letters, digits, '-' and '.'"
        ));
    }
    let rule = |rule: &CopyRule| -> Result<CopyRule, String> {
        let from = AliasPath { path: put(&rule.from.path, false)?, ..rule.from.clone() };
        Ok(CopyRule { from, to: put(&rule.to, false)?, ..rule.clone() })
    };
    let copy = artifact.copy.iter().map(rule).collect::<Result<_, _>>()?;
    Ok(GeneratedArtifact { name, copy, ..artifact.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_core::source::CopyStrategy;
    use flotilla_kustomize::files::MemoryFiles;

    fn expanded(pattern: &str, name: &str, from: &str) -> Result<Vec<String>, String> {
        let files = MemoryFiles::new(
            [
                "apps/Web/envs/prod/a.yaml",
                "apps/db/envs/prod/a.yaml",
                "apps/db/envs/dev/a.yaml",
                "apps/x.yaml",
            ]
            .map(|path| (path, "")),
        );
        let copy = CopyRule {
            from: AliasPath { alias: "repo".into(), path: from.into() },
            to: "{app}/".into(),
            exclude: Vec::new(),
            strategy: CopyStrategy::Overwrite,
        };
        let artifact =
            GeneratedArtifact { name: name.into(), revision: None, origin_revision: None, copy: vec![copy] };
        let shown = |artifact: GeneratedArtifact| {
            format!("{} {} {}", artifact.name, artifact.copy[0].from.path, artifact.copy[0].to)
        };
        Ok(expand(pattern, &files, &[artifact])?.into_iter().map(shown).collect())
    }

    #[test]
    fn each_folder_that_matches_has_its_artifacts() {
        assert_eq!(
            expanded("apps/{app}/envs/{env}", "{app}-{env}", "apps/{app}/envs/{env}/**").unwrap(),
            [
                "web-prod apps/Web/envs/prod/** Web/",
                "db-dev apps/db/envs/dev/** db/",
                "db-prod apps/db/envs/prod/** db/",
            ]
        );
        assert_eq!(expanded("apps/{app}", "{app}", "x").unwrap(), ["web x Web/", "db x db/"], "no files");
        assert_eq!(expanded("apps/d{app}", "a-{app}", "x").unwrap(), ["a-b x b/"]);
        assert!(expanded("none/{app}", "{app}", "x").unwrap().is_empty());
        let mut captures = Captures::new();
        assert!(matches(&pieces("{a}-{b}").unwrap(), "x-y-z", &mut captures, &mut BTreeSet::new()));
        assert_eq!((captures["a"].as_str(), captures["b"].as_str()), ("x-y", "z"));
        let slow = pieces("{a}{b}{c}{d}{e}{f}{g}{h}-").unwrap();
        assert!(!matches(&slow, &"x".repeat(250), &mut captures, &mut BTreeSet::new()));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (pattern, name, from, says) in [
            ("apps/{app", "x", "x", "a brace without its other one"),
            ("apps/app}", "x", "x", "a brace without its other one"),
            ("apps/{}", "x", "x", "is not a name of a capture"),
            ("apps/{1a}", "x", "x", "is not a name of a capture"),
            ("{app}/{app}", "x", "x", "is there twice"),
            ("apps/{app}", "x", "x", "apps/Web and apps/db both come to the artifact 'x'"),
            ("apps/{app}", "{app}_", "x", "'web_' is not a name of an artifact"),
            ("apps/{app}", "{app}", "{env}", "the pattern has no {env}"),
            (&"{a}-".repeat(1000), "x", "x", "more than 64 captures"),
        ] {
            let error = expanded(pattern, name, from).unwrap_err();
            assert!(error.contains(says), "{pattern}: {error}");
        }
    }
}
