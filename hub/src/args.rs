//! The command line: parsed into typed values once. Every option of `run` has an environment variable too.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::budget::BudgetArgs;
use clap::{Args, Parser, Subcommand};
use flotilla_core::change::{Limit, Policy};
use flotilla_core::source::SourceId;
use flotilla_hub::audit::export::ExportOptions;
use flotilla_hub::serve::Options;
use flotilla_hub::sources::SourceSettings;
use flotilla_hub::state::Settings;
use flotilla_kustomize::files::{PathError, TreePath};
use flotilla_runtime::files::{self, FileError};
use flotilla_runtime::telemetry::LogArgs;
use flotilla_runtime::tls::HubAddress;
use flotilla_sops::service::{Server, Servers};
use flotilla_source::flux::Policy as SourcePolicy;
use flotilla_source::{Allowance, Branch, Credentials, GitSpec, GitUrl, Mirror, Mirrors, Reach};

/// Reads the fleet repo, renders what each cluster should run, and serves agents and people
#[derive(Parser)]
#[command(name = "flotilla-hub", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) log: LogArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Serve until stopped
    Run(Box<RunArgs>),
    /// Write a backup of what Git and the agents cannot restore; the hub may be running
    Backup {
        #[command(flatten)]
        data: DataArgs,
        /// A new file; it holds the CA's keys
        file: PathBuf,
    },
    /// Restore a backup into an empty data folder
    Restore {
        #[command(flatten)]
        data: DataArgs,
        /// A file that `backup` wrote
        file: PathBuf,
    },
    /// Print the first admin's API token, which the hub made at its first start
    AdminToken {
        #[command(flatten)]
        data: DataArgs,
    },
    /// Replace the CA of a running hub
    Ca {
        #[command(flatten)]
        data: DataArgs,
        #[command(subcommand)]
        command: CaCommand,
    },
    /// Show the version
    Version,
}

#[derive(Subcommand)]
pub(crate) enum CaCommand {
    /// Show the CAs, and the clusters without a certificate of the newest CA
    Status,
    /// Create a new CA; agents learn of it and get new certificates, and the old CA stays valid
    Rotate,
    /// Drop the old CA
    Finish {
        /// Even if clusters have no new certificate yet; those have to join again
        #[arg(long)]
        force: bool,
    },
}

#[derive(Args)]
pub(crate) struct DataArgs {
    /// The hub's data folder
    #[arg(
        long,
        env = "FLOTILLA_DATA",
        default_value = "/var/lib/flotilla-hub",
        value_name = "DIR",
        global = true
    )]
    pub(crate) data: PathBuf,
}

#[derive(Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// The fleet repo: https://, ssh://, user@host:path, file:// or an absolute path
    #[arg(long, env = "FLOTILLA_REPO", hide_env_values = true, value_name = "URL")]
    repo: GitUrl,
    /// Its branch
    #[arg(long, env = "FLOTILLA_BRANCH", default_value = "main")]
    branch: Branch,
    /// The fleet's path within the repository
    #[arg(long, env = "FLOTILLA_PATH", default_value = "", value_parser = tree_path, hide_default_value = true)]
    pub(crate) path: TreePath,
    /// The folder of clusters within the fleet's path
    #[arg(long, env = "FLOTILLA_CLUSTERS_PATH", default_value = "clusters", value_parser = tree_path, value_name = "PATH")]
    pub(crate) clusters_path: TreePath,
    /// The helm (3 or 4) that renders charts
    #[arg(long, env = "FLOTILLA_HELM", default_value = "helm", value_name = "PROGRAM")]
    pub(crate) helm: PathBuf,
    /// Render charts even if helm has a version with known vulnerabilities
    #[arg(long, env = "FLOTILLA_ALLOW_VULNERABLE_HELM")]
    pub(crate) allow_vulnerable_helm: bool,
    /// Whether a variable without value and default is an error; with false it is replaced by an empty string, as in Flux up
    /// to 2.8. A Cluster object, or a feature gate of Flux's controllers in the repo, takes precedence
    #[arg(long, env = "FLOTILLA_STRICT_SUBSTITUTION", default_value_t = true, action = clap::ArgAction::Set,
          value_name = "BOOL")]
    pub(crate) strict_substitution: bool,
    /// How often to check the repo for new commits
    #[arg(long, env = "FLOTILLA_POLL_INTERVAL", default_value = "60", value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) poll_interval: u64,
    /// How long the render of one cluster may take; a cluster that exceeds it keeps what it runs, and the others proceed
    #[arg(long, env = "FLOTILLA_CLUSTER_TIMEOUT", default_value = "120", value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) cluster_timeout: u64,
    /// A change that removes more than --change-units and more than this share of the fleet's units, in several clusters, needs
    /// an approval. A FleetPolicy in the fleet repo goes before this and the next three
    #[arg(long, env = "FLOTILLA_CHANGE_SHARE", default_value = "20", value_name = "PERCENT",
          value_parser = clap::value_parser!(u8).range(0..=100))]
    change_share: u8,
    /// So many units a change may remove in the whole fleet without such an approval
    #[arg(long, env = "FLOTILLA_CHANGE_UNITS", default_value = "20", value_name = "NUMBER")]
    change_units: u32,
    /// As --change-share, of the fleet's objects
    #[arg(long, env = "FLOTILLA_CHANGE_OBJECTS_SHARE", default_value = "20", value_name = "PERCENT",
          value_parser = clap::value_parser!(u8).range(0..=100))]
    change_objects_share: u8,
    /// As --change-units, of the fleet's objects
    #[arg(long, env = "FLOTILLA_CHANGE_OBJECTS", default_value = "50", value_name = "NUMBER")]
    change_objects: u32,
    /// User for https; the password comes from a file
    #[arg(long, env = "FLOTILLA_GIT_USERNAME", value_name = "NAME", requires = "git_password_file")]
    git_username: Option<String>,
    /// File with the password or token for https
    #[arg(long, env = "FLOTILLA_GIT_PASSWORD_FILE", value_name = "FILE")]
    git_password_file: Option<PathBuf>,
    /// Private key for ssh
    #[arg(long, env = "FLOTILLA_GIT_SSH_KEY", value_name = "FILE", conflicts_with = "git_password_file")]
    git_ssh_key: Option<PathBuf>,
    /// Host keys that ssh accepts, as known_hosts
    #[arg(long, env = "FLOTILLA_GIT_KNOWN_HOSTS", value_name = "FILE", requires = "git_ssh_key")]
    git_known_hosts: Option<PathBuf>,
    /// Certificates (PEM) to trust for https in addition to the system's
    #[arg(long, env = "FLOTILLA_GIT_CA", value_name = "FILE")]
    git_ca: Option<PathBuf>,
    /// Set refs/flotilla/PIPELINE/STAGE in the fleet repo to the commit that passed each stage of a pipeline last; the
    /// credentials have to allow to write
    #[arg(long, env = "FLOTILLA_PUSH_REFS")]
    pub(crate) push_refs: bool,
    /// Where agents connect; port 0 picks a free one
    #[arg(long, env = "FLOTILLA_GRPC_LISTEN", default_value = "0.0.0.0:8443", value_name = "IP:PORT")]
    grpc_listen: SocketAddr,
    /// Where people and their tools connect; port 0 picks a free one
    #[arg(long, env = "FLOTILLA_API_LISTEN", default_value = "0.0.0.0:8444", value_name = "IP:PORT")]
    api_listen: SocketAddr,
    /// Where probes and load balancers ask for /healthz and /readyz, over plain HTTP and without a token; without this
    /// option both are on the API's port only
    #[arg(long, env = "FLOTILLA_HEALTH_LISTEN", value_name = "IP:PORT")]
    health_listen: Option<SocketAddr>,
    /// Where agents call, in order of preference; may be repeated
    #[arg(long, env = "FLOTILLA_ADVERTISE", value_delimiter = ',', value_name = "HOST:PORT")]
    advertise: Vec<HubAddress>,
    /// An additional name or address in the hub's certificate; may be repeated
    #[arg(long, env = "FLOTILLA_HOST", value_delimiter = ',', value_name = "HOST")]
    host: Vec<String>,
    /// How long an agent's certificate lives
    #[arg(long, env = "FLOTILLA_AGENT_CERT_TTL", default_value = "86400", value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    agent_cert_ttl: u64,
    /// How long after its certificate's end an agent may still renew it
    #[arg(long, env = "FLOTILLA_RENEW_GRACE", default_value = "15552000", value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(0..=315_360_000))]
    renew_grace: u64,
    /// How often agents send a heartbeat; three missed ones end a session
    #[arg(long, env = "FLOTILLA_HEARTBEAT", default_value = "15", value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=300))]
    heartbeat: u64,
    /// Allow sources and remote bases at an address that is not public: a host, *.DOMAIN, an address, a
    /// network like 10.0.0.0/8, or a folder like file:///srv/git; may be repeated
    #[arg(long, env = "FLOTILLA_ALLOW_SOURCE", value_delimiter = ',', value_name = "WHAT")]
    allow_source: Vec<Allowance>,
    /// Address of a key service (Vault, OpenBao, AWS KMS) that may be asked to open what SOPS encrypted, as
    /// https://vault.example.com:8200 or https://kms.eu-west-1.amazonaws.com; may be repeated. It is asked with the token or the
    /// credentials in the secret that the hub keeps for it
    #[arg(long, env = "FLOTILLA_ALLOW_KEY_SERVICE", value_delimiter = ',', value_name = "URL")]
    allow_key_service: Vec<Server>,
    /// Fetch sources and remote bases whose address begins with FROM from TO instead, like
    /// https://github.com/acme=https://git.corp/acme or oci://ghcr.io=oci://registry.corp/ghcr; may be repeated
    #[arg(long, env = "FLOTILLA_MIRROR", value_delimiter = ',', value_name = "FROM=TO")]
    mirror: Vec<Mirror>,
    /// Use this source although it asks for verification, like GitRepository/NAMESPACE/NAME; may be
    /// repeated
    #[arg(long, env = "FLOTILLA_ALLOW_UNVERIFIED", value_delimiter = ',', value_name = "SOURCE")]
    allow_unverified: Vec<SourceId>,
    /// How long lines of the audit log are kept, of the newest 200,000
    #[arg(long, env = "FLOTILLA_AUDIT_DAYS", default_value = "400", value_name = "DAYS",
        value_parser = clap::value_parser!(u32).range(1..))]
    audit_days: u32,
    /// File to which each line of the audit log is appended, as JSON
    #[arg(long, env = "FLOTILLA_AUDIT_FILE", value_name = "FILE")]
    audit_file: Option<PathBuf>,
    /// OpenTelemetry collector to which each line of the audit log is sent, by OTLP/HTTP; /v1/logs is added to an address
    /// without a path
    #[arg(long, env = "FLOTILLA_AUDIT_OTLP", value_name = "URL")]
    audit_otlp: Option<String>,
    /// File with headers for the collector, one `NAME: VALUE` a line
    #[arg(long, env = "FLOTILLA_AUDIT_OTLP_HEADERS", value_name = "FILE", requires = "audit_otlp")]
    audit_otlp_headers: Option<PathBuf>,
    /// Folder of mounted secrets for sources: [cluster.NAME/]NAMESPACE/NAME/KEY
    #[arg(long, env = "FLOTILLA_SECRETS", value_name = "DIR")]
    secrets: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) budget: BudgetArgs,
}

fn tree_path(text: &str) -> Result<TreePath, PathError> {
    TreePath::from_root(text)
}

/// An argument that parses and does not work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArgsError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{} is not text", .0.display())]
    NotText(PathBuf),
    #[error("line {line} of {} is not a header: write `NAME: VALUE`", path.display())]
    Header { path: PathBuf, line: usize },
    #[error("{} is not a hub's data folder: give --data DIR", .0.display())]
    NoHub(PathBuf),
}

impl RunArgs {
    /// How much of the fleet a change may take away without an approval.
    pub(crate) fn change_policy(&self) -> Policy {
        Policy {
            units: Limit { max: self.change_units as usize, share: self.change_share },
            objects: Limit { max: self.change_objects as usize, share: self.change_objects_share },
            ..Policy::default()
        }
    }

    /// Reads the credentials' files.
    pub(crate) fn git_spec(&self) -> Result<GitSpec, ArgsError> {
        let text = |path: &PathBuf| {
            String::from_utf8(files::read(path)?).map_err(|_| ArgsError::NotText(path.clone()))
        };
        let mut spec = GitSpec::new(self.repo.clone(), self.branch.clone());
        if let Some(file) = &self.git_password_file {
            // Hosting services take a token as the password of any user.
            let username = self.git_username.clone().unwrap_or_else(|| "git".into());
            let password = text(file)?.trim_end_matches(['\n', '\r']).to_owned();
            spec.credentials = Some(Credentials::Basic { username, password });
        }
        if let Some(key) = &self.git_ssh_key {
            let known_hosts = self.git_known_hosts.clone();
            spec.credentials = Some(Credentials::SshKey { private_key: key.clone(), known_hosts });
        }
        spec.ca_pem = self.git_ca.as_ref().map(text).transpose()?;
        Ok(spec)
    }

    /// Reads the file of headers.
    fn audit(&self) -> Result<ExportOptions, ArgsError> {
        let mut otlp_headers = Vec::new();
        if let Some(path) = &self.audit_otlp_headers {
            let text = String::from_utf8(files::read(path)?).map_err(|_| ArgsError::NotText(path.clone()))?;
            for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
                let (name, value) = line
                    .split_once(':')
                    .ok_or_else(|| ArgsError::Header { path: path.clone(), line: at + 1 })?;
                otlp_headers.push((name.trim().to_owned(), value.trim().to_owned()));
            }
        }
        Ok(ExportOptions { file: self.audit_file.clone(), otlp: self.audit_otlp.clone(), otlp_headers })
    }

    pub(crate) fn options(&self) -> Result<Options, ArgsError> {
        Ok(Options {
            grpc: self.grpc_listen,
            api: self.api_listen,
            health: self.health_listen,
            advertise: self.advertise.clone(),
            hosts: self.host.clone(),
            agent_life: Duration::from_secs(self.agent_cert_ttl),
            audit: self.audit()?,
            settings: Settings {
                heartbeat: Duration::from_secs(self.heartbeat),
                renew_grace: Duration::from_secs(self.renew_grace),
                keep_audit: Some(Duration::from_secs(u64::from(self.audit_days) * 24 * 3600)),
                sources: SourceSettings {
                    policy: SourcePolicy {
                        mirrors: Mirrors::new(self.mirror.clone()),
                        limits: self.budget.sources(),
                        ..SourcePolicy::new(Reach::Public(self.allow_source.clone()))
                    },
                    allow_unverified: self.allow_unverified.clone(),
                    secrets: self.secrets.clone(),
                    key_services: Servers::new(self.allow_key_service.iter().cloned()),
                },
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// What is shipped to start a hub is a command line that it takes.
    #[test]
    fn the_files_in_deploy_start_a_hub() {
        let text = std::fs::read_to_string("../deploy/hub.yaml").unwrap();
        let documents = flotilla_yaml::parse(&text).unwrap();
        let documents: Vec<_> = documents.iter().map(|node| node.to_json().unwrap()).collect();
        let of_kind = |kind: &str| documents.iter().find(|document| document["kind"] == kind).unwrap();
        let container = &of_kind("StatefulSet")["spec"]["template"]["spec"]["containers"][0];
        let args = container["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap().to_owned());
        let settings = of_kind("ConfigMap")["data"].as_object().unwrap();
        let run =
            Cli::command().get_subcommands().find(|command| command.get_name() == "run").unwrap().clone();
        let option = |variable: &str| {
            let is_it = |arg: &&clap::Arg| arg.get_env().is_some_and(|env| env == variable);
            run.get_arguments().find(is_it).and_then(|arg| arg.get_long()).map(str::to_owned)
        };
        let given = settings.iter().map(|(variable, value)| {
            let option = option(variable).unwrap_or_else(|| panic!("no option takes {variable}"));
            format!("--{option}={}", value.as_str().unwrap())
        });
        let line: Vec<String> = std::iter::once("flotilla-hub".to_owned()).chain(args).chain(given).collect();
        let cli = Cli::try_parse_from(&line).unwrap();
        let Command::Run(run) = cli.command else { panic!("{line:?} does not run a hub") };
        run.options().unwrap();
        // The ports that the hub listens on are those that the Services and probes name.
        let ports = container["ports"].as_array().unwrap().iter().map(|port| &port["containerPort"]);
        let listens = [run.grpc_listen, run.api_listen, run.health_listen.unwrap()].map(|at| at.port());
        assert_eq!(ports.collect::<Vec<_>>(), listens.each_ref());

        let text = std::fs::read_to_string("../deploy/flotilla-hub.service").unwrap();
        let start = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        let line = start.split(' ').chain(["--repo=https://git.example.com/fleet.git"]);
        Cli::try_parse_from(line).unwrap();
    }

    #[test]
    fn bad_values_are_refused_with_what_was_expected() {
        for (args, reason) in [
            (&["run"][..], "--repo"),
            (&["run", "--repo", "x"], "not an address of a Git repository"),
            (&["run", "--repo", "/x", "--branch", "a..b"], "not a name of a branch"),
            (&["run", "--repo", "/x", "--advertise", "hub"], "no port"),
            (&["run", "--repo", "/x", "--clusters-path", "../x"], "../x"),
            (&["run", "--repo", "/x", "--git-username", "jo"], "--git-password-file"),
            (&["run", "--repo", "/x", "--poll-interval", "0"], "0 is not in"),
            (&["run", "--repo", "/x", "--allow-source", "a/b"], "neither a host"),
            (&["run", "--repo", "/x", "--allow-unverified", "team"], "names no source"),
            (&["run", "--repo", "/x", "--mirror", "https://github.com"], "FROM=TO"),
        ] {
            let args = ["flotilla-hub"].iter().chain(args);
            let Err(error) = Cli::try_parse_from(args.clone()) else { panic!("{args:?} is taken") };
            assert!(error.to_string().contains(reason), "{args:?}: {error}");
        }
    }
}
