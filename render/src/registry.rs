//! The sources that a cluster's units define, and which content each has.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use flotilla_core::report::Problem;
use flotilla_core::source::{ArtifactGenerator, Scheme, Source, SourceId, SourceKind, SourceSpec};
use flotilla_core::unit::ServiceAccount;
use flotilla_core::{Authority, Digest, UnitId};
use flotilla_kustomize::files::TreePath;

use crate::cache::Telling;
use crate::cluster::Inputs;
use crate::content::Content;
use crate::source::{Artifact, RenderedSource, SourceDefinition, Unavailable, fleet_source};
use crate::walk::authority::beyond;

/// What there is of a source.
#[derive(Clone)]
pub(crate) enum Lookup {
    Found(Artifact),
    /// Nothing that has been rendered so far defines it.
    Undefined(SourceId),
    /// It is defined, and its content cannot be used.
    Unusable(Unavailable),
}

/// Who defined a source under an account.
#[derive(Clone)]
struct Maker {
    unit: UnitId,
    account: ServiceAccount,
    /// Where that unit's files are.
    files: SourceId,
}

/// Who wants the content of a source.
pub(crate) struct Reader<'a> {
    pub(crate) namespace: &'a str,
    /// A unit under an account defined it: it reads its own namespace only.
    pub(crate) confined: bool,
    pub(crate) lineage: Lineage,
}

/// The units above a reader, the accounts that these and the reader are applied as, and where the files of those above
/// are.
#[derive(Default)]
pub(crate) struct Lineage {
    pub(crate) units: BTreeSet<UnitId>,
    pub(crate) accounts: BTreeSet<ServiceAccount>,
    pub(crate) files: BTreeSet<SourceId>,
}

impl Lineage {
    /// Whether a source by this maker gives its content nothing that the maker does not have: else whoever may write a
    /// tenant's repository could put a source of their own in the place of one that others are about to define.
    fn trusts(&self, maker: &Maker) -> bool {
        self.units.contains(&maker.unit)
            || self.accounts.contains(&maker.account)
            || self.files.contains(&maker.files)
    }
}

/// How deep generators may read each other.
const DEPTH: usize = 8;

/// All sources defined so far.
pub(crate) struct Registry<'a> {
    inputs: &'a Inputs<'a>,
    sources: BTreeMap<SourceId, RenderedSource>,
    /// Sources that were rendered by a unit under a service account, and who that is: they read their own namespace only.
    makers: BTreeMap<SourceId, Maker>,
    generated: HashMap<SourceId, Result<BTreeMap<String, Artifact>, Lookup>>,
    /// Bytes in memory of what each generator put out.
    held: BTreeMap<SourceId, u64>,
    /// The fleet repo, as Flux would pack it for this cluster.
    pub(crate) tree: Artifact,
    /// Why the fleet repo must not be used, where its object asks for what we cannot do.
    fleet: Option<String>,
    /// `--no-cross-namespace-refs`
    pub(crate) own_namespace_only: bool,
    /// Names that are kept for who may define everything, and those that should have been, as somebody else had them first.
    reserved: BTreeSet<SourceId>,
    pub(crate) overruled: BTreeSet<SourceId>,
    /// Sources of who may define some namespaces only.
    bounded: BTreeSet<SourceId>,
}

impl<'a> Registry<'a> {
    pub(crate) fn new(inputs: &'a Inputs<'a>, tree: Artifact, reserved: BTreeSet<SourceId>) -> Self {
        Self {
            tree,
            reserved,
            overruled: BTreeSet::new(),
            bounded: BTreeSet::new(),
            inputs,
            sources: BTreeMap::new(),
            makers: BTreeMap::new(),
            generated: HashMap::new(),
            held: BTreeMap::new(),
            fleet: None,
            own_namespace_only: false,
        }
    }

    pub(crate) fn into_sources(self) -> BTreeMap<SourceId, RenderedSource> {
        self.sources
    }

    /// Takes what a unit's output defines, as far as its authority reaches: of anything else there is nothing to be found.
    /// The first definition of a source counts; the problems returned are notices on the unit that comes later.
    pub(crate) fn add(
        &mut self,
        unit: &UnitId,
        content: &Content,
        account: Option<&ServiceAccount>,
        files: &SourceId,
        authority: &Authority,
    ) -> Vec<Problem> {
        let (mut notices, mut taken) = (Vec::new(), Vec::new());
        let reserved = if authority.is_fleet() { BTreeSet::new() } else { self.reserved.clone() };
        // Why there is no place for a definition, if so.
        let refused = |id: &SourceId| {
            if !authority.covers(&id.namespace) {
                return Some(beyond(id, &id.namespace, unit, authority));
            }
            reserved
                .contains(id)
                .then(|| format!("{id} is not taken from {unit}: a unit of the fleet repo defines it"))
        };
        let maker = account.map(|account| Maker {
            unit: unit.clone(),
            account: account.clone(),
            files: files.clone(),
        });
        for definition in &content.sources {
            let (id, at) = (&definition.source.id, (definition.file.clone(), definition.line));
            if *id == fleet_source() {
                notices.extend(self.fleet_repo(unit, &definition.source, &at));
                continue;
            }
            if let Some(message) = refused(id) {
                notices.push(Problem::error(at.0, at.1, message).as_notice());
                continue;
            }
            match self.sources.get(id) {
                None => {
                    let rendered = RenderedSource {
                        defined_by: unit.clone(),
                        defined_at: at,
                        source: Some(definition.source.clone()),
                        object: definition.object.clone(),
                        problems: Vec::new(),
                    };
                    self.makers.extend(maker.clone().map(|maker| (id.clone(), maker)));
                    self.sources.insert(id.clone(), rendered);
                    taken.push(id.clone());
                }
                Some(first) if first.source.as_ref() != Some(&definition.source) => {
                    let message =
                        format!("{id} is defined by {} already; keep one definition", first.defined_by);
                    notices.push(Problem::error(at.0, at.1, message).as_notice());
                }
                Some(_) => {}
            }
        }
        for (id, problems) in &content.broken_sources {
            let at = problems.first().map(|problem| (problem.file.clone(), problem.line)).unwrap_or_default();
            if let Some(message) = refused(id) {
                notices.push(Problem::error(at.0, at.1, message).as_notice());
                continue;
            }
            self.sources.entry(id.clone()).or_insert_with(|| {
                taken.push(id.clone());
                RenderedSource {
                    defined_by: unit.clone(),
                    defined_at: at,
                    source: None,
                    object: None,
                    problems: problems.clone(),
                }
            });
        }
        if authority.is_fleet() {
            let defined = content.sources.iter().map(|definition| &definition.source.id);
            let overruled =
                defined.chain(content.broken_sources.keys()).filter(|id| self.bounded.contains(*id));
            self.overruled.extend(overruled.cloned());
        } else {
            self.bounded.extend(taken);
        }
        notices
    }

    /// Why the fleet repo must not be used, if its object in the root's output asks for what we cannot do.
    pub(crate) fn refuse_fleet(&mut self, root: &Content) -> Option<Problem> {
        let is_fleet = |definition: &&SourceDefinition| definition.source.id == fleet_source();
        let SourceDefinition { source, file, line, .. } = root.sources.iter().find(is_fleet)?;
        if !source.spec.verify() || self.inputs.sources.allows_unverified(&source.id) {
            return None;
        }
        let reason = unverified(&source.id);
        self.fleet = Some(reason.clone());
        Some(Problem::error(file.clone(), *line, reason).field("spec.verify"))
    }

    /// The object of the fleet repo itself: what the hub fetches is set at the hub.
    fn fleet_repo(&mut self, unit: &UnitId, source: &Source, at: &(String, u32)) -> Option<Problem> {
        let SourceSpec::Git(git) = &source.spec else { return None };
        if *unit != UnitId::root() {
            let message = format!("{} is the fleet repo, which only the root unit defines", source.id);
            return Some(Problem::error(at.0.clone(), at.1, message).as_notice());
        }
        let set = [
            ("include", !git.include.is_empty()),
            ("recurseSubmodules", git.recurse_submodules),
            ("sparseCheckout", !git.sparse_checkout.is_empty()),
        ];
        let names: Vec<_> = set.iter().filter(|(_, set)| *set).map(|(name, _)| *name).collect();
        let (first, message) = (names.first()?, "the fleet repo is read whole, as the hub is told to");
        let message = format!("{message}; without effect: {}", names.join(", "));
        Some(Problem::error(at.0.clone(), at.1, message).field(format!("spec.{first}")).as_notice())
    }

    /// Whether a source that was not defined may be by now. What a generator puts out has a name of its own.
    pub(crate) fn may_have(&self, id: &SourceId) -> bool {
        id.kind == SourceKind::ExternalArtifact || self.sources.contains_key(id)
    }

    /// The content of a source, if the reader may have it.
    pub(crate) fn content(&mut self, id: &SourceId, reader: &Reader<'_>) -> Lookup {
        let Reader { namespace, confined, .. } = reader;
        if id.namespace != *namespace && (*confined || self.own_namespace_only) {
            let why = if self.own_namespace_only {
                "--no-cross-namespace-refs is set"
            } else {
                "a unit that another unit's service account defined reads its own namespace only"
            };
            return unusable(format!("{id} is in another namespace than '{namespace}': {why}"));
        }
        if let Some(refused) = self.refuse_stranger(id, &reader.lineage) {
            return refused;
        }
        self.find(id, &reader.lineage, 0)
    }

    /// Whether there is content of a source, as its maker and a reader have it; `None` if nothing defines it.
    pub(crate) fn is_ready(&mut self, id: &SourceId, mut lineage: Lineage) -> Option<bool> {
        if let Some(Maker { unit, account, files }) = self.makers.get(id).cloned() {
            lineage.units.insert(unit);
            lineage.accounts.insert(account);
            lineage.files.insert(files);
        }
        let spec =
            self.sources.get(id).map(|rendered| rendered.source.as_ref().map(|source| source.spec.clone()));
        Some(match spec {
            Some(None) => false,
            Some(Some(SourceSpec::Generator(generator))) => {
                self.generate(id, &generator, &lineage, 0).is_ok()
            }
            // A registry is asked for charts only.
            Some(Some(SourceSpec::HelmRepository(helm))) if helm.url.scheme() == Scheme::Oci => true,
            _ => match self.find(id, &lineage, 0) {
                Lookup::Found(_) => true,
                Lookup::Unusable(_) => false,
                Lookup::Undefined(missing) if missing == *id => return None,
                // It is there, and what it is made of is not.
                Lookup::Undefined(_) => false,
            },
        })
    }

    fn refuse_stranger(&self, id: &SourceId, lineage: &Lineage) -> Option<Lookup> {
        let (source, Maker { unit, account, files }) = self.stranger(id, lineage, 0)?;
        Some(unusable(format!(
            "{source} is defined by {unit}, which is applied as {account} from {files}: only what that unit defines, units \
             of the same account and units that the same source defines use it"
        )))
    }

    /// The first source, of this one and those that it is made of, that somebody defined whom the reader does not trust.
    fn stranger(&self, id: &SourceId, lineage: &Lineage, depth: usize) -> Option<(SourceId, Maker)> {
        if let Some(maker) = self.makers.get(id).filter(|maker| !lineage.trusts(maker)) {
            return Some((id.clone(), maker.clone()));
        }
        let parts = parts(&self.sources.get(id)?.source.as_ref()?.spec);
        // Deeper ones are refused where they are read.
        if depth == DEPTH {
            return None;
        }
        parts.into_iter().find_map(|part| self.stranger(part, lineage, depth + 1))
    }

    fn find(&mut self, id: &SourceId, lineage: &Lineage, depth: usize) -> Lookup {
        if *id == fleet_source() {
            return match &self.fleet {
                Some(reason) => unusable(reason.clone()),
                None => Lookup::Found(self.tree.clone()),
            };
        }
        if id.kind == SourceKind::ExternalArtifact {
            return self.external(id, lineage, depth);
        }
        match self.usable(id) {
            Err(lookup) => lookup,
            // Nobody fetches what is made of something that nobody defines.
            Ok(source) => match parts(&source.spec).into_iter().find_map(|part| self.unusable_part(part)) {
                Some(lookup) => lookup,
                None => match self.inputs.sources.content(&source) {
                    Ok(artifact) => Lookup::Found(artifact),
                    Err(reason) => Lookup::Unusable(reason.said(|why| format!("{id}: {why}"))),
                },
            },
        }
    }

    /// Why a source that another one is made of cannot be used, as far as its definition tells.
    fn unusable_part(&self, part: &SourceId) -> Option<Lookup> {
        if *part == fleet_source() { None } else { self.usable(part).err() }
    }

    fn usable(&self, id: &SourceId) -> Result<Source, Lookup> {
        let Some(rendered) = self.sources.get(id) else { return Err(Lookup::Undefined(id.clone())) };
        let Some(source) = &rendered.source else {
            let problem = rendered.problems.first().map(ToString::to_string).unwrap_or_default();
            return Err(unusable(format!("{id} is defined wrongly: {problem}")));
        };
        if source.spec.verify() && !self.inputs.sources.allows_unverified(id) {
            return Err(unusable(unverified(id)));
        }
        Ok(source.clone())
    }

    /// What some generator of the namespace puts out under this name.
    fn external(&mut self, id: &SourceId, lineage: &Lineage, depth: usize) -> Lookup {
        if depth == DEPTH {
            return unusable(format!("{id}: generators read each other more than {DEPTH} deep"));
        }
        let generators: Vec<(SourceId, ArtifactGenerator)> = self
            .sources
            .values()
            .filter_map(|rendered| rendered.source.as_ref())
            .filter(|source| source.id.namespace == id.namespace)
            .filter_map(|source| match &source.spec {
                SourceSpec::Generator(generator) => Some((source.id.clone(), generator.clone())),
                _ => None,
            })
            .collect();
        let mut failed = None;
        for (name, generator) in generators {
            let named = generator.artifacts.iter().any(|artifact| artifact.name == id.name);
            if !named && generator.path_pattern.is_none() {
                continue;
            }
            // A generator of somebody else does not stand in the way of the one that is meant.
            if self.makers.get(&name).is_some_and(|maker| !lineage.trusts(maker)) {
                continue;
            }
            match self.generate(&name, &generator, lineage, depth) {
                Ok(made) => {
                    if let Some(artifact) = made.get(&id.name) {
                        let refused = self.refuse_stranger(&name, lineage);
                        return refused.unwrap_or_else(|| Lookup::Found(artifact.clone()));
                    }
                }
                Err(lookup) if named => return lookup,
                // One with a pattern might have put it out, and others still may.
                Err(lookup) => failed = Some(lookup),
            }
        }
        if let Some(lookup) = failed {
            return lookup;
        }
        if self.sources.contains_key(id) {
            return unusable(format!("{id}: nothing here fills it; an ArtifactGenerator would"));
        }
        Lookup::Undefined(id.clone())
    }

    fn generate(
        &mut self,
        name: &SourceId,
        generator: &ArtifactGenerator,
        lineage: &Lineage,
        depth: usize,
    ) -> Result<BTreeMap<String, Artifact>, Lookup> {
        if let Some(done) = self.generated.get(name) {
            return done.clone();
        }
        let made = self.make(name, generator, lineage, depth);
        if matches!(made, Err(Lookup::Unusable(_))) {
            self.inputs.recorder.inspect(|recorder| recorder.open());
        }
        // Where there are accounts, readers may be given different things.
        if !matches!(made, Err(Lookup::Undefined(_))) && self.makers.is_empty() {
            self.generated.insert(name.clone(), made.clone());
        }
        made
    }

    fn make(
        &mut self,
        name: &SourceId,
        generator: &ArtifactGenerator,
        lineage: &Lineage,
        depth: usize,
    ) -> Result<BTreeMap<String, Artifact>, Lookup> {
        let confined = self.makers.contains_key(name) || self.own_namespace_only;
        let mut inputs = BTreeMap::new();
        for input in &generator.inputs {
            if confined && input.source.namespace != name.namespace {
                let message =
                    format!("{name}: {} is in another namespace, which it may not read", input.source);
                return Err(unusable(message));
            }
            match self.find(&input.source, lineage, depth + 1) {
                Lookup::Found(artifact) => inputs.insert(input.alias.clone(), artifact),
                other => return Err(other),
            };
        }
        if generator.inputs.iter().any(|input| input.source == fleet_source()) {
            self.inputs.recorder.inspect(|recorder| recorder.reads_all());
        }
        let mut parts = vec![SourceSpec::Generator(generator.clone()).digest()];
        for (alias, input) in &inputs {
            let entry = input.files.entry(&TreePath::root());
            let entry = entry.map_err(|error| unusable(format!("{name}: @{alias}: {error}")))?;
            let id = entry.map_or(Digest::of(b"nothing"), |entry| Digest::from(entry.id.0));
            let revision = Digest::of_parts([input.revision.as_bytes()]);
            parts.extend([Digest::of(alias.as_bytes()), input.origin, id, revision]);
        }
        let key = Digest::of_parts(parts.iter().map(|part| &part.as_bytes()[..]));
        let what = || name.to_string();
        let problem = |reason: String| Problem::error("", 0, reason);
        let telling = Telling { attempts: self.inputs.attempts, what: &what, problem: &problem };
        let most = if confined { self.inputs.budget.tenant_bytes } else { self.inputs.budget.cluster_bytes };
        let others =
            self.held.iter().filter(|(other, _)| *other != name && other.namespace == name.namespace);
        let others: u64 = others.map(|(_, held)| held).sum();
        let too_much = || {
            unusable(format!(
                "{name}: what the generators of its namespace unpack and merge comes to more than {most} bytes; generate less"
            ))
        };
        // Nothing more is unpacked where there is no room for it.
        if others >= most {
            return Err(too_much());
        }
        let generate = || self.inputs.sources.generate(generator, &inputs);
        let made = self.inputs.cache.generated(key, telling, generate);
        let made = made.map_err(|reason| Lookup::Unusable(reason.said(|why| format!("{name}: {why}"))))?;
        let held: u64 = made.values().map(|artifact| artifact.files.held()).sum();
        self.held.insert(name.clone(), held);
        if others + held > most { Err(too_much()) } else { Ok(made) }
    }
}

/// The sources that a source is made of.
fn parts(spec: &SourceSpec) -> Vec<&SourceId> {
    match spec {
        SourceSpec::HelmChart(chart) => vec![&chart.source],
        SourceSpec::Git(git) => git.include.iter().map(|include| &include.repository).collect(),
        SourceSpec::Generator(generator) => generator.inputs.iter().map(|input| &input.source).collect(),
        _ => Vec::new(),
    }
}

fn unusable(why: String) -> Lookup {
    Lookup::Unusable(Unavailable::new(why))
}

fn unverified(id: &SourceId) -> String {
    format!(
        "{id} asks for verification, which is not supported: its content is not used; an operator may allow it as it \
         is by --allow-unverified"
    )
}
