//! Addresses of repositories and bases, and names of what they are for: each is refused or read, reads back as itself, and
//! what may be talked to is judged by the host that is connected to.

use crate::inputs::on_thread;
use flotilla_core::UnitId;
use flotilla_core::source::{Scheme, SourceId, SourceUrl};
use flotilla_render::duration;
use flotilla_render::helm::names::{Namespace, ReleaseName};
use flotilla_source::{Allowance, Branch, GitUrl, Mirror, Reach, Reference, RemoteUrl};

pub fn run(bytes: &[u8]) {
    on_thread(|| check(bytes));
}

fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(url) = text.parse::<GitUrl>() {
        let shown = url.to_string();
        let again: GitUrl = shown.parse().expect("an address reads back");
        assert_eq!(
            (again.host(), again.is_ssh(), again.is_file()),
            (url.host(), url.is_ssh(), url.is_file())
        );
        if let Some(host) = url.host() {
            // Nobody's address is public by being written in another way.
            let public = Reach::Public(Vec::new());
            let _ = public.check_literal(host);
        }
    }
    if let Ok(base) = text.parse::<RemoteUrl>() {
        let _ = (RemoteUrl::is_explicit(text), Reference::guesses(&base.reference));
    }
    for allowed in [Scheme::Http, Scheme::Https, Scheme::Ssh, Scheme::File, Scheme::Oci] {
        if let Ok(url) = SourceUrl::parse(text, &[allowed]) {
            assert!(url.scheme() == allowed && url.as_str().ends_with(url.rest()));
        }
    }
    if let Ok(allowance) = text.parse::<Allowance>() {
        assert_eq!(allowance.to_string().parse(), Ok(allowance));
    }
    if let Ok(id) = text.parse::<SourceId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    if let Ok(id) = text.parse::<UnitId>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    let _ = text.parse::<Branch>();
    let _ = text.parse::<Mirror>();
    let _ = text.parse::<Namespace>();
    let _ = text.parse::<ReleaseName>();
    let _ = ReleaseName::shortened(text);
    let _ = duration::seconds(text);
}
