//! Signatures of requests without a body, version 4.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;
use ring::hmac::{HMAC_SHA256, Key, sign};

use super::Keys;
use crate::oci::sha256;

/// Of no bytes.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

pub(super) struct Signer {
    pub(super) keys: Keys,
    pub(super) region: String,
}

impl Signer {
    /// The headers that make a GET of `url` one of the key's.
    pub(super) fn headers(&self, url: &Url, now: jiff::Timestamp) -> Vec<(&'static str, String)> {
        let time = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let day = &time[..8];
        let host = match url.port() {
            Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
            None => url.host_str().unwrap_or_default().to_owned(),
        };
        let mut headers =
            vec![("host", host), ("x-amz-content-sha256", EMPTY.to_owned()), ("x-amz-date", time.clone())];
        if let Some(session) = &self.keys.session {
            headers.push(("x-amz-security-token", session.clone()));
        }
        let mut query: Vec<&str> =
            url.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).collect();
        query.sort_unstable();
        let canonical: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let signed: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
        let signed = signed.join(";");
        let request = format!("GET\n{}\n{}\n{canonical}\n{signed}\n{EMPTY}", url.path(), query.join("&"));
        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let digest = sha256(request.as_bytes());
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", &digest["sha256:".len()..]);
        let mut key = format!("AWS4{}", self.keys.secret).into_bytes();
        for part in [day, &self.region, "s3", "aws4_request"] {
            key = hmac(&key, part);
        }
        let signature: String = hmac(&key, &text).iter().map(|byte| format!("{byte:02x}")).collect();
        let access = &self.keys.access;
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={signed}, Signature={signature}"
        );
        // The client writes the host by itself.
        headers.remove(0);
        headers.push(("authorization", authorization));
        headers
    }
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    sign(&Key::new(HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
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

    /// The example of a listing in AWS' own documentation.
    #[test]
    fn a_signature_as_documented() {
        let signer = Signer {
            keys: Keys {
                access: "AKIAIOSFODNN7EXAMPLE".into(),
                secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
                session: None,
            },
            region: "us-east-1".into(),
        };
        let url = Url::parse("https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J").unwrap();
        let headers = signer.headers(&url, "2013-05-24T00:00:00Z".parse().unwrap());
        let authorization = &headers.iter().find(|(name, _)| *name == "authorization").unwrap().1;
        assert!(
            authorization
                .ends_with("Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
            "{authorization}"
        );
        assert_eq!(encoded("a b/ü+c", true), "a%20b/%C3%BC%2Bc");
        assert_eq!(encoded("a/b", false), "a%2Fb");
    }
}
