//! Ports on 127.0.0.1 that stay ours while nothing listens on them, so that a server can come back at its address.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use anyhow::{Result, bail};

/// Below every system's ephemeral range, so that no outgoing connection takes one in between.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// A TCP port reserved until this is dropped, against every other user of this module on the machine.
///
/// The reservation is the UDP socket of the same number: the system frees it whatever happens to us.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _reservation: UdpSocket,
}

impl Port {
    /// Takes a free port.
    ///
    /// # Errors
    /// If the whole range is taken.
    pub fn reserve() -> Result<Self> {
        let start = rand::random_range(RANGE);
        for number in (start..RANGE.end).chain(RANGE.start..start) {
            let Ok(reservation) = UdpSocket::bind((Ipv4Addr::LOCALHOST, number)) else { continue };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Self { number, _reservation: reservation });
            }
        }
        bail!("no free port on 127.0.0.1 between {} and {}", RANGE.start, RANGE.end);
    }

    /// The port's number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_reserved_once() {
        let ports: Vec<Port> = (0..200).map(|_| Port::reserve().unwrap()).collect();
        let mut numbers: Vec<u16> = ports.iter().map(Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), ports.len());
    }
}
