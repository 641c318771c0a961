//! The hub's own process: it ends when it is told to, whatever it waits for.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use flotilla_hub::store::Records;

use crate::support::{LIMIT, TestHub};

/// The hub gives its tasks 10 s, and itself 10 s more.
const LONGEST: Duration = Duration::from_secs(40);

/// Ended with the test.
struct Hub(Child);

impl Drop for Hub {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Hub {
    fn start(data: &Path, repo: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flotilla-hub"));
        command.args(["run", "--grpc-listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0", "--repo", repo]);
        Self(command.arg("--data").arg(data).stderr(Stdio::null()).spawn().unwrap())
    }

    fn terminate(mut self) -> ExitStatus {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let end = Instant::now() + LONGEST;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "the hub does not end");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_hub_whose_git_server_never_answers_ends_when_it_is_told_to() {
    let data = tempfile::tempdir().unwrap();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let repo = format!("http://{}/fleet.git", server.local_addr().unwrap());
    let hub = Hub::start(data.path(), &repo);
    // It has asked, and waits.
    let (asked, _) = server.accept().unwrap();
    until("it serves", || data.path().join("addresses.json").exists());
    let status = hub.terminate();
    assert!(status.code().is_some(), "it ended by itself: {status}");
    drop(asked);
}

#[test]
fn the_first_admins_token_is_told_to_who_may_read_the_data_folder() {
    let data = tempfile::tempdir().unwrap();
    let hub = Hub::start(data.path(), "http://127.0.0.1:1/fleet.git");
    until("it serves", || data.path().join("addresses.json").exists());
    let tell = |folder: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flotilla-hub"));
        command.arg("admin-token").arg("--data").arg(folder).output().unwrap()
    };
    let told = tell(data.path());
    assert!(told.status.success(), "{told:?}");
    let token = String::from_utf8(told.stdout).unwrap();
    assert!(token.starts_with("flt_") && token.trim().len() > 40, "{token}");
    assert_eq!(token, std::fs::read_to_string(data.path().join("admin-token")).unwrap());
    let none = tell(&data.path().join("elsewhere"));
    let said = String::from_utf8_lossy(&none.stderr);
    assert!(!none.status.success() && none.stdout.is_empty() && said.contains("elsewhere"), "{said}");
    hub.terminate();
}

#[tokio::test]
async fn a_hub_that_lost_its_lease_ends() {
    let hub = TestHub::start().await;
    let store = hub.hub().records.store().clone();
    let other = tokio::task::spawn_blocking(move || Records::open(store)).await.unwrap().unwrap();
    tokio::time::timeout(LIMIT, hub.tasks.shutdown().cancelled()).await.expect("it ends");
    let report = hub.tasks.join(Duration::from_secs(5)).await;
    let failure = report.failure.expect("and says why");
    assert_eq!(failure.task, "lease");
    assert!(failure.what.contains("another hub writes to the store now"), "{failure}");
    other.claim("first").unwrap();
}
