//! What needs a person in a cluster: the one place that decides it, for every screen, exit code and metric. Pure.

use flotilla_api::{Attention, AttentionReason as Reason, Cluster, ConnectionState, Problem, Unit};
use flotilla_core::report::Phase;

/// All that needs a person, the worst first.
pub(super) fn of_cluster(cluster: &Cluster, units: &[Unit]) -> Vec<Attention> {
    let mut all = Vec::new();
    let mut add =
        |reason: Reason, message: &str| all.push(Attention::new(reason, &cluster.name, "", message));
    let has_agent = matches!(cluster.connection, ConnectionState::Connected | ConnectionState::Disconnected);
    match cluster.connection {
        ConnectionState::Disconnected => {
            add(Reason::Disconnected, "what it runs is only known as of when its agent was last seen");
        }
        ConnectionState::Revoked => add(Reason::Revoked, "its agent was cut off; what it runs stays there"),
        _ => {}
    }
    if let Some(reason) = &cluster.refused {
        add(Reason::Refused, reason);
    }
    cluster.agent_problems.iter().for_each(|problem| add(Reason::Agent, problem));
    if cluster.assigned {
        errors(&cluster.problems).for_each(|problem| add(Reason::Invalid, &problem));
    } else if has_agent {
        add(Reason::Unassigned, "Git does not define this cluster; it keeps what it runs");
    }
    if let Some(suspended) = &cluster.suspended {
        add(Reason::Suspended, &by_hand(&suspended.by, &suspended.reason));
    }
    units.iter().for_each(|unit| of_unit(&mut all, unit, cluster.suspended.is_some()));
    all.sort();
    all
}

fn of_unit(all: &mut Vec<Attention>, unit: &Unit, is_cluster_suspended: bool) {
    let mut add = |reason: Reason, message: String| {
        all.push(Attention::new(reason, &unit.cluster, &unit.unit, message))
    };
    let is = |phase: Phase| unit.phase == phase.as_str();
    let wrong: Vec<String> = errors(&unit.problems).collect();
    if is(Phase::Held) {
        let reasons = if wrong.is_empty() { vec![unit.message.clone()] } else { wrong };
        add(if unit.waiting { Reason::Waiting } else { Reason::Held }, first_of(&reasons));
    } else if !wrong.is_empty() {
        add(Reason::Invalid, first_of(&wrong));
    }
    if is(Phase::Failed) {
        let found = unit.findings.iter().map(|f| format!("{}: {}: {}", f.object, f.reason, f.message));
        let found: Vec<String> = found.collect();
        add(Reason::Failed, if found.is_empty() { unit.message.clone() } else { first_of(&found) });
    }
    if !unit.kept.is_empty() {
        let kept: Vec<String> =
            unit.kept.iter().map(|kept| format!("{}: {}", kept.object, kept.why)).collect();
        add(Reason::Kept, first_of(&kept));
    }
    match &unit.suspended {
        // Said once, of the cluster.
        Some(_) if is_cluster_suspended => {}
        Some(suspended) => add(Reason::Suspended, by_hand(&suspended.by, &suspended.reason)),
        None if is(Phase::Suspended) && !is_cluster_suspended => {
            add(Reason::Suspended, "by spec.suspend in Git".to_owned());
        }
        None => {}
    }
}

fn errors(problems: &[Problem]) -> impl Iterator<Item = String> {
    problems.iter().filter(|problem| !problem.notice).map(ToString::to_string)
}

fn by_hand(by: &str, reason: &str) -> String {
    if reason.is_empty() { format!("by {by}") } else { format!("by {by}: {reason}") }
}

fn first_of(messages: &[String]) -> String {
    match messages {
        [] => String::new(),
        [one] => one.clone(),
        [first, more @ ..] => format!("{first} (and {} more)", more.len()),
    }
}

#[cfg(test)]
mod tests {
    use flotilla_api::{Finding, Kept, Suspension};

    use super::*;

    fn cluster(connection: ConnectionState) -> Cluster {
        Cluster { name: "c".into(), connection, assigned: true, ..Cluster::default() }
    }

    fn unit(phase: Phase) -> Unit {
        Unit { cluster: "c".into(), unit: "root".into(), phase: phase.as_str().into(), ..Unit::default() }
    }

    fn problem(message: &str, notice: bool) -> Problem {
        Problem { message: message.into(), notice, ..Problem::default() }
    }

    #[test]
    fn each_state_that_needs_a_person_says_so_and_no_other_does() {
        use ConnectionState::{Connected, Disconnected, Invited, NotEnrolled, Revoked};
        let suspension = || Some(Suspension { by: "ann".into(), at: 1, reason: "freeze".into() });
        let held = |message: &str| Unit { problems: vec![problem(message, false)], ..unit(Phase::Held) };
        let kept =
            Unit { kept: vec![Kept { why: "holds data".into(), ..Kept::default() }], ..unit(Phase::Ready) };
        let finding = Finding { reason: "ApplyFailed".into(), message: "no".into(), ..Finding::default() };
        for (what, cluster, units, expected) in [
            ("all is well", cluster(Connected), vec![unit(Phase::Ready)], vec![]),
            ("on its way", cluster(Connected), vec![unit(Phase::Applying), unit(Phase::Pending)], vec![]),
            ("no agent yet", cluster(NotEnrolled), vec![unit(Phase::Pending)], vec![]),
            ("invited", Cluster { assigned: false, ..cluster(Invited) }, vec![], vec![]),
            ("away", cluster(Disconnected), vec![], vec!["c is disconnected: what it runs"]),
            ("cut off", cluster(Revoked), vec![], vec!["c is revoked"]),
            (
                "left Git",
                Cluster { assigned: false, problems: vec![problem("x", false)], ..cluster(Connected) },
                vec![],
                vec!["c is not defined in Git"],
            ),
            (
                "a wrong definition",
                Cluster { problems: vec![problem("x", false), problem("y", true)], ..cluster(NotEnrolled) },
                vec![],
                vec!["c has a problem: x"],
            ),
            (
                "refused",
                Cluster { refused: Some("full".into()), ..cluster(Connected) },
                vec![],
                vec!["c refused"],
            ),
            (
                "held",
                cluster(NotEnrolled),
                vec![held("a.yaml: broken")],
                vec!["c root is held: a.yaml: broken"],
            ),
            (
                "fetching",
                cluster(Connected),
                vec![Unit { waiting: true, ..held("GitRepository/a/b is not fetched yet") }],
                vec!["c root waits"],
            ),
            (
                "words that a tenant chose",
                cluster(Connected),
                vec![held("a.yaml: broken, is not fetched yet")],
                vec!["c root is held"],
            ),
            (
                "a clash",
                cluster(Connected),
                vec![Unit { problems: vec![problem("x", false)], ..unit(Phase::Ready) }],
                vec!["c root has a problem: x"],
            ),
            (
                "failed",
                cluster(Connected),
                vec![Unit { findings: vec![finding.clone(), finding], ..unit(Phase::Failed) }],
                vec!["c root failed"],
            ),
            ("kept", cluster(Connected), vec![kept], vec!["c root keeps what Git no longer names"]),
            (
                "suspended in Git",
                cluster(Connected),
                vec![unit(Phase::Suspended)],
                vec!["c root is suspended: by spec"],
            ),
            (
                "suspended by hand",
                cluster(Connected),
                vec![Unit { suspended: suspension(), ..unit(Phase::Suspended) }],
                vec!["c root is suspended: by ann: freeze"],
            ),
            (
                "suspended as a whole",
                Cluster { suspended: suspension(), ..cluster(Connected) },
                vec![Unit { suspended: suspension(), ..unit(Phase::Suspended) }],
                vec!["c is suspended: by ann: freeze"],
            ),
        ] {
            let found = of_cluster(&cluster, &units);
            let said: Vec<String> = found.iter().map(ToString::to_string).collect();
            let fits = said.iter().zip(&expected).all(|(said, start)| said.starts_with(start));
            assert!(said.len() == expected.len() && fits, "{what}: {said:?}");
            assert!(found.iter().all(|it| it.notice == it.reason.is_notice()));
        }
    }

    #[test]
    fn the_worst_comes_first() {
        let suspended = Unit { unit: "kustomization/a/b".into(), ..unit(Phase::Suspended) };
        let found = of_cluster(&cluster(ConnectionState::Disconnected), &[suspended, unit(Phase::Held)]);
        let reasons: Vec<Reason> = found.iter().map(|it| it.reason).collect();
        assert_eq!(reasons, [Reason::Disconnected, Reason::Held, Reason::Suspended]);
    }
}
