//! Objects held against the readers that units and sources are made by, before anybody commits them.

use flotilla_core::report::Problem;
use flotilla_yaml::Node;

use crate::content::Sorter;
use crate::field::Places;

/// What a hub that rendered this object would say of it: problems, and notices of what has no effect. Nothing is said of
/// objects that are no Flux objects, but that they have a kind and a name.
pub fn check_object(object: &Node) -> Vec<Problem> {
    let mut sorter = Sorter::new(Places { sources: &[], prefix: "" }, None);
    sorter.document(object, (String::new(), 0));
    match sorter.finish() {
        Err(problems) => problems,
        Ok(content) => {
            let broken = content.broken_children.into_values().chain(content.broken_sources.into_values());
            broken.flatten().chain(content.notices).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_by_field() {
        let source = |spec: &str| {
            let text = format!(
                "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {{name: a, namespace: b}}\nspec: {spec}\n"
            );
            let documents = flotilla_yaml::parse(&text).unwrap();
            check_object(&documents[0]).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(source("{url: 'https://example.com/a', interval: 1m0s, ref: {branch: main}}").is_empty());
        for (spec, field) in [
            ("{url: 'ftp://example.com/a', interval: 1m0s}", "spec.url"),
            ("{url: 'https://example.com/a', interval: soon}", "spec.interval"),
            ("{interval: 1m0s}", "spec.url"),
        ] {
            let said = source(spec);
            assert!(said.len() == 1 && said[0].contains(field), "{said:?}");
        }
        let owned = |owners: &str| {
            let text = format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a, ownerReferences: {owners}}}\n"
            );
            let documents = flotilla_yaml::parse(&text).unwrap();
            check_object(&documents[0]).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(owned("[]").is_empty() && owned("null").is_empty());
        let said = owned("[{apiVersion: v1, kind: Pod, name: b, uid: c}]");
        assert!(said.len() == 1 && said[0].contains("metadata.ownerReferences"), "{said:?}");
        let nothing = flotilla_yaml::parse("a: 1\n").unwrap();
        assert_eq!(check_object(&nothing[0]).len(), 1);
    }
}
