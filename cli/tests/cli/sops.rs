//! Files that SOPS encrypts, changed without `sops`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::ensure;

use crate::{Ran, flotilla};

const KEY: &str = include_str!("../../../sops/tests/recorded/first.agekey");
const OTHER: &str = include_str!("../../../sops/tests/recorded/second.agekey");
const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata:\n    name: db\nstringData:\n    password: s3cret\n    user: web\n";

fn public(key: &str) -> &str {
    key.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap()
}

/// Runs `flotilla secret …` in a folder, with the key at hand.
async fn secret(folder: &Path, args: &[&str]) -> anyhow::Result<Ran> {
    let mut command = flotilla(&[&["secret"], args].concat());
    command.current_dir(folder).env("SOPS_AGE_KEY_FILE", folder.join("age.key"));
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("EDITOR", folder.join("editor.sh"));
    Ok(command.output().await?.into())
}

fn world() -> anyhow::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("age.key"), KEY)?;
    fs::write(folder.path().join("secret.yaml"), SECRET)?;
    Ok(folder)
}

fn text(folder: &Path) -> String {
    fs::read_to_string(folder.join("secret.yaml")).unwrap()
}

#[tokio::test]
async fn a_file_is_encrypted_edited_given_to_others_and_decrypted() -> anyhow::Result<()> {
    let folder = world()?;
    let at = folder.path();
    let rules = format!(
        "creation_rules:\n- path_regex: other\\.yaml$\n  pgp: ABCD\n- path_regex: \\.yaml$\n  encrypted_regex: ^(data|stringData)$\n  age: {}\n",
        public(KEY)
    );
    fs::write(at.join(".sops.yaml"), &rules)?;
    let printed = secret(at, &["encrypt", "secret.yaml"]).await?;
    ensure!(printed.code == 0 && printed.stdout.contains("name: db") && text(at) == SECRET, "{printed:?}");
    ensure!(secret(at, &["encrypt", "secret.yaml", "--in-place"]).await?.code == 0, "in place");
    let first = text(at);
    ensure!(!first.contains("s3cret") && first.contains("kind: Secret"), "{first}");
    ensure!(secret(at, &["decrypt", "secret.yaml"]).await?.stdout == SECRET, "decrypted");

    // An editor that changes one value; and one that fails.
    let editor = |script: &str| -> anyhow::Result<()> {
        fs::write(at.join("editor.sh"), format!("#!/bin/sh\n{script}\n"))?;
        Ok(fs::set_permissions(at.join("editor.sh"), fs::Permissions::from_mode(0o755))?)
    };
    editor("sed -i s/web/worker/ \"$1\"")?;
    let edited = secret(at, &["edit", "secret.yaml"]).await?;
    ensure!(edited.code == 0, "{edited:?}");
    let second = text(at);
    let line = |text: &str, key: &str| text.lines().find(|line| line.contains(key)).map(str::to_owned);
    ensure!(line(&first, "password:") == line(&second, "password:"), "what was not edited stays");
    ensure!(line(&first, "user:") != line(&second, "user:"), "what was edited does not");
    editor("exit 3")?;
    let failed = secret(at, &["edit", "secret.yaml"]).await?;
    ensure!(
        failed.code != 0 && failed.stderr.contains("nothing was changed") && text(at) == second,
        "{failed:?}"
    );
    editor("true")?;
    let same = secret(at, &["edit", "secret.yaml"]).await?;
    ensure!(same.code == 0 && same.stderr.contains("did not change") && text(at) == second, "{same:?}");

    ensure!(secret(at, &["rotate", "secret.yaml", "-i"]).await?.code == 0, "rotated");
    ensure!(line(&text(at), "password:") != line(&second, "password:"), "under another data key");
    ensure!(
        secret(at, &["updatekeys", "secret.yaml", "-i", "--age", public(OTHER)]).await?.code == 0,
        "keys"
    );
    let shut = secret(at, &["decrypt", "secret.yaml"]).await?;
    ensure!(
        shut.code != 0 && shut.stderr.contains("cannot decrypt secret.yaml: no key opens it"),
        "{shut:?}"
    );
    fs::write(at.join("other.key"), OTHER)?;
    let open = secret(at, &["decrypt", "secret.yaml", "--age-key-file", "other.key"]).await?;
    ensure!(open.stdout == SECRET.replace("web", "worker"), "{open:?}");
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_done_is_said_and_leaves_the_file_as_it_is() -> anyhow::Result<()> {
    let folder = world()?;
    let at = folder.path();
    fs::write(
        at.join("rules.yaml"),
        "creation_rules:\n- path_regex: secret\n  kms: arn:aws:kms:x\n- path_regex: '('\n",
    )?;
    let own = public(KEY);
    for (args, expected) in [
        (&["encrypt", "secret.yaml"][..], "there is no .sops.yaml beside secret.yaml or above it"),
        (
            &["encrypt", "secret.yaml", "--config", "rules.yaml"],
            "rules.yaml:3:8: kms: only age keys are supported; use `sops` for others",
        ),
        (&["encrypt", "x", "--age", own], "cannot read x"),
        (
            &["encrypt", "secret.yaml", "--age", "age1nothing"],
            "--age: 'age1nothing' is not the public key of an age key",
        ),
        (&["encrypt", "secret.yaml", "--age", own, "--encrypted-regex", "("], "encrypted_regex"),
        (&["decrypt", "secret.yaml"], "cannot decrypt secret.yaml: is not encrypted by SOPS"),
        (&["rotate", "-i", "secret.yaml"], "cannot encrypt secret.yaml: is not encrypted by SOPS"),
        (
            &["decrypt", "secret.yaml", "--age-key-file", "secret.yaml"],
            "cannot take the age keys of secret.yaml: line 1: is not an age key",
        ),
    ] {
        let ran = secret(at, args).await?;
        ensure!(ran.code != 0 && ran.stderr.contains(expected), "{args:?}: {ran:?}");
        ensure!(text(at) == SECRET, "{args:?}");
    }
    // None of the keys that it looks for is there.
    let none = flotilla(&["secret", "decrypt", "secret.yaml"]).current_dir(at).output().await?;
    let none = Ran::from(none);
    ensure!(none.code != 0 && none.stderr.contains("there is no age key"), "{none:?}");
    Ok(())
}
