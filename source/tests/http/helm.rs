//! `HelmRepository` and `HelmChart` objects: an index by HTTP, and a real registry.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use flotilla_core::source::{
    HelmChart, HelmRepository, ReconcileStrategy, Scheme, SourceId, SourceKind, SourceSpec, SourceUrl,
};
use flotilla_kustomize::files::{Files, TreePath};
use flotilla_source::flux::{Fetcher, Policy, Secret, Secrets, SourceError, Wanted};
use flotilla_source::{Mirrors, Reach};

use crate::support::{Front, Gate, Registry, archive, sha256};

/// A web server for files, with ETags.
#[derive(Clone)]
pub(crate) struct Web {
    pub(crate) host: String,
    files: Arc<Mutex<HashMap<String, Vec<u8>>>>,
    /// Path and status of each request.
    requests: Arc<Mutex<Vec<(String, u16)>>>,
}

impl Web {
    pub(crate) fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let host = listener.local_addr()?.to_string();
        let web = Self { host, files: Arc::default(), requests: Arc::default() };
        let serving = web.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                drop(serving.answer(stream));
            }
        });
        Ok(web)
    }

    fn answer(&self, stream: std::net::TcpStream) -> Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut head = String::new();
        while reader.read_line(&mut head)? > 2 {}
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let known = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("if-none-match: ").map(str::to_owned));
        let found = self.files.lock().unwrap().get(&path).cloned();
        let etag = found.as_ref().map(|content| format!("\"{}\"", &sha256(content)[7..20]));
        let (status, body) = match found {
            None => (404, Vec::new()),
            Some(_) if known.is_some() && known == etag => (304, Vec::new()),
            Some(content) => (200, content),
        };
        self.requests.lock().unwrap().push((path, status));
        let (etag, length) = (etag.unwrap_or_default(), body.len());
        let mut stream = stream;
        write!(
            stream,
            "HTTP/1.1 {status} x\r\nETag: {etag}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        )?;
        stream.write_all(&body)?;
        Ok(())
    }

    fn put(&self, path: &str, content: impl Into<Vec<u8>>) {
        self.files.lock().unwrap().insert(path.to_owned(), content.into());
    }

    fn requests(&self) -> Vec<(String, u16)> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

pub(crate) fn chart(version: &str) -> Vec<u8> {
    archive(&[("web/Chart.yaml", &format!("name: web\nversion: {version}\n")), ("web/values.yaml", "a: 1\n")])
}

/// An index with these versions, their charts beside it.
pub(crate) fn publish(web: &Web, versions: &[&str]) {
    let mut index = "apiVersion: v1\nentries:\n  web:\n".to_owned();
    for version in versions {
        let content = chart(version);
        index.push_str(&format!(
            "  - name: web\n    version: {version}\n    digest: {}\n    urls: [charts/web-{version}.tgz]\n",
            &sha256(&content)[7..]
        ));
        web.put(&format!("/repo/charts/web-{version}.tgz"), content);
    }
    web.put("/repo/index.yaml", index);
}

fn repository(url: &str) -> HelmRepository {
    HelmRepository {
        url: SourceUrl::parse(url, &[Scheme::Http, Scheme::Https, Scheme::Oci]).unwrap(),
        secret: None,
        cert_secret: None,
        pass_credentials: false,
        insecure: true,
    }
}

pub(crate) fn wanted(url: &str, version: &str) -> Wanted {
    let spec = SourceSpec::HelmChart(HelmChart {
        chart: "web".into(),
        version: version.into(),
        source: SourceId::new(SourceKind::HelmRepository, "ns", "repo"),
        reconcile: ReconcileStrategy::ChartVersion,
        values_files: Vec::new(),
        ignore_missing_values_files: false,
        verify: false,
    });
    let timeout = Duration::from_secs(30);
    Wanted { spec, repository: Some(repository(url)), secrets: Secrets::default(), timeout }
}

fn policy() -> Policy {
    Policy::new(Reach::Anything)
}

fn version_in(files: &dyn Files) -> String {
    let text = files.read(&TreePath::from_root("web/Chart.yaml").unwrap()).unwrap();
    String::from_utf8_lossy(&text).lines().nth(1).unwrap_or_default().replace("version: ", "")
}

fn fetch(dir: &Path, wanted: &Wanted) -> Result<(String, String), SourceError> {
    let mut fetcher = Fetcher::open(dir.to_owned(), wanted.clone(), &policy())?;
    let fetched = fetcher.fetch(&AtomicBool::new(false))?;
    Ok((fetched.revision, version_in(&*fetched.files)))
}

#[test]
fn charts_by_version_and_range() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let versions = ["1.0.0", "1.2.0", "2.0.0-rc.1", "v1.5", "0.9.0+build"];
    let web = Web::start()?;
    publish(&web, &versions);
    let registry = Registry::start()?;
    for version in versions {
        let content = chart(version);
        let layers = [("application/vnd.cncf.helm.chart.content.v1.tar+gzip", &*content)];
        registry.push("charts/web", &version.replace('+', "_"), &layers)?;
    }
    let (http, oci) = (format!("http://{}/repo", web.host), format!("oci://{}/charts", registry.host));
    for (n, url) in [&http, &oci].into_iter().enumerate() {
        for (m, (asked, found)) in [
            ("*", "v1.5"),
            ("1.2.0", "1.2.0"),
            ("1.2.x", "1.2.0"),
            (">=1.0.0-0", "2.0.0-rc.1"),
            ("~0.9", "0.9.0+build"),
        ]
        .into_iter()
        .enumerate()
        {
            let (dir, wanted) = (tmp.path().join(format!("{n}-{m}")), wanted(url, asked));
            assert_eq!(fetch(&dir, &wanted)?, (found.to_owned(), found.to_owned()), "{url} {asked}");
            let last = Fetcher::open(dir, wanted, &policy())?.last();
            assert_eq!(last.map(|last| last.revision).as_deref(), Some(found), "after a restart");
        }
        let error = fetch(&tmp.path().join("bad"), &wanted(url, "9.x")).unwrap_err().to_string();
        assert!(
            error.contains("no version of the chart in the range 9.x") && error.contains("1.0.0"),
            "{error}"
        );
    }
    registry.push("charts/web", "7.0.0", &[("application/other", b"x")])?;
    let error = fetch(&tmp.path().join("bad"), &wanted(&oci, "7.0.0")).unwrap_err().to_string();
    assert!(error.contains("is not a Helm chart"), "{error}");
    Ok(())
}

#[test]
fn a_look_at_what_did_not_change_is_one_conditional_request() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let web = Web::start()?;
    publish(&web, &["1.0.0"]);
    let source = wanted(&format!("http://{}/repo", web.host), "1.x");
    let never = AtomicBool::new(false);
    let mut fetcher = Fetcher::open(tmp.path().join("s"), source.clone(), &policy())?;
    fetcher.fetch(&never)?;
    web.requests();
    fetcher.fetch(&never)?;
    assert_eq!(web.requests(), [("/repo/index.yaml".to_owned(), 304)]);
    drop(fetcher);
    let mut fetcher = Fetcher::open(tmp.path().join("s"), source, &policy())?;
    fetcher.fetch(&never)?;
    assert_eq!(web.requests(), [("/repo/index.yaml".to_owned(), 304)], "after a restart too");

    // Another index with the same chart: the chart is not fetched again.
    publish(&web, &["1.0.0", "2.0.0"]);
    assert_eq!(fetcher.fetch(&never)?.revision, "1.0.0");
    assert_eq!(web.requests(), [("/repo/index.yaml".to_owned(), 200)]);
    publish(&web, &["1.0.0", "1.1.0"]);
    assert_eq!(fetcher.fetch(&never)?.revision, "1.1.0");
    assert_eq!(web.requests().len(), 2);

    // A chart that is not what the index says is not used; what was stays.
    publish(&web, &["1.0.0", "1.2.0"]);
    web.put("/repo/charts/web-1.2.0.tgz", chart("6.6.6"));
    let error = fetcher.fetch(&never).unwrap_err().to_string();
    assert!(error.contains("has the digest sha256:"), "{error}");
    assert_eq!(fetcher.last().map(|last| last.revision).as_deref(), Some("1.1.0"));
    // Nor is an older one taken in place of one that the index gives no address.
    let index = "entries:\n  web:\n  - {version: 1.0.0, urls: [a.tgz]}\n  - {version: 1.3.0}\n  - {version: 1.4.0, urls: []}\n";
    web.put("/repo/index.yaml", index);
    let error = fetcher.fetch(&never).unwrap_err().to_string();
    assert!(error.contains("names no address of web 1.4.0 (urls)"), "{error}");
    web.put("/repo/index.yaml", "<html>");
    assert!(fetcher.fetch(&never).unwrap_err().to_string().contains("is this a Helm repository?"));
    Ok(())
}

#[test]
fn what_an_index_names_is_fetched_from_where_the_operator_says() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let web = Web::start()?;
    publish(&web, &["1.0.0"]);
    let index = String::from_utf8(web.files.lock().unwrap()["/repo/index.yaml"].clone())?;
    // The mirror is below the address that it stands for, which shall not lead further down.
    for (n, public) in
        ["https://charts.example".to_owned(), format!("http://{}", web.host)].into_iter().enumerate()
    {
        web.put("/repo/index.yaml", index.replace("urls: [", &format!("urls: [{public}/")));
        let rule = format!("{public}=http://{}/repo", web.host);
        let policy = Policy { mirrors: Mirrors::new(vec![rule.parse()?]), ..policy() };
        let mut wanted = wanted("http://unused", "1.x");
        wanted.repository = Some(HelmRepository {
            url: SourceUrl::parse(&public, &[Scheme::Http, Scheme::Https])?,
            ..repository("http://unused")
        });
        let mut fetcher = Fetcher::open(tmp.path().join(n.to_string()), wanted, &policy)?;
        assert_eq!(fetcher.fetch(&AtomicBool::new(false))?.revision, "1.0.0", "{public}");
        let paths = ["/repo/index.yaml", "/repo/charts/web-1.0.0.tgz"].map(|path| (path.to_owned(), 200));
        assert_eq!(web.requests(), paths);
    }
    Ok(())
}

#[test]
fn credentials_go_to_the_repository_and_nobody_else() -> Result<()> {
    let tmp = tempfile::tempdir()?;
    let web = Web::start()?;
    publish(&web, &["1.0.0"]);
    let front = Front::start(&web.host, Gate::Basic)?;
    let secret = |password: &str| Secret {
        name: "ns/creds".into(),
        data: [
            ("username".to_owned(), b"jo".to_vec()),
            ("password".to_owned(), password.as_bytes().to_vec()),
        ]
        .into(),
    };
    let mut source = wanted(&format!("http://{}/repo", front.host), "1.0.0");
    assert!(fetch(&tmp.path().join("0"), &source).unwrap_err().to_string().contains("asks for credentials"));
    source.secrets.secret = Some(secret("wr0ng"));
    assert!(fetch(&tmp.path().join("1"), &source).unwrap_err().to_string().contains("asks for credentials"));
    source.secrets.secret = Some(secret("s3cret"));
    assert_eq!(fetch(&tmp.path().join("2"), &source)?.0, "1.0.0");

    // The index sends to another host, which wants the same credentials.
    let other = Front::start(&web.host, Gate::Basic)?;
    let digest = &sha256(&chart("1.0.0"))[7..];
    let url = format!("http://{}/repo/charts/web-1.0.0.tgz", other.host);
    web.put(
        "/repo/index.yaml",
        format!("entries:\n  web:\n  - {{name: web, version: 1.0.0, digest: {digest}, urls: ['{url}']}}\n"),
    );
    let error = fetch(&tmp.path().join("3"), &source).unwrap_err().to_string();
    assert!(error.contains(&other.host) && error.contains("asks for credentials"), "{error}");
    source.repository.as_mut().unwrap().pass_credentials = true;
    assert_eq!(fetch(&tmp.path().join("4"), &source)?.0, "1.0.0");
    Ok(())
}
