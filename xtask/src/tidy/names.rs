//! docs/kinds.md names every annotation and label of ours, and no other; the types in the glossary are there.

use std::collections::BTreeSet;

use super::Findings;
use super::files::File;
use super::modules::before_tests;

const DOCUMENT: &str = "docs/kinds.md";
const GROUP: &str = "flotilla.dev/";
/// What follows the group in the version of our kinds, and in nothing else.
const VERSION: &str = "v1alpha1";

/// Holds the names in what is shipped against those that the document has.
pub(super) fn check(shipped: &[&File], document: &File, findings: &mut Findings) {
    let used: BTreeSet<String> = shipped.iter().flat_map(|file| names(before_tests(&file.text))).collect();
    let documented: BTreeSet<String> = names(&document.text).collect();
    for name in used.difference(&documented) {
        findings.errors.push(format!("{DOCUMENT}: does not say what {GROUP}{name} means"));
    }
    for name in documented.difference(&used) {
        findings.errors.push(format!("{DOCUMENT}: describes {GROUP}{name}, which no code uses"));
    }
}

/// Holds the types that the glossary of ARCHITECTURE.md names against those that there are.
pub(super) fn glossary(shipped: &[&File], document: &File, findings: &mut Findings) {
    let section = document.text.split("\n## ").find(|section| section.starts_with("Glossary\n"));
    let rows = section.unwrap_or_default().lines().filter(|line| line.starts_with("| "));
    let types =
        rows.filter_map(|row| row.rsplit('|').nth(1)).flat_map(|cell| cell.split('`').skip(1).step_by(2));
    for name in types.flat_map(|path| path.split("::")).filter(|part| part.starts_with(char::is_uppercase)) {
        let is_there = |kind: &str| {
            let definition = format!("{kind} {name}");
            shipped.iter().any(|file| {
                file.text.match_indices(&definition).any(|(at, _)| {
                    !file.text[at + definition.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_')
                })
            })
        };
        if !["struct", "enum", "trait"].into_iter().any(is_there) {
            findings
                .errors
                .push(format!("{}: the glossary names {name}, which is not a type", document.name));
        }
    }
}

pub(super) fn is_document(name: &str) -> bool {
    name == DOCUMENT
}

/// The names in our group: `flotilla.dev/drift`, in JSON pointers `flotilla.dev~1drift`.
fn names(text: &str) -> impl Iterator<Item = String> {
    let text = text.replace("flotilla.dev~1", GROUP);
    let after: Vec<String> = text.split(GROUP).skip(1).map(word).collect();
    after.into_iter().filter(|name| !name.is_empty() && name != VERSION)
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_glossary_names_types_that_there_are() {
        let code = File { name: "x".into(), text: "pub struct UnitMemory<'a> { }\nenum Hold {".into() };
        let text = "# A\n\n## Glossary\n\n| word | meaning | type |\n|---|---|---|\n\
                    | a | b | `core::UnitMemory`, `Hold::text`, `core::guard` |\n| c | `Word` | `core::Unit` |\n\n## More\n";
        let document = File { name: "A.md".into(), text: text.into() };
        let mut findings = Findings::default();
        glossary(&[&code], &document, &mut findings);
        assert_eq!(findings.errors, ["A.md: the glossary names Unit, which is not a type"]);
    }

    #[test]
    fn what_is_used_and_what_is_documented_are_the_same() {
        let file = |text: &str| File { name: "x".into(), text: text.into() };
        let code = file(
            "const A: &str = \"flotilla.dev/drift\"; pointer(\"/metadata/annotations/flotilla.dev~1rerun\")\n\
             const V: &str = \"flotilla.dev/v1alpha1\"; const P: &str = \"flotilla.dev/\";\n\
             #[cfg(test)]\nmod tests { const B: &str = \"flotilla.dev/only-here\"; }",
        );
        for (document, errors) in [
            ("`flotilla.dev/drift` and `flotilla.dev/rerun`, of flotilla.dev/v1alpha1", vec![]),
            ("`flotilla.dev/drift`", vec!["docs/kinds.md: does not say what flotilla.dev/rerun means"]),
            (
                "`flotilla.dev/drift`, `flotilla.dev/rerun`, `flotilla.dev/gone`",
                vec!["docs/kinds.md: describes flotilla.dev/gone, which no code uses"],
            ),
        ] {
            let mut findings = Findings::default();
            check(&[&code], &file(document), &mut findings);
            assert_eq!(findings.errors, errors);
        }
    }
}
