//! `flotilla plan`

mod data;
mod lines;
mod markdown;
mod server;
mod sides;
mod stages;
mod versions;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::{Args, ValueEnum};
use flotilla_core::ClusterName;
use flotilla_core::change::Policy;
use flotilla_core::report::Problem;
use flotilla_core::source::SourceId;
use flotilla_render::ClusterRender;
use flotilla_render::plan::stages::whens;
use flotilla_render::plan::{
    ClusterChange, Differ, FleetPlan, Misfits, PlanBuilder, Side, UnitChange, fit, guard_policy, plan,
};
use flotilla_runtime::lock;
use flotilla_runtime::token::TokenSecret;

use self::server::Server;
use self::sides::Point;
use self::versions::Versions;
use crate::Context;
use crate::error::Error;
use crate::exit::Code;
use crate::offline::{ClustersArgs, NOT_FETCHED, Repo, local_source};
use crate::output::document;

/// Show what a change would do to every cluster, before it is merged
///
/// Renders all clusters at two points of a fleet repo, without a hub, and shows what differs: clusters with the same diff
/// together, with the objects that are added, changed and pruned, what the guard on the change would stop, and in which stages
/// of pipelines clusters get it. What is not known here, as a source is not fetched or a unit does not render, is said and not compared. Values of Secrets are never
/// shown.
///
/// With --server the point before is what the hub has published for each cluster now, which may be of several commits where
/// pipelines hold clusters back; clusters have the versions of Kubernetes that they report. It takes a token of whole clusters;
/// values of Secrets are compared where it may operate.
///
/// REV is what Git calls a commit: HEAD^1, a branch, a tag, an id. A folder begins with `.` or `/`.
///
/// Exits with 0 whether or not something differs; with --exit-code with 1 if something does. Exits with 3 where something
/// does not render any more that did before; the plan is printed all the same.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// The point before the change
    #[arg(long, value_name = "REV|DIR", default_value = "HEAD")]
    from: Point,
    /// Compare with what the hub has published instead
    #[arg(long, conflicts_with = "from")]
    server: bool,
    /// The point after the change; without it the folder as it is now, committed or not
    #[arg(long, value_name = "REV|DIR")]
    to: Option<Point>,
    /// Folder with the fleet repo, in a Git work tree
    #[arg(long, value_name = "DIR", default_value = ".")]
    repo: PathBuf,
    #[command(flatten)]
    clusters: ClustersArgs,
    /// Folders that stand in for sources other than the fleet repo, which are not fetched
    #[arg(long, value_name = "KIND/NAMESPACE/NAME=DIR", value_delimiter = ',', value_parser = local_source)]
    local_sources: Vec<(SourceId, PathBuf)>,
    /// Only this cluster
    #[arg(short, long, value_name = "NAME")]
    cluster: Option<ClusterName>,
    /// Version of Kubernetes: VERSION for all, LABEL=VALUE:VERSION for clusters with a label, CLUSTER:VERSION for one
    #[arg(long, value_name = "[WHICH:]VERSION", value_delimiter = ',')]
    kubernetes_version: Vec<versions::Rule>,
    /// Exit with 1 if something differs
    #[arg(long)]
    exit_code: bool,
    /// Show every field, object and cluster; without this, long lists are counted
    #[arg(long)]
    all: bool,
    /// Bytes that Markdown may have; what does not fit is counted
    #[arg(long, value_name = "BYTES", default_value = "60000",
          value_parser = clap::value_parser!(u32).range(1000..))]
    max_bytes: u32,
    /// Form of the output
    #[arg(short, long, value_enum, value_name = "FORM", default_value_t)]
    output: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Form {
    #[default]
    Text,
    Json,
    Yaml,
    /// For the comment on a pull request.
    Markdown,
}

/// A plan with the names of what it is between.
struct Shown {
    from: String,
    to: String,
    plan: FleetPlan,
    /// What is wrong after the change, beside units, and was not before: the fleet's definition, helm as a whole.
    problems: Vec<Problem>,
}

pub(crate) async fn run(context: &Context, args: &PlanArgs) -> Result<Code, Error> {
    let shown = if args.server { against_hub(context, args).await? } else { make(context, args)? };
    let text = match args.output {
        Form::Text => lines::text(&shown, args.all, context.terminal.color),
        Form::Markdown => markdown::comment(&shown, args.all, args.max_bytes as usize),
        Form::Json => document(crate::args::Format::Json, &data::Plan::from(&shown))?,
        Form::Yaml => document(crate::args::Format::Yaml, &data::Plan::from(&shown))?,
    };
    context.terminal.print(&text)?;
    let broken = broken(&shown);
    if broken > 0 {
        return Err(Error::new(Code::Input, format!("{broken} definitions or units do not render any more"))
            .hint("what they run stays as it is until they do"));
    }
    let differs = !shown.plan.groups.is_empty();
    Ok(if args.exit_code && differs { Code::Found } else { Code::Done })
}

/// What is held by the change.
fn broken(shown: &Shown) -> usize {
    let groups = shown.plan.groups.iter().map(|group| &group.plan);
    let held = groups.map(|plan| {
        let units = plan.units.values().filter(|unit| unit.change == UnitChange::Held).count();
        units + usize::from(matches!(plan.cluster, ClusterChange::Unclear(_)))
    });
    held.sum::<usize>() + shown.problems.iter().filter(|problem| !problem.notice).count()
}

fn make(context: &Context, args: &PlanArgs) -> Result<Shown, Error> {
    let versions = Versions::new(&args.kubernetes_version)?;
    let to = args.to.clone().unwrap_or_else(|| Point::Folder(args.repo.clone()));
    let (from_name, from) = args.from.open(&args.repo, &args.clusters)?;
    let (to_name, to) = to.open(&args.repo, &args.clusters)?;
    let mut from = from;
    from.add_local(&args.local_sources)?;
    let to = to.with_sources_of(&from);
    let mut names = from.names();
    names.extend(to.names());
    names.sort();
    names.dedup();
    if let Some(only) = &args.cluster {
        if !names.contains(only) {
            return Err(Error::new(Code::NotFound, format!("neither side defines a cluster {only}")));
        }
        names = vec![only.clone()];
    }
    versions.warn_unused(context, &[&from, &to]);
    let key = *TokenSecret::generate().as_bytes();
    let (plan, helm) = compare(&from, &to, &names, &versions, &Differ::new(key))?;
    let new = to.fleet.problems.iter().filter(|problem| !from.fleet.problems.contains(problem));
    let mut problems: Vec<Problem> = new.cloned().chain(helm).collect();
    if names.is_empty() {
        problems.push(Problem::error(to.clusters().to_string(), 0, to.no_cluster()?));
    }
    Ok(Shown { from: from_name, to: to_name, plan, problems })
}

async fn against_hub(context: &Context, args: &PlanArgs) -> Result<Shown, Error> {
    let point = args.to.clone().unwrap_or_else(|| Point::Folder(args.repo.clone()));
    let (to_name, mut to) = point.open(&args.repo, &args.clusters)?;
    to.add_local(&args.local_sources)?;
    let server = Server::open(context).await?;
    let versions = Versions::new(&args.kubernetes_version)?.with_reported(server.versions());
    let mut names = server.names(context, &to);
    if let Some(only) = &args.cluster {
        if !names.contains(only) {
            return Err(Error::new(Code::NotFound, format!("neither side defines a cluster {only}")));
        }
        names = vec![only.clone()];
    }
    versions.warn_unused(context, &[&to]);
    let differ = Differ::new(*TokenSecret::generate().as_bytes());
    let (plan, helm) = server.compare(context, &to, &names, &versions, &differ).await?;
    let problems = to.fleet.problems.iter().cloned().chain(helm).chain(server.gone(&to)).collect();
    Ok(Shown { from: server.name(), to: to_name, plan, problems })
}

/// A plan, with what helm says of itself, once.
type Compared = (FleetPlan, Vec<Problem>);

/// Does something for each of some clusters, as many at once as there are cores; in their order.
fn each<T: Send>(
    names: &[ClusterName],
    work: impl Fn(&ClusterName) -> Result<T, Error> + Sync,
) -> Result<Vec<T>, Error> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let go = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(name) = names.get(at) else { break };
            let one = work(name);
            if one.is_err() {
                next.store(names.len(), Ordering::Relaxed);
            }
            lock(&done).insert(at, one);
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 1..cores.min(names.len()) {
            scope.spawn(go);
        }
        go();
    });
    let done = std::mem::take(&mut *lock(&done));
    done.into_values().collect()
}

/// Renders and compares clusters at two points of a repository.
fn compare(
    from: &Repo,
    to: &Repo,
    names: &[ClusterName],
    versions: &Versions,
    differ: &Differ,
) -> Result<Compared, Error> {
    let builder = Mutex::new(PlanBuilder::default());
    let said = each(names, |name| one(from, to, name, versions, differ, &builder))?;
    let mut helm: Vec<Problem> = Vec::new();
    for problem in said.into_iter().flatten() {
        if !helm.contains(&problem) {
            helm.push(problem);
        }
    }
    let policy = guard_policy(&from.fleet.policy, &to.fleet.policy, &Policy::default());
    let builder = std::mem::take(&mut *lock(&builder));
    Ok((builder.finish(&policy, &to.fleet.pipelines), helm))
}

/// A cluster as a repository has it, and what helm says of itself.
fn rendered(
    repo: &Repo,
    name: &ClusterName,
    versions: &Versions,
) -> Result<(Option<ClusterRender>, Vec<Problem>), Error> {
    let Some(definition) = repo.fleet.clusters.get(name) else { return Ok((None, Vec::new())) };
    let version = versions.of(name, &definition.policy.labels);
    repo.render_as(definition, &version.text).map(|(render, problems)| (Some(render), problems))
}

fn one(
    from: &Repo,
    to: &Repo,
    name: &ClusterName,
    versions: &Versions,
    differ: &Differ,
    builder: &Mutex<PlanBuilder>,
) -> Result<Vec<Problem>, Error> {
    let ((old, mut said), (new, more)) = (rendered(from, name, versions)?, rendered(to, name, versions)?);
    said.extend(more);
    let misfits = |repo: &Repo, render: &Option<ClusterRender>| {
        let definition = repo.fleet.clusters.get(name);
        let both = definition.zip(render.as_ref());
        both.map(|(definition, render)| {
            fit::check(render, versions.of(name, &definition.policy.labels).version)
        })
        .unwrap_or_default()
    };
    let misfits = Misfits { before: misfits(from, &old), after: misfits(to, &new) };
    let (before, after) = (side(from, name, &old), side(to, name, &new));
    let planned = plan(before, after, differ, NOT_FETCHED);
    let (old, new) = (&from.fleet.pipelines, &to.fleet.pipelines);
    let whens = whens(name, (before, old), (after, new), &planned.plan);
    lock(builder).add(name.clone(), planned, misfits, whens);
    Ok(said)
}

fn side<'a>(repo: &'a Repo, name: &ClusterName, render: &'a Option<ClusterRender>) -> Side<'a> {
    match (repo.fleet.clusters.get(name), render, repo.fleet.unclear.get(name)) {
        (Some(definition), Some(render), _) => Side::Defined { root: &definition.root.path, render },
        (_, _, Some(problems)) => Side::Unclear(problems),
        _ => Side::Absent,
    }
}
