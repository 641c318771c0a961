//! `flotilla secret`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use flotilla_api::NewSecret;
use flotilla_core::ClusterName;

use super::rows;
use super::sops::{self, SopsCommand};
use crate::Context;
use crate::args::{OutputArgs, pair};
use crate::error::Error;
use crate::exit::Code;

/// Manage secrets: those that the hub keeps for sources and releases, and files of the fleet repo that SOPS encrypts
#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    /// Keep a secret, encrypted at the hub; one of the same name is replaced
    #[command(subcommand)]
    Create(Box<CreateCommand>),
    /// List the secrets, without what they hold
    List(OutputArgs),
    /// Show which units and clusters use a Secret, the hub's or one of the cluster's own, and which make it
    Where {
        /// Name of the Secret
        name: String,
        /// Namespace of the Secret; else in any
        #[arg(short, long)]
        namespace: Option<String>,
        /// In this cluster only
        #[arg(long, value_name = "CLUSTER")]
        cluster: Option<ClusterName>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Remove a secret; sources that name it are no longer fetched
    Delete {
        #[command(flatten)]
        place: PlaceArgs,
    },
    #[command(flatten)]
    Sops(SopsCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum CreateCommand {
    /// For GitRepositories: a user and password or token, a bearer token, or an ssh key
    Git {
        #[command(flatten)]
        place: PlaceArgs,
        #[command(flatten)]
        basic: BasicArgs,
        /// File with a token that is sent as it is
        #[arg(long, value_name = "FILE", conflicts_with = "username")]
        bearer_token_file: Option<PathBuf>,
        /// File with a private ssh key without a passphrase
        #[arg(long, value_name = "FILE", requires = "known_hosts_file", conflicts_with_all = ["username", "bearer_token_file"])]
        private_key_file: Option<PathBuf>,
        /// File with the host keys to accept, as `ssh-keyscan` prints them
        #[arg(long, value_name = "FILE", requires = "private_key_file")]
        known_hosts_file: Option<PathBuf>,
        /// File with the certificate of the server's CA (PEM)
        #[arg(long, value_name = "FILE")]
        ca_file: Option<PathBuf>,
    },
    /// For OCIRepositories and Helm registries: a registry's user and password, or a Docker configuration
    Oci {
        #[command(flatten)]
        place: PlaceArgs,
        /// Host of the registry, with its port if it has one
        #[arg(long, value_name = "HOST", required_unless_present = "docker_config")]
        registry: Option<String>,
        #[command(flatten)]
        basic: BasicArgs,
        /// A Docker configuration with `auths`
        #[arg(long, value_name = "FILE", conflicts_with_all = ["registry", "username"])]
        docker_config: Option<PathBuf>,
    },
    /// For HelmRepositories by HTTP
    Helm {
        #[command(flatten)]
        place: PlaceArgs,
        #[command(flatten)]
        basic: BasicArgs,
        #[command(flatten)]
        tls: TlsArgs,
    },
    /// For Buckets
    Bucket {
        #[command(flatten)]
        place: PlaceArgs,
        /// The access key's id
        #[arg(long, value_name = "ID")]
        access_key: String,
        /// File with the secret key
        #[arg(long, value_name = "FILE")]
        secret_key_file: PathBuf,
    },
    /// Certificates, for certSecretRef
    Tls {
        #[command(flatten)]
        place: PlaceArgs,
        #[command(flatten)]
        tls: TlsArgs,
    },
    /// Anything else, key by key
    Generic {
        #[command(flatten)]
        place: PlaceArgs,
        /// A key and the file with its value
        #[arg(long, value_name = "KEY=FILE", value_parser = pair)]
        from_file: Vec<(String, String)>,
        /// A key and its value; others on this machine may see it, so prefer --from-file
        #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
        from_literal: Vec<(String, String)>,
    },
}

/// Where a secret is.
#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// Name, as sources refer to it
    name: String,
    /// Namespace of the sources that refer to it
    #[arg(short, long, default_value = "flux-system")]
    namespace: String,
    /// For this cluster only; else for the whole fleet
    #[arg(long, value_name = "CLUSTER")]
    cluster: Option<ClusterName>,
    /// For the clusters of this ClusterGroup only
    #[arg(long, value_name = "GROUP", conflicts_with = "cluster")]
    group: Option<String>,
}

impl PlaceArgs {
    fn scope(&self) -> String {
        match (&self.cluster, &self.group) {
            (Some(name), _) => format!("cluster.{name}"),
            (None, Some(name)) => format!("group.{name}"),
            (None, None) => "fleet".to_owned(),
        }
    }
}

/// A user and a password.
#[derive(Debug, Args)]
pub(crate) struct BasicArgs {
    /// User; hosting services take any with a token as password
    #[arg(long, value_name = "NAME", requires = "password_file")]
    username: Option<String>,
    /// File with the password or token
    #[arg(long, value_name = "FILE", requires = "username")]
    password_file: Option<PathBuf>,
}

/// Certificates, each a file (PEM).
#[derive(Debug, Args)]
pub(crate) struct TlsArgs {
    /// Certificate of the server's CA
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// A certificate of our own
    #[arg(long, value_name = "FILE", requires = "key_file")]
    cert_file: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    key_file: Option<PathBuf>,
}

#[derive(Default)]
struct Data(BTreeMap<String, Vec<u8>>);

impl Data {
    fn file(&mut self, key: &str, path: Option<&PathBuf>) -> Result<(), Error> {
        if let Some(path) = path {
            self.0.insert(key.to_owned(), read(path)?);
        }
        Ok(())
    }

    /// A file of one line, without what ends it.
    fn line(&mut self, key: &str, path: Option<&PathBuf>) -> Result<(), Error> {
        if let Some(path) = path {
            self.0.insert(key.to_owned(), line(path)?);
        }
        Ok(())
    }

    fn basic(&mut self, basic: &BasicArgs) -> Result<(), Error> {
        if let Some(user) = &basic.username {
            self.0.insert("username".into(), user.clone().into_bytes());
        }
        self.line("password", basic.password_file.as_ref())
    }

    fn tls(&mut self, tls: &TlsArgs) -> Result<(), Error> {
        self.file("ca.crt", tls.ca_file.as_ref())?;
        self.file("tls.crt", tls.cert_file.as_ref())?;
        self.file("tls.key", tls.key_file.as_ref())
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| Error::io(format!("read {}", path.display()), error))
}

fn line(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = read(path)?;
    while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        bytes.pop();
    }
    Ok(bytes)
}

pub(crate) async fn run(context: &Context, command: SecretCommand) -> Result<Code, Error> {
    match command {
        SecretCommand::Create(command) => {
            let body = new_secret(*command)?;
            let done = context.hub()?.put_secret(&body).await?;
            context.terminal.note(&super::said(&done, &format!("the secret {} is kept", body.name)));
        }
        SecretCommand::List(output) => {
            let secrets = context.hub()?.secrets().await?;
            rows::show(&context.terminal, output.output, "secrets", &secrets)?;
        }
        SecretCommand::Where { name, namespace, cluster, output } => {
            let uses = context.hub()?.secret_uses(&name, namespace.as_deref(), cluster.as_ref()).await?;
            let what = format!("units that use a secret called {name}");
            rows::show(&context.terminal, output.output, &what, &uses)?;
        }
        SecretCommand::Delete { place } => {
            let done = context.hub()?.remove_secret(&place.scope(), &place.namespace, &place.name).await?;
            context.terminal.note(&super::said(&done, &format!("the secret {} is gone", place.name)));
        }
        SecretCommand::Sops(command) => return sops::run(context, command),
    }
    Ok(Code::Done)
}

fn new_secret(command: CreateCommand) -> Result<NewSecret, Error> {
    let mut data = Data::default();
    let (kind, place) = match command {
        CreateCommand::Git {
            place,
            basic,
            bearer_token_file,
            private_key_file,
            known_hosts_file,
            ca_file,
        } => {
            data.basic(&basic)?;
            data.line("bearerToken", bearer_token_file.as_ref())?;
            data.file("identity", private_key_file.as_ref())?;
            data.file("known_hosts", known_hosts_file.as_ref())?;
            data.file("ca.crt", ca_file.as_ref())?;
            ("git", place)
        }
        CreateCommand::Oci { place, registry, basic, docker_config } => {
            data.file(".dockerconfigjson", docker_config.as_ref())?;
            if let (Some(registry), Some(user), Some(path)) = (registry, basic.username, basic.password_file)
            {
                let auth = STANDARD.encode([user.as_bytes(), b":", &line(&path)?].concat());
                let mut auths = serde_json::Map::new();
                auths.insert(registry, serde_json::json!({ "auth": auth }));
                let config = serde_json::json!({ "auths": auths }).to_string();
                data.0.insert(".dockerconfigjson".into(), config.into_bytes());
            }
            ("oci", place)
        }
        CreateCommand::Helm { place, basic, tls } => {
            data.basic(&basic)?;
            data.tls(&tls)?;
            ("helm", place)
        }
        CreateCommand::Bucket { place, access_key, secret_key_file } => {
            data.0.insert("accesskey".into(), access_key.into_bytes());
            data.line("secretkey", Some(&secret_key_file))?;
            ("bucket", place)
        }
        CreateCommand::Tls { place, tls } => {
            data.tls(&tls)?;
            ("tls", place)
        }
        CreateCommand::Generic { place, from_file, from_literal } => {
            for (key, path) in &from_file {
                data.file(key, Some(&PathBuf::from(path)))?;
            }
            data.0.extend(from_literal.into_iter().map(|(key, value)| (key, value.into_bytes())));
            ("generic", place)
        }
    };
    if data.0.is_empty() {
        return Err(Error::usage("the secret would hold nothing").hint("`--help` shows what it can hold"));
    }
    let scope = place.scope();
    let PlaceArgs { name, namespace, .. } = place;
    let data = data.0.into_iter().map(|(key, value)| (key, STANDARD.encode(value))).collect();
    Ok(NewSecret { scope, namespace, name, kind: kind.to_owned(), data })
}
