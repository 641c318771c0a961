//! Encrypting files, and changing encrypted ones.

use std::cmp::Ordering;

use crate::age::{self, Recipient};
use crate::cipher::DataKey;
use crate::error::SopsError;
use crate::format::{self, Format};
use crate::keys::{Keys, MasterKey};
use crate::metadata::{self, Metadata};
use crate::shamir;
use crate::tree::{self, File, Item, Sealed, Value};

/// Fills bytes at random.
pub type Random<'a> = &'a mut dyn FnMut(&mut [u8]);

/// The version of SOPS whose files these are.
const VERSION: &str = "3.13.3";
/// Groups that the data key may be split for.
const MOST_GROUPS: usize = 255;

/// For whom a file is encrypted, and what of it.
#[derive(Debug, Clone, Default)]
pub struct Recipe {
    /// The keys of one group open the same part of the data key.
    pub groups: Vec<Vec<Recipient>>,
    /// How many groups open the file, where there are several; 0 for all.
    pub threshold: usize,
    /// The name of SOPS' rule of what is encrypted (`encrypted_regex`), and its text.
    pub rule: Option<(String, String)>,
    pub mac_only_encrypted: bool,
}

/// Encrypts a file. `now` is RFC 3339.
///
/// # Errors
/// Where the file cannot be read, is encrypted already, or the recipe fits no file.
pub fn encrypt(
    text: &[u8],
    format: Format,
    recipe: &Recipe,
    now: &str,
    random: Random<'_>,
) -> Result<Vec<u8>, SopsError> {
    let mut file = format::read_clear(text, format)?;
    if file.0.is_empty() {
        let message = "there is no document in it".to_owned();
        return Err(SopsError::Unwritable { format: format.name(), message });
    }
    if metadata::is_in(&file, format) {
        return Err(SopsError::field("sops", "the file has SOPS' metadata already"));
    }
    let mut metadata = Metadata::new(Vec::new())?;
    // A binary file is one value under the name `data`, which a rule about names must not leave in clear; SOPS ignores rules too.
    let rule = recipe.rule.as_ref().filter(|_| format != Format::Binary);
    let rule =
        rule.map_or(("unencrypted_suffix", "_unencrypted"), |(name, text)| (name.as_str(), text.as_str()));
    metadata.set(vec![
        (rule.0, Some(Value::Text(rule.1.to_owned()))),
        ("mac_only_encrypted", recipe.mac_only_encrypted.then_some(Value::Bool(true))),
        ("version", Some(Value::Text(VERSION.to_owned()))),
    ])?;
    let key = new_key(random);
    metadata.set(sealed_for(&key, recipe, random)?)?;
    finish(&mut file, metadata, &key, &Sealed::default(), format, now, random)
}

/// Encrypts what a file has become: for the same keys, and what did not change stays as it is.
///
/// # Errors
/// Where the encrypted file does not open, or the clear one cannot be read.
pub fn edit(
    encrypted: &[u8],
    clear: &[u8],
    format: Format,
    keys: &Keys,
    now: &str,
    random: Random<'_>,
) -> Result<Vec<u8>, SopsError> {
    let mut before = format::read(encrypted, format)?;
    let metadata = metadata::take(&mut before, format)?;
    let key = keys.data_key(&metadata)?;
    let sealed = Sealed::of(&before, &metadata, &key)?;
    let mut file = format::read_clear(clear, format)?;
    if metadata::is_in(&file, format) {
        return Err(SopsError::field("sops", "the clear file must not have SOPS' metadata"));
    }
    finish(&mut file, metadata, &key, &sealed, format, now, random)
}

/// Encrypts a file anew with another data key, for the same keys.
///
/// # Errors
/// Where it does not open, or is for keys that only others can seal for.
pub fn rotate(
    encrypted: &[u8],
    format: Format,
    keys: &Keys,
    now: &str,
    random: Random<'_>,
) -> Result<Vec<u8>, SopsError> {
    let clear = crate::decrypt(encrypted, format, format, keys, crate::Mac::Verified)?;
    let mut before = format::read(encrypted, format)?;
    let mut metadata = metadata::take(&mut before, format)?;
    let recipe = recipe_of(&metadata)?;
    let key = new_key(random);
    metadata.set(sealed_for(&key, &recipe, random)?)?;
    let mut file = format::read_clear(&clear, format)?;
    finish(&mut file, metadata, &key, &Sealed::default(), format, now, random)
}

/// Seals a file's data key for other keys; its values stay as they are.
///
/// # Errors
/// Where it does not open, or is for keys that only others can seal for.
pub fn update_keys(
    encrypted: &[u8],
    format: Format,
    keys: &Keys,
    recipe: &Recipe,
    random: Random<'_>,
) -> Result<Vec<u8>, SopsError> {
    let mut file = format::read(encrypted, format)?;
    let mut metadata = metadata::take(&mut file, format)?;
    recipe_of(&metadata)?;
    let key = keys.data_key(&metadata)?;
    metadata.set(sealed_for(&key, recipe, random)?)?;
    metadata::put(&mut file, &metadata, format);
    format::write(&file, as_written(format))
}

/// An encrypted binary file is a JSON file.
fn as_written(format: Format) -> Format {
    if format == Format::Binary { Format::Json } else { format }
}

fn finish(
    file: &mut File,
    mut metadata: Metadata,
    key: &DataKey,
    before: &Sealed,
    format: Format,
    now: &str,
    random: Random<'_>,
) -> Result<Vec<u8>, SopsError> {
    let mut nonce = || {
        let mut nonce = [0; 32];
        random(&mut nonce);
        nonce
    };
    let mac = tree::seal(file, &metadata, key, before, &mut nonce)?;
    let mac = crate::cipher::seal(&Value::Text(mac), key, now, nonce())
        .map_err(|error| SopsError::field("mac", error))?;
    metadata
        .set(vec![("lastmodified", Some(Value::Text(now.to_owned()))), ("mac", Some(Value::Text(mac)))])?;
    metadata::put(file, &metadata, format);
    format::write(file, as_written(format))
}

fn new_key(random: Random<'_>) -> DataKey {
    let mut bytes = zeroize::Zeroizing::new([0; 32]);
    random(&mut *bytes);
    DataKey::new(&*bytes).expect("32 bytes")
}

/// The fields of the metadata that say for whom the data key is sealed.
fn sealed_for(
    key: &DataKey,
    recipe: &Recipe,
    random: Random<'_>,
) -> Result<Vec<(&'static str, Option<Value>)>, SopsError> {
    let groups = &recipe.groups;
    let list = |part: &[u8], group: &[Recipient], random: Random<'_>| {
        let entry = |recipient: &Recipient, random: Random<'_>| {
            let enc = age::encrypt(part, recipient, random);
            Value::Map(vec![
                Item::Entry("enc".to_owned(), Value::Text(enc)),
                Item::Entry("recipient".to_owned(), Value::Text(recipient.text().to_owned())),
            ])
        };
        Value::List(group.iter().map(|recipient| entry(recipient, random)).collect())
    };
    if groups.iter().any(Vec::is_empty) || groups.is_empty() {
        return Err(SopsError::field("age", "names no key to encrypt for"));
    }
    match groups.len().cmp(&1) {
        Ordering::Greater => {}
        _ => {
            let age = list(key.bytes(), &groups[0], random);
            return Ok(vec![("age", Some(age)), ("key_groups", None), ("shamir_threshold", None)]);
        }
    }
    let threshold = if recipe.threshold == 0 { groups.len() } else { recipe.threshold };
    if groups.len() > MOST_GROUPS || threshold < 2 || threshold > groups.len() {
        let message = format!("must be 2 to {}, the number of groups", groups.len().min(MOST_GROUPS));
        return Err(SopsError::field("shamir_threshold", message));
    }
    let mut byte = || {
        let mut byte = [0];
        random(&mut byte);
        byte[0]
    };
    let places: Vec<u8> = (1..=u8::MAX).take(groups.len()).collect();
    let parts = shamir::split(key.bytes(), &places, threshold, &mut byte);
    let groups = parts.iter().zip(groups).map(|(part, group)| {
        let age = Item::Entry("age".to_owned(), list(part, group, random));
        Value::Map(vec![Item::Entry("hc_vault".to_owned(), Value::List(Vec::new())), age])
    });
    let groups = Value::List(groups.collect());
    let threshold = i64::try_from(threshold).map_or(Value::Null, Value::Int);
    Ok(vec![("age", None), ("key_groups", Some(groups)), ("shamir_threshold", Some(threshold))])
}

/// For whom a file is.
fn recipe_of(metadata: &Metadata) -> Result<Recipe, SopsError> {
    let recipient = |key: &MasterKey| match key {
        MasterKey::Age { recipient, .. } => {
            Recipient::parse(recipient).map_err(|error| SopsError::field("age", error))
        }
        other => Err(SopsError::field(
            "sops",
            format!("the file is for {other} too, which it would be lost for; use `sops` itself"),
        )),
    };
    let groups = metadata.groups.iter().map(|group| group.0.iter().map(recipient).collect());
    Ok(Recipe {
        groups: groups.collect::<Result<_, _>>()?,
        threshold: metadata.threshold,
        ..Recipe::default()
    })
}
