use serde_json::{Value, json};

use super::super::{Ask, Servers};
use super::*;
use crate::{Format, Keys, Mac, SopsError, decrypt};

const SECRET: &str = include_str!("../../tests/recorded/secret.enc.yaml");
const CLEAR: &str = include_str!("../../tests/recorded/secret.clear.yaml");
/// The data key of [`SECRET`] in base64, as KMS gives it.
const DATA_KEY: &str = include_str!("../../tests/recorded/secret.data-key");
const ARN: &str = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
const ADDRESS: &str = "https://kms.eu-west-1.amazonaws.com";
const CREDENTIALS: &str = "aws_access_key_id: AKIAEXAMPLE\naws_secret_access_key: very/secret+key\n";

/// A file that sops encrypted, with this key in the place of its age keys.
fn file(arn: &str, more: &str) -> String {
    let (before, rest) = SECRET.split_once("    age:\n").unwrap();
    let (_, after) = rest.split_once("    encrypted_regex:").unwrap();
    format!(
        "{before}    kms:\n        - arn: {arn}\n{more}          created_at: \"2026-12-02T00:00:00Z\"\n          enc: \
         c2VhbGVk\n          aws_profile: \"\"\n    encrypted_regex:{after}"
    )
}

fn keys(text: &str) -> Keys {
    let mut keys = Keys::default();
    keys.add_aws_credentials(text).unwrap();
    keys
}

fn open(text: &str, keys: &Keys) -> Result<String, SopsError> {
    let clear = decrypt(text.as_bytes(), Format::Yaml, Format::Yaml, keys, Mac::Verified)?;
    Ok(String::from_utf8(clear).unwrap())
}

fn only_ask(text: &str, keys: &Keys) -> Ask {
    let error = open(text, keys).unwrap_err();
    let [ask] = error.asks().unwrap_or_else(|| panic!("{error}")) else { panic!("{error}") };
    ask.clone()
}

fn servers() -> Servers {
    Servers::new([ADDRESS.parse().unwrap()])
}

fn now() -> Timestamp {
    "2026-12-03T01:02:03Z".parse().unwrap()
}

#[test]
fn a_file_for_kms_opens_with_what_kms_answers() {
    let text = file(ARN, "          context:\n            app: web\n");
    let ask = only_ask(&text, &keys(CREDENTIALS));
    let request = ask.request(&servers(), now()).unwrap();
    assert_eq!((request.method, request.url.as_str()), ("POST", "https://kms.eu-west-1.amazonaws.com/"));
    let header = |name: &str| {
        let found = request.headers.iter().find(|(other, _)| *other == name);
        found.unwrap_or_else(|| panic!("no {name}")).1.to_string()
    };
    assert_eq!(header("content-type"), "application/x-amz-json-1.1");
    assert_eq!(header("x-amz-target"), "TrentService.Decrypt");
    assert_eq!(header("x-amz-date"), "20261203T010203Z");
    let authorization = header("authorization");
    let scope = "Credential=AKIAEXAMPLE/20261203/eu-west-1/kms/aws4_request, \
                 SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date;x-amz-target, Signature=";
    assert!(authorization.contains(scope) && !authorization.contains("very/secret"), "{authorization}");
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body, json!({"CiphertextBlob": "c2VhbGVk", "EncryptionContext": {"app": "web"}}));

    let answer =
        json!({"KeyId": ARN, "Plaintext": DATA_KEY.trim(), "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"});
    let keys = keys(CREDENTIALS);
    let opened = keys.asking(
        |keys| open(&text, keys),
        SopsError::asks,
        |ask| ask.data_key(200, answer.to_string().as_bytes()),
    );
    assert_eq!(opened.unwrap(), CLEAR);
}

#[test]
fn another_context_session_or_key_is_another_question() {
    let session = format!("{CREDENTIALS}aws_session_token: for-a-time\n");
    let plain = only_ask(&file(ARN, ""), &keys(CREDENTIALS));
    let other = "arn:aws-cn:kms:cn-north-1:111122223333:alias/team/web";
    let asks = [
        plain.clone(),
        only_ask(&file(ARN, ""), &keys(&session)),
        only_ask(&file(ARN, "          context:\n            app: web\n"), &keys(CREDENTIALS)),
        only_ask(&file(other, ""), &keys(CREDENTIALS)),
    ];
    for (at, ask) in asks.iter().enumerate() {
        assert!(asks[at + 1..].iter().all(|other| other.id() != ask.id()), "{ask}");
    }
    let body = plain.request(&servers(), now()).unwrap().body;
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), json!({"CiphertextBlob": "c2VhbGVk"}));
    let sent = asks[1].request(&servers(), now()).unwrap().headers;
    let token = sent.iter().find(|(name, _)| *name == "x-amz-security-token");
    assert_eq!(token.map(|(_, value)| value.as_str()), Some("for-a-time"));
    let china = Servers::new(["https://kms.cn-north-1.amazonaws.com.cn".parse().unwrap()]);
    assert_eq!(
        asks[3].request(&china, now()).unwrap().url.as_str(),
        "https://kms.cn-north-1.amazonaws.com.cn/"
    );
}

#[test]
fn nobody_is_asked_whom_the_operator_did_not_allow() {
    let refused = |arn: &str, more: &str| {
        let asked = only_ask(&file(arn, more), &keys(CREDENTIALS)).request(&servers(), now());
        asked.err().unwrap_or_else(|| panic!("{arn} is asked"))
    };
    for (arn, says) in [
        (
            "arn:aws:kms:us-east-1:111122223333:key/a",
            "--allow-key-service https://kms.us-east-1.amazonaws.com",
        ),
        ("arn:aws:kms:evil.example/:111122223333:key/a", "is not the ARN of a key"),
        ("arn:aws:kms:eu-west-1@evil:111122223333:key/a", "is not the ARN of a key"),
        ("'arn:aws:kms::111122223333:key/a'", "is not the ARN of a key"),
        ("arn:aws:kms:eu-west-1:x:key/a", "is not the ARN of a key"),
        ("arn:aws:kms:eu-west-1:111122223333:role/a", "is not the ARN of a key"),
        ("'arn:aws:kms:eu-west-1:111122223333:key/'", "is not the ARN of a key"),
        ("arn:aws:s3:eu-west-1:111122223333:key/a", "is not the ARN of a key"),
        (
            "arn:aws-iso:kms:us-iso-east-1:111122223333:key/a",
            "partition 'aws-iso' of its ARN is not supported",
        ),
        ("1234abcd", "is not the ARN of a key"),
    ] {
        let why = refused(arn, "");
        assert!(why.contains(says), "{arn}: {why}");
    }
    let role = refused(ARN, "          role: arn:aws:iam::111122223333:role/ci\n");
    assert!(role.contains("would have to be taken on first, which is not supported"), "{role}");
    let bad = open(&file(ARN, "          context: [x]\n"), &keys(CREDENTIALS)).unwrap_err().to_string();
    assert!(bad.contains("kms[0].context: is not a mapping"), "{bad}");
    let bad =
        open(&file(ARN, "          context: {a: {b: c}}\n"), &keys(CREDENTIALS)).unwrap_err().to_string();
    assert!(bad.contains("kms[0].context.a: is not text"), "{bad}");
}

#[test]
fn what_kms_does_not_open_says_what_kms_said() {
    let text = file(ARN, "");
    for (status, body, says) in [
        (
            400,
            r#"{"__type":"AccessDeniedException","message":"User: x is not authorized"}"#,
            "HTTP 400: AccessDeniedException: User: x is not authorized; see that the credentials may use kms:Decrypt",
        ),
        (
            400,
            r#"{"__type":"com.amazonaws.kms#ExpiredTokenException","Message":"old"}"#,
            "the session of the credentials is over",
        ),
        (
            400,
            r#"{"__type":"InvalidCiphertextException"}"#,
            "HTTP 400: InvalidCiphertextException; the key or the context",
        ),
        (400, r#"{"__type":"NotFoundException","message":"no"}"#, "no such key in that region"),
        (503, "<html>", "it answered HTTP 503"),
        (200, "{}", "something else than a key"),
        (200, r#"{"Plaintext":"%%"}"#, "something else than a key"),
        (200, r#"{"Plaintext":"c2hvcnQ="}"#, "not a data key of 32 bytes"),
    ] {
        let asked = keys(CREDENTIALS).asking(
            |keys| open(&text, keys),
            SopsError::asks,
            |ask| ask.data_key(status, body.as_bytes()),
        );
        let error = asked.unwrap_err().to_string();
        assert!(error.contains(says) && !error.contains("very/secret"), "{says}: {error}");
    }
    let none = open(&text, &Keys::default()).unwrap_err().to_string();
    assert!(none.contains("there are no credentials of AWS here"), "{none}");
}

#[test]
fn credentials_are_a_mapping_of_words() {
    for (text, says) in [
        ("aws_access_key_id: a\n", "has no aws_secret_access_key"),
        ("aws_secret_access_key: a\n", "has no aws_access_key_id"),
        ("aws_access_key_id: 'a b'\naws_secret_access_key: hidden\n", "aws_access_key_id should be one word"),
        (
            "aws_access_key_id: a\naws_secret_access_key: \"hid\\nden\"\n",
            "aws_secret_access_key should be one word",
        ),
        ("hidden: [", "is not YAML"),
        ("", "has no aws_access_key_id"),
        (&"x".repeat(MOST_CREDENTIALS + 1), "has more than"),
    ] {
        let error = Keys::default().add_aws_credentials(text).unwrap_err();
        assert!(error.contains(says) && !error.contains("hid"), "{says}: {error}");
    }
    assert!(!keys(CREDENTIALS).is_empty() && Keys::default().is_empty());
}
