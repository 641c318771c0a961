//! All files of a release: images, packages, programs, chart and manifests, one archive with all of it for places without a network,
//! checksums, and a signature of these.
//!
//! ```text
//!   programs, deploy/ ──► files ──► air gap archive ──► SHA256SUMS ──► SHA256SUMS.sig
//! ```
//! The signature is ECDSA P-256 over SHA-256 in base64, as `cosign verify-blob` and openssl read it; everything but that is a function
//! of the arguments.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};

use crate::architecture::Architecture;
use crate::deb::Package;
use crate::image::{Image, Origin, Program};
use crate::tarball::Tree;

/// The file with the checksums.
pub const SUMS: &str = "SHA256SUMS";
/// The file with its signature.
pub const SIGNATURE: &str = "SHA256SUMS.sig";
const PROGRAMS: [&str; 3] = ["flotilla", "flotilla-agent", "flotilla-hub"];

/// Files by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The files, without checksums. `deploy` is the folder of that name, `more` what else belongs to the release.
///
/// # Errors
/// Where a program is missing or not static, or `deploy` cannot be read.
pub fn files(
    origin: &Origin,
    built: &[(Architecture, Vec<Program>)],
    deploy: &Path,
    prefix: &str,
    more: Files,
) -> anyhow::Result<Files> {
    let (version, seconds) = (&origin.version, origin.seconds);
    let mut files = more;
    for image in Image::ALL {
        let name = format!("{prefix}/{}:{version}", image.name());
        let archive = image.build(origin, built)?.write(Vec::new(), &name, seconds)?;
        files.insert(format!("{}-{version}.oci.tar", image.name()), archive);
    }
    for (architecture, programs) in built {
        let mut tree = Tree::default();
        for name in PROGRAMS {
            let Some((_, content)) = programs.iter().find(|(known, _)| known == name) else {
                bail!("there is no program {name} for {}", architecture.rust());
            };
            tree = tree.program(name, content.as_slice());
        }
        files.insert(format!("flotilla-{version}-linux-{}.tar.gz", architecture.oci()), tree.gzip(seconds)?);
        for package in Package::ALL {
            files
                .insert(package.file(origin, *architecture), package.build(origin, *architecture, programs)?);
        }
    }
    let mut manifests = Tree::default();
    let mut chart = Tree::default();
    for (path, content) in read(deploy, "")? {
        match path.strip_prefix("chart/") {
            Some(of_chart) => chart = chart.file(&format!("flotilla-hub/{of_chart}"), content),
            None => manifests = manifests.file(&format!("flotilla-{version}/{path}"), content),
        }
    }
    files.insert(format!("flotilla-{version}-manifests.tar.gz"), manifests.gzip(seconds)?);
    files.insert(format!("flotilla-hub-{version}.tgz"), chart.gzip(seconds)?);
    let mut all = Tree::default();
    for (name, content) in &files {
        all = all.file(&format!("flotilla-{version}-airgap/{name}"), content.as_slice());
    }
    all = all.file(&format!("flotilla-{version}-airgap/{SUMS}"), sums(&files));
    files.insert(format!("flotilla-{version}-airgap.tar"), all.write(Vec::new(), seconds)?);
    Ok(files)
}

/// The files below a folder, by their path in it.
fn read(folder: &Path, prefix: &str) -> anyhow::Result<Files> {
    let mut found = Files::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        let name = format!("{prefix}{}", path.file_name().unwrap_or_default().to_string_lossy());
        if path.is_dir() {
            found.extend(read(&path, &format!("{name}/"))?);
        } else {
            let content = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            found.insert(name, content);
        }
    }
    Ok(found)
}

/// As `sha256sum --check` reads them.
#[must_use]
pub fn sums(files: &Files) -> String {
    let line = |(name, content): (&String, &Vec<u8>)| {
        let hex: String =
            digest(&SHA256, content).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{hex}  {name}\n")
    };
    files.iter().map(line).collect()
}

/// Signs with a key in PKCS#8, PEM, as `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` makes one.
///
/// # Errors
/// Where it is no such key.
pub fn sign(key: &[u8], text: &str) -> anyhow::Result<String> {
    let pem = pem::parse(key).context("the key is not PEM")?;
    let random = SystemRandom::new();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pem.contents(), &random)
        .map_err(|error| anyhow!("the key is not a P-256 key in PKCS#8 without a password: {error}"))?;
    let signature = pair.sign(&random, text.as_bytes()).map_err(|_| anyhow!("cannot sign"))?;
    Ok(STANDARD.encode(signature.as_ref()) + "\n")
}

#[cfg(test)]
#[path = "bundle_tests.rs"]
mod tests;
