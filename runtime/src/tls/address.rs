//! Where a hub listens: host and port.

use std::fmt;
use std::str::FromStr;

use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize};

/// `host:port`, with an IPv6 address in brackets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HubAddress {
    host: String,
    port: u16,
}

/// A text that is no hub address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a hub address: {reason} (it looks like hub.example:8443)")]
pub struct AddressError {
    text: String,
    reason: &'static str,
}

impl HubAddress {
    /// DNS name or IP address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// What goes into SNI, so that a TLS-passing proxy can route by it; verification ignores it.
    pub(crate) fn server_name(&self) -> ServerName<'static> {
        ServerName::try_from(self.host.clone()).expect("checked when parsed")
    }
}

impl FromStr for HubAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |reason| AddressError { text: text.to_owned(), reason };
        if text.contains("://") {
            return Err(refuse("leave out the scheme"));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(|| refuse("it has no port"))?;
        let port = port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| refuse("the port is not 1 to 65535"))?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if bracketed.is_none() && host.contains(':') {
            return Err(refuse("an IPv6 address needs brackets"));
        }
        let host = bracketed.unwrap_or(host);
        let valid = match ServerName::try_from(host) {
            Ok(ServerName::IpAddress(address)) => {
                std::net::IpAddr::from(address).is_ipv6() == bracketed.is_some()
            }
            Ok(_) => bracketed.is_none(),
            Err(_) => false,
        };
        if !valid {
            return Err(refuse("the host is neither a DNS name nor an IP address"));
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl TryFrom<String> for HubAddress {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<HubAddress> for String {
    fn from(address: HubAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for HubAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(formatter, "[{}]:{}", self.host, self.port),
            false => write!(formatter, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_their_text_and_others_are_refused() {
        for text in ["hub:1", "hub.example:8443", "10.0.0.1:443", "[::1]:65535"] {
            assert_eq!(text.parse::<HubAddress>().unwrap().to_string(), text);
        }
        for (text, reason) in [
            ("hub", "no port"),
            ("hub:", "1 to 65535"),
            ("hub:0", "1 to 65535"),
            ("hub:65536", "1 to 65535"),
            ("https://hub:1", "scheme"),
            ("::1:80", "brackets"),
            (":80", "neither"),
            ("a b:80", "neither"),
            ("[hub]:80", "neither"),
            ("[10.0.0.1]:80", "neither"),
        ] {
            let error = text.parse::<HubAddress>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
