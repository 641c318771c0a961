//! The hub's CAs in a folder: one signs, all are trusted. That is how a CA is replaced without a break:
//!
//! 1. `add`: the new CA is trusted; the hub sends the larger bundle to all agents.
//! 2. `sign_with`: once they have it, the new CA signs; hub and agents renew their certificates.
//! 3. `remove`: once nothing that the old CA signed is in use, it is dropped.
//!
//! The folder holds `HASH.crt` and `HASH.key` (0600) for each CA, and `signing` with the hash of the one that
//! signs. A CA is there once its `.crt` is: the key is written before and removed after it.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Ca, CaHash, TlsError, TrustBundle};
use crate::files;

/// The CAs of a hub; never empty.
#[derive(Debug)]
pub struct CaSet {
    folder: PathBuf,
    /// The signing one first, the others by hash.
    cas: Vec<Ca>,
}

impl CaSet {
    /// Loads the set, or makes the first CA where the folder holds none. Blocking.
    pub fn load_or_create(folder: &Path, now: SystemTime) -> Result<Self, TlsError> {
        files::private_folder(folder)?;
        let mut set = Self { folder: folder.to_owned(), cas: Vec::new() };
        for path in files::list(folder)? {
            if path.extension().is_some_and(|extension| extension == "crt") {
                set.cas.push(load(&path)?);
            }
        }
        match files::read_if_there(&set.signing_path())? {
            Some(signing) => {
                let signing = text(signing, "the name of the signing CA")?.trim().parse()?;
                set.put_first(signing)?;
            }
            None => {
                if set.cas.len() > 1 {
                    return Err(TlsError::CaFolder(format!(
                        "{} holds several CAs and no file \"signing\" with the hash of the one that signs",
                        folder.display()
                    )));
                }
                // None on the first start; one if that start was cut short.
                let first = match set.cas.first() {
                    Some(first) => first.hash(),
                    None => set.add(now)?,
                };
                set.sign_with(first)?;
            }
        }
        Ok(set)
    }

    /// The CA that signs.
    pub fn signing(&self) -> &Ca {
        &self.cas[0]
    }

    /// All CAs, the signing one first.
    pub fn all(&self) -> &[Ca] {
        &self.cas
    }

    /// What agents and hub trust.
    pub fn bundle(&self) -> Result<TrustBundle, TlsError> {
        TrustBundle::new(self.cas.iter().map(|ca| ca.certificate().clone()).collect())
    }

    /// Makes a new CA that is trusted and does not sign yet. Blocking.
    pub fn add(&mut self, now: SystemTime) -> Result<CaHash, TlsError> {
        let ca = Ca::create(now)?;
        let hash = ca.hash();
        files::write_atomic(&self.path(hash, "key"), ca.key_pem().as_bytes(), files::PRIVATE)?;
        files::write_atomic(&self.path(hash, "crt"), ca.certificate_pem().as_bytes(), files::PUBLIC)?;
        self.cas.push(ca);
        Ok(hash)
    }

    /// Lets a CA of the set sign from now on. Blocking.
    pub fn sign_with(&mut self, hash: CaHash) -> Result<(), TlsError> {
        self.find(hash)?;
        files::write_atomic(&self.signing_path(), format!("{hash}\n").as_bytes(), files::PUBLIC)?;
        self.put_first(hash)
    }

    /// Distrusts a CA that does not sign, and forgets its key. Blocking.
    pub fn remove(&mut self, hash: CaHash) -> Result<(), TlsError> {
        let index = self.find(hash)?;
        if index == 0 {
            return Err(TlsError::SigningCa(hash));
        }
        files::remove(&self.path(hash, "crt"))?;
        files::remove(&self.path(hash, "key"))?;
        self.cas.remove(index);
        Ok(())
    }

    fn find(&self, hash: CaHash) -> Result<usize, TlsError> {
        self.cas.iter().position(|ca| ca.hash() == hash).ok_or(TlsError::UnknownCa(hash))
    }

    fn put_first(&mut self, hash: CaHash) -> Result<(), TlsError> {
        self.find(hash)?;
        self.cas.sort_by_key(|ca| (ca.hash() != hash, ca.hash()));
        Ok(())
    }

    fn path(&self, hash: CaHash, extension: &str) -> PathBuf {
        self.folder.join(format!("{hash}.{extension}"))
    }

    fn signing_path(&self) -> PathBuf {
        self.folder.join("signing")
    }
}

fn load(certificate: &Path) -> Result<Ca, TlsError> {
    let key = certificate.with_extension("key");
    let certificate_pem = text(files::read(certificate)?, "a CA's certificate")?;
    let ca = Ca::from_pem(&certificate_pem, &text(files::read(&key)?, "a CA's key")?)?;
    if certificate.file_stem().is_none_or(|stem| stem.to_string_lossy() != ca.hash().to_string()) {
        return Err(TlsError::CaFolder(format!(
            "{} should be named {}.crt, by the hash of its key",
            certificate.display(),
            ca.hash()
        )));
    }
    Ok(ca)
}

fn text(bytes: Vec<u8>, what: &'static str) -> Result<String, TlsError> {
    String::from_utf8(bytes).map_err(|error| TlsError::Malformed { what, reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn hashes(set: &CaSet) -> Vec<CaHash> {
        set.all().iter().map(Ca::hash).collect()
    }

    #[test]
    fn a_set_is_made_once_rotated_and_loaded_again() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("ca");
        let load = || CaSet::load_or_create(&path, SystemTime::now());
        let mut set = load()?;
        let old = set.signing().hash();
        assert_eq!(hashes(&load()?), [old]);
        let mode = std::fs::metadata(set.path(old, "key"))?.permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let new = set.add(SystemTime::now())?;
        assert_eq!((load()?.signing().hash(), load()?.all().len()), (old, 2));
        assert!(matches!(set.remove(old), Err(TlsError::SigningCa(hash)) if hash == old));
        set.sign_with(new)?;
        assert_eq!(hashes(&load()?), [new, old]);
        assert_eq!(load()?.bundle()?.hashes(), [new, old]);
        set.remove(old)?;
        assert_eq!(hashes(&load()?), [new]);
        assert!(!set.path(old, "key").exists());
        assert!(matches!(set.sign_with(old), Err(TlsError::UnknownCa(_))));
        Ok(())
    }

    #[test]
    fn a_first_start_that_was_cut_short_is_taken_up_and_a_broken_folder_is_refused() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let load = || CaSet::load_or_create(folder.path(), SystemTime::now());
        let mut set = load()?;
        let first = set.signing().hash();
        std::fs::remove_file(set.signing_path())?;
        assert_eq!(hashes(&load()?), [first]);

        set.add(SystemTime::now())?;
        std::fs::remove_file(set.signing_path())?;
        assert!(load().unwrap_err().to_string().contains("no file \"signing\""));
        std::fs::write(set.signing_path(), CaHash::of(b"unknown").to_string())?;
        assert!(matches!(load(), Err(TlsError::UnknownCa(_))));

        set.sign_with(first)?;
        std::fs::write(set.path(first, "key"), Ca::create(SystemTime::now())?.key_pem())?;
        assert!(matches!(load(), Err(TlsError::KeyMismatch(_))));
        std::fs::remove_file(set.path(first, "key"))?;
        assert!(load().unwrap_err().to_string().contains(&format!("{first}.key")), "a lost key is no new CA");
        Ok(())
    }
}
