//! A file that SOPS encrypted, a file to be encrypted, and a file of age keys: whatever it holds, it is read within its bounds, and
//! what was encrypted here opens again.

use flotilla_sops::age::Recipient;
use flotilla_sops::{Format, Keys, Mac, Recipe, decrypt, encrypt};

const KEY: &str = include_str!("../../sops/tests/recorded/first.agekey");
const FORMATS: [Format; 5] = [Format::Yaml, Format::Json, Format::Dotenv, Format::Ini, Format::Binary];

pub fn run(bytes: &[u8]) {
    let mut keys = Keys::default();
    keys.add_age(KEY).expect("it is a key");
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Keys::default().add_age(text);
        let _ = Keys::default().add_aws_credentials(text);
        let _ = Recipient::parse(text);
    }
    let public =
        KEY.lines().find_map(|line| line.strip_prefix("# public key: ")).expect("it names its public key");
    let recipe = Recipe {
        groups: vec![vec![Recipient::parse(public).expect("it is a public key")]],
        ..Recipe::default()
    };
    for format in FORMATS {
        let _ = decrypt(bytes, format, format, &keys, Mac::Ignored);
        let mut state = 0u8;
        let mut random = |bytes: &mut [u8]| {
            for byte in bytes {
                state = state.wrapping_mul(5).wrapping_add(17);
                *byte = state;
            }
        };
        if let Ok(sealed) = encrypt(bytes, format, &recipe, "2026-12-02T10:00:00Z", &mut random) {
            let opened = decrypt(&sealed, format, format, &keys, Mac::Verified);
            // A comment that looks encrypted stays one, and so changes what its file may be written as.
            let is_lost = bytes.windows(4).any(|part| part == b"ENC[");
            match opened {
                Ok(clear) => assert!(format != Format::Binary || clear == bytes, "it comes back"),
                Err(error) => assert!(is_lost, "{format:?} does not open again: {error}"),
            }
        }
    }
}
