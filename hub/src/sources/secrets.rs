//! Secrets that sources name, from a folder of mounted files: `[SCOPE/]NAMESPACE/NAME/KEY`, as Kubernetes mounts them.
//!
//! SCOPE is `cluster.NAME` or `group.NAME`; without one a secret is for the whole fleet. That of a cluster wins, then
//! that of a group. The files are read each time that they are asked for, so a change counts at once.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use flotilla_source::flux::Secret;

use super::Scope;

/// A value larger than this is no secret.
const LARGEST: u64 = 1 << 20;

/// A secret cannot be read, though it may be there.
#[derive(Debug, thiserror::Error)]
pub enum SecretLookupError {
    #[error("cannot read the mounted secret {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the mounted secret {0} is larger than 1 MiB")]
    TooLarge(PathBuf),
}

/// A folder of mounted secrets.
#[derive(Debug, Clone)]
pub struct MountedSecrets {
    root: PathBuf,
}

impl MountedSecrets {
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The secret of this name in the first of the scopes that has one.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn find(
        &self,
        scopes: &[Scope],
        namespace: &str,
        name: &str,
    ) -> Result<Option<Secret>, SecretLookupError> {
        if !is_plain(namespace) || !is_plain(name) {
            return Ok(None);
        }
        for scope in scopes {
            let scope = match scope {
                Scope::Fleet => self.root.clone(),
                scope => self.root.join(scope.to_string()),
            };
            if let Some(data) = read(&scope.join(namespace).join(name))? {
                return Ok(Some(Secret { name: format!("{namespace}/{name}"), data }));
            }
        }
        Ok(None)
    }

    /// The groups that have a secret of this name.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn groups(&self, namespace: &str, name: &str) -> Result<Vec<String>, SecretLookupError> {
        let failed = |source| SecretLookupError::Read { path: self.root.clone(), source };
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut groups = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let group =
                entry.file_name().to_str().and_then(|name| name.strip_prefix("group.")).map(str::to_owned);
            let path = entry.path().join(namespace).join(name);
            let there = is_plain(namespace) && is_plain(name) && is_there(&path).map_err(failed)?;
            groups.extend(group.filter(|_| there));
        }
        Ok(groups)
    }
}

/// Whether a folder is there. Beside the folders of groups may stand files, which have nothing below them.
fn is_there(path: &Path) -> io::Result<bool> {
    match path.try_exists() {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
        answer => answer,
    }
}

/// Whether a name cannot lead out of its folder.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && !text.contains('/') && !text.starts_with('.')
}

/// The keys of a mounted secret. What begins with a dot is Kubernetes' own.
fn read(folder: &Path) -> Result<Option<BTreeMap<String, Vec<u8>>>, SecretLookupError> {
    let failed = |path: &Path, source| SecretLookupError::Read { path: path.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(folder, error)),
    };
    let mut data = BTreeMap::new();
    for entry in entries {
        let entry = entry.map_err(|error| failed(folder, error))?;
        let path = entry.path();
        let Some(key) = entry.file_name().to_str().filter(|name| !name.starts_with('.')).map(str::to_owned)
        else {
            continue;
        };
        let metadata = fs::metadata(&path).map_err(|error| failed(&path, error))?;
        if !metadata.is_file() {
            continue;
        }
        if metadata.len() > LARGEST {
            return Err(SecretLookupError::TooLarge(path));
        }
        data.insert(key, fs::read(&path).map_err(|error| failed(&path, error))?);
    }
    Ok(Some(data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_a_cluster_win_over_those_of_the_fleet() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("team/git/username", "fleet");
        write("team/git/..data/username", "hidden");
        write("cluster.edge/team/git/username", "edge");
        write("group.west/team/git/username", "group");
        let secrets = MountedSecrets::new(dir.path().to_owned());
        let find = |cluster: &str, namespace: &str, name: &str| {
            let group = (cluster == "other-west").then(|| "group.west".parse().unwrap());
            let own = [format!("cluster.{cluster}").parse().unwrap()].into_iter();
            let scopes: Vec<Scope> = own.chain(group).chain([Scope::Fleet]).collect();
            let found = secrets.find(&scopes, namespace, name).unwrap();
            found.map(|secret| secret.data.into_iter().collect::<Vec<_>>())
        };
        let username = |value: &str| Some(vec![("username".to_owned(), value.as_bytes().to_vec())]);
        assert_eq!(find("edge", "team", "git"), username("edge"));
        assert_eq!(find("other", "team", "git"), username("fleet"));
        assert_eq!(find("other-west", "team", "git"), username("group"));
        assert_eq!(secrets.groups("team", "git").unwrap(), ["west"]);
        assert!(secrets.groups("team", "none").unwrap().is_empty());
        for (namespace, name) in [("team", "none"), ("..", "team"), ("team", "../git"), ("", "team")] {
            assert_eq!(find("edge", namespace, name), None, "{namespace}/{name}");
        }
        write("team/git/username", "changed");
        assert_eq!(find("other", "team", "git"), username("changed"));
    }
}
