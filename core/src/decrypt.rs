//! Objects that SOPS encrypted, opened with the keys that stand in a Secret of the cluster. As kustomize-controller 1.9 opens
//! them: after the build, before variables are put in.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flotilla_sops::service::{Answers, Ask};
use flotilla_sops::{Format, Keys, Mac, SopsError};
use flotilla_yaml::Node;

use crate::template::{Found, TemplateError, ValuesRef};

/// Who asks by an annotation that an object be applied as it is.
pub const OPT_OUT: &str = "kustomize.toolkit.fluxcd.io/decrypt";
/// How the names of entries end that hold age keys.
const AGE: &str = ".agekey";
/// The entry with the token that Vault, or OpenBao, is asked with.
const VAULT: &str = "sops.vault-token";
/// The entry with the credentials that AWS KMS is asked with.
const AWS: &str = "sops.aws-kms";
/// Entries that Flux reads for keys that are not supported here, by how their names end.
const UNSUPPORTED: [(&str, &str); 3] =
    [(".asc", "PGP"), ("sops.gcp-kms", "GCP KMS"), ("sops.azure-kv", "Azure Key Vault")];
/// How the metadata of a file of variables looks that a generator took apart.
const FLAT: &str = "sops_mac";

/// How a document is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encrypted {
    /// As a whole: its values, with SOPS' metadata beside them.
    Whole,
    /// It is a Secret some of whose entries are encrypted files.
    Entries,
}

/// How a document is encrypted, if it is, and does not ask to be left as it is.
pub fn encrypted(document: &Node) -> Option<Encrypted> {
    let says = document.at(&["metadata", "annotations", OPT_OUT]).and_then(Node::text);
    if says.is_some_and(|text| text.eq_ignore_ascii_case("disabled")) {
        return None;
    }
    // A `sops` field of its own making is a custom resource's business; SOPS's has a checksum.
    if document.at(&["sops", "mac"]).is_some() {
        return Some(Encrypted::Whole);
    }
    let is_secret = document.at(&["kind"]).and_then(Node::text) == Some("Secret");
    let mut entries = entries(document);
    let is_encrypted = |(name, value): (&str, &str)| {
        name == FLAT || unpacked(value).is_some_and(|text| flotilla_sops::marks_of(&text).is_some())
    };
    (is_secret && entries.any(is_encrypted)).then_some(Encrypted::Entries)
}

/// Why a document does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{error}", if .at.is_empty() { String::new() } else { format!("{}: ", .at) })]
pub struct OpenError {
    /// Where in the document.
    at: String,
    error: SopsError,
}

impl OpenError {
    /// Who has to be asked before it can open.
    pub fn asks(&self) -> Option<&[Ask]> {
        self.error.asks()
    }
}

impl From<SopsError> for OpenError {
    fn from(error: SopsError) -> Self {
        Self { at: String::new(), error }
    }
}

/// What an entry holds; kustomize breaks long ones into lines. `None`: it is not base64.
fn unpacked(value: &str) -> Option<Vec<u8>> {
    STANDARD.decode(value.replace(char::is_whitespace, "")).ok()
}

/// The entries of a Secret's `data`, as they stand there.
fn entries(document: &Node) -> impl Iterator<Item = (&str, &str)> {
    let data = document.get("data").and_then(Node::as_map);
    data.into_iter()
        .flat_map(|data| data.iter())
        .filter_map(|entry| Some((entry.key.text()?, entry.value.text()?)))
}

/// Opens a document; its keys are among what was `found`, and what services said of it is in `answers`.
pub(crate) fn open(
    text: &str,
    keys: &ValuesRef,
    found: &Found,
    answers: &Answers,
) -> Result<Node, TemplateError> {
    let unread = |message: String| TemplateError::NoDocument(message);
    let documents = flotilla_yaml::parse(text).map_err(|error| unread(error.message))?;
    let [document] = documents.as_slice() else { return Err(unread("it is not one document".to_owned())) };
    let Some(Some(values)) = found.get(keys) else { return Err(TemplateError::NotFound(keys.clone())) };
    let wrong = |message: String| TemplateError::Keys(keys.clone(), message);
    if encrypted(document).is_none() {
        return Err(unread("it is not encrypted, though it was sent as such".to_owned()));
    }
    let with = keys_in(values).map_err(wrong)?.answered(answers.clone());
    open_document(document, &with).map_err(|error| TemplateError::Shut(keys.clone(), error.into()))
}

/// Opens a document, if it is encrypted.
///
/// # Errors
/// Why it does not open.
pub fn open_document(document: &Node, keys: &Keys) -> Result<Node, OpenError> {
    match encrypted(document) {
        Some(Encrypted::Whole) => Ok(flotilla_sops::decrypt_object(document, keys)?),
        Some(Encrypted::Entries) => open_entries(document, keys),
        None => Ok(document.clone()),
    }
}

/// The keys that a Secret holds, by how Flux names its entries.
///
/// # Errors
/// Where there is none, or one cannot be read; no key is in the message.
pub fn keys_in(values: &BTreeMap<String, String>) -> Result<Keys, String> {
    let mut keys = Keys::default();
    for (name, value) in values.iter().filter(|(name, _)| name.ends_with(AGE)) {
        keys.add_age(value).map_err(|message| format!("{name}: {message}"))?;
    }
    if let Some(token) = values.get(VAULT) {
        keys.add_vault_token(token).map_err(|message| format!("{VAULT}: {message}"))?;
    }
    if let Some(text) = values.get(AWS) {
        keys.add_aws_credentials(text).map_err(|message| format!("{AWS}: {message}"))?;
    }
    if keys.is_empty() {
        let unsupported = values.keys().find_map(|name| {
            UNSUPPORTED.iter().find(|(end, _)| name.ends_with(end)).map(|(_, what)| (name, what))
        });
        if let Some((name, what)) = unsupported {
            return Err(format!("it has only {name}, and {what} is not supported"));
        }
        return Err(format!("it has no entry whose name ends with {AGE}, no {VAULT} and no {AWS}"));
    }
    Ok(keys)
}

fn open_entries(document: &Node, keys: &Keys) -> Result<Node, OpenError> {
    let mut opened = document.clone();
    if document.at(&["data", FLAT]).is_some() {
        open_flat(&mut opened, keys)?;
    }
    let Some(data) = opened.get_mut("data").and_then(Node::as_map_mut) else { return Ok(opened) };
    for entry in data.entries_mut() {
        let (Some(name), Some(value)) = (entry.key.text(), entry.value.text()) else { continue };
        // What is not base64 is for the API server to refuse.
        let Some(text) = unpacked(value) else { continue };
        let Some(format) = flotilla_sops::marks_of(&text) else { continue };
        let clear = flotilla_sops::decrypt(&text, format, Format::of_path(name), keys, Mac::Verified);
        let clear = clear.map_err(|error| OpenError { at: format!("data.{name}"), error })?;
        entry.value = Node::string(STANDARD.encode(clear));
    }
    Ok(opened)
}

/// Opens the variables of an encrypted file that a generator took apart, line by line. Their order is lost, and the MAC with it.
fn open_flat(document: &mut Node, keys: &Keys) -> Result<(), OpenError> {
    let not_text = |at: String| {
        let message = "is not text".to_owned();
        OpenError { at, error: SopsError::Syntax { format: Format::Dotenv.name(), message } }
    };
    let mut lines: Vec<(String, String)> = entries(document)
        .map(|(name, value)| {
            let text = unpacked(value).and_then(|text| String::from_utf8(text).ok());
            Ok((name.to_owned(), text.ok_or_else(|| not_text(format!("data.{name}")))?))
        })
        .collect::<Result<_, OpenError>>()?;
    // What stands beside the file's variables is not of the file.
    let is_of_file = |(name, text): &(String, String)| name.starts_with("sops_") || text.starts_with("ENC[");
    let beside: Vec<(String, String)> = lines.extract_if(.., |line| !is_of_file(line)).collect();
    let text: String =
        lines.iter().map(|(name, value)| format!("{name}={}\n", value.replace('\n', "\\n"))).collect();
    let clear = flotilla_sops::decrypt(text.as_bytes(), Format::Dotenv, Format::Dotenv, keys, Mac::Ignored);
    let clear = clear.map_err(|error| OpenError { at: "data".to_owned(), error })?;
    let clear = String::from_utf8(clear).map_err(|_| not_text("data".to_owned()))?;
    let mut data = Node::map();
    if let Some(map) = data.as_map_mut() {
        let opened = clear.lines().filter_map(|line| line.split_once('='));
        let opened = opened.map(|(name, value)| (name.to_owned(), value.replace("\\n", "\n")));
        for (name, value) in beside.into_iter().chain(opened) {
            map.insert(name, Node::string(STANDARD.encode(value)));
        }
    }
    document.as_map_mut().into_iter().for_each(|document| drop(document.insert("data", data.clone())));
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::object::{Object, ObjectRef};
    use crate::template::{Layer, Metadata, ObjectTemplate, ValuesKind, Variables};

    const SECRET: &str = include_str!("../../sops/tests/recorded/secret.enc.yaml");
    const ENV: &str = include_str!("../../sops/tests/recorded/env.enc.env");
    const JSON: &str = include_str!("../../sops/tests/recorded/json.enc.json");
    const FIRST: &str = include_str!("../../sops/tests/recorded/first.agekey");
    const SECOND: &str = include_str!("../../sops/tests/recorded/second.agekey");

    fn keys() -> ValuesRef {
        ValuesRef { kind: ValuesKind::Secret, namespace: "flux-system".into(), name: "sops-age".into() }
    }

    fn found(entries: &[(&str, &str)]) -> Found {
        let values = entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        [(keys(), Some(values))].into()
    }

    fn completed(text: &str, variables: Variables, found: &Found) -> Result<Object, String> {
        let node = flotilla_yaml::parse(text).unwrap().remove(0);
        let reference = ObjectRef::of(&node.to_json().unwrap()).unwrap();
        let template =
            ObjectTemplate::new(reference, text.to_owned(), variables, Metadata::default()).sealed(keys());
        // As it comes out at the other end.
        let object = Object::from_body(template.object().body().clone(), true).unwrap();
        let template = ObjectTemplate::of(&object).unwrap().unwrap();
        assert_eq!(template.needs().collect::<Vec<_>>(), [&keys()]);
        template.complete(found).map_err(|error| error.to_string())
    }

    fn text(object: &Object, pointer: &str) -> String {
        object.value().pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    #[test]
    fn a_whole_object_is_opened_and_loses_its_metadata() {
        let found = found(&[("age.agekey", FIRST), ("other", "x")]);
        let object = completed(SECRET, Variables::default(), &found).unwrap();
        assert_eq!(text(&object, "/stringData/password"), "s3cr et: #1");
        assert_eq!(object.value().get("sops"), None);
        assert_eq!(object.value()["metadata"], json!({"name": "db", "namespace": "apps"}));
        // A build sorts what it puts out, and changes some.
        let sorted = flotilla_yaml::write_canonical(&flotilla_yaml::parse(SECRET).unwrap()[0]).unwrap();
        let sorted = sorted.replace("type: Opaque", "type: x/y");
        assert_eq!(text(&completed(&sorted, Variables::default(), &found).unwrap(), "/type"), "x/y");
        assert!(encrypted(&flotilla_yaml::parse(SECRET).unwrap()[0]) == Some(Encrypted::Whole));
        let out = SECRET.replace(
            "    name: db",
            "    annotations: {kustomize.toolkit.fluxcd.io/decrypt: Disabled}\n    name: db",
        );
        assert_eq!(encrypted(&flotilla_yaml::parse(&out).unwrap()[0]), None);
    }

    #[test]
    fn variables_are_put_into_what_was_opened() {
        let text_of = |name: &str| SECRET.replace("name: db", name);
        let mut variables = Variables::default();
        variables.add([("who".to_owned(), "apps".to_owned())]).unwrap();
        let node = text_of("name: db\n    labels: {who: '${who}'}");
        let object = completed(&node, variables.clone(), &found(&[("a.agekey", FIRST)])).unwrap();
        assert_eq!(object.value()["metadata"]["labels"], json!({"who": "apps"}));
        variables.layers.push(Layer::From { reference: keys(), optional: false });
        assert_eq!(variables.needs().count(), 1);
    }

    #[test]
    fn entries_of_a_secret_are_files() {
        let secret =
            |data: &str| format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: x}}\ndata: {{{data}}}\n");
        let base64 = |text: &str| STANDARD.encode(text);
        let found = found(&[("a.agekey", FIRST)]);
        let data = format!(
            "a.env: {}, b.json: {}, plain: {}, broken: '%%'",
            base64(ENV),
            base64(JSON),
            base64("plain")
        );
        let object = completed(&secret(&data), Variables::default(), &found).unwrap();
        let clear = |name: &str| {
            String::from_utf8(STANDARD.decode(text(&object, &format!("/data/{name}"))).unwrap()).unwrap()
        };
        assert_eq!(clear("a.env"), include_str!("../../sops/tests/recorded/env.clear.env"));
        assert_eq!(clear("b.json"), include_str!("../../sops/tests/recorded/json.clear.json"));
        assert_eq!((clear("plain").as_str(), text(&object, "/data/broken").as_str()), ("plain", "%%"));
        // What a generator makes of `envs`: an entry for each line, those of SOPS too.
        let lines = ENV.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
        // With the line breaks that kustomize puts into long ones.
        let broken = |value: &str| {
            base64(value)
                .as_bytes()
                .chunks(70)
                .map(|line| String::from_utf8_lossy(line).into_owned())
                .collect::<Vec<_>>()
                .join("\\n")
        };
        let lines: Vec<String> =
            lines.map(|(name, value)| format!("{name}: \"{}\"", broken(value))).collect();
        let data = format!("{}, BESIDE: {}", lines.join(", "), base64("clear"));
        let object = completed(&secret(&data), Variables::default(), &found).unwrap();
        let value = object.value();
        let names: Vec<&str> = value["data"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["A", "B", "BESIDE", "C", "D", "E", "F"]);
        assert_eq!(
            (&value["data"]["B"], &value["data"]["BESIDE"]),
            (&json!(base64("two words")), &json!(base64("clear")))
        );
    }

    #[test]
    fn what_does_not_open_says_where_the_keys_were_looked_for() {
        let nothing = Variables::default;
        for (found, expected) in [
            (
                Found::from([(keys(), None)]),
                "Secret flux-system/sops-age, which values are taken from, does not exist",
            ),
            (Found::new(), "Secret flux-system/sops-age, which values are taken from, does not exist"),
            (
                found(&[("key", FIRST)]),
                "the keys in Secret flux-system/sops-age do not open it: it has no entry whose name ends with .agekey, \
                 no sops.vault-token and no sops.aws-kms",
            ),
            (
                found(&[("sops.asc", "x")]),
                "the keys in Secret flux-system/sops-age do not open it: it has only sops.asc, and PGP is not supported",
            ),
            (
                found(&[("sops.aws-kms", "aws_access_key_id: AKIA")]),
                "the keys in Secret flux-system/sops-age do not open it: sops.aws-kms: has no aws_secret_access_key",
            ),
            (
                found(&[("x.agekey", "AGE-SECRET-KEY-1QQ")]),
                "the keys in Secret flux-system/sops-age do not open it: x.agekey: line 1: is not an age key: it should \
                 begin with AGE-SECRET-KEY-1",
            ),
            (
                found(&[("x.agekey", SECOND)]),
                "the keys in Secret flux-system/sops-age do not open it: no key opens it: it is encrypted for \
                 age1uhheudu3vha9uzs6wrujwdvzxtg07qglmr7xalzyvz6yzx0ajq5qmknznw; \
                 age1uhheudu3vha9uzs6wrujwdvzxtg07qglmr7xalzyvz6yzx0ajq5qmknznw: the age key that is here is another one",
            ),
        ] {
            assert_eq!(completed(SECRET, nothing(), &found), Err(expected.to_owned()));
        }
        // The file in an entry was changed: there the MAC is compared.
        let changed = STANDARD.encode(JSON.replace("\"n\":", "\"renamed\":"));
        let secret =
            format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: x}}\ndata: {{a.json: {changed}}}\n");
        let error = completed(&secret, nothing(), &found(&[("a.agekey", FIRST)])).unwrap_err();
        assert!(error.contains("data.a.json: renamed: does not open"), "{error}");
    }
}
