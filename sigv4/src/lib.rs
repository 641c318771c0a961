//! Signatures of requests to AWS, and to whatever speaks its protocols, version 4
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>). The time is an argument.

use std::fmt::Write as _;

use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use ring::hmac::{HMAC_SHA256, Key, sign};
use zeroize::Zeroizing;

/// Who asks.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub access: String,
    pub secret: Zeroizing<String>,
    /// Of credentials for a time.
    pub session: Option<Zeroizing<String>>,
}

/// What is signed.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub method: &'a str,
    /// With the port, where that is not the scheme's own.
    pub host: &'a str,
    /// Encoded as it is sent.
    pub path: &'a str,
    /// Encoded as it is sent, without `?`.
    pub query: &'a str,
    /// Others that are signed beside those that a signature adds: names in lower case, values without white space at their ends.
    pub headers: &'a [(&'static str, &'a str)],
    pub body: &'a [u8],
}

/// Where a request is for.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    pub region: &'a str,
    /// As `s3`.
    pub service: &'a str,
}

/// Names and values. Some hold what proves who asks.
pub type Headers = Vec<(&'static str, Zeroizing<String>)>;

/// The headers that make a request the credentials' own, beside `host` and those of the request.
pub fn headers(
    credentials: &Credentials,
    scope: Scope<'_>,
    request: &Request<'_>,
    now: Timestamp,
) -> Headers {
    let time = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let day = &time[..8];
    let content = sha256(request.body);
    let mut added = vec![
        ("x-amz-content-sha256", Zeroizing::new(content.clone())),
        ("x-amz-date", Zeroizing::new(time.clone())),
    ];
    added.extend(credentials.session.iter().map(|session| ("x-amz-security-token", session.clone())));
    let mut signed: Vec<(&str, &str)> = added.iter().map(|(name, value)| (*name, value.as_str())).collect();
    signed.push(("host", request.host));
    signed.extend(request.headers);
    signed.sort_unstable();
    let mut query: Vec<&str> = request.query.split('&').filter(|pair| !pair.is_empty()).collect();
    query.sort_unstable();
    let lines: Zeroizing<String> =
        Zeroizing::new(signed.iter().map(|(name, value)| format!("{name}:{value}\n")).collect());
    let names: Vec<&str> = signed.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let Request { method, path, .. } = request;
    let canonical = Zeroizing::new(format!(
        "{method}\n{path}\n{}\n{}\n{names}\n{content}",
        query.join("&"),
        lines.as_str()
    ));
    let scoped = format!("{day}/{}/{}/aws4_request", scope.region, scope.service);
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scoped}\n{}", sha256(canonical.as_bytes()));
    let mut key = Zeroizing::new(format!("AWS4{}", credentials.secret.as_str()).into_bytes());
    for part in [day, scope.region, scope.service, "aws4_request"] {
        key = hmac(&key, part);
    }
    let signature = hex(&hmac(&key, &text));
    let access = &credentials.access;
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={access}/{scoped}, SignedHeaders={names}, Signature={signature}"
    );
    added.push(("authorization", Zeroizing::new(authorization)));
    added
}

fn hmac(key: &[u8], text: &str) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(sign(&Key::new(HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec())
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authorization(request: &Request<'_>, scope: Scope<'_>, now: &str, secret: &str) -> String {
        let credentials = Credentials {
            access: if scope.service == "s3" { "AKIAIOSFODNN7EXAMPLE" } else { "AKIDEXAMPLE" }.into(),
            secret: Zeroizing::new(secret.into()),
            session: None,
        };
        let headers = headers(&credentials, scope, request, now.parse().unwrap());
        headers.iter().find(|(name, _)| *name == "authorization").unwrap().1.to_string()
    }

    /// The example of a listing in AWS' own documentation of S3.
    #[test]
    fn a_signature_as_documented() {
        let request = Request {
            method: "GET",
            host: "examplebucket.s3.amazonaws.com",
            path: "/",
            query: "prefix=J&max-keys=2",
            headers: &[],
            body: b"",
        };
        let scope = Scope { region: "us-east-1", service: "s3" };
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        let signed = authorization(&request, scope, "2013-05-24T00:00:00Z", secret);
        assert_eq!(
            signed,
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
             SignedHeaders=host;x-amz-content-sha256;x-amz-date, \
             Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
        );
    }

    #[test]
    fn everything_that_is_sent_is_signed() {
        let scope = Scope { region: "us-east-1", service: "kms" };
        let request = Request {
            method: "POST",
            host: "kms.us-east-1.amazonaws.com",
            path: "/",
            query: "",
            headers: &[
                ("x-amz-target", "TrentService.Decrypt"),
                ("content-type", "application/x-amz-json-1.1"),
            ],
            body: b"{}",
        };
        let now = "2026-12-03T00:00:00Z";
        let signed = authorization(&request, scope, now, "secret");
        assert!(
            signed.contains("SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date;x-amz-target, "),
            "{signed}"
        );
        for other in [
            Request { method: "PUT", ..request },
            Request { host: "kms.us-east-2.amazonaws.com", ..request },
            Request { path: "/x", ..request },
            Request { query: "a=b", ..request },
            Request { headers: &request.headers[..1], ..request },
            Request { body: b"{ }", ..request },
        ] {
            assert_ne!(authorization(&other, scope, now, "secret"), signed, "{other:?}");
        }
        assert_ne!(authorization(&request, scope, "2026-12-03T00:00:01Z", "secret"), signed);
        assert_ne!(authorization(&request, scope, now, "other"), signed);
        assert_ne!(authorization(&request, Scope { region: "eu-west-1", ..scope }, now, "secret"), signed);
    }
}
