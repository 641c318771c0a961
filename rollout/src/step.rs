//! One step, from what is known to what follows.

use crate::align;
use crate::candidates;
use crate::fleet::Fleet;
use crate::outcome::Step;
use crate::request::Request;
use crate::run::{Passed, Phase, Run};
use crate::spec::Pipeline;
use crate::state::{Key, Shape, State};
use crate::world::{Link, World};

/// Decides what follows from what is known now. The same arguments give the same step.
///
/// What changed in the state is to be written before anything of the step is published. A step that is lost before is made
/// again from what was written.
pub fn step(pipeline: &Pipeline, state: &mut State, world: &World, requests: &[Request], now: i64) -> Step {
    let known: Vec<Key> = state.candidates.keys().copied().map(Key::Candidate).collect();
    align::parts(state, world, now);
    let forgotten = align::forgotten(state, now);
    let stage_of = align::stages(state, pipeline, world);
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); pipeline.stages.len()];
    let mut absent = members.clone();
    for (at, stage) in stage_of.iter().enumerate() {
        let Some(stage) = *stage else { continue };
        match world.clusters[at].link {
            Link::NeverEnrolled => absent[stage].push(at),
            Link::Online { .. } | Link::Offline { .. } => members[stage].push(at),
        }
    }
    let mut fleet = Fleet {
        pipeline,
        world,
        state,
        now,
        stage_of,
        members,
        absent,
        events: Vec::new(),
        head_changed: false,
        holds: Vec::new(),
    };
    let (seq, newest) = (fleet.state.head.seq, fleet.state.head.newest);
    align::edits(&mut fleet);
    align::expire(&mut fleet);
    fleet.index_holds();
    align::reports(&mut fleet);
    let stage_of = std::mem::take(&mut fleet.stage_of);
    candidates::observe(fleet.state, world, &stage_of, now, &mut fleet.events);
    fleet.stage_of = stage_of;
    fleet.head_changed |= (seq, newest) != (fleet.state.head.seq, fleet.state.head.newest);
    adopt(&mut fleet);
    fleet.measured(&world.measured);
    let answers = requests.iter().map(|request| {
        let answer = fleet.request(request);
        fleet.index_holds();
        answer
    });
    let answers = answers.collect();
    let (mut measure, mut wanted) = (Vec::new(), Vec::new());
    for stage in 0..pipeline.stages.len() {
        fleet.advance(stage, &mut measure);
    }
    for stage in 0..pipeline.stages.len() {
        fleet.give(stage, &mut wanted);
    }
    if fleet.head_changed || fleet.state.parts.iter().any(|part| part.dirty) {
        candidates::forget(fleet.state);
    }
    let (decisions, stages, unmatched, next) = fleet.decide();
    let (events, head_changed) = (std::mem::take(&mut fleet.events), fleet.head_changed);
    let mut changed: Vec<Key> = forgotten.into_iter().map(Key::Cluster).collect();
    let is_gone_or_new = |key: &Key| match key {
        Key::Candidate(id) => !state.candidates.contains_key(id),
        _ => false,
    };
    changed.extend(known.iter().filter(|key| is_gone_or_new(key)).cloned());
    let fresh = state.candidates.keys().copied().map(Key::Candidate).filter(|key| !known.contains(key));
    changed.extend(fresh);
    for part in state.parts.iter_mut().chain(state.gone.values_mut()) {
        if std::mem::take(&mut part.dirty) && part.stage.is_some() {
            changed.push(Key::Cluster(part.name.clone()));
        }
    }
    if head_changed {
        changed.push(Key::Head);
    }
    Step { decisions, stages, unmatched, wanted, measure, events, answers, changed, next }
}

/// A pipeline that comes to a fleet finds it running: where every cluster of a stage reports what the first candidate is for it,
/// it has passed.
fn adopt(fleet: &mut Fleet<'_>) {
    let Some(newest) = fleet.state.head.newest else { return };
    let is_first =
        fleet.state.head.stages.iter().all(|stage| stage.run.is_none() && stage.history.is_empty());
    if !is_first {
        return;
    }
    let seq = fleet.state.seq(newest);
    for stage in 0..fleet.pipeline.stages.len() {
        let runs = |at: &usize| {
            let report = fleet.cluster(*at).report.as_ref().map(|report| report.digest);
            report.is_some() && fleet.part(*at).shape(seq).and_then(Shape::digest) == report
        };
        let members = fleet.members[stage].clone();
        if members.is_empty() || !members.iter().all(runs) || fleet.stage_hold(stage).is_some() {
            continue;
        }
        fleet.state.head.runs += 1;
        let mut run = Run {
            number: fleet.state.head.runs,
            candidate: newest,
            seq,
            spec: fleet.pipeline.stages[stage].clone(),
            begun: fleet.now,
            of: members.len(),
            phase: Phase::Before,
            at: fleet.now,
            question: None,
            approvals: Vec::new(),
            checks: Default::default(),
            sent_back: false,
        };
        fleet.pass(stage, &mut run, Passed::Adopted);
        for at in members {
            if let Ok(want) = fleet.part(at).want(seq) {
                fleet.take_over(at, want, &run);
            }
        }
        fleet.state.head.stages[stage].run = Some(run);
        fleet.head_changed = true;
    }
}
