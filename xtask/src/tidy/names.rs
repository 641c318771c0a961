//! docs/kinds.md names every annotation, label and field of ours, and no other.

use std::collections::BTreeSet;

use super::Findings;
use super::files::File;

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

pub(super) fn is_document(name: &str) -> bool {
    name == DOCUMENT
}

fn before_tests(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or_default()
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
    fn what_is_used_and_what_is_documented_are_the_same() {
        let file = |text: &str| File { name: "x".into(), text: text.into() };
        let code = file(
            "const A: &str = \"flotilla.dev/drift\"; pointer(\"/metadata/annotations/flotilla.dev~1rerun\")\n\
             const V: &str = \"flotilla.dev/v1alpha1\"; const P: &str = \"flotilla.dev/\";\n\
             #[cfg(test)] mod tests { const B: &str = \"flotilla.dev/only-here\"; }",
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
