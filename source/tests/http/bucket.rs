//! `Bucket` objects against a real S3 server.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use flotilla_core::source::{Bucket, SecretName, SourceSpec};
use flotilla_kustomize::files::{Files, Kind, TreePath};
use flotilla_source::Reach;
use flotilla_source::flux::{Fetcher, Policy, Secret, Secrets, Wanted};

use crate::support::{Front, Gate, program};

const GOFAKES3: &str = "github.com/johannesboyne/gofakes3/cmd/gofakes3@v1.2.0";

/// A server with the bucket `fleet`.
pub(crate) struct S3 {
    child: Child,
    pub(crate) host: String,
}

impl S3 {
    pub(crate) fn start() -> Result<Self> {
        let host = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.to_string();
        let child = Command::new(program("gofakes3", GOFAKES3)?)
            .args(["-backend", "memory", "-initialbucket", "fleet", "-quiet", "-host", &host])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut server = Self { child, host };
        let deadline = Instant::now() + Duration::from_secs(30);
        // A connection may come about before anybody answers on it.
        while let Err(error) = server.try_send("GET", "", "") {
            ensure!(Instant::now() < deadline, "the S3 server does not answer: {error:#}");
            ensure!(server.child.try_wait()?.is_none(), "the S3 server ended at its start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// Sends until there is an answer: the server may drop a connection, and a repetition changes nothing.
    pub(crate) fn send(&self, method: &str, key: &str, content: &str) -> Result<()> {
        let mut more = 5;
        loop {
            match self.try_send(method, key, content) {
                Err(error) if error.is::<std::io::Error>() && more > 0 => more -= 1,
                tried => return tried,
            }
        }
    }

    fn try_send(&self, method: &str, key: &str, content: &str) -> Result<()> {
        let mut stream = TcpStream::connect(&self.host)?;
        let (host, length) = (&self.host, content.len());
        write!(
            stream,
            "{method} /fleet/{key} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{content}"
        )?;
        let mut answer = Vec::new();
        // It may break off the connection after its answer.
        let end = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        if answer.is_empty() {
            end?;
        }
        ensure!(answer.starts_with("HTTP/1.1 20"), "{method} {key}: {answer}");
        Ok(())
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub(crate) fn wanted(host: &str) -> Wanted {
    let spec = SourceSpec::Bucket(Bucket {
        bucket: "fleet".into(),
        endpoint: host.into(),
        region: None,
        prefix: None,
        ignore: None,
        insecure: true,
        secret: Some(SecretName("creds".into())),
        cert_secret: None,
        proxy_secret: None,
    });
    let data =
        [("accesskey".to_owned(), b"AK".to_vec()), ("secretkey".to_owned(), b"s3cret\n".to_vec())].into();
    let secret = Some(Secret { name: "ns/creds".into(), data });
    let secrets = Secrets { secret, ..Secrets::default() };
    Wanted { spec, repository: None, secrets, timeout: Duration::from_secs(30) }
}

fn policy() -> Policy {
    Policy::new(Reach::Anything)
}

fn names(files: &dyn Files) -> Vec<String> {
    let (mut names, mut folders) = (Vec::new(), vec![TreePath::root()]);
    while let Some(folder) = folders.pop() {
        for (name, entry) in files.list(&folder).unwrap() {
            let path = folder.join(&name).unwrap();
            if entry.kind == Kind::Folder { folders.push(path) } else { names.push(path.to_string()) }
        }
    }
    names.sort();
    names
}

#[test]
fn objects_become_files_and_a_look_is_one_request() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let server = S3::start()?;
    for key in ["apps/a.yaml", "apps/with%20space%2B.yaml", "logo.png", "other/b.yaml"] {
        server.send("PUT", key, "1")?;
    }
    let front = Front::start(&server.host, Gate::Open)?;
    let never = AtomicBool::new(false);
    let mut fetcher = Fetcher::open(tmp.path().join("s"), wanted(&front.host), &policy())?;
    let first = fetcher.fetch(&never)?;
    assert_eq!(names(&*first.files), ["apps/a.yaml", "apps/with space+.yaml", "other/b.yaml"]);
    assert!(first.revision.starts_with("sha256:"), "{}", first.revision);
    let requests = front.requests();
    assert_eq!(requests.len(), 4, "a listing and three objects: {requests:?}");
    assert_eq!(fetcher.fetch(&never)?.revision, first.revision);
    assert_eq!(front.requests(), ["GET /fleet/?list-type=2&prefix="]);
    drop(fetcher);
    let mut fetcher = Fetcher::open(tmp.path().join("s"), wanted(&front.host), &policy())?;
    assert_eq!(fetcher.last().map(|last| last.revision).as_ref(), Some(&first.revision), "after a restart");
    assert_eq!(fetcher.fetch(&never)?.revision, first.revision);

    server.send("PUT", "apps/a.yaml", "2")?;
    server.send("DELETE", "other/b.yaml", "")?;
    let second = fetcher.fetch(&never)?;
    assert_ne!(second.revision, first.revision);
    assert_eq!(names(&*second.files), ["apps/a.yaml", "apps/with space+.yaml"]);
    assert_eq!(&*second.files.read(&TreePath::from_root("apps/a.yaml")?)?, b"2");

    // More than one page.
    for n in 0..1005 {
        server.send("PUT", &format!("many/{n:04}.yaml"), "x")?;
    }
    let mut many = wanted(&front.host);
    let SourceSpec::Bucket(spec) = &mut many.spec else { anyhow::bail!("a bucket") };
    spec.prefix = Some("many/".into());
    let fetched = Fetcher::open(tmp.path().join("many"), many, &policy())?.fetch(&never)?;
    let found = names(&*fetched.files);
    assert_eq!((found.len(), found[1004].as_str()), (1005, "many/1004.yaml"));
    Ok(())
}

#[test]
fn what_keeps_a_bucket_from_being_used() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let server = S3::start()?;
    server.send("PUT", "a.yaml", "12345678901234567890")?;
    let never = AtomicBool::new(false);
    let fetch = |name: &str, change: &dyn Fn(&mut Wanted, &mut Policy)| {
        let (mut wanted, mut policy) = (wanted(&server.host), policy());
        change(&mut wanted, &mut policy);
        let fetched = Fetcher::open(tmp.path().join(name), wanted, &policy).and_then(|mut f| f.fetch(&never));
        fetched.map(|fetched| fetched.revision).map_err(|error| error.to_string())
    };
    assert!(fetch("good", &|_, _| {}).is_ok());
    let bucket = |wanted: &mut Wanted, change: &dyn Fn(&mut Bucket)| {
        if let SourceSpec::Bucket(bucket) = &mut wanted.spec {
            change(bucket);
        }
    };
    type Change<'a> = &'a dyn Fn(&mut Wanted, &mut Policy);
    let gone: Change<'_> = &|w, _| bucket(w, &|b| b.bucket = "none".into());
    let keys: Change<'_> = &|w, _| w.secrets.secret.as_mut().unwrap().data.clear();
    let bytes: Change<'_> = &|_, p| p.limits.bytes = 10;
    let files: Change<'_> = &|_, p| p.limits.files = 0;
    let reach: Change<'_> = &|_, p| p.reach = Reach::Public(Vec::new());
    let tls: Change<'_> = &|w, _| bucket(w, &|b| b.insecure = false);
    for (name, change, reason) in [
        ("gone", gone, "nothing at"),
        ("keys", keys, "has no accesskey"),
        ("bytes", bytes, "limit of 10 bytes"),
        ("files", files, "more than 0 files"),
        ("reach", reach, "--allow-source"),
        ("tls", tls, "cannot reach"),
    ] {
        let error = fetch(name, change).unwrap_err();
        assert!(error.contains(reason) && !error.contains("s3cret"), "{name}: {error}");
    }
    Ok(())
}
