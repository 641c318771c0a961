//! One GET to an address that a repository names and that is no source: what the checks of gates ask. It is bound to [`Reach`]
//! as every fetch is.

use std::time::Duration;

use reqwest::{Method, Url};

use crate::http::{Http, HttpError, Tls, body, parse_url};
use crate::reach::Reach;

/// Asks with the system's certificates and without credentials. Redirects are followed to where `Reach` allows.
#[derive(Clone)]
pub struct Asker(Http);

/// What a server answered, whatever its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Asker {
    /// # Errors
    /// Where the system's certificates cannot be used.
    pub fn new(reach: &Reach) -> Result<Self, HttpError> {
        Http::new(&Tls::default(), reach, None).map(Self)
    }

    /// The status that a server answers with. Its body is not read. Blocks.
    ///
    /// # Errors
    /// Where no answer came `within` that time, or the address may not be talked to.
    pub fn status(&self, address: &str, within: Duration) -> Result<u16, HttpError> {
        let request = self.0.request(Method::GET, &parse_url(address)?)?;
        Ok(self.0.send_any(request, within)?.status().as_u16())
    }

    /// What stands at a path below an address, asked with these pairs. Blocks.
    ///
    /// # Errors
    /// As [`Asker::status`], and where the answer is larger than `limit` bytes.
    pub fn get(
        &self,
        address: &str,
        below: &[&str],
        pairs: &[(&str, &str)],
        limit: u64,
        within: Duration,
    ) -> Result<Answer, HttpError> {
        let mut url: Url = parse_url(address)?;
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(below);
        }
        url.query_pairs_mut().extend_pairs(pairs);
        let response = self.0.send_any(self.0.request(Method::GET, &url)?, within)?;
        Ok(Answer { status: response.status().as_u16(), body: body(response, limit)? })
    }
}
