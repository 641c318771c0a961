//! Building one kustomization: what it reads, then what it changes, in kustomize's order.
//!
//! ```text
//! resources ─► configurations, crds ─► generators ─► components ─► transformers ─► validators ─► vars
//!    └─ a folder: the same for its kustomization, in an accumulator of its own
//! ```
//!
//! At the end, once for the whole build: hashes, name references, vars, local configuration dropped, order.

mod generators;
mod transformers;

use std::sync::Arc;

use flotilla_yaml::Pos;

use crate::config::Config;
use crate::crds;
use crate::decode::Text;
use crate::error::{Fail, Res, fail};
use crate::generate::add_hash;
use crate::kustomization::{COMPONENT, Kustomization};
use crate::load::{Context, Found, Loader, MISSING, is_remote};
use crate::metadata::{self, Trace};
use crate::parts::Var;
use crate::request::{Answer, Request};
use crate::resmap::{self, ResMap};
use crate::schema::Schema;
use crate::transform::patches::MATCH;
use crate::transform::sort;
use crate::{Reorder, nameref, plugin, vars};
pub(crate) use generators::absorb;
pub(crate) use transformers::{charge, charge_notes};

/// What has been read so far, and the rules to change it by.
#[derive(Default)]
pub(crate) struct Accumulator {
    pub(crate) resources: ResMap,
    config: Arc<Config>,
    vars: Vec<Var>,
}

impl Accumulator {
    /// Adds what the kustomization of a folder came to.
    fn take_in(&mut self, sub: Self, loader: &Loader) -> Res<()> {
        self.resources
            .append_all(sub.resources.0)
            .map_err(|e| e.context(format!("recursed merging from path '{}'", loader.root)))?;
        self.config.merge(&sub.config)?;
        vars::merge_base(&mut self.vars, sub.vars)
    }
}

/// A kustomization and where it stands.
pub(crate) struct Target<'a> {
    pub(crate) loader: Loader<'a>,
    /// On the heap: kustomizations name each other, and each has its share of the stack.
    pub(crate) kustomization: Box<Kustomization>,
    /// The kustomization file's name.
    pub(crate) file_name: String,
    /// Where this is, for the annotations of `buildMetadata`; `None` if it asks for none.
    pub(crate) trace: Option<Trace>,
    /// The namespace that Helm charts without one get from kustomizations above.
    helm_namespace: String,
}

impl<'a> Target<'a> {
    /// Reads the kustomization file of a folder.
    pub(crate) fn read(cx: &mut Context, loader: Loader<'a>) -> Res<Self> {
        let file = loader.load_kustomization(cx)?;
        let document = file.kustomization(cx)?;
        let kustomization = Kustomization::read(&document)?;
        Self::with(cx, loader, kustomization, file.path.name().to_owned(), file.source)
    }

    /// A kustomization that was read or made already.
    pub(crate) fn with(
        cx: &mut Context,
        loader: Loader<'a>,
        kustomization: Kustomization,
        file_name: String,
        source: u32,
    ) -> Res<Self> {
        let at_file = |e: Fail| e.at(flotilla_yaml::Pos { source, line: 1, column: 1 });
        for warning in &kustomization.deprecated {
            cx.notices.push(format!("{}: {warning}", loader.tree.shown(&loader.root)));
        }
        if kustomization.empty {
            return fail!("kustomization.yaml is empty").map_err(at_file);
        }
        kustomization.check(&loader.tree.shown(&loader.root)).map_err(at_file)?;
        let trace = (!kustomization.build_metadata.is_empty()).then(Trace::default);
        let kustomization = Box::new(kustomization);
        Ok(Self { loader, kustomization, file_name, trace, helm_namespace: String::new() })
    }

    /// Builds it as the root of a build.
    pub(crate) fn build(&mut self, cx: &mut Context) -> Res<ResMap> {
        self.set_schema(cx)?;
        let mut acc = Accumulator::default();
        self.accumulate(cx, &mut acc)?;
        let map = &mut acc.resources;
        map.0.iter_mut().try_for_each(add_hash)?;
        nameref::fix(map, &acc.config.name_reference, &cx.work)?;
        let unused = vars::resolve(map, &acc.vars, &acc.config.var_reference, &cx.work)?;
        if !unused.is_empty() {
            cx.notices.push(format!("well-defined vars that were never replaced: {}", unused.join(",")));
        }
        map.0.iter().filter(|r| !r.is_empty()).try_for_each(resmap::check_still)?;
        map.0.retain(|r| r.annotation("config.kubernetes.io/local-config").is_none_or(|v| v == "false"));
        match (&self.kustomization.sort_options, cx.options.reorder) {
            (Some(options), _) => sort::sort(map, options)?,
            (None, Reorder::Legacy) => sort::legacy_default(map)?,
            (None, Reorder::None) => {}
        }
        let wanted = |option: &str| self.kustomization.build_metadata.iter().find(|o| o.text == option);
        let managed_by = wanted("managedByLabel");
        if cx.options.add_managed_by || managed_by.is_some() {
            metadata::add_managed_by(map, managed_by.map(|o| o.pos).unwrap_or_default())?;
        }
        let (origins, changes) = (wanted("originAnnotations"), wanted("transformerAnnotations"));
        metadata::clean(map, origins.is_some(), changes.is_some())?;
        Ok(acc.resources)
    }

    /// Takes the schema of the `openapi` field, unless another kustomization has set one already.
    fn set_schema(&self, cx: &mut Context) -> Res<()> {
        let openapi = &self.kustomization.openapi;
        let path = openapi.get("path");
        let loaded =
            path.map(|p| self.loader.load(cx, p).map_err(|e| e.field("openapi.path"))).transpose()?;
        if cx.schema_is_set {
            return Ok(());
        }
        match (loaded, openapi.get("version")) {
            (Some(_), Some(version)) => fail!("builtin version and custom schema provided, cannot use both")
                .map_err(|e: Fail| e.at(version.pos)),
            (Some(file), None) => {
                let named =
                    |e: Fail| e.at(Pos { source: file.source, line: 1, column: 1 }).field("openapi.path");
                let document = file.document(cx).map_err(named)?;
                cx.schema = Arc::new(Schema::read(&document, cx.builtin_is_known).map_err(named)?);
                cx.schema_is_set = true;
                Ok(())
            }
            (None, Some(version)) if version.text == "v1.21.2" => {
                cx.schema_is_set = true;
                Ok(())
            }
            (None, Some(version)) if !version.text.is_empty() => {
                fail!("the specified OpenAPI version is not built in")
                    .map_err(|e: Fail| e.at(version.pos).field("openapi.version"))
            }
            (None, _) => Ok(()),
        }
    }

    pub(crate) fn accumulate(&mut self, cx: &mut Context, acc: &mut Accumulator) -> Res<()> {
        let resources = std::mem::take(&mut self.kustomization.resources);
        self.accumulate_resources(cx, acc, &resources, "resources")
            .map_err(|e| e.context("accumulating resources"))?;
        self.configure(cx, acc)?;
        self.run_generators(cx, acc)?;
        let components = std::mem::take(&mut self.kustomization.components);
        for (n, path) in components.iter().enumerate() {
            let named = |e: Fail| {
                let message = format!("accumulating components: accumulateDirectory: \"{}\"", e.message);
                Fail { message, ..e }.at(path.pos).field(format!("components[{n}]"))
            };
            self.accumulate_component(cx, acc, path).map_err(named)?;
        }
        self.run_transformers(cx, acc)?;
        plugin::validate(cx, self, acc)?;
        vars::merge(&mut acc.resources, &mut acc.vars, &self.kustomization.vars)
            .map_err(|e| e.context("merging vars"))
    }

    /// Reads files, folders and remote bases, in order.
    pub(crate) fn accumulate_resources(
        &mut self,
        cx: &mut Context,
        acc: &mut Accumulator,
        paths: &[Text],
        field: &str,
    ) -> Res<()> {
        for (n, path) in paths.iter().enumerate() {
            if path.text.is_empty() {
                return fail!("the entry is empty").map_err(|e: Fail| {
                    e.at(path.pos)
                        .field(format!("{field}[{n}]"))
                        .hint("name a file or a folder, or take it out")
                });
            }
            let entered = self.accumulate_resource(cx, acc, path, field, n)?;
            if let Some(loader) = entered {
                self.accumulate_folder(cx, acc, *loader, &path.text, false)
                    .map_err(|e| e.at(path.pos).field(format!("{field}[{n}]")))?;
            }
        }
        Ok(())
    }

    /// Reads what an entry names, or enters it if that is a folder.
    fn accumulate_resource(
        &mut self,
        cx: &mut Context,
        acc: &mut Accumulator,
        path: &Text,
        field: &str,
        n: usize,
    ) -> Res<Option<Box<Loader<'a>>>> {
        let named = |e: Fail| e.at(path.pos).field(format!("{field}[{n}]"));
        match self.loader.find(&path.text).map_err(named)? {
            Found::File => {
                let words = format!("accumulating resources from '{}'", path.text);
                self.accumulate_file(cx, acc, path).map_err(|e| named(e.context(words)))?;
            }
            Found::Folder => return self.loader.enter(path).map_err(named).map(|l| Some(Box::new(l))),
            Found::Missing if is_remote(&path.text) => match cx.answer(Request::Remote(path.text.clone())) {
                None => {}
                Some(Answer::Text(_)) => self.accumulate_file(cx, acc, path).map_err(named)?,
                Some(Answer::Tree { files, root }) => {
                    let loader = self.loader.enter_remote(path, files, root);
                    return loader.map_err(named).map(|l| Some(Box::new(l)));
                }
            },
            Found::Missing => {
                let full =
                    self.loader.root.join(&path.text).map(|p| self.loader.tree.shown(&p)).unwrap_or_default();
                return fail!(
                    "accumulating resources from '{}': {full}: no such file or directory",
                    path.text
                )
                .map_err(|e: Fail| named(e).hint(MISSING));
            }
        }
        Ok(None)
    }

    fn accumulate_file(&mut self, cx: &mut Context, acc: &mut Accumulator, path: &Text) -> Res<()> {
        let file = self.loader.load(cx, path)?;
        let mut resources = resmap::from_file(cx, &file)?;
        if let Some(trace) = &self.trace {
            let origin = trace.append(&path.text).origin();
            resources.iter_mut().try_for_each(|r| metadata::set_origin(r, &origin))?;
        }
        let resources = ResMap::of(resources)?.0;
        cx.work.check_objects(acc.resources.0.len() + resources.len())?;
        cx.work.spend(acc.resources.0.len())?;
        acc.resources.append_all(resources)
    }

    fn accumulate_component(&mut self, cx: &mut Context, acc: &mut Accumulator, path: &Text) -> Res<()> {
        if is_remote(&path.text) {
            return match cx.answer(Request::Remote(path.text.clone())) {
                None => Ok(()),
                Some(Answer::Text(_)) => {
                    fail!("must build at directory: '{}': file is not directory", path.text)
                }
                Some(Answer::Tree { files, root }) => {
                    let loader = self.loader.enter_remote(path, files, root)?;
                    self.accumulate_folder(cx, acc, loader, &path.text, true)
                }
            };
        }
        let loader = self.loader.enter(path)?;
        self.accumulate_folder(cx, acc, loader, &path.text, true)
    }

    /// A kustomization may name others, and so on: what need not be on the stack meanwhile is in functions of its own.
    fn accumulate_folder(
        &mut self,
        cx: &mut Context,
        acc: &mut Accumulator,
        loader: Loader<'a>,
        path: &str,
        is_component: bool,
    ) -> Res<()> {
        let mut sub = self.sub_target(cx, loader, path, is_component)?;
        // A component changes the resources of whoever names it.
        let mut sub_acc = if is_component { std::mem::take(acc) } else { Accumulator::default() };
        sub.accumulate(cx, &mut sub_acc)?;
        cx.work.check_objects(acc.resources.0.len() + sub_acc.resources.0.len())?;
        cx.work.spend_for(sub_acc.resources.0.len(), MATCH)?;
        acc.take_in(sub_acc, &sub.loader)
    }

    fn sub_target(
        &self,
        cx: &mut Context,
        loader: Loader<'a>,
        path: &str,
        is_component: bool,
    ) -> Res<Box<Self>> {
        let root = loader.root.clone();
        cx.work.enter()?;
        let mut sub = Target::read(cx, loader)?;
        sub.kustomization.build_metadata.clone_from(&self.kustomization.build_metadata);
        sub.trace = self.trace.as_ref().map(|t| t.append(path));
        let namespace = &self.kustomization.namespace.text;
        sub.helm_namespace.clone_from(if namespace.is_empty() { &self.helm_namespace } else { namespace });
        sub.set_schema(cx)?;
        let kind = &sub.kustomization.kind.text;
        if is_component && !sub.kustomization.is_component() {
            return fail!("expected kind '{COMPONENT}' for path '{root}' but got '{kind}'");
        }
        if !is_component && sub.kustomization.is_component() {
            return fail!("expected kind != '{COMPONENT}' for path '{root}'");
        }
        Ok(Box::new(sub))
    }

    /// Adds the field specs of `configurations` and `crds`.
    fn configure(&mut self, cx: &mut Context, acc: &mut Accumulator) -> Res<()> {
        let mut config = Config::builtin();
        for (n, path) in self.kustomization.configurations.iter().enumerate() {
            let named = |e: Fail| e.at(path.pos).field(format!("configurations[{n}]"));
            let document = self.loader.load(cx, path).map_err(named)?.document(cx)?;
            let more = Config::read(&document).map_err(named)?;
            cx.work.spend_for(config.specs(), more.specs()).map_err(named)?;
            config.merge(&Arc::new(more)).map_err(named)?;
        }
        if !Arc::ptr_eq(&acc.config, &config) {
            cx.work.spend(acc.config.specs() * config.specs() / 64)?;
        }
        acc.config.merge(&config)?;
        for (n, path) in self.kustomization.crds.iter().enumerate() {
            let named = |e: Fail| e.at(path.pos).field(format!("crds[{n}]")).context("loading CRDs");
            let document = self.loader.load(cx, path).map_err(named)?.document(cx)?;
            let more = crds::read(&document, &cx.work).map_err(named)?;
            cx.work.spend_for(acc.config.specs(), more.specs()).map_err(named)?;
            acc.config.merge(&Arc::new(more)).map_err(named)?;
        }
        Ok(())
    }
}
