//! `flotilla get`

use clap::{Args, Subcommand};
use flotilla_api::Source;
use flotilla_core::source::SourceKind;
use flotilla_core::{ClusterName, UnitId};
use serde::Serialize;

use super::events::{self, EventsArgs};
use super::flux_rows::FluxUnit;
use super::rows::{self, Row};
use crate::Context;
use crate::args::{Format, OutputArgs, source_kind};
use crate::client::{Choice, Client};
use crate::error::Error;
use crate::exit::Code;

/// List clusters, units, sources, Kustomizations, HelmReleases or events
#[derive(Debug, Subcommand)]
pub(crate) enum GetCommand {
    /// Clusters: connection, state, commit
    #[command(visible_alias = "cluster")]
    Clusters {
        /// Only this cluster
        name: Option<ClusterName>,
        /// Only clusters with this unit
        #[arg(long, value_name = "UNIT")]
        unit: Option<UnitId>,
        #[command(flatten)]
        choice: ChoiceArgs,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Units: phase, commit, what is wrong with which file and line
    #[command(visible_alias = "unit")]
    Units {
        /// Only units of this name: root, NAMESPACE/NAME or helmrelease/NAMESPACE/NAME
        name: Option<UnitId>,
        /// Only units of this cluster
        #[arg(short, long, value_name = "NAME")]
        cluster: Option<ClusterName>,
        #[command(flatten)]
        choice: ChoiceArgs,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Where content comes from: the fleet repo and other sources
    #[command(visible_alias = "source")]
    Sources {
        /// Only sources of this kind (git, oci, helm, chart, bucket, generator, external or a whole kind), or of this
        /// NAMESPACE/NAME
        #[arg(value_name = "KIND")]
        first: Option<String>,
        /// Only sources of this name, with its namespace or without
        name: Option<String>,
        #[command(flatten)]
        place: PlaceArgs,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Kustomizations, as `flux get kustomizations` lists them
    #[command(visible_aliases = ["kustomization", "ks"])]
    Kustomizations {
        /// Only those of this name
        name: Option<String>,
        #[command(flatten)]
        place: PlaceArgs,
        #[command(flatten)]
        list: ListArgs,
    },
    /// HelmReleases, as `flux get helmreleases` lists them
    #[command(name = "helmreleases", visible_aliases = ["helmrelease", "hr"])]
    HelmReleases {
        /// Only those of this name
        name: Option<String>,
        #[command(flatten)]
        place: PlaceArgs,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Pipelines: where their stages stand
    #[command(visible_alias = "pipeline")]
    Pipelines {
        #[command(flatten)]
        list: ListArgs,
    },
    /// What the newest commit takes away from the clusters, and what of that waits for an approval
    #[command(visible_alias = "change")]
    Changes {
        #[command(flatten)]
        list: ListArgs,
    },
    /// ClusterGroups of a folder, with their clusters: no hub
    ///
    /// Exits with 1 where something is wrong with the definitions of groups or clusters.
    #[command(visible_alias = "group")]
    Groups(super::groups::GroupsArgs),
    /// Sources, Kustomizations and HelmReleases
    All {
        #[command(flatten)]
        place: PlaceArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// What happened, the newest last
    #[command(visible_alias = "event")]
    Events(EventsArgs),
}

/// Which of a list.
#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// Only in this cluster
    #[arg(short, long, value_name = "NAME")]
    cluster: Option<ClusterName>,
    /// Only in this namespace
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// What is the case anyway
    #[arg(short = 'A', long, hide = true, conflicts_with = "namespace")]
    all_namespaces: bool,
}

/// How a list is shown.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Go on with what changes, until Ctrl-C; JSON comes as a line for each item
    #[arg(short, long)]
    pub(super) watch: bool,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// Which clusters or units, in which order. The hub chooses, so that a long list need not come whole.
#[derive(Debug, Default, Args)]
pub(crate) struct ChoiceArgs {
    /// Only of clusters with these labels, as kubectl takes them: env=prod,region in (eu,us),!canary
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// Only of clusters whose agent is NotEnrolled, Invited, Connected, Disconnected or Revoked
    #[arg(long, value_name = "STATES")]
    connection: Option<String>,
    /// Only of clusters that stand so: InSync, Pending, Progressing, Failing, Held, Kept, Suspended, Stale, Unassigned or Unknown
    #[arg(long, value_name = "STATES")]
    sync: Option<String>,
    /// Only units in these phases, or clusters with one: Ready, Failed, Held and others, with commas between them
    #[arg(long, value_name = "PHASES")]
    phase: Option<String>,
    /// Only units in this namespace, or clusters with one
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Only units of this kind or with an object of it, or clusters with one
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Only units that run this image (nginx, library/nginx:1.27), or clusters with one
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Only what runs this commit: 4 or more of its digits
    #[arg(long, value_name = "COMMIT")]
    commit: Option<String>,
    /// Only where each of these words is in the name, the labels or what is wrong
    #[arg(long, value_name = "WORDS")]
    search: Option<String>,
    /// In the order of this field: name, problems, commit; of clusters connection, sync, lastSeen; of units phase, since. The
    /// other way round with a '-' before it (--sort-by=-problems)
    #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
    sort_by: Option<String>,
    /// Show at most this many
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

impl ChoiceArgs {
    fn choice(self, unit: Option<&UnitId>) -> Choice {
        let Self {
            selector,
            connection,
            sync,
            phase,
            namespace,
            kind,
            image,
            commit,
            search,
            sort_by,
            limit,
        } = self;
        let query = vec![
            ("labelSelector", selector),
            ("connection", connection),
            ("sync", sync),
            ("phase", phase),
            ("unit", unit.map(ToString::to_string)),
            ("namespace", namespace),
            ("kind", kind),
            ("image", image),
            ("commit", commit),
            ("search", search),
            ("sortBy", sort_by),
        ];
        let query = query.into_iter().filter(|(_, value)| value.is_some()).collect();
        Choice { query, limit: limit.map(|limit| limit as usize) }
    }
}

pub(crate) async fn run(context: &Context, command: GetCommand) -> Result<Code, Error> {
    match command {
        GetCommand::Groups(args) => super::groups::run(context, &args),
        of_hub => get(context, &context.hub()?, of_hub).await,
    }
}

async fn get(context: &Context, client: &Client, command: GetCommand) -> Result<Code, Error> {
    match command {
        GetCommand::Groups(args) => super::groups::run(context, &args),
        GetCommand::Clusters { name: Some(name), list, .. } if !list.watch => {
            // One cluster is an object of its own for scripts, and an error where it is not known.
            let cluster = client.cluster(&name).await?;
            match list.output.output {
                format @ (Format::Json | Format::Yaml) => {
                    context.terminal.show(format, &cluster, |_| String::new())?;
                }
                format => rows::show(&context.terminal, format, "clusters", &[cluster])?,
            }
            Ok(Code::Done)
        }
        GetCommand::Clusters { name, unit, choice, list } => {
            let choice = choice.choice(unit.as_ref());
            let fetch = async || {
                let mut clusters = client.clusters(&choice).await?;
                clusters.retain(|cluster| name.as_ref().is_none_or(|name| cluster.name == name.as_str()));
                Ok(clusters)
            };
            show(context, client, &list, "clusters", None, fetch).await
        }
        GetCommand::Units { name, cluster, choice, list } => {
            let choice = choice.choice(name.as_ref());
            let name = name.map(|name| name.to_string());
            let fetch = async || client.units(cluster.as_ref(), &choice).await;
            show(context, client, &list, "units", name.as_deref(), fetch).await
        }
        GetCommand::Sources { first, name, place, list } => {
            let (kind, name) = which_sources(first, name)?;
            let fetch = async || sources(client, kind, name.as_deref(), &place).await;
            show(context, client, &list, "sources", name.as_deref(), fetch).await
        }
        GetCommand::Kustomizations { name, place, list } => {
            let fetch = async || units(client, "kustomization/", name.as_deref(), &place).await;
            show(context, client, &list, "Kustomizations", name.as_deref(), fetch).await
        }
        GetCommand::HelmReleases { name, place, list } => {
            let fetch = async || units(client, "helmrelease/", name.as_deref(), &place).await;
            show(context, client, &list, "HelmReleases", name.as_deref(), fetch).await
        }
        GetCommand::Pipelines { list } => {
            show(context, client, &list, "pipelines", None, async || client.pipelines().await).await
        }
        GetCommand::Changes { list } => {
            show(context, client, &list, "changes that take away much", None, async || client.changes().await)
                .await
        }
        GetCommand::All { place, output } => all(context, client, &place, output.output).await,
        GetCommand::Events(args) => events::run(context, args).await,
    }
}

/// The first word is a kind, or a name where it is none.
fn which_sources(
    first: Option<String>,
    name: Option<String>,
) -> Result<(Option<SourceKind>, Option<String>), Error> {
    match (first, name) {
        (None, _) => Ok((None, None)),
        (Some(first), name) if first == "all" => Ok((None, name)),
        (Some(first), None) if first.contains('/') => Ok((None, Some(first))),
        (Some(first), name) => Ok((Some(source_kind(&first).map_err(Error::usage)?), name)),
    }
}

async fn sources(
    client: &Client,
    kind: Option<SourceKind>,
    name: Option<&str>,
    place: &PlaceArgs,
) -> Result<Vec<Source>, Error> {
    let mut sources = client.sources().await?;
    let is_fleet = |source: &Source| source.kind == "fleet";
    sources.retain(|source| {
        let (namespace, short) = source.name.split_once('/').unwrap_or(("", &source.name));
        let is_of = |cluster: &ClusterName| source.clusters.iter().any(|of| of == cluster.as_str());
        let is_kind = |kind: SourceKind| {
            source.kind == kind.as_str() || (kind == SourceKind::GitRepository && is_fleet(source))
        };
        kind.is_none_or(is_kind)
            && name.is_none_or(|name| name == source.name || name == short)
            && place.namespace.as_ref().is_none_or(|wanted| wanted == namespace)
            && (is_fleet(source) || place.cluster.as_ref().is_none_or(is_of))
    });
    Ok(sources)
}

/// The units of one kind.
async fn units(
    client: &Client,
    kind: &str,
    name: Option<&str>,
    place: &PlaceArgs,
) -> Result<Vec<FluxUnit>, Error> {
    let units = client.units(place.cluster.as_ref(), &Choice::default()).await?;
    let mut units: Vec<_> =
        units.into_iter().filter(|unit| unit.unit.starts_with(kind)).map(FluxUnit).collect();
    units.retain(|unit| {
        let (namespace, own) = unit.name();
        name.is_none_or(|name| name == own)
            && place.namespace.as_ref().is_none_or(|wanted| wanted == namespace)
    });
    Ok(units)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct All {
    sources: Vec<Source>,
    kustomizations: Vec<FluxUnit>,
    helm_releases: Vec<FluxUnit>,
}

async fn all(context: &Context, client: &Client, place: &PlaceArgs, format: Format) -> Result<Code, Error> {
    let all = All {
        sources: sources(client, None, None, place).await?,
        kustomizations: units(client, "kustomization/", None, place).await?,
        helm_releases: units(client, "helmrelease/", None, place).await?,
    };
    if matches!(format, Format::Json | Format::Yaml) {
        context.terminal.show(format, &all, |_| String::new())?;
        return Ok(Code::Done);
    }
    rows::show(&context.terminal, format, "sources", &all.sources)?;
    for (what, units) in [("Kustomizations", &all.kustomizations), ("HelmReleases", &all.helm_releases)] {
        if !units.is_empty() {
            context.terminal.print("\n")?;
        }
        rows::show(&context.terminal, format, what, units)?;
    }
    Ok(Code::Done)
}

/// `name` is what the list was asked for by; one that nothing has is an error.
async fn show<T: Row>(
    context: &Context,
    client: &Client,
    list: &ListArgs,
    what: &str,
    name: Option<&str>,
    fetch: impl AsyncFn() -> Result<Vec<T>, Error>,
) -> Result<Code, Error> {
    if list.watch {
        rows::watch(&context.terminal, client, list.output.output, fetch).await?;
        return Ok(Code::Done);
    }
    let found = fetch().await?;
    if let Some(name) = name.filter(|_| found.is_empty()) {
        let all = format!("`flotilla get {}` lists them", what.to_ascii_lowercase());
        return Err(Error::new(Code::NotFound, format!("none of the {what} is called {name}")).hint(all));
    }
    rows::show(&context.terminal, list.output.output, what, &found)?;
    Ok(Code::Done)
}
