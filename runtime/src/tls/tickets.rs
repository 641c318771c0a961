//! Session tickets, so that thousands of agents come back quickly, also after the hub was restarted: their
//! key outlives the process.
//!
//! A ticket is a random nonce and, under ChaCha20-Poly1305, the time it was made and the session. It is
//! good for half a day. TLS 1.3 resumption still exchanges fresh keys, so who steals the key reads no
//! recorded traffic; the file is private all the same, and `rotate` makes it useless.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rustls::server::ProducesTickets;

use super::{Clock, TlsError};
use crate::files;

const LIFE_SECONDS: u64 = 12 * 3600;
const KEY: usize = 32;
const MAX_TICKET: usize = 16 * 1024;

/// The key that tickets are sealed with, and the one before. Clones share them.
#[derive(Clone)]
pub struct TicketKeys {
    keys: Arc<ArcSwap<Keys>>,
    clock: Clock,
}

struct Keys {
    raw: [[u8; KEY]; 2],
    sealing: LessSafeKey,
    previous: LessSafeKey,
}

impl Keys {
    fn new(raw: [[u8; KEY]; 2]) -> Self {
        let key = |raw: &[u8; KEY]| {
            LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, raw).expect("the length is the algorithm's"))
        };
        Self { sealing: key(&raw[0]), previous: key(&raw[1]), raw }
    }
}

impl TicketKeys {
    /// Keys that end with the process.
    pub fn ephemeral(clock: Clock) -> Self {
        Self::of(Keys::new(rand::random()), clock)
    }

    /// Keys that are kept in a private file, made where it is absent. Blocking.
    pub fn load_or_create(path: &Path, clock: Clock) -> Result<Self, TlsError> {
        let raw = match files::read_if_there(path)? {
            Some(bytes) if bytes.len() == 2 * KEY => {
                let mut raw = [[0; KEY]; 2];
                raw.as_flattened_mut().copy_from_slice(&bytes);
                raw
            }
            // A damaged file costs full handshakes, nothing else.
            _ => {
                let raw: [[u8; KEY]; 2] = rand::random();
                files::write_atomic(path, raw.as_flattened(), files::PRIVATE)?;
                raw
            }
        };
        Ok(Self::of(Keys::new(raw), clock))
    }

    /// Seals with a new key from now on; tickets of the last one stay good, older ones do not. Once a day is
    /// right. `path` is the file that the keys were loaded from, if any. Blocking.
    pub fn rotate(&self, path: Option<&Path>) -> Result<(), TlsError> {
        let raw = [rand::random(), self.keys.load().raw[0]];
        if let Some(path) = path {
            files::write_atomic(path, raw.as_flattened(), files::PRIVATE)?;
        }
        self.keys.store(Arc::new(Keys::new(raw)));
        Ok(())
    }

    fn of(keys: Keys, clock: Clock) -> Self {
        Self { keys: Arc::new(ArcSwap::from_pointee(keys)), clock }
    }
}

impl ProducesTickets for TicketKeys {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFE_SECONDS as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut sealed = [&self.clock.unix().as_secs().to_be_bytes(), plain].concat();
        self.keys
            .load()
            .sealing
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut sealed)
            .ok()?;
        Some([&nonce, sealed.as_slice()].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > MAX_TICKET {
            return None;
        }
        let (nonce, sealed) = ticket.split_first_chunk::<NONCE_LEN>()?;
        let keys = self.keys.load();
        [&keys.sealing, &keys.previous].into_iter().find_map(|key| {
            let mut buffer = sealed.to_vec();
            let opened =
                key.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::empty(), &mut buffer).ok()?;
            let (made, plain) = opened.split_first_chunk::<8>()?;
            let age = self.clock.unix().as_secs().checked_sub(u64::from_be_bytes(*made))?;
            (age <= LIFE_SECONDS).then(|| plain.to_vec())
        })
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TicketKeys(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn tickets_outlive_a_restart_and_one_rotation_but_not_their_life() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("tickets");
        let start = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let clock = Clock::fixed(start);
        let keys = TicketKeys::load_or_create(&path, clock.clone())?;
        let ticket = keys.encrypt(b"session").unwrap();
        let restarted = TicketKeys::load_or_create(&path, clock.clone())?;
        assert_eq!(restarted.decrypt(&ticket).as_deref(), Some(b"session".as_slice()));
        assert_ne!(keys.encrypt(b"session").unwrap(), ticket);

        clock.set(start + Duration::from_secs(LIFE_SECONDS + 1));
        assert_eq!(keys.decrypt(&ticket), None);
        clock.set(start);

        keys.rotate(Some(&path))?;
        assert!(keys.decrypt(&ticket).is_some());
        assert!(TicketKeys::load_or_create(&path, clock.clone())?.decrypt(&ticket).is_some());
        keys.rotate(Some(&path))?;
        assert_eq!(keys.decrypt(&ticket), None);
        assert_eq!(format!("{keys:?}"), "TicketKeys(hidden)");
        Ok(())
    }

    #[test]
    fn what_is_no_ticket_is_none() {
        let keys = TicketKeys::ephemeral(Clock::system());
        let mut forged = keys.encrypt(b"session").unwrap();
        *forged.last_mut().unwrap() ^= 1;
        for ticket in [forged, Vec::new(), vec![0; NONCE_LEN], vec![0; MAX_TICKET + 1]] {
            assert_eq!(keys.decrypt(&ticket), None);
        }
    }
}
