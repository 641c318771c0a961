//! What is encrypted here opens here, and how files are changed.

use flotilla_sops::age::Recipient;
use flotilla_sops::{Format, Keys, Mac, Recipe, SopsError, decrypt, edit, encrypt, rotate, update_keys};
use proptest::prelude::*;

const FIRST: &str = include_str!("recorded/first.agekey");
const SECOND: &str = include_str!("recorded/second.agekey");
const SSH: &str = include_str!("recorded/ssh.agekey");
const NOW: &str = "2026-12-02T10:00:00Z";

const CLEAR: &str = "# above\nkind: Secret\nstringData:\n    # of a\n    a: one # beside\n    b: \"2\"\ndata:\n    - 1\n    - true\n";

fn keys(texts: &[&str]) -> Keys {
    let mut keys = Keys::default();
    texts.iter().for_each(|text| keys.add_age(text).unwrap());
    keys
}

/// The public key of a file of keys.
fn recipient(text: &str) -> Recipient {
    match text.lines().find_map(|line| line.strip_prefix("# public key: ")) {
        Some(public) => Recipient::parse(public).unwrap(),
        None => Recipient::parse(format!("{:?}", keys(&[text])).trim_matches(['[', ']', '"'])).unwrap(),
    }
}

fn recipe(groups: &[&[&str]]) -> Recipe {
    let groups = groups.iter().map(|group| group.iter().map(|text| recipient(text)).collect());
    Recipe { groups: groups.collect(), ..Recipe::default() }
}

/// Bytes that differ each time.
fn random() -> impl FnMut(&mut [u8]) {
    let mut state = 1u64;
    move |bytes: &mut [u8]| {
        for byte in bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (state >> 33) as u8;
        }
    }
}

fn sealed(recipe: &Recipe) -> Vec<u8> {
    encrypt(CLEAR.as_bytes(), Format::Yaml, recipe, NOW, &mut random()).unwrap()
}

fn opened(text: &[u8], keys: &Keys) -> Result<String, SopsError> {
    let clear = decrypt(text, Format::Yaml, Format::Yaml, keys, Mac::Verified)?;
    Ok(String::from_utf8(clear).unwrap())
}

/// As it comes back: where a comment stood that was encrypted beside a value is lost, as in SOPS.
fn back() -> String {
    CLEAR.replace("    a: one # beside\n", "    # beside\n    a: one\n")
}

#[test]
fn a_file_opens_for_each_kind_of_key_it_is_for() {
    for key in [FIRST, SECOND, SSH] {
        let file = sealed(&recipe(&[&[FIRST, SECOND, SSH]]));
        assert_eq!(opened(&file, &keys(&[key])).unwrap(), back());
        let text = String::from_utf8(file).unwrap();
        assert!(!text.contains("one") && !text.contains("of a"), "{text}");
    }
    assert!(matches!(opened(&sealed(&recipe(&[&[FIRST]])), &keys(&[SECOND])), Err(SopsError::NoKey { .. })));
    let split = Recipe { threshold: 2, ..recipe(&[&[FIRST], &[SECOND], &[SSH]]) };
    let file = sealed(&split);
    assert_eq!(opened(&file, &keys(&[FIRST, SSH])).unwrap(), back());
    assert!(opened(&file, &keys(&[FIRST])).is_err());
}

#[test]
fn no_rule_about_names_leaves_a_binary_file_in_clear() {
    for (rule, text) in [
        ("encrypted_regex", "^(data|stringData|password)$"),
        ("encrypted_regex", "^password$"),
        ("unencrypted_regex", "^data$"),
        ("encrypted_suffix", "_secret"),
        ("unencrypted_suffix", "data"),
        ("encrypted_comment_regex", "secret"),
        ("unencrypted_comment_regex", "secret"),
    ] {
        let recipe = Recipe { rule: Some((rule.to_owned(), text.to_owned())), ..recipe(&[&[FIRST]]) };
        for clear in [&b"a token in clear"[..], b"\xff\x00 bytes"] {
            let file = encrypt(clear, Format::Binary, &recipe, NOW, &mut random()).unwrap();
            let shown = String::from_utf8(file.clone()).unwrap();
            assert!(
                !shown.contains("a token in clear") && shown.contains("ENC[AES256_GCM"),
                "{rule}: {shown}"
            );
            let back =
                decrypt(&file, Format::Binary, Format::Binary, &keys(&[FIRST]), Mac::Verified).unwrap();
            assert_eq!(back, clear, "{rule}");
        }
    }
}

#[test]
fn a_recipe_that_fits_no_file_is_refused() {
    let error = |recipe: &Recipe| {
        encrypt(CLEAR.as_bytes(), Format::Yaml, recipe, NOW, &mut random()).unwrap_err().to_string()
    };
    assert!(error(&Recipe::default()).contains("names no key to encrypt for"));
    assert!(error(&recipe(&[&[FIRST], &[]])).contains("names no key to encrypt for"));
    let few = Recipe { threshold: 3, ..recipe(&[&[FIRST], &[SECOND]]) };
    assert!(error(&few).contains("must be 2 to 2"), "{}", error(&few));
    let broken = Recipe { rule: Some(("encrypted_regex".into(), "(".into())), ..recipe(&[&[FIRST]]) };
    assert!(error(&broken).contains("encrypted_regex"), "{}", error(&broken));
    let twice =
        encrypt(&sealed(&recipe(&[&[FIRST]])), Format::Yaml, &recipe(&[&[FIRST]]), NOW, &mut random());
    assert!(twice.unwrap_err().to_string().contains("has SOPS' metadata already"));
    for (text, expected) in [
        ("age1xyz", "is not the public key of an age key"),
        ("AGE-SECRET-KEY-1QQQ", "this is a secret key"),
        ("ssh-rsa AAAA", "is a key of a type that is not supported"),
        ("ssh-ed25519 AAAA", "is not a valid ssh key"),
    ] {
        let error = Recipient::parse(text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn an_edit_changes_what_was_edited_alone() {
    let file = sealed(&recipe(&[&[FIRST]]));
    let after = back().replace("\"2\"", "three");
    let edited = edit(&file, after.as_bytes(), Format::Yaml, &keys(&[FIRST]), NOW, &mut random()).unwrap();
    assert_eq!(opened(&edited, &keys(&[FIRST])).unwrap(), after);
    let (before, after) = (String::from_utf8(file.clone()).unwrap(), String::from_utf8(edited).unwrap());
    let line = |text: &str, start: &str| {
        text.lines().find(|line| line.trim_start().starts_with(start)).unwrap().to_owned()
    };
    assert_eq!(line(&before, "a:").split(" #").next(), line(&after, "a:").split(" #").next());
    assert_ne!(line(&before, "b:"), line(&after, "b:"));
    assert!(edit(&file, b"a: 1\n", Format::Yaml, &keys(&[SECOND]), NOW, &mut random()).is_err());
    assert!(edit(&file, b"a: [\n", Format::Yaml, &keys(&[FIRST]), NOW, &mut random()).is_err());
}

#[test]
fn keys_are_changed_and_data_keys_too() {
    let file = sealed(&recipe(&[&[FIRST]]));
    let other =
        update_keys(&file, Format::Yaml, &keys(&[FIRST]), &recipe(&[&[SECOND]]), &mut random()).unwrap();
    assert!(opened(&other, &keys(&[FIRST])).is_err());
    assert_eq!(opened(&other, &keys(&[SECOND])).unwrap(), back());
    let value = |text: &[u8]| {
        String::from_utf8(text.to_vec())
            .unwrap()
            .lines()
            .find(|line| line.contains("b: ENC"))
            .unwrap()
            .to_owned()
    };
    assert_eq!(value(&file), value(&other), "values stay as they are");
    let mut later = random();
    later(&mut [0; 4096]);
    let rotated = rotate(&other, Format::Yaml, &keys(&[SECOND]), NOW, &mut later).unwrap();
    assert_eq!(opened(&rotated, &keys(&[SECOND])).unwrap(), back());
    assert_ne!(value(&other), value(&rotated));
    // Keys that nobody here can seal for would be lost.
    let text = String::from_utf8(file)
        .unwrap()
        .replace("    lastmodified:", "    pgp:\n        - fp: ABCD\n          enc: x\n    lastmodified:");
    let error =
        update_keys(text.as_bytes(), Format::Yaml, &keys(&[FIRST]), &recipe(&[&[SECOND]]), &mut random());
    assert!(error.unwrap_err().to_string().contains("the file is for PGP ABCD too"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn any_bytes_and_any_values_come_back(
        bytes in prop::collection::vec(any::<u8>(), 1..200),
        values in prop::collection::vec("[ -~äß\u{1f389}]{0,20}", 1..6),
    ) {
        let (keys, recipe) = (keys(&[FIRST]), recipe(&[&[FIRST]]));
        let file = encrypt(&bytes, Format::Binary, &recipe, NOW, &mut random()).unwrap();
        prop_assert_eq!(decrypt(&file, Format::Binary, Format::Binary, &keys, Mac::Verified).unwrap(), bytes);
        let env: String = values.iter().enumerate().map(|(i, value)| format!("K{i}={value}\n")).collect();
        let file = encrypt(env.as_bytes(), Format::Dotenv, &recipe, NOW, &mut random()).unwrap();
        let clear = decrypt(&file, Format::Dotenv, Format::Dotenv, &keys, Mac::Verified).unwrap();
        // A line break is written as `\n`, and so is what looks like one.
        prop_assert_eq!(String::from_utf8(clear).unwrap(), env);
        let json = serde_json::to_string(&values.iter().enumerate().map(|(i, v)| (format!("k{i}"), v)).collect::<std::collections::BTreeMap<_, _>>()).unwrap();
        let file = encrypt(json.as_bytes(), Format::Json, &recipe, NOW, &mut random()).unwrap();
        let clear = decrypt(&file, Format::Json, Format::Json, &keys, Mac::Verified).unwrap();
        let (clear, json): (serde_json::Value, serde_json::Value) =
            (serde_json::from_slice(&clear).unwrap(), serde_json::from_str(&json).unwrap());
        prop_assert_eq!(clear, json);
    }
}
