//! The sources that a cluster's units define, and which content each has.

use std::collections::{BTreeMap, HashMap};

use flotilla_core::report::Problem;
use flotilla_core::source::{ArtifactGenerator, Source, SourceId, SourceKind, SourceSpec};
use flotilla_core::{Digest, UnitId};
use flotilla_kustomize::files::TreePath;

use crate::cluster::Inputs;
use crate::content::Content;
use crate::source::{Artifact, RenderedSource, SourceDefinition, fleet_source};

/// What there is of a source.
#[derive(Clone)]
pub(crate) enum Lookup {
    Found(Artifact),
    /// Nothing that has been rendered so far defines it.
    Undefined(SourceId),
    /// It is defined, and its content cannot be used.
    Unusable(String),
}

/// How deep generators may read each other.
const DEPTH: usize = 8;

/// All sources defined so far.
pub(crate) struct Registry<'a> {
    inputs: &'a Inputs<'a>,
    sources: BTreeMap<SourceId, RenderedSource>,
    /// Sources that were rendered by a unit under a service account: they read their own namespace only.
    confined: BTreeMap<SourceId, bool>,
    generated: HashMap<SourceId, Result<BTreeMap<String, Artifact>, Lookup>>,
    /// Why the fleet repo must not be used, where its object asks for what we cannot do.
    fleet: Option<String>,
    /// `--no-cross-namespace-refs`
    pub(crate) own_namespace_only: bool,
}

impl<'a> Registry<'a> {
    pub(crate) fn new(inputs: &'a Inputs<'a>) -> Self {
        Self {
            inputs,
            sources: BTreeMap::new(),
            confined: BTreeMap::new(),
            generated: HashMap::new(),
            fleet: None,
            own_namespace_only: false,
        }
    }

    pub(crate) fn into_sources(self) -> BTreeMap<SourceId, RenderedSource> {
        self.sources
    }

    /// Takes what a unit's output defines. The first definition of a source counts; the problems returned are
    /// notices on the unit that comes later.
    pub(crate) fn add(&mut self, unit: &UnitId, content: &Content, confined: bool) -> Vec<Problem> {
        let mut notices = Vec::new();
        for definition in &content.sources {
            let (id, at) = (&definition.source.id, (definition.file.clone(), definition.line));
            if *id == fleet_source() {
                notices.extend(self.fleet_repo(unit, &definition.source, &at));
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
                    self.confined.insert(id.clone(), confined);
                    self.sources.insert(id.clone(), rendered);
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
            self.sources.entry(id.clone()).or_insert_with(|| {
                let at = problems.first().map(|problem| (problem.file.clone(), problem.line));
                RenderedSource {
                    defined_by: unit.clone(),
                    defined_at: at.unwrap_or_default(),
                    source: None,
                    object: None,
                    problems: problems.clone(),
                }
            });
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
            ("ignore", git.ignore.is_some()),
            ("include", !git.include.is_empty()),
            ("recurseSubmodules", git.recurse_submodules),
            ("sparseCheckout", !git.sparse_checkout.is_empty()),
        ];
        let names: Vec<_> = set.iter().filter(|(_, set)| *set).map(|(name, _)| *name).collect();
        let (first, message) = (names.first()?, "the fleet repo is read whole, as the hub is told to");
        let message = format!("{message}; without effect: {}", names.join(", "));
        Some(Problem::error(at.0.clone(), at.1, message).field(format!("spec.{first}")).as_notice())
    }

    /// The content of a source, for somebody in `namespace` who may read only that one if `confined`.
    pub(crate) fn content(&mut self, id: &SourceId, namespace: &str, confined: bool) -> Lookup {
        if id.namespace != namespace && (confined || self.own_namespace_only) {
            let why = if self.own_namespace_only {
                "--no-cross-namespace-refs is set"
            } else {
                "a unit that another unit's service account defined reads its own namespace only"
            };
            return Lookup::Unusable(format!("{id} is in another namespace than '{namespace}': {why}"));
        }
        self.find(id, 0)
    }

    fn find(&mut self, id: &SourceId, depth: usize) -> Lookup {
        if *id == fleet_source() {
            return match &self.fleet {
                Some(reason) => Lookup::Unusable(reason.clone()),
                None => Lookup::Found(self.inputs.fleet.clone()),
            };
        }
        if id.kind == SourceKind::ExternalArtifact {
            return self.external(id, depth);
        }
        match self.usable(id) {
            Err(lookup) => lookup,
            Ok(source) => match self.inputs.sources.content(&source) {
                Ok(artifact) => Lookup::Found(artifact),
                Err(reason) => Lookup::Unusable(format!("{id}: {reason}")),
            },
        }
    }

    fn usable(&self, id: &SourceId) -> Result<Source, Lookup> {
        let Some(rendered) = self.sources.get(id) else { return Err(Lookup::Undefined(id.clone())) };
        let Some(source) = &rendered.source else {
            let problem = rendered.problems.first().map(ToString::to_string).unwrap_or_default();
            return Err(Lookup::Unusable(format!("{id} is defined wrongly: {problem}")));
        };
        if source.spec.verify() && !self.inputs.sources.allows_unverified(id) {
            return Err(Lookup::Unusable(unverified(id)));
        }
        Ok(source.clone())
    }

    /// What some generator of the namespace puts out under this name.
    fn external(&mut self, id: &SourceId, depth: usize) -> Lookup {
        if depth == DEPTH {
            return Lookup::Unusable(format!("{id}: generators read each other more than {DEPTH} deep"));
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
        for (name, generator) in generators {
            let named = generator.artifacts.iter().any(|artifact| artifact.name == id.name);
            if !named && generator.path_pattern.is_none() {
                continue;
            }
            match self.generate(&name, &generator, depth) {
                Ok(made) => {
                    if let Some(artifact) = made.get(&id.name) {
                        return Lookup::Found(artifact.clone());
                    }
                }
                Err(lookup) => return lookup,
            }
        }
        if self.sources.contains_key(id) {
            return Lookup::Unusable(format!("{id}: nothing here fills it; an ArtifactGenerator would"));
        }
        Lookup::Undefined(id.clone())
    }

    fn generate(
        &mut self,
        name: &SourceId,
        generator: &ArtifactGenerator,
        depth: usize,
    ) -> Result<BTreeMap<String, Artifact>, Lookup> {
        if let Some(done) = self.generated.get(name) {
            return done.clone();
        }
        let made = self.make(name, generator, depth);
        if !matches!(made, Err(Lookup::Undefined(_))) {
            self.generated.insert(name.clone(), made.clone());
        }
        made
    }

    fn make(
        &mut self,
        name: &SourceId,
        generator: &ArtifactGenerator,
        depth: usize,
    ) -> Result<BTreeMap<String, Artifact>, Lookup> {
        let confined = self.confined.get(name).copied().unwrap_or(true) || self.own_namespace_only;
        let mut inputs = BTreeMap::new();
        for input in &generator.inputs {
            if confined && input.source.namespace != name.namespace {
                let message =
                    format!("{name}: {} is in another namespace, which it may not read", input.source);
                return Err(Lookup::Unusable(message));
            }
            match self.find(&input.source, depth + 1) {
                Lookup::Found(artifact) => inputs.insert(input.alias.clone(), artifact),
                other => return Err(other),
            };
        }
        let mut parts = vec![SourceSpec::Generator(generator.clone()).digest()];
        for (alias, input) in &inputs {
            let entry = input.files.entry(&TreePath::root());
            let entry = entry.map_err(|error| Lookup::Unusable(format!("{name}: @{alias}: {error}")))?;
            let id = entry.map_or(Digest::of(b"nothing"), |entry| Digest::from(entry.id.0));
            let revision = Digest::of_parts([input.revision.as_bytes()]);
            parts.extend([Digest::of(alias.as_bytes()), input.origin, id, revision]);
        }
        let key = Digest::of_parts(parts.iter().map(|part| &part.as_bytes()[..]));
        let made = self.inputs.cache.generated(key, || self.inputs.sources.generate(generator, &inputs));
        made.map_err(|reason| Lookup::Unusable(format!("{name}: {reason}")))
    }
}

fn unverified(id: &SourceId) -> String {
    format!(
        "{id} asks for verification, which is not supported: its content is not used; an operator may allow it as it \
         is by --allow-unverified"
    )
}
