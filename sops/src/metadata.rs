//! What SOPS notes of a file under `sops`: for which keys it is encrypted, by which rule, and the MAC.

use std::collections::BTreeMap;

use crate::cipher::{self, DataKey};
use crate::error::SopsError;
use crate::format::{Format, flat};
use crate::keys::{KeyGroup, MasterKey};
use crate::rules::Rule;
use crate::service::{AwsKey, TransitKey};
use crate::tree::{File, Item, Value};

/// The key that the metadata stands under.
const KEY: &str = "sops";
/// Groups and keys of one file.
const MOST_KEYS: usize = 256;

/// What SOPS notes of a file.
#[derive(Debug)]
pub struct Metadata {
    /// One unless the data key is split.
    pub groups: Vec<KeyGroup>,
    /// How many groups give the data key, where there are several.
    pub threshold: usize,
    pub(crate) rule: Rule,
    pub(crate) mac_only_encrypted: bool,
    last_modified: String,
    mac: String,
    /// As they stand in the file.
    items: Vec<Item>,
}

/// Takes the metadata out of a file.
pub(crate) fn take(file: &mut File, format: Format) -> Result<Metadata, SopsError> {
    let nested = match format {
        Format::Dotenv => {
            let first = file.0.first_mut().ok_or(SopsError::NotEncrypted)?;
            let prefix = format!("{KEY}_");
            let (own, rest): (Vec<Item>, Vec<Item>) = std::mem::take(first)
                .into_iter()
                .partition(|item| matches!(item, Item::Entry(key, _) if key.starts_with(&prefix)));
            *first = rest;
            let own: Vec<Item> = own.into_iter().map(|item| unprefixed(item, &prefix)).collect();
            (!own.is_empty()).then(|| flat::unflatten(own)).transpose()?
        }
        Format::Ini => {
            let taken = take_entry(file)?;
            taken.map(|items| flat::unflatten(items.into_iter().map(with_breaks).collect())).transpose()?
        }
        Format::Yaml | Format::Json | Format::Binary => take_entry(file)?,
    };
    read(&nested.ok_or(SopsError::NotEncrypted)?)
}

/// Puts the metadata into a file, as its last entry.
pub(crate) fn put(file: &mut File, metadata: &Metadata, format: Format) {
    for document in &mut file.0 {
        match format {
            Format::Dotenv => {
                document.extend(flat::flatten(&metadata.items).into_iter().map(|item| match item {
                    Item::Entry(name, value) => Item::Entry(format!("{KEY}_{name}"), value),
                    comment @ Item::Comment(_) => comment,
                }))
            }
            Format::Ini => {
                let flat = flat::flatten(&metadata.items).into_iter().map(|item| match item {
                    Item::Entry(name, Value::Text(text)) => {
                        Item::Entry(name, Value::Text(text.replace('\n', "\\n")))
                    }
                    item => item,
                });
                document.push(Item::Entry(KEY.to_owned(), Value::Map(flat.collect())));
            }
            Format::Yaml | Format::Json | Format::Binary => {
                document.push(Item::Entry(KEY.to_owned(), Value::Map(metadata.items.clone())));
            }
        }
    }
}

/// Whether a file has metadata, or entries that would be taken for it.
pub(crate) fn is_in(file: &File, format: Format) -> bool {
    let is_own = |item: &Item| match item {
        Item::Entry(key, _) if format == Format::Dotenv => key.starts_with(&format!("{KEY}_")),
        Item::Entry(key, _) => key == KEY,
        Item::Comment(_) => false,
    };
    file.0.iter().flatten().any(is_own)
}

fn unprefixed(item: Item, prefix: &str) -> Item {
    match item {
        Item::Entry(key, value) => Item::Entry(key.trim_start_matches(prefix).to_owned(), value),
        comment @ Item::Comment(_) => comment,
    }
}

/// INI has `\n` where a text has a line break.
fn with_breaks(item: Item) -> Item {
    match item {
        Item::Entry(key, Value::Text(text)) => Item::Entry(key, Value::Text(text.replace("\\n", "\n"))),
        item => item,
    }
}

/// Takes `sops` out of every document: the first one's counts.
fn take_entry(file: &mut File) -> Result<Option<Vec<Item>>, SopsError> {
    let mut found = None;
    for (index, document) in file.0.iter_mut().enumerate() {
        let is_own = |item: &Item| matches!(item, Item::Entry(key, _) if key == KEY);
        let (own, rest): (Vec<Item>, Vec<Item>) = std::mem::take(document).into_iter().partition(is_own);
        *document = rest;
        if index > 0 {
            continue;
        }
        for item in own {
            match item {
                Item::Entry(_, Value::Map(items)) if found.is_none() => found = Some(items),
                Item::Entry(_, Value::Map(_)) => return Err(SopsError::field(KEY, "stands twice")),
                _ => return Err(SopsError::field(KEY, "is not a mapping")),
            }
        }
    }
    Ok(found)
}

fn read(items: &[Item]) -> Result<Metadata, SopsError> {
    const RULES: [&str; 6] = [
        "unencrypted_suffix",
        "encrypted_suffix",
        "unencrypted_regex",
        "encrypted_regex",
        "unencrypted_comment_regex",
        "encrypted_comment_regex",
    ];
    let rules: Vec<(&str, &str)> = RULES
        .iter()
        .filter_map(|name| Some((*name, text_of(items, name)?)))
        .filter(|(_, text)| !text.is_empty())
        .collect();
    // As SOPS: groups count where no key stands beside them.
    let beside = KeyGroup(keys(items)?);
    let mut groups = Vec::new();
    if beside.0.is_empty()
        && let Some(Value::List(all)) = entry(items, "key_groups")
    {
        if all.len() > MOST_KEYS {
            return Err(SopsError::field(
                "key_groups",
                format!("holds {} groups, more than {MOST_KEYS}", all.len()),
            ));
        }
        for (index, group) in all.iter().enumerate() {
            let Value::Map(group) = group else {
                return Err(SopsError::field(format!("key_groups[{index}]"), "is not a mapping"));
            };
            groups.push(KeyGroup(keys(group)?));
        }
    } else {
        groups.push(beside);
    }
    if groups.iter().map(|group| group.0.len()).sum::<usize>() > MOST_KEYS || groups.len() > MOST_KEYS {
        return Err(SopsError::field("key_groups", format!("holds more than {MOST_KEYS} keys")));
    }
    let threshold = match entry(items, "shamir_threshold") {
        None | Some(Value::Null) => 0,
        Some(value) => number(value).ok_or_else(|| SopsError::field("shamir_threshold", "is not a count"))?,
    };
    let threshold = if threshold == 0 { groups.len() } else { threshold };
    let mac_only_encrypted = match entry(items, "mac_only_encrypted") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(value)) => *value,
        Some(Value::Text(text)) if text == "true" || text == "false" => text == "true",
        Some(_) => return Err(SopsError::field("mac_only_encrypted", "is neither true nor false")),
    };
    Ok(Metadata {
        groups,
        threshold,
        rule: Rule::of(&rules)?,
        mac_only_encrypted,
        last_modified: text_of(items, "lastmodified").unwrap_or_default().to_owned(),
        mac: text_of(items, "mac").unwrap_or_default().to_owned(),
        items: items.to_vec(),
    })
}

/// The master keys of a group, in the order in which they are tried: the ones that need no network first.
fn keys(items: &[Item]) -> Result<Vec<MasterKey>, SopsError> {
    let mut keys = Vec::new();
    for kind in ["age", "pgp", "hc_vault", "kms", "gcp_kms", "azure_kv", "hckms"] {
        let list = match entry(items, kind) {
            None | Some(Value::Null) => continue,
            Some(Value::List(list)) => list,
            Some(_) => return Err(SopsError::field(kind, "is not a list")),
        };
        // Before anything is made of them: whoever writes a file chooses how many there are.
        if list.len() > MOST_KEYS {
            return Err(SopsError::field(kind, format!("holds {} keys, more than {MOST_KEYS}", list.len())));
        }
        for (index, key) in list.iter().enumerate() {
            let Value::Map(key) = key else {
                return Err(SopsError::field(format!("{kind}[{index}]"), "is not a mapping"));
            };
            let field = |name: &str| {
                text_of(key, name).map(str::to_owned).ok_or_else(|| {
                    SopsError::field(format!("{kind}[{index}].{name}"), "is missing, or is not text")
                })
            };
            let enc = field("enc")?;
            keys.push(match kind {
                "age" => MasterKey::Age { recipient: field("recipient")?, enc },
                "pgp" => MasterKey::Pgp { fingerprint: field("fp")?, enc },
                "hc_vault" => MasterKey::Vault(TransitKey {
                    address: field("vault_address")?,
                    engine: field("engine_path")?,
                    key: field("key_name")?,
                    enc,
                }),
                "kms" => MasterKey::Aws(AwsKey {
                    arn: field("arn")?,
                    context: context(key, &format!("{kind}[{index}].context"))?,
                    role: text_of(key, "role").filter(|role| !role.is_empty()).map(str::to_owned),
                    enc,
                }),
                "gcp_kms" => MasterKey::Cloud { service: "GCP KMS", key: field("resource_id")? },
                "azure_kv" => MasterKey::Cloud {
                    service: "Azure Key Vault",
                    key: format!("{}/keys/{}", field("vault_url")?, field("name")?),
                },
                _ => MasterKey::Cloud { service: "Huawei Cloud KMS", key: field("key_id")? },
            });
        }
    }
    Ok(keys)
}

/// What is said of the content to AWS KMS: texts by name.
fn context(key: &[Item], field: &str) -> Result<BTreeMap<String, String>, SopsError> {
    let map = match entry(key, "context") {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Map(map)) => map,
        Some(_) => return Err(SopsError::field(field, "is not a mapping")),
    };
    let mut context = BTreeMap::new();
    for item in map {
        match item {
            Item::Entry(name, Value::Text(text) | Value::Time(text)) => {
                context.insert(name.clone(), text.clone());
            }
            Item::Entry(name, _) => return Err(SopsError::field(format!("{field}.{name}"), "is not text")),
            Item::Comment(_) => {}
        }
    }
    Ok(context)
}

impl Metadata {
    /// Of a file to be encrypted: `items` are its fields but for the MAC and its time.
    pub(crate) fn new(items: Vec<Item>) -> Result<Self, SopsError> {
        read(&items)
    }

    /// Sets fields, which stand in the order of their names.
    pub(crate) fn set(&mut self, fields: Vec<(&str, Option<Value>)>) -> Result<(), SopsError> {
        let mut items = std::mem::take(&mut self.items);
        for (name, value) in fields {
            items.retain(|item| !matches!(item, Item::Entry(key, _) if key == name));
            items.extend(value.map(|value| Item::Entry(name.to_owned(), value)));
        }
        items.sort_by(|a, b| match (a, b) {
            (Item::Entry(a, _), Item::Entry(b, _)) => a.cmp(b),
            _ => std::cmp::Ordering::Equal,
        });
        *self = read(&items)?;
        Ok(())
    }

    /// The MAC that the file's values had when it was encrypted, in capital hexadecimal.
    pub(crate) fn mac(&self, key: &DataKey) -> Result<String, SopsError> {
        let bad = |message: String| SopsError::field("mac", message);
        match cipher::open(&self.mac, key, &self.last_modified).map_err(bad)? {
            Value::Text(mac) if !mac.is_empty() => Ok(mac),
            _ => Err(SopsError::field("mac", "is empty")),
        }
    }
}

fn entry<'a>(items: &'a [Item], name: &str) -> Option<&'a Value> {
    items.iter().find_map(|item| match item {
        Item::Entry(key, value) if key == name => Some(value),
        _ => None,
    })
}

fn text_of<'a>(items: &'a [Item], name: &str) -> Option<&'a str> {
    match entry(items, name)? {
        Value::Text(text) | Value::Time(text) => Some(text),
        _ => None,
    }
}

fn number(value: &Value) -> Option<usize> {
    match value {
        Value::Int(value) => usize::try_from(*value).ok(),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    }
}
