//! `flotilla rollout`: where pipelines stand, and what people ask of them.

use clap::{Args, Subcommand};
use flotilla_api::{Pipeline, RolloutRequest};
use flotilla_core::{ClusterName, UnitId};

use super::rows;
use crate::Context;
use crate::args::{Format, OutputArgs, duration};
use crate::error::Error;
use crate::exit::Code;
use crate::output::{Cell, Table, clean, now};

/// See and steer the promotion of candidates through the stages of pipelines
#[derive(Debug, Subcommand)]
pub(crate) enum RolloutCommand {
    /// Where each stage of a pipeline stands, and why clusters do not run the newest
    Status(StatusArgs),
    /// Keep what runs until it is released
    Hold(ScopeArgs),
    /// End holds of exactly this scope, those that a rollback left too
    Release(ScopeArgs),
    /// Go back to what each cluster was healthy on before, and hold it there
    Rollback(ScopeArgs),
    /// Bar a candidate or a digest from a stage, or from all
    Veto(VetoArgs),
    /// End a veto
    Unveto(VetoArgs),
    /// Give one unit of a candidate to a stage at once, past the queue
    Promote(PromoteArgs),
    /// Give nothing new, in a stage or in all; what is in flight goes on
    Pause(PauseArgs),
    /// Go on where it was paused
    Resume(PauseArgs),
    /// Try a candidate again that failed, was aborted or is rejected in a stage
    Retry(StageArgs),
    /// End what a stage does: clusters keep what they have, and the candidate does not pass
    Abort(StageArgs),
    /// Approve what a stage asks, by the digest that `rollout status` shows
    Approve(QuestionArgs),
    /// Take an approval back that was not used yet
    Withdraw(QuestionArgs),
    /// Let a candidate go on past a stage that it did not pass, or past a window
    Override(OverrideArgs),
    /// Let the clusters of a pipeline that the fleet repo no longer defines run the newest
    Forget(ForgetArgs),
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Name of the pipeline; all of them without it
    pipeline: Option<String>,
    /// Go on with what changes, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// Of which pipeline, and why.
#[derive(Debug, Args)]
pub(crate) struct OfArgs {
    /// Name of the pipeline
    pipeline: String,
    /// Why, for those who find it so
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ScopeArgs {
    #[command(flatten)]
    of: OfArgs,
    /// Only this stage
    #[arg(long, value_name = "STAGE")]
    stage: Option<String>,
    /// Only this cluster
    #[arg(long, value_name = "NAME")]
    cluster: Option<ClusterName>,
    /// Only this unit
    #[arg(long, value_name = "UNIT")]
    unit: Option<UnitId>,
    /// It ends by itself after this time, like 12h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    until: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct VetoArgs {
    #[command(flatten)]
    of: OfArgs,
    /// The candidate, by 8 digits of its id or more
    #[arg(long, value_name = "ID", required_unless_present = "digest", conflicts_with = "digest")]
    candidate: Option<String>,
    /// What clusters would run; with --unit that unit's digest
    #[arg(long, value_name = "DIGEST")]
    digest: Option<String>,
    /// The unit that the digest is of
    #[arg(long, value_name = "UNIT", requires = "digest")]
    unit: Option<UnitId>,
    /// Only from this stage
    #[arg(long, value_name = "STAGE")]
    stage: Option<String>,
    /// It ends by itself after this time, like 12h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    until: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct PromoteArgs {
    #[command(flatten)]
    of: OfArgs,
    /// The unit
    #[arg(long, value_name = "UNIT")]
    only: UnitId,
    /// The stage that gets it
    #[arg(long, value_name = "STAGE")]
    to: String,
    /// Of which candidate; of the newest without it
    #[arg(long, value_name = "ID")]
    candidate: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PauseArgs {
    #[command(flatten)]
    of: OfArgs,
    /// Only this stage
    #[arg(long, value_name = "STAGE")]
    stage: Option<String>,
    /// It ends by itself after this time, like 12h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    until: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct StageArgs {
    #[command(flatten)]
    of: OfArgs,
    /// The stage
    stage: String,
}

#[derive(Debug, Args)]
pub(crate) struct QuestionArgs {
    #[command(flatten)]
    of: OfArgs,
    /// The stage
    stage: String,
    /// The question's digest, 8 digits of it or more
    digest: String,
}

#[derive(Debug, Args)]
pub(crate) struct OverrideArgs {
    #[command(flatten)]
    of: OfArgs,
    /// The stage
    #[arg(long, value_name = "STAGE", required_unless_present = "window")]
    stage: Option<String>,
    /// The candidate that goes on, by 8 digits of its id or more
    #[arg(long, value_name = "ID", required_unless_present = "window", conflicts_with = "window")]
    candidate: Option<String>,
    /// A window that does not count
    #[arg(long, value_name = "NAME")]
    window: Option<String>,
    /// It ends by itself after this time, like 12h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    until: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct ForgetArgs {
    /// Name of the pipeline
    pipeline: String,
    #[command(flatten)]
    output: OutputArgs,
}

fn until(seconds: Option<u64>) -> Option<i64> {
    seconds.map(|seconds| now().saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX)))
}

pub(crate) async fn run(context: &Context, command: RolloutCommand) -> Result<Code, Error> {
    let ask = |action: &str| RolloutRequest { action: action.to_owned(), ..RolloutRequest::default() };
    let scoped = |action: &str, args: ScopeArgs| {
        let (cluster, unit) = (args.cluster.map(|name| name.to_string()), args.unit.map(|id| id.to_string()));
        (
            args.of,
            RolloutRequest { stage: args.stage, cluster, unit, until: until(args.until), ..ask(action) },
        )
    };
    let barred = |action: &str, args: VetoArgs| {
        let (unit, until) = (args.unit.map(|id| id.to_string()), until(args.until));
        let VetoArgs { of, candidate, digest, stage, .. } = args;
        (of, RolloutRequest { candidate, digest, unit, stage, until, ..ask(action) })
    };
    let paused = |action: &str, args: PauseArgs| {
        (args.of, RolloutRequest { stage: args.stage, until: until(args.until), ..ask(action) })
    };
    let staged =
        |action: &str, args: StageArgs| (args.of, RolloutRequest { stage: Some(args.stage), ..ask(action) });
    let asked = |action: &str, args: QuestionArgs| {
        let (stage, digest) = (Some(args.stage), Some(args.digest));
        (args.of, RolloutRequest { stage, digest, ..ask(action) })
    };
    let (is_approval, (of, request)) = match command {
        RolloutCommand::Status(args) => return status(context, args).await,
        RolloutCommand::Forget(ForgetArgs { pipeline, output }) => {
            let done = context.hub()?.forget_pipeline(&pipeline).await?;
            return say(context, output.output, &done);
        }
        RolloutCommand::Hold(args) => (false, scoped("hold", args)),
        RolloutCommand::Release(args) => (false, scoped("release", args)),
        RolloutCommand::Rollback(args) => (false, scoped("rollback", args)),
        RolloutCommand::Veto(args) => (false, barred("veto", args)),
        RolloutCommand::Unveto(args) => (false, barred("unveto", args)),
        RolloutCommand::Promote(PromoteArgs { of, only, to, candidate }) => {
            let (unit, stage) = (Some(only.to_string()), Some(to));
            (false, (of, RolloutRequest { unit, stage, candidate, ..ask("promote") }))
        }
        RolloutCommand::Pause(args) => (false, paused("pause", args)),
        RolloutCommand::Resume(args) => (false, paused("resume", args)),
        RolloutCommand::Retry(args) => (false, staged("retry", args)),
        RolloutCommand::Abort(args) => (false, staged("abort", args)),
        RolloutCommand::Approve(args) => (true, asked("approve", args)),
        RolloutCommand::Withdraw(args) => (true, asked("withdraw", args)),
        RolloutCommand::Override(OverrideArgs { of, stage, candidate, window, until: after }) => {
            let action = if window.is_some() { "override-window" } else { "override" };
            let until = until(after);
            (true, (of, RolloutRequest { stage, candidate, window, until, ..ask(action) }))
        }
    };
    let OfArgs { pipeline, reason, output } = of;
    let request = RolloutRequest { reason, ..request };
    let done = context.hub()?.ask_pipeline(&pipeline, is_approval, &request).await?;
    say(context, output.output, &done)
}

fn say(context: &Context, format: Format, done: &flotilla_api::Done) -> Result<Code, Error> {
    match format {
        Format::Table | Format::Wide => context.terminal.note(&super::said(done, "done")),
        format => context.terminal.show(format, done, |_| String::new())?,
    }
    Ok(Code::Done)
}

async fn status(context: &Context, args: StatusArgs) -> Result<Code, Error> {
    let client = context.hub()?;
    let StatusArgs { pipeline, watch, output: OutputArgs { output } } = args;
    let fetch = async || {
        let mut all = client.pipelines().await?;
        all.retain(|one| pipeline.as_ref().is_none_or(|name| *name == one.name));
        Ok::<_, Error>(all)
    };
    if watch {
        rows::watch(&context.terminal, &client, output, fetch).await?;
        return Ok(Code::Done);
    }
    let found = fetch().await?;
    if let Some(name) = pipeline.as_ref().filter(|_| found.is_empty()) {
        return Err(Error::new(Code::NotFound, format!("no pipeline is called {name}"))
            .hint("`flotilla get pipelines` lists them"));
    }
    context.terminal.show(output, &found, |_| found.iter().map(shown).collect())?;
    Ok(Code::Done)
}

fn shown(pipeline: &Pipeline) -> String {
    let mut text = format!("pipeline {}\n", pipeline.name);
    if let Some(why) = &pipeline.frozen {
        text.push_str(&format!("  frozen: {}\n", clean(why)));
    }
    if let Some(why) = &pipeline.refs_behind {
        text.push_str(&format!("  refs of its stages are behind in the fleet repo: {}\n", clean(why)));
    }
    let mut table = Table::new(&["STAGE", "PHASE", "CANDIDATE", "HEALTHY", "IN FLIGHT", "FAILED", "MESSAGE"]);
    for stage in &pipeline.stages {
        table.row(vec![
            Cell::new(&stage.name),
            Cell::new(&stage.phase),
            stage.candidate.clone().unwrap_or_default().into(),
            format!("{}/{}", stage.healthy, stage.clusters).into(),
            stage.in_flight.to_string().into(),
            stage.failed.to_string().into(),
            Cell::new(&stage.message),
        ]);
    }
    text.push_str(&table.take(false));
    for stage in &pipeline.stages {
        if let Some(question) = &stage.question {
            let digest = question.digest.get(..12).unwrap_or(&question.digest);
            let (have, needs) = (question.approved_by.len(), question.needs);
            text.push_str(&format!(
                "{} asks {digest} for {}: {have} of {needs} approvals\n",
                clean(&stage.name),
                clean(&question.candidate)
            ));
        }
    }
    for standing in &pipeline.standing {
        text.push_str(&format!("{}\n", clean(standing)));
    }
    for waiting in &pipeline.waiting {
        text.push_str(&format!("{}: {}\n", waiting.cluster, clean(&rows::waits(waiting))));
    }
    if !pipeline.unmatched.is_empty() {
        text.push_str(&format!("in no stage: {}\n", clean(&pipeline.unmatched.join(", "))));
    }
    text
}

impl rows::Row for Pipeline {
    fn headers(_: bool) -> &'static [&'static str] {
        &["NAME", "STAGES", "NEWEST", "WAITING", "MESSAGE"]
    }

    fn cells(&self, _: bool, _: i64) -> Vec<Cell> {
        let stages: Vec<String> =
            self.stages.iter().map(|stage| format!("{} {}", stage.name, stage.phase)).collect();
        let running = self.stages.iter().find(|stage| !["passed", "idle"].contains(&stage.phase.as_str()));
        let message = self.frozen.clone().or_else(|| running.map(|stage| stage.message.clone()));
        vec![
            Cell::new(&self.name),
            stages.join(", ").into(),
            self.candidates.last().map(|newest| newest.id.clone()).unwrap_or_default().into(),
            self.waiting.len().to_string().into(),
            message.unwrap_or_default().into(),
        ]
    }

    fn key(&self) -> String {
        self.name.clone()
    }
}

#[cfg(test)]
mod tests {
    use flotilla_api::{Stage, WaitingCluster};

    use super::*;

    /// Reasons and messages are of whoever writes a repository, or asks.
    #[test]
    fn no_text_of_a_stranger_reaches_the_terminal_as_it_is() {
        let evil = || "\u{1b}]0;x\u{7}\u{1b}[2J\nstages passed".to_owned();
        let shown = shown(&Pipeline {
            frozen: Some(evil()),
            refs_behind: Some(evil()),
            standing: vec![evil()],
            stages: vec![Stage { name: evil(), message: evil(), ..Stage::default() }],
            waiting: vec![WaitingCluster { message: evil(), ..WaitingCluster::default() }],
            unmatched: vec![evil()],
            ..Pipeline::default()
        });
        assert!(!shown.contains(['\u{1b}', '\u{7}']) && !shown.contains("\nstages passed"), "{shown:?}");
    }
}
