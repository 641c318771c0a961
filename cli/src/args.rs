//! The command line, parsed. Each command's own arguments stand with the command.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use flotilla_core::source::SourceKind;

use crate::commands;

/// Manage a fleet of Kubernetes clusters from one Git repository
#[derive(Debug, Parser)]
#[command(name = "flotilla", version, disable_help_subcommand = true, max_term_width = 110)]
#[command(
    after_help = "`flotilla help COMMAND`, `flotilla help exit-codes` and `flotilla help environment` say more."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
    /// When to use colours; NO_COLOR is respected
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value_t,
        hide_possible_values = true
    )]
    #[arg(help = "When to use colours: auto, always, never", help_heading = "Global options")]
    pub(crate) color: Color,
}

/// When colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal.
    #[default]
    Auto,
    Always,
    Never,
}

/// How the hub is found and trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct ConnectionArgs {
    /// Address of the hub's API, like https://hub.example:8444 [env: FLOTILLA_HUB]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) hub: Option<String>,
    /// API token; others on this machine may see it, so prefer --token-file [env: FLOTILLA_TOKEN]
    #[arg(long, global = true, value_name = "TOKEN", conflicts_with = "token_file")]
    pub(crate) token: Option<String>,
    /// File with the API token [env: FLOTILLA_TOKEN_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// File with the certificate of the hub's CA (PEM) [env: FLOTILLA_CA]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Data folder of a hub on this machine: address, CA and token are taken from it [env: FLOTILLA_DATA]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

/// In which form data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Table,
    /// A table with more columns.
    Wide,
    Json,
    Yaml,
}

/// The choice of a form.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct OutputArgs {
    /// Form of the output
    #[arg(short, long, value_enum, value_name = "FORM", default_value_t)]
    pub(crate) output: Format,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Check(commands::check::CheckArgs),
    #[command(subcommand)]
    Create(commands::create::CreateCommand),
    #[command(subcommand)]
    Export(commands::export::ExportCommand),
    #[command(subcommand)]
    Build(commands::build::BuildCommand),
    #[command(subcommand)]
    Get(commands::get::GetCommand),
    Events(commands::events::EventsArgs),
    Logs(commands::logs::LogsArgs),
    Status(commands::status::StatusArgs),
    Tree(commands::tree::TreeArgs),
    Reconcile(commands::reconcile::ReconcileArgs),
    Suspend(commands::suspend::SuspendArgs),
    Resume(commands::resume::ResumeArgs),
    Approve(commands::approve::ApproveArgs),
    #[command(subcommand)]
    Rollout(commands::rollout::RolloutCommand),
    #[command(subcommand)]
    Cluster(commands::cluster::ClusterCommand),
    #[command(subcommand)]
    Secret(commands::secret::SecretCommand),
    #[command(subcommand)]
    Token(commands::token::TokenCommand),
    #[command(subcommand)]
    Hub(Box<commands::hub::HubCommand>),
    #[command(subcommand)]
    Uninstall(commands::uninstall::UninstallCommand),
    Init(commands::init::InitArgs),
    Import(commands::import::ImportArgs),
    Render(commands::render::RenderArgs),
    Plan(commands::plan::PlanArgs),
    Promote(commands::promote::PromoteArgs),
    Trace(commands::trace::TraceArgs),
    Blame(commands::blame::BlameArgs),
    History(commands::history::HistoryArgs),
    Diff(commands::diff::DiffArgs),
    #[command(subcommand)]
    Kustomize(commands::kustomize::KustomizeCommand),
    Audit(commands::audit::AuditArgs),
    Metrics(commands::metrics::MetricsArgs),
    #[command(subcommand)]
    Debug(commands::debug::DebugCommand),
    Version(commands::version::VersionArgs),
    Completion(commands::completion::CompletionArgs),
    Help(commands::help::HelpArgs),
}

/// A duration on the command line: `90s`, `15m`, `24h`, `30d`; in seconds.
pub(crate) fn duration(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is not a duration: use a number with s, m, h or d, like 24h");
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..split].parse().map_err(|_| wrong())?;
    let unit = match &text[split..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit).filter(|&seconds| seconds > 0).ok_or_else(wrong)
}

/// A kind of source on the command line: as people call it, or as it is written.
pub(crate) fn source_kind(text: &str) -> Result<SourceKind, String> {
    let short = match text {
        "git" => Some(SourceKind::GitRepository),
        "oci" => Some(SourceKind::OciRepository),
        "helm" => Some(SourceKind::HelmRepository),
        "chart" => Some(SourceKind::HelmChart),
        "bucket" => Some(SourceKind::Bucket),
        "generator" => Some(SourceKind::ArtifactGenerator),
        "external" => Some(SourceKind::ExternalArtifact),
        _ => SourceKind::ALL.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(text)),
    };
    short.ok_or_else(|| {
        format!("'{text}' is not a kind of source: use git, oci, helm, chart, bucket, generator or external")
    })
}

/// `KEY=VALUE` on the command line.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("'{text}' is not of the form KEY=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_and_pairs() {
        for (text, expected) in [
            ("90s", Some(90)),
            ("15m", Some(900)),
            ("24h", Some(86400)),
            ("30d", Some(2_592_000)),
            ("0s", None),
            ("5", None),
            ("h", None),
            ("-1h", None),
            ("1w", None),
            ("99999999999999999999s", None),
            ("999999999999999999d", None),
        ] {
            assert_eq!(duration(text).ok(), expected, "{text}");
        }
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(pair("=b").is_err() && pair("a").is_err());
    }

    #[test]
    fn lines_that_parse_and_lines_that_do_not() {
        for (line, parses) in [
            ("get clusters", true),
            ("get cluster staging -o wide", true),
            ("get units --cluster staging --watch -o json", true),
            ("get", false),
            ("get nonsense", false),
            ("get clusters -o xml", false),
            ("status --watch", true),
            ("tree staging", true),
            ("tree", false),
            ("tree Not_A_Name", false),
            ("reconcile", true),
            ("reconcile staging apps/web --wait --timeout 30s", true),
            ("reconcile staging not-a-unit", false),
            ("reconcile source git team", true),
            ("reconcile source GitRepository team -n a --cluster b", true),
            ("reconcile source pod team", false),
            ("reconcile source git", false),
            ("reconcile kustomization apps --cluster staging --with-source", true),
            ("reconcile kustomization apps", false),
            ("reconcile ks apps -c staging --timeout 1m -o json", true),
            ("reconcile hr web -c staging", true),
            ("get sources git", true),
            ("get sources git flux-system/team --cluster a", true),
            ("get kustomizations -n flux-system", true),
            ("get ks apps --watch", true),
            ("get helmreleases -o wide", true),
            ("get all --cluster staging", true),
            ("logs --follow --kind Kustomization --name apps --since 10m --level error -o json", true),
            ("logs --level loud", false),
            ("create source git a --url https://x/y --branch main --export", true),
            ("create source git a --url https://x/y", false),
            ("create source git a --branch main", false),
            ("create source helm a --url https://x/y --path a.yaml --force", true),
            ("create ks a --source b --path ./c --prune=true --wait", true),
            ("create ks a --source b --prune true", false),
            ("create ks a --source b --path ../c", false),
            ("create hr a --source HelmRepository/b --chart c", true),
            ("create hr a --source HelmRepository/b", false),
            ("create hr a --chart-ref OCIRepository/b", true),
            ("create hr a --chart-ref OCIRepository/b --chart c --source HelmRepository/b", false),
            ("export source git a -c one", true),
            ("export source git a", false),
            ("export source git -c one", false),
            ("export ks --all -c one --path a.yaml", true),
            ("export hr a --all -c one", false),
            ("build kustomization apps -c one --repo .", true),
            ("build kustomization apps", false),
            ("diff -c one --unit flux-system/apps", true),
            ("suspend", false),
            ("suspend staging root --reason migration", true),
            ("resume staging apps/web", true),
            ("approve staging", false),
            ("approve staging 12", false),
            ("approve --change 00112233", true),
            ("approve staging --change 00112233", false),
            ("approve staging 00112233 --change 00112233", false),
            ("approve", false),
            ("get changes", true),
            ("get pipelines -o json", true),
            ("rollout status apps --watch", true),
            ("rollout hold apps --stage production --reason freeze --until 12h", true),
            ("rollout promote apps --only flux-system/web --to production", true),
            ("promote staging production --path apps/web/overlays --dry-run", true),
            ("promote staging production", false),
            ("rollout promote apps --only flux-system/web", false),
            ("rollout veto apps", false),
            ("rollout veto apps --candidate 00112233", true),
            ("rollout override apps --window freeze", true),
            ("rollout override apps --stage staging", false),
            ("rollout approve apps production 00112233", true),
            ("get groups edge --repo . -o wide", true),
            ("approve staging 17031de", false),
            ("approve staging 17031dea503f", true),
            ("approve staging 17031dea503g", false),
            ("approve staging 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", true),
            ("cluster token edge-1 --expires 1h --label tier=edge", true),
            ("cluster token edge-1 --expires soon", false),
            ("cluster token edge-1 --label tier", false),
            ("cluster token", false),
            ("cluster token --count 200 --group edge --names edge-{hostname} --expires 30d", true),
            ("cluster token --count 200", false),
            ("cluster token --count 200 --group edge --names edge", false),
            ("cluster token edge-1 --count 200 --group edge", false),
            ("cluster token edge-1 --names edge-{uid}", false),
            ("cluster tokens --revoke 0011223344556677", true),
            ("cluster add edge-1 --label tier=edge --context c --timeout 1m", true),
            ("cluster add edge-1 --rights cluster-admin --out a.yaml", true),
            ("cluster add edge-1 --out a.yaml --context c", false),
            ("cluster add edge-1 --kubeconfig k", false),
            ("cluster add edge-1 --rights everything", false),
            ("cluster add", false),
            ("cluster add --count 200 --group edge --names edge-{uid} --out a.yaml", true),
            ("cluster add edge-1 --count 200 --group edge", false),
            ("cluster add --count 200 --group edge --context c", false),
            ("init fleet --cluster a --cluster b --app web --image web:1 --port 8080", true),
            ("init fleet --port 8080", false),
            ("init", false),
            ("hub install --export --repo https://x/y.git --advertise h:8443", true),
            ("hub install --repo https://x/y.git --advertise h:8443", false),
            ("hub install --export --repo https://x/y.git", false),
            ("hub install --export --repo https://a:b@x/y.git --advertise h:8443", false),
            ("hub install --export --repo /srv/y.git --advertise h:8443", false),
            ("hub install --export --context c --repo https://x/y.git --advertise h:8443", false),
            ("uninstall agent --context c --dry-run", true),
            ("uninstall agent", false),
            ("uninstall cluster a --context c --confirm c", true),
            ("uninstall hub --context c --delete-data --dry-run --confirm c", false),
            ("cluster delete edge-1 --prune --confirm edge-1", true),
            ("cluster delete edge-1 --confirm edge-1", false),
            ("secret create git team --username jo --password-file f", true),
            ("secret create git team --username jo", false),
            ("secret create git team --private-key-file k", false),
            (
                "secret create oci reg --registry r.example --username a --password-file f --cluster edge",
                true,
            ),
            ("secret create oci reg", false),
            ("secret create bucket b --access-key a --secret-key-file f -n team", true),
            ("secret create generic g --from-literal a=b --from-file c=d", true),
            ("secret create tls t --cert-file c", false),
            ("secret list", true),
            ("secret delete g", true),
            ("token create ci --role operate", true),
            ("token create ci --role god", false),
            ("token create ci", false),
            ("render --cluster staging --repo .", true),
            ("render", false),
            ("plan --from HEAD^1 --to HEAD -o markdown --exit-code", true),
            ("plan --from ./before --kubernetes-version 1.33,tier=edge:1.30,a:1.31", true),
            ("plan --kubernetes-version x", false),
            ("plan --max-bytes 10", false),
            ("diff --cluster staging", true),
            ("kustomize build", true),
            ("kustomize build dir -o out.yaml", true),
            ("completion zsh", true),
            ("completion tcsh", false),
            ("help exit-codes", true),
            ("debug bundle --cluster staging --out a.tar.gz", true),
            ("debug", false),
            ("version --client", true),
            ("status --token a --token-file b", false),
            ("--hub https://h:1 status", true),
            ("status --hub https://h:1", true),
            ("status --color never", true),
        ] {
            let parsed = Cli::try_parse_from(std::iter::once("flotilla").chain(line.split(' ')));
            assert_eq!(parsed.is_ok(), parses, "{line}: {:?}", parsed.err().map(|e| e.to_string()));
        }
    }
}
