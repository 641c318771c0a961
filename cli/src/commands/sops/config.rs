//! `.sops.yaml`: which files are encrypted for whom.

use std::path::{Path, PathBuf};

use flotilla_select::Regexp;
use flotilla_sops::Recipe;
use flotilla_sops::age::Recipient;
use flotilla_yaml::Node;

use crate::error::Error;
use crate::exit::Code;

const NAME: &str = ".sops.yaml";
const RULES: [&str; 6] = [
    "unencrypted_suffix",
    "encrypted_suffix",
    "unencrypted_regex",
    "encrypted_regex",
    "unencrypted_comment_regex",
    "encrypted_comment_regex",
];
/// Keys that only `sops` itself can seal for.
const OTHERS: [&str; 8] =
    ["pgp", "kms", "gcp_kms", "azure_keyvault", "azure_kv", "hc_vault_transit_uri", "hc_vault_uris", "hckms"];

/// By the first rule that fits a file.
pub(super) fn recipe(file: &Path, config: Option<&Path>) -> Result<Recipe, Error> {
    let absolute =
        std::path::absolute(file).map_err(|error| Error::io(format!("find {}", file.display()), error))?;
    let config = match config {
        Some(config) => config.to_owned(),
        None => nearest(&absolute).ok_or_else(|| {
            let message = format!("there is no {NAME} beside {} or above it", file.display());
            Error::usage(message).hint("name the public keys by --age, or write the rules")
        })?,
    };
    let text = std::fs::read_to_string(&config)
        .map_err(|error| Error::io(format!("read {}", config.display()), error))?;
    let bad = |node: &Node, message: String| {
        let place = format!("{}:{}:{}", config.display(), node.pos.line, node.pos.column);
        Error::new(Code::Local, format!("{place}: {message}"))
    };
    let documents = flotilla_yaml::parse(&text).map_err(|error| {
        Error::new(Code::Local, format!("cannot read {}", config.display())).because(error)
    })?;
    let root = documents.into_iter().next().unwrap_or_else(Node::null);
    let none = Node::seq();
    let rules = root.get("creation_rules").unwrap_or(&none);
    let rules = rules.as_seq().ok_or_else(|| bad(rules, "creation_rules must be a list".to_owned()))?;
    // As sops: the path from the folder of the rules.
    let folder = std::path::absolute(&config).ok().and_then(|config| Some(config.parent()?.to_owned()));
    let relative = folder.and_then(|folder| Some(absolute.strip_prefix(folder).ok()?.to_owned()));
    let path = relative.unwrap_or(absolute).to_string_lossy().into_owned();
    for rule in rules.iter() {
        let fits = match rule.get("path_regex") {
            None => true,
            Some(node) => {
                let text = node.as_str().unwrap_or_default();
                let regexp = Regexp::new(text).map_err(|error| bad(node, format!("path_regex: {error}")))?;
                regexp.is_match(&path)
            }
        };
        if fits {
            return read(rule, &bad);
        }
    }
    let message = format!("no rule in {} is for {path}", config.display());
    Err(Error::new(Code::Local, message).hint("name the public keys by --age, or add a rule"))
}

fn nearest(file: &Path) -> Option<PathBuf> {
    file.ancestors().skip(1).map(|folder| folder.join(NAME)).find(|path| path.exists())
}

fn read(rule: &Node, bad: &dyn Fn(&Node, String) -> Error) -> Result<Recipe, Error> {
    if let Some((name, node)) = OTHERS.iter().find_map(|name| Some((name, rule.get(name)?))) {
        return Err(bad(node, format!("{name}: only age keys are supported; use `sops` for others")));
    }
    let groups = match rule.get("key_groups") {
        Some(groups) => {
            let groups =
                groups.as_seq().ok_or_else(|| bad(groups, "key_groups must be a list".to_owned()))?;
            groups.iter().map(|group| keys(group, bad)).collect::<Result<_, _>>()?
        }
        None => vec![keys(rule, bad)?],
    };
    let threshold = match rule.get("shamir_threshold") {
        None => 0,
        Some(node) => node
            .as_u64()
            .and_then(|count| usize::try_from(count).ok())
            .ok_or_else(|| bad(node, "shamir_threshold must be a count".to_owned()))?,
    };
    let mut found = None;
    for name in RULES {
        let Some(node) = rule.get(name) else { continue };
        let text = node.as_str().ok_or_else(|| bad(node, format!("{name} must be a string")))?;
        if found.replace((name.to_owned(), text.to_owned())).is_some() {
            return Err(bad(node, format!("{name}: a file has one rule of what is encrypted, not several")));
        }
    }
    let mac_only_encrypted = match rule.get("mac_only_encrypted") {
        None => false,
        Some(node) => {
            node.as_bool().ok_or_else(|| bad(node, "mac_only_encrypted must be true or false".to_owned()))?
        }
    };
    Ok(Recipe { groups, threshold, rule: found, mac_only_encrypted })
}

/// The age keys of a rule or a group: a list, or one text with commas.
fn keys(of: &Node, bad: &dyn Fn(&Node, String) -> Error) -> Result<Vec<Recipient>, Error> {
    if let Some((name, node)) = OTHERS.iter().find_map(|name| Some((name, of.get(name)?))) {
        return Err(bad(node, format!("{name}: only age keys are supported; use `sops` for others")));
    }
    let Some(node) = of.get("age") else { return Err(bad(of, "names no age key".to_owned())) };
    let texts: Vec<&str> = match node.as_seq() {
        Some(list) => list.iter().filter_map(Node::as_str).collect(),
        None => node.as_str().unwrap_or_default().split(',').collect(),
    };
    let texts = texts.iter().map(|text| text.trim()).filter(|text| !text.is_empty());
    texts.map(|text| Recipient::parse(text).map_err(|error| bad(node, format!("age: {error}")))).collect()
}
