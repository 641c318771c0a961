//! Files that `sops` 3.13.3 encrypted with keys of these tests, held against what it decrypts them to, byte for byte.

use std::fs;
use std::path::Path;

use flotilla_sops::{Format, Keys, Mac, SopsError, decrypt};

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recorded"))
}

fn keys(names: &[&str]) -> Keys {
    let mut keys = Keys::default();
    for name in names {
        keys.add_age(&fs::read_to_string(folder().join(name)).unwrap()).unwrap();
    }
    keys
}

fn file(name: &str) -> (Vec<u8>, Format) {
    (fs::read(folder().join(name)).unwrap(), Format::of_path(name))
}

fn opened(name: &str, keys: &Keys) -> Result<String, SopsError> {
    let (text, format) = file(name);
    decrypt(&text, format, format, keys, Mac::Verified).map(|clear| String::from_utf8(clear).unwrap())
}

#[test]
fn each_file_comes_out_as_from_sops() {
    let all = keys(&["first.agekey", "second.agekey", "ssh.agekey"]);
    let mut names: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.retain(|name| name.contains(".enc."));
    names.sort();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        let clear = String::from_utf8(file(&name.replace(".enc.", ".clear.")).0).unwrap();
        assert_eq!(opened(&name, &all).unwrap_or_else(|error| panic!("{name}: {error}")), clear, "{name}");
    }
}

#[test]
fn a_file_opens_for_each_of_its_keys_and_for_no_other() {
    for key in ["first.agekey", "second.agekey"] {
        assert!(opened("all.enc.yaml", &keys(&[key])).is_ok(), "{key}");
    }
    let error = opened("secret.enc.yaml", &keys(&["second.agekey", "ssh.agekey"])).unwrap_err().to_string();
    assert!(error.starts_with("no key opens it: it is encrypted for age1uhheudu3"), "{error}");
    assert!(error.ends_with("none of the 2 age keys that are here is it"), "{error}");
    let none = opened("secret.enc.yaml", &Keys::default()).unwrap_err().to_string();
    assert!(none.ends_with("there is no age key here"), "{none}");
    // Two of three groups give the data key.
    for (names, expected) in [
        (&["first.agekey", "second.agekey"][..], true),
        (&["second.agekey", "ssh.agekey"], true),
        (&["ssh.agekey"], false),
    ] {
        let opened = opened("groups.enc.yaml", &keys(names));
        assert_eq!(opened.is_ok(), expected, "{names:?}: {opened:?}");
    }
    let few = opened("groups.enc.yaml", &keys(&["ssh.agekey"])).unwrap_err().to_string();
    assert!(few.contains("2 of 3 groups of keys"), "{few}");
}

/// The file with a part of it replaced.
fn changed(name: &str, change: impl Fn(&str) -> String) -> Result<Vec<u8>, SopsError> {
    let (text, format) = file(name);
    let before = String::from_utf8(text).unwrap();
    let after = change(&before);
    assert_ne!(before, after);
    let all = keys(&["first.agekey", "second.agekey", "ssh.agekey"]);
    decrypt(after.as_bytes(), format, format, &all, Mac::Verified)
}

fn line_of<'a>(text: &'a str, key: &str) -> &'a str {
    text.lines().find(|line| line.trim_start().starts_with(key)).unwrap()
}

#[test]
fn what_was_changed_moved_or_cut_off_does_not_open() {
    let error = |result: Result<Vec<u8>, SopsError>| result.unwrap_err().to_string();
    // A value under another key of the file.
    let moved = error(changed("secret.enc.yaml", |text| {
        let (password, number) = (line_of(text, "password:"), line_of(text, "number:"));
        text.replace(password, &password.replace("password", "n"))
            .replace(number, &number.replace("number", "password"))
    }));
    assert!(moved.starts_with("stringData.n: does not open with the file's data key"), "{moved}");
    // A value that is not encrypted changed, was added or removed: only the MAC tells.
    for (from, to) in [
        ("type: Opaque\n", "type: other\n"),
        ("type: Opaque\n", ""),
        ("type: Opaque\n", "type: Opaque\nmore: x\n"),
    ] {
        assert_eq!(
            changed("secret.enc.yaml", |text| text.replace(from, to)),
            Err(SopsError::Mac),
            "{from:?} to {to:?}"
        );
    }
    let removed =
        changed("secret.enc.yaml", |text| text.replace(&format!("{}\n", line_of(text, "password:")), ""));
    assert_eq!(removed, Err(SopsError::Mac));
    // A value in clear where the rule wants it encrypted.
    let clear =
        error(changed("secret.enc.yaml", |text| text.replace(line_of(text, "number:"), "    number: \"1\"")));
    assert_eq!(clear, "stringData.number: is not encrypted, though the file's rules say that it should be");
    // With encryption of a part only, the rest may change.
    let rest = changed("maconly.enc.yaml", |text| text.replace("type: Opaque", "type: other"));
    assert!(rest.is_ok(), "{rest:?}");
    // The sealed key.
    let key = error(changed("secret.enc.yaml", |text| {
        text.replacen("YWdlLWVuY3J5cHRpb24", "YWdlLWVuY3J5cHRpb2x", 1)
    }));
    assert!(key.contains("the age file is broken"), "{key}");
    let cut = error(changed("secret.enc.yaml", |text| text[..text.len() / 2].to_owned()));
    assert!(!cut.is_empty());
    let none = error(changed("secret.enc.yaml", |text| text.split("sops:").next().unwrap().to_owned()));
    assert_eq!(none, "is not encrypted by SOPS: it has no `sops` metadata");
    let rules = error(changed("secret.enc.yaml", |text| {
        text.replace("    encrypted_regex:", "    encrypted_suffix: x\n    encrypted_regex:")
    }));
    assert!(rules.contains("a file has one rule of what is encrypted"), "{rules}");
}

#[test]
fn no_cut_and_no_flipped_byte_makes_it_panic_or_come_out_wrong() {
    let all = keys(&["first.agekey", "second.agekey", "ssh.agekey"]);
    for name in ["secret.enc.yaml", "json.enc.json", "env.enc.env", "ini.enc.ini", "groups.enc.yaml"] {
        let (text, format) = file(name);
        let clear = decrypt(&text, format, format, &all, Mac::Verified).unwrap();
        for at in (0..text.len()).step_by(293) {
            drop(decrypt(&text[..at], format, format, &all, Mac::Verified));
            let mut flipped = text.clone();
            flipped[at] ^= 0x11;
            if let Ok(other) = decrypt(&flipped, format, format, &all, Mac::Verified) {
                // What is no part of a value may change: a comment, a key of nobody here, white space.
                let values = |text: &[u8]| {
                    let text = String::from_utf8_lossy(text).into_owned();
                    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
                    let beside = |line: &str| {
                        line.split(" #ENC[").next().unwrap_or_default().split_whitespace().count()
                    };
                    lines.map(beside).sum::<usize>()
                };
                assert_eq!(values(&other), values(&clear), "{name} at {at}");
            }
        }
    }
}

/// Whoever writes a file chooses for how many keys it says it is.
#[test]
fn more_keys_than_a_file_can_need_are_refused_by_number() {
    let yaml = |keys: usize| {
        let list = "{recipient: a, enc: b},".repeat(keys);
        format!("a: ENC[x]\nsops: {{mac: 'ENC[x]', age: [{list}]}}\n")
    };
    let json = |keys: usize| {
        let list = vec![r#"{"recipient":"a","enc":"b"}"#; keys].join(",");
        format!(r#"{{"a":"ENC[x]","sops":{{"mac":"ENC[x]","age":[{list}]}}}}"#)
    };
    let flat = |keys: usize| -> String {
        (0..keys)
            .map(|n| format!("sops_age__list_{n}__map_enc=b\nsops_age__list_{n}__map_recipient=a\n"))
            .collect()
    };
    let groups = |keys: usize| {
        format!("a: ENC[x]\nsops: {{mac: 'ENC[x]', key_groups: [{}]}}\n", "{age: []},".repeat(keys))
    };
    for (text, format, named) in [
        (yaml(257), Format::Yaml, "age: holds 257 keys, more than 256"),
        (json(257), Format::Json, "age: holds 257 keys, more than 256"),
        (flat(257), Format::Dotenv, "age: holds 257 keys, more than 256"),
        (groups(257), Format::Yaml, "key_groups: holds 257 groups, more than 256"),
    ] {
        let error = decrypt(text.as_bytes(), format, format, &keys(&["first.agekey"]), Mac::Verified);
        assert_eq!(error.unwrap_err().to_string(), format!("its SOPS metadata cannot be read: {named}"));
    }
    // A file of as many keys as there may be, whose names are long, has a message that people can read.
    for name in ["a".to_owned(), "ä".repeat(10_000)] {
        let text = yaml(256).replace("recipient: a", &format!("recipient: {name}"));
        let error = decrypt(text.as_bytes(), Format::Yaml, Format::Yaml, &Keys::default(), Mac::Verified);
        let Err(error @ SopsError::NoKey { .. }) = error else { panic!("{error:?}") };
        let message = error.to_string();
        assert!(message.len() < 8_000, "{}", message.len());
        assert!(message.contains("and 248 more"), "{message}");
    }
}

#[test]
fn files_of_keys_say_what_is_wrong_with_them_and_show_no_key() {
    let error = |text: &str| Keys::default().add_age(text).unwrap_err();
    for (text, expected) in [
        ("", "holds no age key"),
        ("# only a comment\n", "holds no age key"),
        ("\nage1uhheudu3vha9uzs6wrujwdvzxtg07qglmr7xalzyvz6yzx0ajq5qmknznw\n", "line 2: is a public key"),
        ("AGE-PLUGIN-YUBIKEY-1QQ", "line 1: is a key of an age plugin"),
        ("AGE-SECRET-KEY-PQ-1QQ", "line 1: is a post-quantum age key"),
        ("AGE-SECRET-KEY-1SECRETSECRET", "line 1: is not an age key"),
        ("-----BEGIN RSA PRIVATE KEY-----\nSECRET\n", "is not an OpenSSH private key"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nSECRET\n-----END OPENSSH PRIVATE KEY-----", "is "),
    ] {
        let message = error(text);
        assert!(message.starts_with(expected) && !message.contains("SECRETSECRET"), "{text}: {message}");
    }
    assert!(Keys::default().add_age(&"#".repeat(2 << 20)).is_err());
}
