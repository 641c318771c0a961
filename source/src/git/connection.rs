//! How a remote is reached: the `ssh` program with its options, the HTTP client, and whether it may be reached at all.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gix::protocol::transport::client::blocking_io::http;

use super::error::FetchError;
use super::spec::{Credentials, GitLimits, GitSpec};
use crate::http::HttpError;
use crate::peer::guarded;
use crate::reach::Reach;

/// A server that says nothing for this long is away.
pub(super) const SILENCE: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(15);

/// Where the `ssh` program says what went wrong, beside the clones.
pub(super) const SSH_LOG: &str = "ssh.log";

pub(super) type Backend = Option<Arc<Mutex<dyn std::any::Any + Send + Sync>>>;

/// Git configuration, in memory only, for all conversations.
pub(super) fn config(limits: &GitLimits) -> Vec<String> {
    let objects = format!("gitoxide.objects.allocLimit={}", limits.object_bytes);
    vec!["ssh.variant=ssh".into(), "protocol.version=2".into(), objects]
}

/// The `ssh` program with its options for one conversation. `dir` is the clone's. Where not everything may be talked to,
/// neither the configuration of who runs this nor a second look-up of the name decides where the connection leads:
/// `address` is what was looked at.
pub(super) fn ssh_command(spec: &GitSpec, dir: &Path, address: Option<IpAddr>) -> String {
    // No prompts; a dead connection ends by itself.
    let mut ssh = format!(
        "ssh -o BatchMode=yes -o ConnectTimeout={} -o ServerAliveInterval=10 -o ServerAliveCountMax=3 \
         -o LogLevel=ERROR -E {}",
        CONNECT.as_secs(),
        quoted(&dir.with_file_name(SSH_LOG))
    );
    if let Some(address) = address {
        // The name stays the one under which the host's key is known.
        let host = spec.url.host().unwrap_or_default();
        let known_as = match spec.url.port().filter(|port| *port != 22) {
            Some(port) => format!("[{host}]:{port}"),
            None => host.to_owned(),
        };
        ssh.push_str(&format!(
            " -F none -o HostName={address} -o HostKeyAlias={} -o CheckHostIP=no -o ProxyCommand=none \
             -o PermitLocalCommand=no -o ClearAllForwardings=yes -o ForwardAgent=no -o UpdateHostKeys=no",
            quoted(Path::new(&known_as))
        ));
    }
    if let Some(Credentials::SshKey { private_key, known_hosts }) = spec.credentials() {
        ssh.push_str(&format!(" -o IdentitiesOnly=yes -i {}", quoted(private_key)));
        if let Some(known_hosts) = known_hosts {
            let hosts = quoted(known_hosts);
            ssh.push_str(&format!(" -o StrictHostKeyChecking=yes -o GlobalKnownHostsFile=/dev/null -o UserKnownHostsFile={hosts}"));
        }
    }
    ssh
}

/// For a shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

/// Without the program, a shell would say so where nobody sees it.
pub(super) fn check_program(spec: &GitSpec) -> Result<(), FetchError> {
    let program = match () {
        () if spec.url.is_file() => "git",
        () if spec.url.is_ssh() => "ssh",
        () => return Ok(()),
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|dir| dir.join(program).is_file()) {
        return Ok(());
    }
    Err(FetchError::MissingProgram { url: spec.url.to_string(), program })
}

/// Where http looks at each address as it connects, the others are looked at before. The address that ssh has to
/// connect to, where that matters.
pub(super) fn check_reach(spec: &GitSpec) -> Result<Option<IpAddr>, FetchError> {
    let (host, folder) = (spec.url.host().unwrap_or_default(), spec.url.folder());
    let refused = |reason: String| FetchError::OutOfReach { url: spec.url.to_string(), reason };
    let is_pinned = spec.url.is_ssh() && spec.reach != Reach::Anything;
    let checked = match folder {
        Some(folder) => spec.reach.check_folder(&folder).map(|()| None),
        None if is_pinned => spec.reach.addresses(host).map(|found| found.first().map(SocketAddr::ip)),
        None => spec.reach.check_literal(host).map(|()| None),
    };
    let address = checked.map_err(|error| refused(error.to_string()))?;
    // The ssh program would show the keys of whoever runs it: not for whoever writes an address into a repository.
    if is_pinned && spec.credentials().is_none() {
        return Err(refused("ssh needs a key, and there is none for this address; use https".to_owned()));
    }
    Ok(address)
}

/// TLS by rustls with ring, trusting the system's roots and those of the spec.
pub(super) fn http_backend(spec: &GitSpec) -> Result<Backend, FetchError> {
    if spec.url.is_file() || spec.url.is_ssh() {
        return Ok(None);
    }
    let bad_ca = |reason: String| FetchError::BadCa { url: spec.url.to_string(), reason };
    let pem = spec.ca_pem.as_deref().unwrap_or_default();
    let roots =
        reqwest::Certificate::from_pem_bundle(pem.as_bytes()).map_err(|error| bad_ca(error.to_string()))?;
    if roots.is_empty() && spec.ca_pem.is_some() {
        return Err(bad_ca("there is no certificate in them".into()));
    }
    // The HTTP client takes the process's provider; whoever installed one already keeps it.
    rustls::crypto::ring::default_provider().install_default().ok();
    let plain = spec.url.is_plain_http();
    let silence = SILENCE.min(spec.limits.timeout);
    let reach = spec.reach.clone();
    let unusable =
        |error: HttpError| FetchError::Unreachable { url: spec.url.to_string(), reason: error.to_string() };
    let proxy = spec.proxy.as_ref().map(|proxy| proxy.client(&spec.reach)).transpose().map_err(unusable)?;
    let options = http::reqwest::Options {
        configure_client: Some(Box::new(move |builder| {
            let builder = builder.timeout(silence).connect_timeout(CONNECT.min(silence));
            let mut builder = guarded(builder, &reach);
            if let Some(proxy) = &proxy {
                builder = builder.proxy(proxy.clone());
            }
            // Plain http must work where the system has no roots at all.
            Ok(if plain { builder.tls_certs_only([]) } else { builder.tls_certs_merge(roots.clone()) })
        })),
        configure_request: None,
    };
    Ok(Some(Arc::new(Mutex::new(options))))
}
