//! The image transformer.

use flotilla_select::Regexp;
use flotilla_yaml::{Node, Pos, Value};

use crate::error::Res;
use crate::fieldspec::{Create, FieldSpec};
use crate::node_ops::{set_text, wrong_kind};
use crate::parts::Image;
use crate::resmap::ResMap;
use crate::selector::regex;
use crate::work::Work;

/// Changes the image wherever containers are, and at the fields that the specs name. `weight`: what the objects come to, in steps.
pub(crate) fn set_image(
    map: &mut ResMap,
    image: &Image,
    pos: Pos,
    specs: &[FieldSpec],
    work: &Work,
    weight: usize,
) -> Res<()> {
    // Every object is walked, and the pattern held against texts of any length.
    work.spend(weight / 8)?;
    let change = Change::new(image, pos, work);
    for resource in map.0.iter_mut().filter(|r| r.kind() != "CustomResourceDefinition") {
        if change.is_wanted_below(&resource.node) {
            change.in_containers(&mut resource.node)?;
        }
        for spec in specs {
            spec.apply(&mut resource.node, Create::No, &mut |node| change.apply(node))?;
        }
        resource.settle_links();
    }
    Ok(())
}

struct Change<'a> {
    image: &'a Image,
    /// Where the entry stands.
    pos: Pos,
    name: Name,
    work: &'a Work,
}

/// The image's name: a regex by kustomize's rules, though people write names with dots and nothing more.
enum Name {
    /// A dot stands for any character.
    Text(String),
    Regex(Regexp),
    /// A regex that is none matches nothing. 5.8.1 crashes; its tests have it so since.
    Never,
}

const LISTS: [&str; 2] = ["containers", "initContainers"];

impl<'a> Change<'a> {
    fn new(image: &'a Image, pos: Pos, work: &'a Work) -> Self {
        let plain = image.name.chars().all(|c| c.is_ascii_alphanumeric() || "-_/:@.".contains(c));
        let name = if plain {
            Name::Text(image.name.clone())
        } else {
            let pattern = format!("^{}(:[a-zA-Z0-9_.{{}}-]*)?(@sha256:[a-zA-Z0-9_.{{}}-]*)?$", image.name);
            regex(&pattern).map_or(Name::Never, Name::Regex)
        };
        Self { image, pos, name, work }
    }

    fn matches(&self, text: &str) -> bool {
        match &self.name {
            Name::Never => false,
            Name::Regex(regex) => regex.is_match(text),
            Name::Text(name) => {
                let Some(rest) = strip_prefix(text, name) else { return false };
                let tag = |c: char| c.is_ascii_alphanumeric() || "_.{}-".contains(c);
                let rest = rest.strip_prefix(':').map_or(rest, |r| r.trim_start_matches(tag));
                let rest = rest.strip_prefix("@sha256:").map_or(rest, |r| r.trim_start_matches(tag));
                rest.is_empty()
            }
        }
    }

    /// Whether any list of containers below has an image that is to be changed.
    fn is_wanted_below(&self, node: &Node) -> bool {
        match &node.value {
            Value::Scalar(_) => false,
            Value::Seq(seq) => seq.iter().any(|n| self.is_wanted_below(n)),
            Value::Map(map) => map.iter().any(|e| {
                let containers =
                    LISTS.contains(&e.key.text().unwrap_or_default()).then(|| e.value.as_seq()).flatten();
                let wanted =
                    |n: &Node| n.get("image").is_some_and(|i| i.text().is_none_or(|t| self.matches(t)));
                containers.is_some_and(|s| s.iter().any(wanted)) || self.is_wanted_below(&e.value)
            }),
        }
    }

    fn in_containers(&self, node: &mut Node) -> Res<()> {
        match &mut node.value {
            Value::Scalar(_) => {}
            Value::Seq(seq) => {
                for item in seq.iter_mut() {
                    self.in_containers(item)?;
                }
            }
            Value::Map(map) => {
                for entry in map.entries_mut() {
                    self.in_containers(&mut entry.value)?;
                    if !LISTS.contains(&entry.key.text().unwrap_or_default()) {
                        continue;
                    }
                    for container in entry.value.as_seq_mut().into_iter().flat_map(|s| s.iter_mut()) {
                        if let Some(image) = container.get_mut("image") {
                            self.apply(image)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn apply(&self, node: &mut Node) -> Res<()> {
        let Some(text) = node.text().map(str::to_owned) else { return Err(wrong_kind("ScalarNode", node)) };
        if node.is_null() || !self.matches(&text) {
            return Ok(());
        }
        let image = self.image;
        let (mut name, mut tag, mut digest) = split(&text);
        if !image.new_name.is_empty() {
            name = &image.new_name;
        }
        let with_suffix;
        match (!image.new_tag.is_empty(), !image.digest.is_empty()) {
            (true, _) => (tag, digest) = (&image.new_tag, &image.digest),
            (false, true) => (tag, digest) = ("", &image.digest),
            (false, false) if !image.tag_suffix.is_empty() => {
                with_suffix = format!("{tag}{}", image.tag_suffix);
                (tag, digest) = (&with_suffix, "");
            }
            _ => {}
        }
        let mut new = name.to_owned();
        for (separator, part) in [(':', tag), ('@', digest)] {
            if !part.is_empty() {
                new.push(separator);
                new.push_str(part);
            }
        }
        self.work.spend_bytes(new.len())?;
        set_text(node, &new, self.pos);
        Ok(())
    }
}

/// What follows a name in a text; a dot of the name stands for any character.
fn strip_prefix<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let mut rest = text.chars();
    for c in name.chars() {
        let there = rest.next()?;
        if there != c && (c != '.' || there == '\n') {
            return None;
        }
    }
    Some(rest.as_str())
}

/// Name, tag and digest of an image; a colon before the first slash belongs to a port.
fn split(image: &str) -> (&str, &str, &str) {
    let from = image.find('/').unwrap_or(0);
    let at = image[from..].find('@').map(|n| n + from);
    let colon = image[from..].find(':').map(|n| n + from);
    match (colon, at) {
        (None, None) => (image, "", ""),
        (Some(colon), None) => (&image[..colon], &image[colon + 1..], ""),
        (Some(colon), Some(at)) if colon < at => (&image[..colon], &image[colon + 1..at], &image[at + 1..]),
        (_, Some(at)) => (&image[..at], "", &image[at + 1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::Limits;

    #[test]
    fn images_are_split_at_tag_and_digest() {
        for (image, expected) in [
            ("nginx", ("nginx", "", "")),
            ("nginx:1.2", ("nginx", "1.2", "")),
            ("host:5000/nginx", ("host:5000/nginx", "", "")),
            ("host:5000/nginx:1@sha256:ab", ("host:5000/nginx", "1", "sha256:ab")),
            ("nginx@sha256:ab", ("nginx", "", "sha256:ab")),
        ] {
            assert_eq!(split(image), expected, "{image}");
        }
    }

    #[test]
    fn a_name_matches_only_whole() {
        for (name, text, expected) in [
            ("nginx", "nginx", true),
            ("nginx", "nginx:1", true),
            ("nginx", "nginx@sha256:1f", true),
            ("nginx", "nginx-x:1", false),
            ("nginx", "my/nginx", false),
            ("ghcr.io/a", "ghcr.io/a:1", true),
            ("ghcr.io/a", "ghcr-io/a:1", true),
            ("ghcr.io/a", "ghcr.io", false),
            ("gh.*/a", "ghcr.io/a:1", true),
        ] {
            let image = Image { name: name.into(), ..Image::default() };
            assert_eq!(
                Change::new(&image, Pos::default(), &Work::new(Limits::default())).matches(text),
                expected,
                "{name} {text}"
            );
        }
    }
}
