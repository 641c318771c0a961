//! Over ssh, with the real `ssh` program and a real `sshd` of the test's own.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use flotilla_source::{Credentials, FetchError, GitRepo, Reach};

use crate::support::{Remote, fetch, spec};

/// Where Debian and others put it; it insists on being called by its full path.
const SSHD: &str = "/usr/sbin/sshd";

/// A server that takes one key. Ended on drop.
struct Sshd {
    process: Child,
    port: u16,
    folder: PathBuf,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn new_key(path: &Path) -> Result<String> {
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status()?;
    ensure!(made.success(), "ssh-keygen: {made}");
    Ok(fs::read_to_string(path.with_extension("pub"))?)
}

impl Sshd {
    fn start(folder: &Path) -> Result<Self> {
        let host = new_key(&folder.join("host"))?;
        fs::write(folder.join("authorized"), new_key(&folder.join("person"))?)?;
        new_key(&folder.join("stranger"))?;
        // Taken again at once by the server below.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        fs::write(folder.join("known"), format!("[127.0.0.1]:{port} {host}"))?;
        let other = fs::read_to_string(folder.join("stranger.pub"))?;
        fs::write(folder.join("other-known"), format!("[127.0.0.1]:{port} {other}"))?;
        let file = |name: &str| folder.join(name).display().to_string();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n",
            file("host"),
            file("authorized")
        );
        fs::write(folder.join("config"), config)?;
        if fs::metadata("/run/sshd").is_err() {
            // Where it confines itself before a login; made by its service where that runs.
            drop(
                fs::create_dir("/run/sshd")
                    .and_then(|()| fs::set_permissions("/run/sshd", fs::Permissions::from_mode(0o755))),
            );
        }
        let log = fs::File::create(folder.join("log"))?;
        let process = Command::new(SSHD)
            .args(["-D", "-e", "-f"])
            .arg(folder.join("config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let mut server = Self { process, port, folder: folder.to_owned() };
        server.answers()?;
        Ok(server)
    }

    fn answers(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = || fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            if let Some(status) = self.process.try_wait()? {
                bail!("sshd ended with {status}: {}", log());
            }
            ensure!(Instant::now() < deadline, "sshd does not listen: {}", log());
            std::thread::yield_now();
        }
        Ok(())
    }

    /// A clone of `remote` by this key, which believes these hosts' keys.
    fn clone_with(&self, remote: &Remote, key: &str, known_hosts: &str) -> Result<GitRepo> {
        let user = String::from_utf8(Command::new("id").arg("-un").output()?.stdout)?;
        let url = format!("ssh://{}@127.0.0.1:{}{}", user.trim(), self.port, remote.dir.display());
        let mut wanted = spec(&url);
        wanted.credentials = Some(Credentials::SshKey {
            private_key: self.folder.join(key),
            known_hosts: Some(self.folder.join(known_hosts)),
        });
        Ok(GitRepo::open(self.folder.join(format!("clone-{key}-{known_hosts}")), wanted)?)
    }
}

#[test]
fn a_real_server_gives_commits_to_the_right_key_only() -> Result<()> {
    if !Path::new(SSHD).exists() {
        flotilla_leftout::note(SSHD, "install it (Debian: openssh-server)");
        return Ok(());
    }
    let tmp = tempfile::tempdir()?;
    let remote = Remote::empty(tmp.path().join("remote"))?;
    let first = remote.put("a", "1")?;
    let server = Sshd::start(tmp.path())?;
    let mut repo = server.clone_with(&remote, "person", "known")?;
    ensure!(fetch(&mut repo)? == first);
    let second = remote.put("a", "2")?;
    ensure!(fetch(&mut repo)? == second);

    // What a hub does: it looks at the address itself, and the host's key is still known by the name and port.
    let mut pinned = repo.spec().clone();
    for (n, (allowed, fetched)) in [(Some("127.0.0.1"), true), (None, false)].into_iter().enumerate() {
        pinned.reach = Reach::Public(allowed.map(str::parse).transpose()?.into_iter().collect());
        let got = fetch(&mut GitRepo::open(tmp.path().join(format!("pinned-{n}")), pinned.clone())?);
        match got {
            Ok(commit) => ensure!(fetched && commit == second),
            Err(error) => ensure!(!fetched && matches!(error, FetchError::OutOfReach { .. }), "{error}"),
        }
    }

    for (key, known_hosts, says) in [
        ("stranger", "known", "Permission denied"),
        ("person", "other-known", "Host key verification failed"),
    ] {
        let error = fetch(&mut server.clone_with(&remote, key, known_hosts)?).unwrap_err();
        ensure!(matches!(error, FetchError::CredentialsRefused { .. }), "{error}");
        ensure!(error.to_string().contains(says), "{error}");
    }
    drop(server);
    let error = fetch(&mut repo).unwrap_err();
    ensure!(matches!(error, FetchError::Unreachable { .. }), "{error}");
    ensure!(error.to_string().contains("Connection refused"), "{error}");
    Ok(())
}
