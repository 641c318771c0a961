//! What a Secret holds for a Git server, by the keys that Flux gives a meaning.

use crate::git::spec::GitUrl;
use crate::secret::{Secret, SecretError};

/// How a Git server is told who asks.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct GitAuth {
    pub(crate) basic: Option<(String, String)>,
    pub(crate) bearer: Option<String>,
    /// Private key and known hosts.
    pub(crate) ssh: Option<(String, String)>,
    pub(crate) ca_pem: Option<String>,
}

impl Secret {
    /// For a Git server. An app gets its token from GitHub: of what is said here, only the CA counts for it.
    pub(crate) fn git(&self, url: &GitUrl, is_app: bool) -> Result<GitAuth, SecretError> {
        if is_app {
            return Ok(GitAuth { ca_pem: self.ca()?, ..GitAuth::default() });
        }
        if self.data.keys().any(|key| key.starts_with(super::github::PREFIX)) {
            return Err(self.unusable("githubAppID", "spec.provider is not github"));
        }
        if url.is_ssh() {
            let (identity, hosts) = (self.text("identity")?, self.text("known_hosts")?);
            let hint = "ssh needs identity (a private key) and known_hosts";
            let identity = identity.ok_or_else(|| self.missing("identity", hint))?;
            let hosts = hosts.ok_or_else(|| self.missing("known_hosts", hint))?;
            if self.data.contains_key("password") {
                return Err(self.unusable("password", "keys with a passphrase are not supported"));
            }
            return Ok(GitAuth { ssh: Some((identity, hosts)), ..GitAuth::default() });
        }
        if self.data.contains_key("tls.crt") {
            return Err(self.unusable("tls.crt", "client certificates are not supported for Git"));
        }
        let auth = GitAuth {
            basic: self.basic()?,
            bearer: self.line("bearerToken")?,
            ssh: None,
            ca_pem: self.ca()?,
        };
        if auth == GitAuth::default() {
            let hint = "http(s) needs username and password, or bearerToken, or ca.crt";
            return Err(self.missing("username", hint));
        }
        Ok(auth)
    }
}
