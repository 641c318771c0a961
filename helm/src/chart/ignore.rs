//! `.helmignore`: which files of a chart's folder Helm does not take. As `pkg/ignore` of Helm 4: the first rule that matches decides, and
//! `!PATTERN` leaves out everything that the pattern does not match.

use flotilla_core::glob::Pattern;
use flotilla_core::work::{Spent, Work};

/// More rules, or longer ones, are no chart's.
const MAX_RULES: usize = 1000;
const MAX_RULE: usize = 1024;

/// The rules of a chart.
#[derive(Default)]
pub struct Ignore {
    rules: Vec<Rule>,
}

struct Rule {
    /// One for each part of a path.
    parts: Vec<Pattern>,
    is_negated: bool,
    only_folders: bool,
    /// Compared with the last part of a path, not with all of it.
    of_name: bool,
}

/// A file that Helm refuses as well, or one beyond our limits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(".helmignore, line {line}: {why}")]
pub struct IgnoreError {
    pub line: usize,
    pub why: &'static str,
}

impl Ignore {
    /// Reads a `.helmignore`; an empty text where a chart has none. What begins with a dot in `templates/` is always left out.
    ///
    /// # Errors
    /// At a pattern that Helm refuses: `**`, or one that is not well formed.
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        let mut rules = Vec::new();
        for (at, rule) in text.lines().enumerate() {
            let wrong = |why| IgnoreError { line: at + 1, why };
            let rule = rule.trim();
            if rule.is_empty() || rule.starts_with('#') {
                continue;
            }
            if rule.contains("**") {
                return Err(wrong("'**' is not supported"));
            }
            if rules.len() == MAX_RULES || rule.len() > MAX_RULE {
                return Err(wrong("the rule is too long, or one too many"));
            }
            rules.push(Rule::read(rule).ok_or_else(|| wrong("the pattern is not well formed"))?);
        }
        rules.extend(Rule::read("templates/.?*"));
        Ok(Self { rules })
    }

    /// Whether a file is left out, by itself or with a folder that it lies in. `path` is relative to the chart.
    ///
    /// # Errors
    /// Where the comparisons that `work` allows do not suffice.
    pub fn is_ignored(&self, path: &str, work: &mut Work) -> Result<bool, Spent> {
        let folders = path.match_indices('/').map(|(at, _)| (&path[..at], true));
        for (path, is_folder) in folders.chain([(path, false)]) {
            if self.leaves_out(path, is_folder, work)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether an entry itself is left out.
    fn leaves_out(&self, path: &str, is_folder: bool, work: &mut Work) -> Result<bool, Spent> {
        let parts: Vec<Vec<char>> = path.split('/').map(|part| part.chars().collect()).collect();
        for rule in &self.rules {
            let matches = (is_folder || !rule.only_folders) && rule.matches(&parts, work)?;
            if matches != rule.is_negated {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Rule {
    fn read(text: &str) -> Option<Self> {
        let (is_negated, text) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        let (only_folders, text) = text.strip_suffix('/').map_or((false, text), |rest| (true, rest));
        let parts: Vec<Pattern> =
            text.strip_prefix('/').unwrap_or(text).split('/').map(Pattern::new).collect();
        let is_well_formed = parts.iter().all(Pattern::is_well_formed);
        is_well_formed.then(|| Self { parts, is_negated, only_folders, of_name: !text.contains('/') })
    }

    /// `parts` are those of a path.
    fn matches(&self, parts: &[Vec<char>], work: &mut Work) -> Result<bool, Spent> {
        let parts = if self.of_name { &parts[parts.len().saturating_sub(1)..] } else { parts };
        work.spend(1)?;
        if parts.len() != self.parts.len() {
            return Ok(false);
        }
        for (pattern, part) in self.parts.iter().zip(parts) {
            if !pattern.matches_within(part, work)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_left_out_as_helm_leaves_them_out() {
        for (rules, path, expected) in [
            ("", "README.md", false),
            ("", "templates/.hidden", true),
            ("", "templates/a.yaml", false),
            ("", ".hidden", false),
            ("# README.md\n\n  *.md  ", "docs/README.md", true),
            ("/README.md", "README.md", true),
            ("/README.md", "docs/README.md", false),
            ("docs/*.md", "docs/a.md", true),
            ("docs/*.md", "docs/more/a.md", false),
            ("docs", "docs/more/a.md", true),
            ("docs/", "docs/more/a.md", true),
            ("docs/", "docs", false),
            ("ci/", "templates/ci/a.yaml", true),
            (".git", "files/.git/config", true),
            ("a?c", "abc", true),
            ("[a-c].txt", "b.txt", true),
            // What is not it goes, its folder included.
            ("!*.yaml", "Chart.yaml", false),
            ("!*.yaml", "README.md", true),
            ("!*.yaml", "templates/a.yaml", true),
        ] {
            let ignore = Ignore::parse(rules).unwrap();
            assert_eq!(ignore.is_ignored(path, &mut Work::new(1000)), Ok(expected), "{rules:?} {path}");
        }
        for (rules, line) in [("a/**", 1), ("a\n[", 2)] {
            assert_eq!(Ignore::parse(rules).err().map(|error| error.line), Some(line), "{rules}");
        }
    }

    #[test]
    fn rules_that_take_too_long_are_given_up() {
        let rules = "*a*a*a*a*b\n".repeat(MAX_RULES);
        let ignore = Ignore::parse(&rules).unwrap();
        assert_eq!(ignore.is_ignored(&"a".repeat(200), &mut Work::new(100_000)), Err(Spent));
        assert!(Ignore::parse(&format!("{rules}one more\n")).is_err());
    }
}
