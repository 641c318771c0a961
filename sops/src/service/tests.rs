use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;
use crate::{Format, Keys, Mac, decrypt};

const SECRET: &str = include_str!("../../tests/recorded/secret.enc.yaml");
const GROUPS: &str = include_str!("../../tests/recorded/groups.enc.yaml");
const CLEAR: &str = include_str!("../../tests/recorded/secret.clear.yaml");
const FIRST: &str = include_str!("../../tests/recorded/first.agekey");
const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const ADDRESS: &str = "https://vault.example.com:8200";

/// A file that sops encrypted, with these entries in the place of its age keys.
fn file(vault: &str) -> String {
    let (before, rest) = SECRET.split_once("    age:\n").unwrap();
    let (_, after) = rest.split_once("    encrypted_regex:").unwrap();
    format!("{before}    hc_vault:\n{vault}    encrypted_regex:{after}")
}

fn entry(address: &str, engine: &str, key: &str) -> String {
    format!(
        "        - vault_address: {address}\n          engine_path: {engine}\n          key_name: {key}\n          \
         created_at: \"2026-12-02T00:00:00Z\"\n          enc: vault:v1:sealed-{key}\n"
    )
}

/// The data key of [`SECRET`], which its age key opens.
fn data_key() -> Vec<u8> {
    let mut keys = Keys::default();
    keys.add_age(FIRST).unwrap();
    let mut file = crate::format::read(SECRET.as_bytes(), Format::Yaml).unwrap();
    let metadata = crate::metadata::take(&mut file, Format::Yaml).unwrap();
    keys.data_key(&metadata).unwrap().bytes().to_vec()
}

/// Tests of others go by the recorded one.
#[test]
fn the_recorded_data_key_is_that_of_the_file() {
    let recorded = include_str!("../../tests/recorded/secret.data-key");
    assert_eq!(STANDARD.encode(data_key()), recorded.trim());
}

fn keys() -> Keys {
    let mut keys = Keys::default();
    keys.add_vault_token("  hvs.token\n").unwrap();
    keys
}

fn servers() -> Servers {
    Servers::new([ADDRESS.parse().unwrap()])
}

fn open(text: &str, keys: &Keys) -> Result<String, SopsError> {
    let clear = decrypt(text.as_bytes(), Format::Yaml, Format::Yaml, keys, Mac::Verified)?;
    Ok(String::from_utf8(clear).unwrap())
}

fn asking(text: &str, ask: impl FnMut(&Ask) -> Answer) -> Result<String, SopsError> {
    keys().asking(|keys| open(text, keys), SopsError::asks, ask)
}

fn only_ask(text: &str) -> Ask {
    let error = open(text, &keys()).unwrap_err();
    let [ask] = error.asks().unwrap_or_else(|| panic!("{error}")) else { panic!("{error}") };
    ask.clone()
}

fn answered(key: &[u8]) -> Vec<u8> {
    json!({"request_id": "x", "data": {"plaintext": STANDARD.encode(key)}}).to_string().into_bytes()
}

#[test]
fn a_file_for_vault_opens_with_what_vault_answers() {
    let text = file(&entry(ADDRESS, "transit", "fleet"));
    let request = only_ask(&text).request(&servers(), NOW).unwrap();
    assert_eq!(
        (request.method, request.url.as_str()),
        ("POST", "https://vault.example.com:8200/v1/transit/decrypt/fleet")
    );
    let header = |name: &str| request.headers.iter().find(|(other, _)| *other == name).unwrap().1.to_string();
    assert_eq!(header("x-vault-token"), "hvs.token");
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body, json!({"ciphertext": "vault:v1:sealed-fleet"}));

    let opened = asking(&text, |ask| ask.data_key(200, &answered(&data_key())));
    assert_eq!(opened.unwrap(), CLEAR);
    // Another token is another question, whose answer is not known.
    let mut other = Keys::default();
    other.add_vault_token("hvs.other").unwrap();
    let answers = Answers::from([(only_ask(&text).id(), Ok(Zeroizing::new(data_key())))]);
    assert!(open(&text, &keys().answered(answers.clone())).is_ok());
    assert!(open(&text, &other.answered(answers)).unwrap_err().asks().is_some());
}

#[test]
fn what_vault_does_not_open_says_what_vault_said() {
    let text = file(&(entry(ADDRESS, "transit", "one") + &entry(ADDRESS, "a/b", "two")));
    let mut asked = Vec::new();
    let refused = |ask: &Ask| {
        asked.push(ask.to_string());
        match asked.len() {
            1 => ask.data_key(403, br#"{"errors":["permission denied"]}"#),
            _ => ask.data_key(503, b"<html>"),
        }
    };
    let error = asking(&text, refused).unwrap_err().to_string();
    assert_eq!(
        asked,
        [format!("Vault {ADDRESS}/v1/transit/keys/one"), format!("Vault {ADDRESS}/v1/a/b/keys/two")]
    );
    for part in ["HTTP 403: permission denied; see that the token", "HTTP 503; it may be sealed"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(!error.contains("hvs."), "{error}");
    // What is no key of 32 bytes is no key, and what is no JSON no answer.
    for (status, body, expected) in [
        (200, answered(b"short"), "not a data key of 32 bytes"),
        (200, b"{}".to_vec(), "something else than a key"),
        (200, br#"{"data":{"plaintext":"%%"}}"#.to_vec(), "something else than a key"),
        (400, vec![b'x'; 4096], "HTTP 400; the key may be another one"),
        (404, br#"{"errors":[]}"#.to_vec(), "HTTP 404; there may be no such"),
        (307, Vec::new(), "HTTP 307"),
    ] {
        let text = file(&entry(ADDRESS, "transit", "fleet"));
        let error = asking(&text, |ask| ask.data_key(status, &body)).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let none = open(&text, &Keys::default()).unwrap_err().to_string();
    assert!(none.contains("there is no token of Vault here"), "{none}");
    assert!(Keys::default().add_vault_token("two words").is_err());
    assert!(Keys::default().add_vault_token(" \n").is_err());
}

#[test]
fn nobody_is_asked_whom_the_operator_did_not_allow() {
    for address in [
        "https://vault.example.com",
        "http://vault.example.com:8200",
        "https://vault.example.com:8201",
        "https://vault.example.com.evil:8200",
        "https://vault.example.com:8200@evil",
        "https://user@vault.example.com:8200",
        "https://vault.example.com:8200/other",
        "https://vault.example.com:8200/?x=",
        "https://vault.example.com:8200/#x",
        "http://169.254.169.254/latest",
        "file:///etc/passwd",
        "'vault.example.com:8200'",
        "'%'",
    ] {
        let refused = only_ask(&file(&entry(address, "transit", "fleet"))).request(&servers(), NOW);
        assert!(refused.is_err(), "{address}");
    }
    let refused =
        only_ask(&file(&entry("https://evil/", "transit", "x"))).request(&servers(), NOW).err().unwrap();
    assert!(refused.contains("allow it with --allow-key-service https://evil"), "{refused}");
    // Spellings of the same one.
    for address in ["https://vault.example.com:8200/", "HTTPS://Vault.Example.COM:8200"] {
        let request =
            only_ask(&file(&entry(address, "/transit/", "fleet"))).request(&servers(), NOW).unwrap();
        assert_eq!(request.url.as_str(), "https://vault.example.com:8200/v1/transit/decrypt/fleet");
    }
    let proxied = Servers::new(["https://proxy/vault/".parse().unwrap()]);
    let request =
        only_ask(&file(&entry("https://proxy/vault", "transit", "x"))).request(&proxied, NOW).unwrap();
    assert_eq!(request.url.as_str(), "https://proxy/vault/v1/transit/decrypt/x");
}

#[test]
fn a_key_is_a_name_and_no_path() {
    for (engine, key) in [
        ("transit", "'..'"),
        ("transit", "a/b"),
        ("transit", "'x?y'"),
        ("transit", "'%2e%2e'"),
        ("'..'", "x"),
        ("sys//raw", "x"),
        ("'a/../b'", "x"),
        ("'a#'", "x"),
        ("''", "x"),
        ("transit", "''"),
    ] {
        let asked = only_ask(&file(&entry(ADDRESS, engine, key))).request(&servers(), NOW);
        assert!(asked.is_err(), "{engine} {key}");
    }
    let long = file(&entry(ADDRESS, "transit", "x")).replace("sealed-x", &"x".repeat(MOST_SEALED));
    assert!(only_ask(&long).request(&servers(), NOW).err().unwrap().contains("more than"));
}

#[test]
fn only_as_many_are_asked_as_are_needed_and_no_more_than_a_bound() {
    // Two of three groups: the first has an age key that is here; two ask.
    let vault = |key: &str| {
        format!("hc_vault:\n{}", entry(ADDRESS, "transit", key).replace("        ", "            "))
    };
    let text = {
        let mut parts = GROUPS.split("hc_vault: []\n");
        let first = parts.next().unwrap().to_owned();
        parts.enumerate().fold(first, |text, (index, part)| {
            text + &if index == 0 { "hc_vault: []\n".to_owned() } else { vault(&format!("k{index}")) } + part
        })
    };
    let mut with_age = keys();
    with_age.add_age(FIRST).unwrap();
    let error = decrypt(text.as_bytes(), Format::Yaml, Format::Yaml, &with_age, Mac::Verified).unwrap_err();
    assert_eq!(error.asks().map(<[Ask]>::len), Some(2), "{error}");
    // With the token alone too; and where all of them would not be enough nobody is asked.
    assert_eq!(open(&text, &keys()).unwrap_err().asks().map(<[Ask]>::len), Some(2));
    let all = text.replace("shamir_threshold: 2", "shamir_threshold: 3");
    let error = open(&all, &keys()).unwrap_err();
    assert!(error.asks().is_none(), "{error}");

    let many: String = (0..100).map(|index| entry(ADDRESS, "transit", &format!("k{index}"))).collect();
    let (text, mut asked) = (file(&many), 0);
    let refused = |_: &Ask| {
        asked += 1;
        Err("no".to_owned())
    };
    let error = asking(&text, refused).unwrap_err();
    assert_eq!((asked, error.asks().is_some()), (MAX_ASKS, true), "{error}");
}

#[test]
fn keys_that_are_not_supported_are_named_with_the_way_out() {
    let entry = |kind: &str, fields: &str| {
        file("").replace("    hc_vault:\n", &format!("    {kind}:\n        - {fields}\n"))
    };
    for (text, says) in [
        (entry("pgp", "{fp: ABCD, enc: x, created_at: t}"), "PGP ABCD: PGP is not supported"),
        (
            entry("gcp_kms", "{resource_id: projects/p, enc: x}"),
            "GCP KMS projects/p: GCP KMS is not supported",
        ),
        (
            entry("azure_kv", "{vault_url: https://v, name: k, version: v, enc: x}"),
            "Azure Key Vault https://v/keys/k: Azure Key Vault is not supported",
        ),
        (entry("hckms", "{key_id: k, enc: x}"), "Huawei Cloud KMS k: Huawei Cloud KMS is not supported"),
    ] {
        let error = open(&text, &keys()).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("run `sops updatekeys` on the file"), "{error}");
    }
}
