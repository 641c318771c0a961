//! Requests for buckets, signed; and names of objects as a signature wants them written.

use flotilla_sigv4::{Credentials, Headers, Request, Scope, headers};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;

pub(super) struct Signer {
    pub(super) credentials: Credentials,
    pub(super) region: String,
}

impl Signer {
    /// The headers that make a GET of `url` one of the key's.
    pub(super) fn headers(&self, url: &Url, now: jiff::Timestamp) -> Headers {
        let host = match url.port() {
            Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
            None => url.host_str().unwrap_or_default().to_owned(),
        };
        let request = Request {
            method: "GET",
            host: &host,
            path: url.path(),
            query: url.query().unwrap_or_default(),
            headers: &[],
            body: b"",
        };
        headers(&self.credentials, Scope { region: &self.region, service: "s3" }, &request, now)
    }
}

/// What the scheme wants encoded: all but what RFC 3986 calls unreserved, and the slashes of a path.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const IN_PATH: &AsciiSet = &RESERVED.remove(b'/');

pub(super) fn encoded(text: &str, is_path: bool) -> String {
    utf8_percent_encode(text, if is_path { IN_PATH } else { RESERVED }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_as_they_are_signed() {
        assert_eq!(encoded("a b/ü+c", true), "a%20b/%C3%BC%2Bc");
        assert_eq!(encoded("a/b", false), "a%2Fb");
    }
}
