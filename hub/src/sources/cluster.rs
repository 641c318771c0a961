//! The sources as one cluster sees them: its own secrets, and what its other sources include.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flotilla_core::source::{
    GitRepository, HelmChart, ReconcileStrategy, Scheme, SecretName, Source, SourceId, SourceKind, SourceSpec,
};
use flotilla_core::{ClusterName, Digest};
use flotilla_kustomize::files::{Files, MemoryFiles, TreePath};
use flotilla_kustomize::without_secrets;
use flotilla_render::{Artifact, Groups, RemoteBase, RenderedSource, Sources, Unavailable};
use flotilla_runtime::lock;
use flotilla_runtime::tasks::chain;
use flotilla_sops::service::{Answer, Ask};
use flotilla_source::Mounted;
use flotilla_source::flux::{Fetched, Secret, Secrets, Wanted};

use super::draft::At;
use super::library::{Demand, own_name};
use super::{Library, Scope};

/// How deep repositories may include each other.
const DEPTH: usize = 8;
/// For one look at a remote base that names no time itself, in seconds.
const REMOTE_TIMEOUT: u32 = 60;

/// For one cluster and one snapshot.
pub struct ClusterSources<'a> {
    library: &'a Library,
    at: At<'a>,
    cluster: &'a ClusterName,
    groups: &'a Groups,
    /// What the cluster's last render defined, and what this one has asked for.
    defined: Mutex<BTreeMap<SourceId, Source>>,
    /// What builds asked for outside of their sources, each as often as the one that is in the greatest hurry.
    remotes: Mutex<BTreeMap<SourceId, Source>>,
    read: Mutex<SourcesRead>,
}

/// What a render read of sources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourcesRead {
    /// The revisions that were used, by what was fetched; `None`: there was nothing to use.
    pub(crate) used: BTreeMap<Digest, Option<String>>,
    /// By which names they may stand in a snapshot.
    pub(crate) named: BTreeSet<Digest>,
    /// Whether secrets were looked for.
    pub(crate) secrets: bool,
}

impl SourcesRead {
    /// Whether all that was wanted was there under a name that it has for all clusters.
    pub(crate) fn is_plain(&self) -> bool {
        self.named.iter().all(|name| self.used.get(name).is_some_and(Option::is_some))
    }
}

impl<'a> ClusterSources<'a> {
    pub fn new(library: &'a Library, at: At<'a>, cluster: &'a ClusterName, groups: &'a Groups) -> Self {
        let defined = Mutex::new(library.defined(cluster));
        Self { library, at, cluster, groups, defined, remotes: Mutex::default(), read: Mutex::default() }
    }

    /// What was read so far.
    pub fn read(&self) -> SourcesRead {
        lock(&self.read).clone()
    }

    fn content_of(&self, source: &Source, wanted: &Wanted) -> Result<Fetched, Unavailable> {
        let key = wanted.key();
        let content = self.library.content(self.at, self.cluster, source, wanted);
        let revision = content.as_ref().ok().map(|content| content.revision.clone());
        let mut read = lock(&self.read);
        read.named.insert(if source.suspend { own_name(self.cluster, &source.id, key) } else { key });
        // A suspended one stays at what it was.
        if !source.suspend || revision.is_none() {
            read.used.insert(key, revision);
        }
        content
    }

    /// Tells the library what this cluster's render defined.
    pub fn settle(&self, sources: &BTreeMap<SourceId, RenderedSource>) {
        // A chart's repository, and what a repository includes, may come after it.
        let known = sources.values().filter_map(|rendered| rendered.source.clone());
        let mut defined = lock(&self.defined);
        defined.extend(known.map(|source| (source.id.clone(), source)));
        drop(defined);
        let demands = sources.iter().map(|(id, rendered)| (id.clone(), self.demand_of(rendered)));
        let remotes = lock(&self.remotes).clone();
        let remotes = remotes.into_iter().map(|(id, source)| {
            let key = self.wanted(&source).ok().map(|wanted| wanted.key());
            (id, Demand { source: Some(source), key, problem: None })
        });
        self.library.demand(self.cluster, demands.chain(remotes).collect());
    }

    fn demand_of(&self, rendered: &RenderedSource) -> Demand {
        let Some(source) = &rendered.source else {
            let problem = rendered.problems.first().map(ToString::to_string);
            return Demand { source: None, key: None, problem };
        };
        let demand = |key, problem| Demand { source: Some(source.clone()), key, problem };
        if source.spec.verify() && !self.allows_unverified(&source.id) {
            let problem = "asks for verification, which is not supported: not used unless --allow-unverified";
            return demand(None, Some(problem.into()));
        }
        match &source.spec {
            SourceSpec::Generator(_) | SourceSpec::External => return demand(None, None),
            // A registry is asked for charts only.
            SourceSpec::HelmRepository(helm) if helm.url.scheme() == Scheme::Oci => {
                return demand(None, None);
            }
            SourceSpec::HelmChart(chart) if chart.source.kind != SourceKind::HelmRepository => {
                return demand(None, self.fetched(source, 0).err().map(|error| error.why));
            }
            _ => {}
        }
        match self.wanted(source) {
            Err(problem) => demand(None, Some(problem.why)),
            Ok(wanted) => {
                let key = wanted.key();
                // What nobody reads is fetched as well, as by Flux.
                drop(self.content_of(source, &wanted));
                demand(Some(key), None)
            }
        }
    }

    fn defined(&self, id: &SourceId) -> Option<Source> {
        lock(&self.defined).get(id).cloned()
    }

    /// The source with what its secrets hold.
    fn wanted(&self, source: &Source) -> Result<Wanted, Unavailable> {
        if let SourceSpec::HelmChart(chart) = &source.spec {
            let repository =
                self.defined(&chart.source).ok_or_else(|| unknown_yet("is of", &chart.source))?;
            let SourceSpec::HelmRepository(helm) = &repository.spec else {
                return Err(format!("is of {}, which is not a HelmRepository", chart.source).into());
            };
            let secrets = self.wanted(&repository)?.secrets;
            let timeout = Duration::from_secs(u64::from(source.timeout.max(1)));
            return Ok(Wanted {
                spec: source.spec.clone(),
                repository: Some(helm.clone()),
                secrets,
                timeout,
            });
        }
        let secret = |name: &Option<SecretName>| -> Result<Option<Secret>, String> {
            name.as_ref().map(|name| self.secret(&source.id.namespace, &name.0)).transpose()
        };
        let secrets = match &source.spec {
            SourceSpec::Git(git) => {
                Secrets { secret: secret(&git.secret)?, cert: None, proxy: secret(&git.proxy_secret)? }
            }
            SourceSpec::Oci(oci) => Secrets {
                secret: secret(&oci.secret)?,
                cert: secret(&oci.cert_secret)?,
                proxy: secret(&oci.proxy_secret)?,
            },
            SourceSpec::Bucket(bucket) => Secrets {
                secret: secret(&bucket.secret)?,
                cert: secret(&bucket.cert_secret)?,
                proxy: secret(&bucket.proxy_secret)?,
            },
            SourceSpec::HelmRepository(helm) => {
                Secrets { secret: secret(&helm.secret)?, cert: secret(&helm.cert_secret)?, proxy: None }
            }
            SourceSpec::HelmChart(_)
            | SourceSpec::Generator(_)
            | SourceSpec::External
            | SourceSpec::RemoteBase(_) => Secrets::default(),
        };
        let timeout = Duration::from_secs(u64::from(source.timeout.max(1)));
        // What a repository includes is laid over it afterwards, so it is fetched once with and without.
        let spec = match &source.spec {
            SourceSpec::Git(git) => SourceSpec::Git(GitRepository { include: Vec::new(), ..git.clone() }),
            other => other.clone(),
        };
        Ok(Wanted { spec, repository: None, secrets, timeout })
    }

    fn secret(&self, namespace: &str, name: &str) -> Result<Secret, String> {
        let missing = || {
            format!(
                "names the secret {namespace}/{name}, which the hub does not have; `flotilla secret create` keeps one"
            )
        };
        self.find_secret(namespace, name)?.ok_or_else(missing)
    }

    /// A mounted secret wins over a stored one, whatever their scopes.
    fn find_secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, String> {
        lock(&self.read).secrets = true;
        let (mounted, vault) = (self.library.mounted.as_ref(), self.library.vault.as_ref());
        let find = |scopes: &[Scope]| -> Result<Option<Secret>, String> {
            let found = mounted.map(|mounted| mounted.find(scopes, namespace, name)).transpose();
            if let Some(secret) = found.map_err(|error| chain(&error))?.flatten() {
                return Ok(Some(secret));
            }
            let found = vault.map(|vault| vault.find(scopes, namespace, name)).transpose();
            Ok(found.map_err(|error| chain(&error))?.flatten())
        };
        let Groups { of, unclear } = self.groups;
        if let Some(why) = unclear {
            // A secret of the fleet must not stand in for one of a group that could not be read just now.
            let stored = vault.map(|vault| vault.groups(namespace, name)).transpose();
            let there = mounted.map(|mounted| mounted.groups(namespace, name)).transpose();
            let mut groups = stored.map_err(|error| chain(&error))?.unwrap_or_default();
            groups.extend(there.map_err(|error| chain(&error))?.unwrap_or_default());
            if let Some(group) = groups.iter().find(|group| !of.contains(*group)) {
                return Err(format!(
                    "there is a secret {namespace}/{name} for the group {group}, and whether this cluster is in it \
                     cannot be told: {why}"
                ));
            }
        }
        let groups = of.iter().map(|group| Scope::Group(group.clone()));
        let own = std::iter::once(Scope::Cluster(self.cluster.clone()));
        let scopes: Vec<Scope> = own.chain(groups).chain([Scope::Fleet]).collect();
        find(&scopes)
    }

    fn fetched(&self, source: &Source, depth: usize) -> Result<Fetched, Unavailable> {
        if let SourceSpec::HelmChart(chart) = &source.spec
            && chart.source.kind != SourceKind::HelmRepository
        {
            return self.chart_of_tree(chart, depth);
        }
        let wanted = self.wanted(source)?;
        let own = self.content_of(source, &wanted)?;
        match &source.spec {
            SourceSpec::Git(git) if !git.include.is_empty() => self.with_included(git, own, depth),
            _ => Ok(own),
        }
    }

    /// A chart that is a folder of a GitRepository or Bucket.
    fn chart_of_tree(&self, chart: &HelmChart, depth: usize) -> Result<Fetched, Unavailable> {
        let tree = self.defined(&chart.source).ok_or_else(|| unknown_yet("is of", &chart.source))?;
        if tree.spec.verify() && !self.allows_unverified(&tree.id) {
            return Err(format!("is of {}, which asks for verification", chart.source).into());
        }
        let tree = self
            .fetched(&tree, depth + 1)
            .map_err(|error| error.said(|why| format!("is of {}: {why}", chart.source)))?;
        let folder = TreePath::from_root(&chart.chart).map_err(|error| format!("spec.chart: {error}"))?;
        let file = folder.join("Chart.yaml").map_err(|error| error.to_string())?;
        let text = tree.files.read(&file).map_err(|error| error.to_string())?;
        let text = std::str::from_utf8(&text).map_err(|_| format!("{file} is not UTF-8 text"))?;
        let documents = flotilla_yaml::parse(text)
            .map_err(|error| format!("{file}:{}: {}", error.pos.line, error.message))?;
        let field = |name: &str| {
            let node = documents.first().and_then(|node| node.at(&[name]));
            node.and_then(|node| node.text()).map(|text| text.to_string()).filter(|text| !text.is_empty())
        };
        let (name, version) = (field("name"), field("version"));
        let (Some(name), Some(version)) = (name, version) else {
            return Err(format!("{file} has no name or no version").into());
        };
        let revision = match chart.reconcile {
            ReconcileStrategy::ChartVersion => version,
            ReconcileStrategy::Revision => {
                let digest = tree.revision.rsplit(':').next().unwrap_or_default();
                format!("{version}+{}", digest.get(..12).unwrap_or(digest))
            }
        };
        // As in an archive: the chart's folder has its name.
        let mut files = Mounted::new(Arc::new(MemoryFiles::default()));
        files.mount(
            TreePath::from_root(&name).map_err(|error| format!("{file}: name: {error}"))?,
            tree.files,
            folder,
        );
        Ok(Fetched { files: Arc::new(files), revision })
    }

    fn with_included(&self, git: &GitRepository, own: Fetched, depth: usize) -> Result<Fetched, Unavailable> {
        if depth == DEPTH {
            return Err(format!("repositories include each other more than {DEPTH} deep").into());
        }
        let mut mounted = Mounted::new(own.files);
        for include in &git.include {
            let defined = lock(&self.defined).get(&include.repository).cloned();
            let repository = defined.ok_or_else(|| unknown_yet("includes", &include.repository))?;
            if repository.spec.verify() && !self.allows_unverified(&repository.id) {
                return Err(format!("includes {}, which asks for verification", include.repository).into());
            }
            let included = self
                .fetched(&repository, depth + 1)
                .map_err(|error| error.said(|why| format!("includes {}: {why}", include.repository)))?;
            let path =
                |text: &str| TreePath::from_root(text).map_err(|error| format!("spec.include: {error}"));
            let (from, to) = (path(&include.from)?, path(&include.to)?);
            let there = included.files.entry(&from).map_err(|error| error.to_string())?;
            if there.is_none() {
                return Err(format!("includes {from} of {}, which is not there", include.repository).into());
            }
            mounted.mount(to, included.files, from);
        }
        let files: Arc<dyn Files> = Arc::new(mounted);
        Ok(Fetched { files, revision: own.revision })
    }
}

impl Sources for ClusterSources<'_> {
    fn content(&self, source: &Source) -> Result<Artifact, Unavailable> {
        lock(&self.defined).insert(source.id.clone(), source.clone());
        let fetched = self.fetched(source, 0)?;
        // Trees of one source can be compared by their ids; whose credentials fetched them does not matter.
        let origin = format!("{} {}", source.id.kind, source.spec.digest());
        Ok(Artifact::new(fetched.files, fetched.revision, &origin))
    }

    fn secret(&self, namespace: &str, name: &str) -> Result<Option<BTreeMap<String, Vec<u8>>>, Unavailable> {
        let found = self.find_secret(namespace, name)?;
        Ok(found.map(|secret| secret.data))
    }

    fn remote(&self, address: &str, interval: u32) -> Result<RemoteBase, Unavailable> {
        let id = SourceId::new(SourceKind::RemoteBase, "", named(address));
        let spec = SourceSpec::RemoteBase(address.to_owned());
        let mut source = Source { id: id.clone(), interval, timeout: REMOTE_TIMEOUT, suspend: false, spec };
        let mut remotes = lock(&self.remotes);
        if let Some(other) = remotes.get(&id) {
            source.interval = other.interval.min(interval);
        }
        remotes.insert(id, source.clone());
        drop(remotes);
        let fetched = self.fetched(&source, 0)?;
        let id = Digest::of_parts([address.as_bytes(), fetched.revision.as_bytes()]);
        let answer = flotilla_source::flux::answer(address, fetched)?;
        Ok(RemoteBase { answer, id })
    }

    fn data_key(&self, ask: &Ask) -> Answer {
        self.library.key_services.data_key(ask)
    }

    fn allows_unverified(&self, source: &SourceId) -> bool {
        self.library.settings.allow_unverified.contains(source)
    }
}

/// Of a source that may be defined by what is rendered next.
fn unknown_yet(what: &str, source: &SourceId) -> Unavailable {
    Unavailable::waiting(format!("{what} {source}, which is not known yet"))
}

/// The name of a remote base, for people too: where its address holds a secret, the address without it and a digest, for
/// others may have other secrets.
fn named(address: &str) -> String {
    let shown = without_secrets(address);
    if shown == address { shown } else { format!("{shown} ({})", Digest::of(address.as_bytes()).short()) }
}
