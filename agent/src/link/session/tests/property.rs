//! Whatever happens on the way, the agent ends with what the hub published.

use proptest::prelude::*;

use super::*;

/// What happens to the traffic.
#[derive(Debug, Clone)]
enum Step {
    /// Publishes a state of these objects in two units.
    Publish(Vec<u8>, Vec<u8>),
    /// The hub sends its newest state without being asked.
    Push,
    /// Delivers so many of the messages under way, in an order given by the seed, some twice.
    Deliver(usize, u64),
    /// Drops everything under way, and the stream with it.
    Break,
    /// The agent's disk loses a body.
    Lose(u8),
    Minute,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let objects = || proptest::collection::vec(0_u8..8, 0..5);
    let step = prop_oneof![
        3 => (objects(), objects()).prop_map(|(a, b)| Step::Publish(a, b)),
        2 => Just(Step::Push),
        6 => (1_usize..12, any::<u64>()).prop_map(|(n, seed)| Step::Deliver(n, seed)),
        1 => Just(Step::Break),
        1 => (0_u8..8).prop_map(Step::Lose),
        1 => Just(Step::Minute),
    ];
    proptest::collection::vec(step, 1..40)
}

fn names(objects: &[u8], version: usize) -> Vec<String> {
    let unique: std::collections::BTreeSet<u8> = objects.iter().copied().collect();
    unique.into_iter().map(|n| if n < 4 { format!("o{n}") } else { format!("o{n}=v{version}") }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever happens on the way, the agent runs a published state or none, never goes back, and once both can
    /// talk it runs the newest.
    #[test]
    fn it_always_ends_with_the_published_state(steps in steps()) {
        let (mut agent, mut hub) = (Agent::new(), Hub::default());
        hub.publish(&[("root", &["a"])]);
        let mut way: Vec<In> = Vec::new();
        for step in steps {
            match step {
                Step::Publish(a, b) => {
                    let version = hub.states.len();
                    let (a, b) = (names(&a, version), names(&b, version));
                    let (a, b): (Vec<&str>, Vec<&str>) =
                        (a.iter().map(String::as_str).collect(), b.iter().map(String::as_str).collect());
                    hub.publish(&[("root", &a), ("kustomization/x/y", &b), ("kustomization/x/held", &[])]);
                }
                Step::Push => way.extend(hub.manifest()),
                Step::Deliver(count, seed) => {
                    for n in 0..count as u64 {
                        if way.is_empty() {
                            break;
                        }
                        // Bodies may overtake; manifests keep their order, as on a stream.
                        let bodies: Vec<usize> = (0..way.len()).filter(|at| matches!(way[*at], In::Body(_))).collect();
                        let draw = (seed.rotate_left(n as u32 * 7) % 1_000) as usize;
                        let at = if bodies.is_empty() || draw.is_multiple_of(3) { 0 } else { bodies[draw % bodies.len()] };
                        let message = way.remove(at);
                        if draw.is_multiple_of(5) {
                            way.push(message.clone());
                        }
                        if agent.receive(message).is_err() {
                            way.clear();
                            agent.reconnect();
                        }
                        let sent = agent.sent();
                        way.extend(sent.into_iter().flat_map(|message| hub.take(message)).collect::<Vec<_>>());
                    }
                }
                Step::Break => {
                    way.clear();
                    agent.reconnect();
                }
                Step::Lose(n) => {
                    let digest = object(&format!("o{n}")).digest();
                    agent.pack.0.borrow_mut().remove(&digest);
                    // Told by whoever read it.
                    agent.session.repair(&agent.pack);
                }
                Step::Minute => agent.session.minute(),
            }
            if let Some(running) = &agent.running {
                prop_assert!(hub.states.iter().any(|state| state == running), "only what was published");
            }
        }
        agent.reconnect();
        converse(&mut agent, &mut hub);
        // The same content under a new generation is nothing to send.
        let newest = hub.newest();
        prop_assert_eq!(agent.running.as_ref().map(|state| state.digest()), Some(newest.digest()));
        let missing = newest.all_present().flat_map(|unit| &unit.objects).find(|entry| !agent.pack.has(entry.digest));
        prop_assert!(missing.is_none(), "all of it is here");
    }
}
