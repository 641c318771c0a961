//! How many connections the hub's ports take: by how many files the process may have open, as each is one.

use flotilla_runtime::tls::PlaceLimits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Limits on connections, port by port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortLimits {
    pub agents: PlaceLimits,
    pub people: PlaceLimits,
}

/// Kept for the store, fetches and helm.
const RESERVE: u64 = 1_024;
/// More people's connections than these are not people.
const PEOPLE: u64 = 2_000;
/// More agents than these want another hub.
const AGENTS: u64 = 50_000;
/// Connections that wait for a place on the agents' port: after a restart of the hub all come at once.
const WAITING: u64 = 8_192;

impl PortLimits {
    /// For a process that may have so many files open.
    pub fn within(files: u64) -> Self {
        let room = files - RESERVE.min(files / 2);
        let people = PEOPLE.min(room / 8);
        let waiting = WAITING.min(room / 4);
        let agents = AGENTS.min(room - 2 * people - waiting);
        let unproven = |of: u64| 512.min(of / 2) as usize;
        Self {
            people: PlaceLimits {
                connections: people as usize,
                unproven: unproven(people),
                per_identity: 64,
                waiting: people as usize,
                burst: 1_000,
                per_second: 200,
            },
            // Many agents may come from one address, and all at once after a restart of the hub.
            agents: PlaceLimits {
                connections: agents as usize,
                unproven: unproven(agents),
                per_identity: 4,
                waiting: waiting as usize,
                burst: 12_000,
                per_second: 500,
            },
        }
    }
}

/// Lets the process open as many files as it may let itself; answers how many that are.
pub fn raise_file_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok() {
        return maximum.unwrap_or(u64::MAX);
    }
    current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_take_no_more_than_there_are_files() {
        for (files, agents, people) in
            [(256, 64, 16), (1_024, 256, 64), (20_000, 10_232, 2_000), (65_536, 50_000, 2_000)]
        {
            let limits = PortLimits::within(files);
            assert_eq!((limits.agents.connections, limits.people.connections), (agents, people), "{files}");
            let all = [limits.agents, limits.people].map(|port| port.connections + port.waiting);
            assert!(all.iter().sum::<usize>() <= files as usize);
            assert!(limits.people.unproven * 2 <= limits.people.connections);
        }
    }
}
