//! Which addresses may be fetched from.
//!
//! Whoever writes to a repository chooses the addresses of its sources. So that nobody makes the hub talk to what only
//! the hub can reach (itself, its network, a cloud's metadata service), addresses that are not public are refused
//! unless the operator allows them. Hosts are judged in the spelling that [`crate::host`] gives them, names at what they
//! resolve to where the connection is made, and connections by the address at their other end ([`crate::peer`]).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use url::Host;

use crate::host::{HostError, canonical};

/// What may be talked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Anything: on somebody's own machine.
    Anything,
    /// Public addresses, and what the operator allows beside them.
    Public(Vec<Allowance>),
}

/// An exception that the operator makes: `git.internal`, `*.internal`, `10.1.0.0/16`, `127.0.0.1`, `file:///srv/git`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowance {
    /// A host by its name, whatever it resolves to.
    Host(String),
    /// All hosts below a domain.
    Domain(String),
    /// Addresses that share the first bits.
    Net(IpAddr, u8),
    /// Folders of this machine, at or below this one.
    Folder(PathBuf),
}

/// A text that is no allowance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is neither a host, a domain (*.example), an address, a network (10.0.0.0/8) nor a folder (file:///srv/git)"
)]
pub struct AllowanceError(String);

/// An address may not be fetched from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReachError {
    /// Whoever wrote the host reads this, so it does not say which address a name has.
    #[error(
        "{host} does not have a public address; the hub's operator can allow it with --allow-source {host}"
    )]
    NotPublic { host: String, address: IpAddr },
    #[error(transparent)]
    Host(#[from] HostError),
    #[error("the address at the other end of the connection is not known")]
    UnknownPeer,
    #[error(
        "file://{path} is a folder of the hub's machine; the hub's operator can allow it by --allow-source file://{path}"
    )]
    Folder { path: String },
    #[error("the name {host} cannot be resolved: {reason}")]
    Unresolved { host: String, reason: String },
}

impl FromStr for Allowance {
    type Err = AllowanceError;

    fn from_str(text: &str) -> Result<Self, AllowanceError> {
        let wrong = || AllowanceError(text.to_owned());
        if let Some(path) = text.strip_prefix("file://") {
            let path = Path::new(path);
            let plain = path.is_absolute() && !path.components().any(|part| part == Component::ParentDir);
            return plain.then(|| Self::Folder(path.to_owned())).ok_or_else(wrong);
        }
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(Self::Net(address, if address.is_ipv4() { 32 } else { 128 }));
        }
        if let Some((address, bits)) = text.split_once('/') {
            let address: IpAddr = address.parse().map_err(|_| wrong())?;
            let bits: u8 = bits.parse().map_err(|_| wrong())?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            return (bits <= most).then_some(Self::Net(address, bits)).ok_or_else(wrong);
        }
        let (is_domain, name) = text.strip_prefix("*.").map_or((false, text), |rest| (true, rest));
        let is_name = !name.is_empty()
            && name.split('.').all(|part| {
                !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
            });
        let name = name.to_ascii_lowercase();
        match (is_name, is_domain, canonical(&name)) {
            (true, true, Ok(Host::Domain(name))) => Ok(Self::Domain(name)),
            (true, false, Ok(Host::Domain(name))) => Ok(Self::Host(name)),
            // An address in another spelling.
            (true, false, Ok(Host::Ipv4(address))) => Ok(Self::Net(address.into(), 32)),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(name) => f.write_str(name),
            Self::Domain(name) => write!(f, "*.{name}"),
            Self::Net(address, bits) => write!(f, "{address}/{bits}"),
            Self::Folder(path) => write!(f, "file://{}", path.display()),
        }
    }
}

impl Allowance {
    fn is_host(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        match self {
            Self::Host(name) => *name == host,
            Self::Domain(name) => host.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.')),
            Self::Net(..) | Self::Folder(_) => false,
        }
    }

    fn is_address(&self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::Net(IpAddr::V4(net), bits), IpAddr::V4(address)) => {
                let kept = u32::MAX.checked_shl(32 - u32::from(*bits)).unwrap_or(0);
                net.to_bits() & kept == address.to_bits() & kept
            }
            (Self::Net(IpAddr::V6(net), bits), IpAddr::V6(address)) => {
                let kept = u128::MAX.checked_shl(128 - u32::from(*bits)).unwrap_or(0);
                net.to_bits() & kept == address.to_bits() & kept
            }
            _ => false,
        }
    }
}

impl Reach {
    /// Whether a host that is written as an address, in any spelling, may be talked to. Names are looked at when they are
    /// resolved.
    ///
    /// # Errors
    /// Where it may not, or is not a host.
    pub fn check_literal(&self, host: &str) -> Result<(), ReachError> {
        match canonical(host)? {
            Host::Domain(_) => Ok(()),
            Host::Ipv4(address) => self.check_address(host, address.into()),
            Host::Ipv6(address) => self.check_address(host, address.into()),
        }
    }

    /// Whether the operator named this host himself, by its name or its domain.
    pub(crate) fn names(&self, host: &str) -> bool {
        match self {
            Self::Anything => true,
            Self::Public(allowed) => allowed.iter().any(|allowance| allowance.is_host(host)),
        }
    }

    /// Whether a folder of this machine may be read. Links on the way count for where they lead.
    ///
    /// # Errors
    /// Where it may not.
    pub fn check_folder(&self, path: &Path) -> Result<(), ReachError> {
        let Self::Public(allowed) = self else { return Ok(()) };
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let is_in = |folder: &PathBuf| {
            let folder = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.clone());
            real.starts_with(folder) && !real.components().any(|part| part == Component::ParentDir)
        };
        let found = allowed.iter().any(|a| matches!(a, Allowance::Folder(folder) if is_in(folder)));
        found.then_some(()).ok_or_else(|| ReachError::Folder { path: path.display().to_string() })
    }

    /// Whether `host` may be talked to at `address`.
    pub(crate) fn check_address(&self, host: &str, address: IpAddr) -> Result<(), ReachError> {
        let Self::Public(allowed) = self else { return Ok(()) };
        let allowed = is_public(address) || allowed.iter().any(|a| a.is_host(host) || a.is_address(address));
        allowed.then_some(()).ok_or_else(|| ReachError::NotPublic { host: host.to_owned(), address })
    }

    /// All addresses that a host has now, with port 0, where it may be talked to at each of them. Blocks.
    ///
    /// # Errors
    /// Where it may not, or has no address.
    pub fn addresses(&self, host: &str) -> Result<Vec<SocketAddr>, ReachError> {
        let name = match canonical(host)? {
            Host::Domain(name) => name,
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        let unresolved = |reason: String| ReachError::Unresolved { host: host.to_owned(), reason };
        let addresses: Vec<SocketAddr> =
            (name.as_str(), 0).to_socket_addrs().map_err(|error| unresolved(error.to_string()))?.collect();
        if addresses.is_empty() {
            return Err(unresolved("it has no address".into()));
        }
        addresses.iter().try_for_each(|address| self.check_address(host, address.ip()))?;
        Ok(addresses)
    }
}

/// Whether an address is one of the internet's: not this machine's, its network's or of a special kind.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let special = a == 0 || a >= 240 || (a, b, c) == (192, 0, 0) || (a == 198 && (18..20).contains(&b));
    !(address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || shared
        || special)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    // An IPv4 address inside: mapped, or behind a translator.
    if let Some(inner) = address.to_ipv4_mapped() {
        return is_public_v4(inner);
    }
    let segments = address.segments();
    if segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        return is_public_v4(Ipv4Addr::from(address.to_bits() as u32));
    }
    // Global unicast, without documentation, tunnels that hide an address, and translators of one network.
    let global = segments[0] & 0xe000 == 0x2000;
    let hidden = segments[0] == 0x2002 || segments[..2] == [0x2001, 0];
    global && !hidden && segments[..2] != [0x2001, 0xdb8]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_internet_are_public() {
        for (address, public) in [
            ("1.1.1.1", true),
            ("127.0.0.1", false),
            ("127.9.9.9", false),
            ("10.0.0.1", false),
            ("172.16.0.1", false),
            ("172.32.0.1", true),
            ("192.168.1.1", false),
            ("169.254.169.254", false),
            ("100.64.0.1", false),
            ("100.128.0.1", true),
            ("0.0.0.0", false),
            ("255.255.255.255", false),
            ("224.0.0.1", false),
            ("2606:4700::1111", true),
            ("::1", false),
            ("::", false),
            ("fe80::1", false),
            ("fd00::1", false),
            ("::ffff:10.0.0.1", false),
            ("::ffff:1.1.1.1", true),
            ("64:ff9b::7f00:1", false),
            ("64:ff9b::101:101", true),
            ("2002:7f00:1::", false),
            ("ff02::1", false),
        ] {
            assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
        }
    }

    #[test]
    fn what_the_operator_allows() {
        let reach = |list: &[&str]| Reach::Public(list.iter().map(|a| a.parse().unwrap()).collect());
        for (allowed, host, address, ok) in [
            (&["git.internal"][..], "git.internal", "10.0.0.1", true),
            (&["git.internal"], "GIT.internal.", "10.0.0.1", true),
            (&["git.internal"], "not.git.internal", "10.0.0.1", false),
            (&["*.internal"], "a.b.internal", "10.0.0.1", true),
            (&["*.internal"], "internal", "10.0.0.1", false),
            (&["*.internal"], "evilinternal", "10.0.0.1", false),
            (&["10.1.0.0/16"], "x", "10.1.2.3", true),
            (&["10.1.0.0/16"], "x", "10.2.2.3", false),
            (&["127.0.0.1"], "127.0.0.1", "127.0.0.1", true),
            (&["127.0.0.1"], "x", "127.0.0.2", false),
            (&["0.0.0.0/0"], "x", "10.2.2.3", true),
            (&["fd00::/8"], "x", "fd12::1", true),
            (&["fd00::/8"], "x", "fe80::1", false),
            (&[], "x", "8.8.8.8", true),
        ] {
            let checked = reach(allowed).check_address(host, address.parse().unwrap());
            assert_eq!(checked.is_ok(), ok, "{allowed:?} {host} {address}");
        }
        assert!(Reach::Anything.check_literal("127.0.0.1").is_ok());
        assert!(reach(&[]).check_literal("[::1]").is_err());
        assert!(reach(&[]).addresses("localhost").is_err());
        assert!(reach(&["localhost"]).addresses("localhost").is_ok());
        assert!(reach(&["2130706433"]).check_literal("127.0.0.1").is_ok(), "an address in another spelling");
    }

    #[test]
    fn no_spelling_of_an_address_gets_by() {
        use crate::host::tests::{LOCAL_NAMES, SPELLINGS};
        let reach = Reach::Public(Vec::new());
        for (text, _) in SPELLINGS {
            assert!(matches!(reach.check_literal(text), Err(ReachError::NotPublic { .. })), "{text}");
            assert!(matches!(reach.addresses(text), Err(ReachError::NotPublic { .. })), "{text}");
        }
        for text in LOCAL_NAMES {
            assert!(matches!(reach.addresses(text), Err(ReachError::NotPublic { .. })), "{text}");
        }
        let said = reach.addresses("localhost").unwrap_err().to_string();
        assert!(!said.contains("127.0.0.1") && said.contains("--allow-source localhost"), "{said}");
    }

    #[test]
    fn folders_are_allowed_with_what_is_below_them() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let (inside, outside) = (dir.path().join("git/a"), dir.path().join("other"));
        std::fs::create_dir_all(&inside)?;
        std::fs::create_dir_all(&outside)?;
        std::os::unix::fs::symlink(&outside, dir.path().join("git/link"))?;
        let allowed: Allowance = format!("file://{}/git", dir.path().display()).parse()?;
        let reach = Reach::Public(vec![allowed]);
        assert!(reach.check_folder(&inside).is_ok());
        for refused in [outside, dir.path().join("git/link"), dir.path().join("git/../other")] {
            assert!(reach.check_folder(&refused).is_err(), "{}", refused.display());
        }
        assert!(Reach::Anything.check_folder(Path::new("/etc")).is_ok());
        Ok(())
    }

    #[test]
    fn texts_that_are_no_allowance() {
        for text in [
            "",
            "*.",
            "10.0.0.0/33",
            "a/b",
            "https://x",
            "file://x",
            "file:///a/../b",
            "a..b",
            "a b",
            "256.1.1.1",
            "*.1",
        ] {
            assert!(text.parse::<Allowance>().is_err(), "{text}");
        }
        for text in ["git.internal", "*.a.b", "10.0.0.0/8", "file:///srv"] {
            assert_eq!(text.parse::<Allowance>().unwrap().to_string(), text);
        }
    }
}
