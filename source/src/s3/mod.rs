//! Buckets by the S3 API: a listing, and objects, each request signed by version 4 of AWS' scheme where there is a key.

mod sign;

use std::time::Duration;

use flotilla_core::source::Bucket;
use flotilla_sigv4::Credentials;
use reqwest::{Method, Url};

use crate::http::{Http, HttpError, body, parse_url, shown};
use sign::Signer;

const LISTING_BYTES: u64 = 16 << 20;
/// Pages of a listing, of 1,000 objects each.
const PAGES: usize = 1000;

/// What a bucket answers is not to be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum S3Error {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("the answer of {url} is not a listing of a bucket: {reason}")]
    Answer { url: String, reason: String },
}

/// An object as a listing has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Object {
    pub(crate) key: String,
    /// Another one for other content.
    pub(crate) etag: String,
    pub(crate) size: u64,
}

/// A bucket.
pub(crate) struct Store {
    http: Http,
    /// `https://ENDPOINT/BUCKET/`
    base: Url,
    signer: Option<Signer>,
    within: Duration,
}

impl Store {
    pub(crate) fn new(
        http: Http,
        bucket: &Bucket,
        credentials: Option<Credentials>,
        within: Duration,
    ) -> Result<Self, S3Error> {
        let scheme = if bucket.insecure { "http" } else { "https" };
        let base = parse_url(&format!("{scheme}://{}/{}/", bucket.endpoint, bucket.bucket))?;
        let region = bucket.region.clone().filter(|region| !region.is_empty());
        let region = region.unwrap_or_else(|| "us-east-1".into());
        let signer = credentials.map(|credentials| Signer { credentials, region });
        Ok(Self { http, base, signer, within })
    }

    fn get(&self, path: &str, query: &[(&str, &str)], limit: u64) -> Result<Vec<u8>, S3Error> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{}", self.base.path(), sign::encoded(path, true)));
        if !query.is_empty() {
            let text: Vec<String> = query
                .iter()
                .map(|(k, v)| format!("{}={}", sign::encoded(k, false), sign::encoded(v, false)))
                .collect();
            url.set_query(Some(&text.join("&")));
        }
        let mut request = self.http.request(Method::GET, &url)?;
        if let Some(signer) = &self.signer {
            for (name, value) in signer.headers(&url, jiff::Timestamp::now()) {
                request = request.header(name, value.as_str());
            }
        }
        Ok(body(self.http.send(request, self.within)?, limit)?)
    }

    /// All objects whose name begins with a prefix, sorted by name.
    pub(crate) fn list(&self, prefix: &str, most: usize) -> Result<Option<Vec<Object>>, S3Error> {
        let (mut objects, mut token) = (Vec::new(), None::<String>);
        for _ in 0..PAGES {
            let mut query = vec![("list-type", "2"), ("prefix", prefix)];
            if let Some(token) = &token {
                query.insert(0, ("continuation-token", token));
            }
            let bytes = self.get("", &query, LISTING_BYTES)?;
            let (page, next) = self.read_listing(&bytes)?;
            objects.extend(page);
            if objects.len() > most {
                return Ok(None);
            }
            match next {
                Some(next) => token = Some(next),
                None => {
                    objects.sort();
                    return Ok(Some(objects));
                }
            }
        }
        Err(self.wrong(format!("it has more than {PAGES} pages")))
    }

    fn wrong(&self, reason: String) -> S3Error {
        S3Error::Answer { url: shown(&self.base), reason }
    }

    fn read_listing(&self, bytes: &[u8]) -> Result<(Vec<Object>, Option<String>), S3Error> {
        let text = std::str::from_utf8(bytes).map_err(|_| self.wrong("it is not UTF-8 text".into()))?;
        let document = roxmltree::Document::parse(text).map_err(|error| self.wrong(error.to_string()))?;
        let root = document.root_element();
        if root.tag_name().name() != "ListBucketResult" {
            return Err(self.wrong(format!("it is a {}", root.tag_name().name())));
        }
        let child = |node: roxmltree::Node<'_, '_>, name: &str| {
            let found = node.children().find(|child| child.tag_name().name() == name)?;
            Some(found.text().unwrap_or_default().to_owned())
        };
        let mut objects = Vec::new();
        for node in root.children().filter(|node| node.tag_name().name() == "Contents") {
            let (Some(key), Some(etag)) = (child(node, "Key"), child(node, "ETag")) else {
                return Err(self.wrong("an object has no name or no ETag".into()));
            };
            let size = child(node, "Size").and_then(|size| size.parse().ok()).unwrap_or(0);
            objects.push(Object { key, etag, size });
        }
        let is_cut = match child(root, "IsTruncated").as_deref() {
            Some("true") => true,
            Some("false") => false,
            other => return Err(self.wrong(format!("whether it is cut off is said by {other:?}"))),
        };
        let next = child(root, "NextContinuationToken").filter(|token| is_cut && !token.is_empty());
        if is_cut && next.is_none() {
            return Err(self.wrong("it is cut off and does not say where it goes on".into()));
        }
        Ok((objects, next))
    }

    /// The content of an object.
    pub(crate) fn object(&self, key: &str, limit: u64) -> Result<Vec<u8>, S3Error> {
        self.get(key, &[], limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Tls;
    use crate::reach::Reach;

    #[test]
    fn a_listing_is_whole_or_an_error() {
        let http = Http::new(&Tls::default(), &Reach::Anything, None).unwrap();
        let base = parse_url("https://s3.example/fleet/").unwrap();
        let store = Store { http, base, signer: None, within: Duration::from_secs(1) };
        let read = |inner: &str| {
            let text = format!(
                "<ListBucketResult>{inner}<Contents><Key>a</Key><ETag>e</ETag></Contents></ListBucketResult>"
            );
            store.read_listing(text.as_bytes()).map(|(objects, next)| (objects.len(), next))
        };
        let cut = |text: &str| format!("<IsTruncated>{text}</IsTruncated>");
        assert_eq!(read(&cut("false")), Ok((1, None)));
        let next = format!("{}<NextContinuationToken>t</NextContinuationToken>", cut("true"));
        assert_eq!(read(&next), Ok((1, Some("t".to_owned()))));
        for bad in ["", &cut(""), &cut("True"), &cut("true"), "<Contents><Key>b</Key></Contents>"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
