//! From a cluster's root to all its units, breadth first. A unit waits in the queue until something that is rendered
//! defines its source; what still waits when nothing else can go on names what is missing.

mod asking;
pub(crate) mod authority;
pub(crate) mod budget;
mod namespaces;
mod order;
mod own;
mod release;
mod sources;
mod turns;
mod variables;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use flotilla_core::authority::Authority;
use flotilla_core::question::Question;
use flotilla_core::report::Problem;
use flotilla_core::source::SourceId;
use flotilla_core::template::{ValuesKind, ValuesRef};
use flotilla_core::unit::{HealthCheck, ServiceAccount};
use flotilla_core::{Digest, Object, UnitId, UnitKind, UnitSpec};
use flotilla_kustomize::files::ReadError;

use crate::cache::Outcome;
use crate::cluster::{ClusterRender, Inputs, RenderedUnit, Unit};
use crate::content::{self, Content, Definition, Recipe};
use crate::decryption::Decryption;
use crate::fleet::ClusterDefinition;
use crate::flux::FLEET_UNIT;
use crate::flux::components::Lockdown;
use crate::helm::Asked;
use crate::registry::{Lineage, Lookup, Reader, Registry};
use crate::source::{Artifact, Revision, Unavailable, fleet_source};
use crate::substitute::UnitVariables;
use crate::values::ValuesInGit;
use asking::Asker;
use budget::Spent;
use variables::NoVariables;

/// How deep units may nest.
const DEPTH: usize = 16;
/// How often the root is built anew because its output says something else of itself.
const SELF_REFERENCES: usize = 8;

/// A unit that is defined and not rendered yet.
struct Pending {
    definition: Arc<Definition>,
    parent: Option<UnitId>,
    /// The account that its parent is applied as.
    parent_account: Option<ServiceAccount>,
    /// How far who defined it may reach.
    bound: Authority,
    depth: usize,
    /// No ConfigMap or Secret that it takes variables from is waited for any more: the cluster has it, or nobody.
    values_final: bool,
}

/// What a unit waits for.
enum Waits {
    /// A source that nothing defines yet.
    Source(SourceId),
    /// A ConfigMap or Secret that a unit to come may define.
    Values,
}

struct Walk<'a> {
    inputs: &'a Inputs<'a>,
    cluster: &'a ClusterDefinition,
    units: BTreeMap<UnitId, Arc<RenderedUnit>>,
    /// As which they are applied, where that is not the agent itself.
    accounts: BTreeMap<UnitId, ServiceAccount>,
    registry: Registry<'a>,
    queue: VecDeque<Pending>,
    /// By whose output each unit was defined that was ever queued: the ones that wait are many, and all are asked for.
    definers: BTreeMap<UnitId, UnitId>,
    /// Releases come when nothing else can go on: then what their values are taken from is rendered, and which APIs
    /// the cluster is given is known but for those of other releases.
    releases: VecDeque<Pending>,
    requests: BTreeMap<Digest, Asked>,
    /// Releases that helm is at work on, or is asked for now, and those that come after one of them: of each unit, those
    /// that are it or below it.
    with_helm: BTreeMap<UnitId, BTreeSet<UnitId>>,
    waiting: Vec<(Pending, Waits)>,
    /// How many contents there were when the waiting ones were last looked at.
    retried: usize,
    values: ValuesInGit<'a>,
    /// What units put out, or did when they last could.
    contents: Vec<(UnitId, Arc<Content>)>,
    /// What the controllers of the root unit are told to forbid.
    lockdown: Lockdown,
    reserved: Reserved,
    /// What should have been reserved: whoever may define everything defines it too, and came later.
    overruled: BTreeSet<UnitId>,
    spent: Spent,
    /// The Kustomization by which the cluster's own Flux applies the root, as the root defines it.
    own: Option<UnitId>,
    /// By which source the cluster's own Flux knows the fleet repo, where that is not the usual one.
    fleet_alias: Option<SourceId>,
    /// What was asked of the cluster; with the namespace, where a unit asked that reaches some only.
    asked: RefCell<BTreeMap<Question, Option<String>>>,
}

/// Names that whoever is bounded to some namespaces does not get, as somebody who is not bounded defines them: that one
/// counts, whoever is rendered first.
#[derive(Clone, Default)]
struct Reserved {
    units: BTreeSet<UnitId>,
    sources: BTreeSet<SourceId>,
}

/// How often a walk begins again for names that it should have reserved. Whoever comes first has what is left then.
const OVERRULES: usize = 3;

pub(crate) fn walk(inputs: &Inputs<'_>, cluster: &ClusterDefinition) -> Result<ClusterRender, ReadError> {
    let mut reserved = Reserved::default();
    for _ in 0..OVERRULES {
        let walk = walk_once(inputs, cluster, reserved.clone())?;
        if walk.overruled.is_empty() && walk.registry.overruled.is_empty() {
            return Ok(walk.into_render());
        }
        // Which names are reserved is told by what units put out in walks that are over.
        inputs.recorder.inspect(|recorder| recorder.is_one_piece());
        reserved.units.extend(walk.overruled);
        reserved.sources.extend(walk.registry.overruled);
    }
    Ok(walk_once(inputs, cluster, reserved)?.into_render())
}

fn walk_once<'a>(
    inputs: &'a Inputs<'a>,
    cluster: &'a ClusterDefinition,
    reserved: Reserved,
) -> Result<Walk<'a>, ReadError> {
    let fleet = inputs.cache.packed(inputs.fleet, None)?;
    inputs.recorder.inspect(|recorder| recorder.packed(None));
    let registry = Registry::new(inputs, fleet, reserved.sources.clone());
    let mut walk = Walk {
        inputs,
        cluster,
        units: BTreeMap::new(),
        accounts: BTreeMap::new(),
        registry,
        queue: VecDeque::new(),
        definers: BTreeMap::new(),
        releases: VecDeque::new(),
        requests: BTreeMap::new(),
        with_helm: BTreeMap::new(),
        waiting: Vec::new(),
        retried: 0,
        values: ValuesInGit::new(inputs.recorder),
        contents: Vec::new(),
        lockdown: Lockdown::default(),
        reserved,
        overruled: BTreeSet::new(),
        spent: Spent::default(),
        own: None,
        fleet_alias: None,
        asked: RefCell::default(),
    };
    walk.root()?;
    walk.finish()?;
    Ok(walk)
}

impl Walk<'_> {
    fn into_render(mut self) -> ClusterRender {
        self.share_namespaces();
        self.note_sources();
        self.units.values_mut().for_each(few_problems);
        if let Some(recorder) = self.inputs.recorder {
            recorder.spent(self.spent);
            // What units put out was changed by that.
            if self.fleet_alias.is_some() {
                recorder.is_one_piece();
            }
        }
        let (sources, requests) = (self.registry.into_sources(), self.requests);
        let questions = self.asked.into_inner().into_keys().collect();
        ClusterRender { units: self.units, sources, requests, questions }
    }

    fn root(&mut self) -> Result<(), ReadError> {
        let spec = UnitSpec {
            interval: 600,
            timeout: 300,
            suspend: self.cluster.policy.suspend,
            ..UnitSpec::default()
        };
        let path = self.cluster.root.path.clone();
        let unread = Definition::unread(UnitId::root(), (String::new(), 0));
        let mut definition = Definition { spec, path, ..unread };
        let mut fleet = self.registry.tree.clone();
        let mut ignored: Option<String> = None;
        let own_id = UnitId::kustomization(FLEET_UNIT.0, FLEET_UNIT.1);
        let nothing = ValuesInGit::new(self.inputs.recorder);
        let mut variables = self.variables(&definition, &nothing, true, &self.root_asker(&definition));
        let mut outcome = self.build(&definition, &fleet, &variables)?;
        if outcome.is_err() && self.is_strict() && matches!(variables, Ok(Some(_))) {
            // What its own controllers are told may be what it needs.
            self.lockdown.strict = Some(false);
            let lenient = self.variables(&definition, &nothing, true, &self.root_asker(&definition));
            let other = self.build(&definition, &fleet, &lenient)?;
            self.lockdown = Lockdown::default();
            let is_told = |content: &Arc<Content>| Lockdown::of(&content.controllers).0.strict == Some(false);
            if other.as_ref().is_ok_and(is_told) {
                (variables, outcome) = (lenient, other);
            }
        }
        let mut builds = 0;
        while let Ok(content) = outcome.clone() {
            builds += 1;
            if builds > SELF_REFERENCES {
                let message = format!(
                    "what the root says of itself (its own Kustomization, its variables, spec.ignore of its source) was \
                     another thing in each of {SELF_REFERENCES} builds; write it so that it does not depend on itself"
                );
                outcome = Err([self.place(&definition, message)].into());
                break;
            }
            self.fleet_alias = self.alias_in(&content);
            let content = self.at_home(&content);
            self.own = self.own_in(&content);
            if let Some(text) =
                own::ignore_of_fleet(&content).filter(|text| ignored.as_deref() != Some(*text))
            {
                fleet = self.inputs.cache.packed(self.inputs.fleet, Some(text))?;
                self.inputs.recorder.inspect(|recorder| recorder.packed(Some(text)));
                self.registry.tree = fleet.clone();
                ignored = Some(text.to_owned());
                outcome = self.build(&definition, &fleet, &variables)?;
                continue;
            }
            let unlocked = std::mem::take(&mut self.lockdown);
            self.lock(&content);
            if let Some(problems) = content.broken_children.get(&own_id) {
                outcome = Err(problems.as_slice().into());
                break;
            }
            let own = content.children.iter().find(|child| self.is_itself(&definition, child));
            let Some(own) = own.cloned() else {
                let after = self.variables(&definition, &nothing, true, &self.root_asker(&definition));
                if self.lockdown.no_remote_bases != unlocked.no_remote_bases
                    || after.as_ref().ok() != variables.as_ref().ok()
                {
                    variables = after;
                    outcome = self.build(&definition, &fleet, &variables)?;
                    continue;
                }
                break;
            };
            // A Kustomization that names the path it stands in speaks of this very unit.
            let suspend = self.cluster.policy.suspend || own.spec.suspend;
            let spec = UnitSpec { suspend, depends_on: Vec::new(), ..own.spec.clone() };
            let next = Definition { id: UnitId::root(), spec, ..Definition::clone(&own) };
            // Its own ConfigMaps are in the cluster once it is applied.
            let mut maps = ValuesInGit::new(self.inputs.recorder);
            maps.add(&content, &Authority::Fleet);
            let values = self.variables(&next, &maps, true, &self.root_asker(&next));
            let same = next.overlay == definition.overlay
                && self.lockdown == unlocked
                && values.as_ref().ok() == variables.as_ref().ok();
            (definition, variables) = (next, values);
            if same {
                break;
            }
            outcome = self.build(&definition, &fleet, &variables)?;
        }
        if let Ok(content) = &outcome
            && let Some(problem) = self.registry.refuse_fleet(&self.at_home(content))
        {
            outcome = Err([problem].into());
        }
        let pending = Pending {
            definition: definition.into(),
            parent: None,
            parent_account: None,
            bound: Authority::Fleet,
            depth: 0,
            values_final: true,
        };
        match outcome {
            Ok(content) => self.rendered(pending, &fleet, content),
            Err(problems) => self.held(pending, problems.to_vec()),
        }
        Ok(())
    }

    /// Renders a unit, or lets it wait for the definition of its source.
    fn unit(&mut self, pending: Pending) -> Result<(), ReadError> {
        if pending.definition.release.is_some() {
            self.releases.push_back(pending);
            return Ok(());
        }
        if let Some((pending, artifact)) = self.artifact(pending) {
            let variables = self.variables(
                &pending.definition,
                &self.values,
                pending.values_final,
                &self.asker(&pending),
            );
            if matches!(variables, Err(NoVariables::NotYet)) {
                self.waiting.push((pending, Waits::Values));
                return Ok(());
            }
            let outcome = self.build(&pending.definition, &artifact, &variables);
            self.built(pending, &artifact, outcome)?;
        }
        Ok(())
    }

    /// The content of a unit's source. `None`: the unit waits for it, or is held.
    fn artifact(&mut self, pending: Pending) -> Option<(Pending, Artifact)> {
        let source = pending.definition.source.clone();
        let reader = Reader {
            namespace: &pending.definition.id.namespace,
            confined: pending.parent_account.is_some(),
            lineage: self.lineage(&pending),
        };
        match caught(|| self.registry.content(&source, &reader))
            .unwrap_or_else(|why| Lookup::Unusable(why.into()))
        {
            Lookup::Found(artifact) => Some((pending, artifact)),
            Lookup::Undefined(missing) => {
                self.waiting.push((pending, Waits::Source(missing)));
                None
            }
            Lookup::Unusable(Unavailable { why, waiting }) => {
                self.open();
                let problem = self.place(&pending.definition, why).field(source_field(&pending.definition));
                let problem = problem.waiting(waiting);
                self.held(pending, vec![problem]);
                None
            }
        }
    }

    fn lineage(&self, pending: &Pending) -> Lineage {
        let mut lineage = self.lineage_below(pending.parent.clone());
        lineage.accounts.extend(self.account(pending));
        lineage
    }

    /// Of a unit and those above it.
    fn lineage_below(&self, unit: Option<UnitId>) -> Lineage {
        let mut lineage = Lineage::default();
        let mut above = unit;
        while let Some((id, unit)) = above.and_then(|id| Some((id.clone(), self.units.get(&id)?))) {
            lineage.files.insert(unit.definition.source.clone());
            lineage.accounts.extend(self.accounts.get(&id).cloned());
            above = unit.parent.clone();
            lineage.units.insert(id);
        }
        lineage
    }

    fn built(
        &mut self,
        pending: Pending,
        artifact: &Artifact,
        outcome: Result<Outcome, ReadError>,
    ) -> Result<(), ReadError> {
        let source = &pending.definition.source;
        let outcome = match outcome {
            Err(error) if *source != fleet_source() => {
                // One source's clone is damaged: that is its units' problem.
                self.open();
                let problem = self.place(&pending.definition, format!("{source}: {error}"));
                self.held(pending, vec![problem]);
                return Ok(());
            }
            outcome => outcome?,
        };
        match outcome {
            Ok(content) => self.rendered(pending, artifact, content),
            Err(problems) => self.held(pending, problems.to_vec()),
        }
        Ok(())
    }

    /// Where the keys are for what a unit has encrypted: at the hub, which then opens it, else in the cluster.
    fn decryption(&self, definition: &Definition) -> Result<Option<Decryption>, Problem> {
        let Some(name) = &definition.spec.decryption else { return Ok(None) };
        let namespace = definition.id.home();
        let place =
            ValuesRef { kind: ValuesKind::Secret, namespace: namespace.to_owned(), name: name.clone() };
        let decryption = match self.inputs.sources.secret(namespace, name) {
            Ok(None) => Ok(Decryption::InCluster(place)),
            Ok(Some(data)) => Decryption::of_hub(&place, data),
            Err(Unavailable { why, .. }) => {
                self.open();
                Err(format!("{place} of the hub: {why}"))
            }
        };
        decryption
            .map(Some)
            .map_err(|message| self.place(definition, message).field("spec.decryption.secretRef"))
    }

    fn build(
        &self,
        definition: &Definition,
        artifact: &Artifact,
        variables: &Result<Option<UnitVariables>, NoVariables>,
    ) -> Result<Outcome, ReadError> {
        let variables = match variables {
            Ok(variables) => variables.as_ref(),
            Err(NoVariables::Wrong(problem)) => return Ok(Err([problem.clone()].into())),
            Err(NoVariables::NotYet) => None,
        };
        let Definition { source, path, overlay, .. } = definition;
        let decryption = match self.decryption(definition) {
            Ok(decryption) => decryption,
            Err(problem) => return Ok(Err([problem].into())),
        };
        let recipe = Recipe {
            source,
            artifact,
            path,
            overlay,
            variables,
            decryption: decryption.as_ref(),
            clusters: self.inputs.clusters,
            no_remote_bases: self.lockdown.no_remote_bases,
            sources: self.inputs.sources,
            interval: definition.spec.interval,
            budget: self.inputs.budget,
            attempts: self.inputs.attempts,
            recorder: self.inputs.recorder,
            unit: &definition.id,
        };
        caught(|| content::render(self.inputs.cache, &recipe)).unwrap_or_else(|message| {
            self.open();
            Ok(Err([self.place(definition, message)].into()))
        })
    }

    /// Only another render tells whether what is missing now is still missing.
    fn open(&self) {
        self.inputs.recorder.inspect(|recorder| recorder.open());
    }

    fn place(&self, definition: &Definition, message: String) -> Problem {
        Problem::error(definition.file.clone(), definition.line, message)
    }

    /// A unit that does not render: what it last defined stands in.
    fn held(&mut self, pending: Pending, problems: Vec<Problem>) {
        let content = (self.inputs.last_good)(&pending.definition.id);
        if let (UnitKind::Root, Some(content)) = (pending.definition.id.kind, &content) {
            self.lock(content);
        }
        self.settle(pending, None, None, content, problems);
    }

    /// Takes over what the cluster's own Flux is told to forbid; flags that are not followed are returned.
    fn lock(&mut self, root: &Content) -> Vec<Problem> {
        let (lockdown, notices) = Lockdown::of(&root.controllers);
        self.registry.own_namespace_only = lockdown.own_namespace_only;
        self.lockdown = lockdown;
        notices
    }

    fn rendered(&mut self, pending: Pending, artifact: &Artifact, content: Arc<Content>) {
        let account = self.account(&pending);
        if let Err(message) = self.spent.content(&self.inputs.budget, account.as_ref(), content.weight) {
            // What others put out decides whether there is room.
            self.inputs.recorder.inspect(|recorder| recorder.is_one_piece());
            let problem = self.place(&pending.definition, message);
            return self.held(pending, vec![problem]);
        }
        let is_root = pending.definition.id.kind == UnitKind::Root;
        let content = if self.authority(&pending).is_fleet() { self.at_home(&content) } else { content };
        let flags = if is_root { self.lock(&content) } else { Vec::new() };
        let id = &pending.definition.id;
        let suspended = self.is_suspended(&pending);
        let last = if suspended { (self.inputs.last_good)(id) } else { None };
        let mut spec = pending.definition.spec.clone();
        spec.parent = pending.parent.clone();
        spec.drift = pending.definition.drift.unwrap_or(spec.drift.max(self.cluster.policy.drift));
        spec.service_account = self.account(&pending);
        spec.authority = self.authority(&pending);
        if spec.wait {
            // A child that is held is no unit that the agent could know the parent of.
            let is_waited_for =
                |child: &&Arc<Definition>| !child.spec.suspend && !self.is_itself(&pending.definition, child);
            let children = content.children.iter().filter(is_waited_for);
            for child in children.map(|child| &child.id).chain(content.broken_children.keys()) {
                let check = HealthCheck::of(child);
                if !spec.health_checks.contains(&check) {
                    spec.health_checks.push(check);
                }
            }
        }
        // What the hub has opened needs no key in the cluster.
        spec.decryption.take_if(|_| !content.objects.iter().any(Object::is_template));
        spec.release = pending.definition.release.as_ref().and_then(|release| release.spec(&content));
        let manifest = content.manifest(id, spec);
        let mut notices = content.notices.clone();
        notices.extend(flags);
        let unit = Unit { manifest, content: content.clone() };
        let revision = Revision::of(&pending.definition.source, artifact);
        self.settle(pending, Some(revision), Some(unit), Some(last.unwrap_or(content)), notices);
    }

    fn unit_mut(&mut self, id: &UnitId) -> Option<&mut RenderedUnit> {
        self.units.get_mut(id).map(Arc::make_mut)
    }

    fn is_suspended(&self, pending: &Pending) -> bool {
        pending.definition.spec.suspend || (self.inputs.suspended)(&pending.definition.id)
    }

    /// In whose name a unit asks something of the cluster.
    fn asker(&self, pending: &Pending) -> Asker {
        Asker { account: self.account(pending), authority: self.authority(pending) }
    }

    fn root_asker(&self, root: &Definition) -> Asker {
        Asker { account: self.account_of(root, None), authority: Authority::Fleet }
    }

    /// Whom a unit is applied as.
    fn account(&self, pending: &Pending) -> Option<ServiceAccount> {
        self.account_of(&pending.definition, pending.parent_account.as_ref())
    }

    /// Whom it names, whom Flux's flags name, or whom its parent is applied as.
    fn account_of(&self, definition: &Definition, parent: Option<&ServiceAccount>) -> Option<ServiceAccount> {
        let Definition { id, service_account, .. } = definition;
        let own = |name: &str| ServiceAccount { namespace: id.home().to_owned(), name: name.to_owned() };
        // A root that no Kustomization speaks of is the hub's own.
        let is_ours = id.kind == UnitKind::Root && definition.file.is_empty();
        match (service_account, self.lockdown.account(id.kind)) {
            (Some(name), _) => Some(own(name)),
            (None, Some(name)) if !is_ours => Some(own(name)),
            (None, _) => parent.cloned(),
        }
    }

    /// Notes a unit and queues what its output defines.
    fn settle(
        &mut self,
        pending: Pending,
        revision: Option<Revision>,
        unit: Option<Unit>,
        defines: Option<Arc<Content>>,
        problems: Vec<Problem>,
    ) {
        let account = self.account(&pending);
        let authority = self.authority(&pending);
        let suspended = self.is_suspended(&pending);
        let Pending { definition, parent, depth, .. } = pending;
        let id = definition.id.clone();
        let rendered = RenderedUnit {
            parent,
            definition: definition.clone(),
            revision,
            suspended,
            authority: authority.clone(),
            unit,
            problems,
        };
        self.units.insert(id.clone(), rendered.into());
        self.accounts.extend(account.clone().map(|account| (id.clone(), account)));
        let Some(content) = defines else { return };
        self.values.add(&content, &authority);
        self.contents.push((id.clone(), content.clone()));
        let mut notices = self.registry.add(&id, &content, account.as_ref(), &definition.source, &authority);
        notices.extend(self.refuse_children(&id, &content));
        let mut refused: Option<(Problem, usize)> = None;
        for (child, problems) in &content.broken_children {
            if self.may_define(child, &authority) {
                self.overrule(child, &authority);
                self.broken(child, &id, &authority, problems.clone());
            }
        }
        for child in &content.children {
            if self.is_itself(&definition, child) || !self.may_define(&child.id, &authority) {
                continue;
            }
            let place = |message: String| Problem::error(child.file.clone(), child.line, message);
            if let Some(other) = self.definer(&child.id) {
                self.overrule(&child.id, &authority);
                let other = other.map_or("root".to_owned(), |other| other.to_string());
                let message = format!("{} is defined by {other} already; keep one definition", child.id);
                notices.push(place(message).as_notice());
            } else if depth == DEPTH {
                self.broken(
                    &child.id,
                    &id,
                    &authority,
                    vec![place(format!("units nest deeper than {DEPTH} levels"))],
                );
            } else {
                let mut child = child.clone();
                // The root is applied before what it defines.
                let is_said = |dependency: &UnitId| {
                    self.own.as_ref() != Some(dependency) || child.spec.ready_exprs.contains_key(dependency)
                };
                if !child.spec.depends_on.iter().all(is_said) {
                    let mut depends_on = child.spec.depends_on.clone();
                    depends_on.retain(is_said);
                    Arc::make_mut(&mut child).spec.depends_on = depends_on;
                }
                let pending = Pending {
                    definition: child.clone(),
                    parent: Some(id.clone()),
                    parent_account: account.clone(),
                    bound: authority.clone(),
                    depth: depth + 1,
                    values_final: false,
                };
                match self.spent.unit(&self.inputs.budget, self.account(&pending).as_ref()) {
                    Ok(()) => {
                        self.definers.insert(child.id.clone(), id.clone());
                        self.queue.push_back(pending);
                    }
                    Err(message) => {
                        let problem = place(message);
                        refused.get_or_insert_with(|| (problem.clone(), 0)).1 += 1;
                        self.broken(&child.id, &id, &authority, vec![problem]);
                    }
                }
            }
        }
        if let Some((first, count)) = refused {
            let message = format!("{count} of the units that it defines are held: {}", first.message);
            notices.push(Problem { message, ..first }.as_notice());
        }
        if !notices.is_empty()
            && let Some(unit) = self.unit_mut(&id)
        {
            unit.problems.extend(notices);
        }
    }

    /// Whose output defines a unit already; `Some(None)` for the root.
    fn definer(&self, unit: &UnitId) -> Option<Option<UnitId>> {
        let settled = self.units.get(unit).map(|unit| unit.parent.clone());
        settled.or_else(|| self.definers.get(unit).cloned().map(Some))
    }

    /// Whether a definition in a unit's output is that unit.
    fn is_itself(&self, unit: &Definition, child: &Definition) -> bool {
        child.id == unit.id || (unit.id.kind == UnitKind::Root && self.own.as_ref() == Some(&child.id))
    }

    /// Notes a unit that is held because of its definition. Of too many of them nothing is noted: they are held all the
    /// same, as their parent defines them.
    fn broken(&mut self, child: &UnitId, parent: &UnitId, authority: &Authority, problems: Vec<Problem>) {
        if self.units.len() >= self.inputs.budget.cluster_units.saturating_mul(2) {
            return;
        }
        self.units.entry(child.clone()).or_insert_with(|| {
            let place = problems.first().map(|p| (p.file.clone(), p.line)).unwrap_or_default();
            let rendered = RenderedUnit {
                parent: Some(parent.clone()),
                definition: Definition::unread(child.clone(), place).into(),
                revision: None,
                suspended: false,
                authority: authority.clone(),
                unit: None,
                problems,
            };
            rendered.into()
        });
    }
}

/// Problems of one unit that are kept: each object of a repository may have one.
pub(crate) const MOST_PROBLEMS: usize = 100;

fn few_problems(unit: &mut Arc<RenderedUnit>) {
    let more = unit.problems.len().saturating_sub(MOST_PROBLEMS);
    if more > 0 {
        let problems = &mut Arc::make_mut(unit).problems;
        problems.sort_by_key(|problem| problem.notice);
        problems.truncate(MOST_PROBLEMS);
        problems.push(Problem::error("", 0, format!("{more} more problems are not shown")).as_notice());
    }
}

/// A panic over one unit's input as that unit's problem.
fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let said = panic.downcast_ref::<&str>().copied();
        let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or_default();
        format!(
            "the hub failed to render this unit ({said}); what it runs is kept; please report it with the lines about \
             it in the hub's log"
        )
    })
}

/// The field that names a unit's source.
fn source_field(definition: &Definition) -> &'static str {
    let by_ref = |object: &Object| !object.value()["spec"]["chartRef"].is_null();
    match &definition.release {
        None => "spec.sourceRef",
        Some(_) if definition.object.as_ref().is_some_and(by_ref) => "spec.chartRef",
        Some(_) => "spec.chart.spec.sourceRef",
    }
}
