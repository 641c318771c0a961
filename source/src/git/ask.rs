//! Where a reference ends, by one request: `ls-refs` of Git's protocol 2, sent to a server by HTTP without the handshake
//! that a whole conversation begins with. Such servers keep nothing between requests, so they answer it all the same.
//!
//! ```text
//!   POST URL/git-upload-pack   command=ls-refs, ref-prefix NAME   ─► ID NAME
//! ```
//! It only ever spares a conversation: whatever is not as expected, a whole one tells.

use std::time::Duration;

use gix::ObjectId;
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE};

use super::spec::{Credentials, GitSpec};
use crate::http::{Http, HttpError, Tls, body, parse_url};

/// Shorter than a conversation may take, which comes after it where it fails.
const WITHIN: Duration = Duration::from_secs(10);
/// More refs than this begin like the one that is asked for only where somebody means harm.
const ANSWER_BYTES: u64 = 1 << 20;

const KIND: &str = "application/x-git-upload-pack-result";

/// What one request told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// The reference ends there.
    Tip(ObjectId),
    /// Nothing, this time.
    Nothing,
    /// This server, or this way to reach it, does not answer such requests.
    Unsuited,
}

/// Asks where the reference of the spec ends.
pub(super) fn tip(spec: &GitSpec) -> Told {
    if spec.url.is_file() || spec.url.is_ssh() {
        return Told::Unsuited;
    }
    let Ok(name) = spec.reference.remote_name() else { return Told::Unsuited };
    match answer(spec, &name) {
        Ok(Some(bytes)) => find(&bytes, &name),
        Ok(None) | Err(HttpError::Status { status: 400..500, .. }) => Told::Unsuited,
        // Credentials, the network, a server in trouble: the conversation says what is wrong.
        Err(_) => Told::Nothing,
    }
}

/// The answer; `None` where it is of another kind.
fn answer(spec: &GitSpec, name: &str) -> Result<Option<Vec<u8>>, HttpError> {
    let tls = Tls { ca_pem: spec.ca_pem.clone(), identity_pem: None };
    let http = Http::new(&tls, &spec.reach, spec.proxy.as_ref())?;
    let address = spec.url.gix().to_bstring().to_string();
    let url = parse_url(&format!("{}/git-upload-pack", address.trim_end_matches('/')))?;
    let mut request = http
        .request(Method::POST, &url)?
        .header(CONTENT_TYPE, "application/x-git-upload-pack-request")
        .header(ACCEPT, KIND)
        .header("git-protocol", "version=2")
        .body(question(name));
    if !spec.url.is_in_clear() {
        request = match spec.credentials() {
            Some(Credentials::Basic { username, password }) => request.basic_auth(username, Some(password)),
            Some(Credentials::Bearer(token)) => request.bearer_auth(token),
            Some(Credentials::SshKey { .. }) | None => request,
        };
    }
    let response = http.send(request, WITHIN.min(spec.limits.timeout))?;
    if response.headers().get(CONTENT_TYPE).is_none_or(|kind| kind != KIND) {
        return Ok(None);
    }
    body(response, ANSWER_BYTES).map(Some)
}

fn question(name: &str) -> String {
    let line = |text: &str| format!("{:04x}{text}", text.len() + 4);
    let (command, prefix) = (line("command=ls-refs\n"), line(&format!("ref-prefix {name}\n")));
    // 0001 stands between the command and its arguments, 0000 at the end.
    format!("{command}0001{prefix}0000")
}

fn find(mut answer: &[u8], name: &str) -> Told {
    loop {
        let Some((length, rest)) = answer.split_at_checked(4) else { return Told::Unsuited };
        let length = std::str::from_utf8(length).ok().and_then(|hex| usize::from_str_radix(hex, 16).ok());
        let Some(length) = length else { return Told::Unsuited };
        // The end: there is no such reference.
        if length == 0 {
            return Told::Nothing;
        }
        let Some((line, rest)) = length.checked_sub(4).and_then(|length| rest.split_at_checked(length))
        else {
            return Told::Unsuited;
        };
        answer = rest;
        let text = String::from_utf8_lossy(line);
        let mut words = text.trim_end().split(' ');
        let (Some(id), Some(found)) = (words.next(), words.next()) else { return Told::Unsuited };
        if found == name {
            return ObjectId::from_hex(id.as_bytes()).map_or(Told::Unsuited, Told::Tip);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn lines_have_their_length_before_them() {
        let expected = "0014command=ls-refs\n0001001fref-prefix refs/heads/main\n0000";
        assert_eq!(question("refs/heads/main"), expected);
    }

    #[test]
    fn the_reference_is_found_among_those_that_begin_alike() {
        let line = |text: &str| format!("{:04x}{text}", text.len() + 4);
        let tip = Told::Tip(ObjectId::from_hex(ID.as_bytes()).unwrap());
        let other = line(&format!("{} refs/heads/main-2\n", ID.replace('0', "9")));
        let main = line(&format!("{ID} refs/heads/main\n"));
        for (answer, expected) in [
            (format!("{main}0000"), tip),
            (format!("{other}{main}0000"), tip),
            (line(&format!("{ID} refs/heads/main peeled:{ID}")) + "0000", tip),
            (format!("{other}0000"), Told::Nothing),
            ("0000".to_owned(), Told::Nothing),
            (String::new(), Told::Unsuited),
            (other.clone(), Told::Unsuited),
            ("0003".to_owned(), Told::Unsuited),
            ("ffff".to_owned(), Told::Unsuited),
            ("<htm".to_owned(), Told::Unsuited),
            (line("x refs/heads/main\n") + "0000", Told::Unsuited),
            (line("x\n") + "0000", Told::Unsuited),
        ] {
            assert_eq!(find(answer.as_bytes(), "refs/heads/main"), expected, "{answer}");
        }
    }
}
