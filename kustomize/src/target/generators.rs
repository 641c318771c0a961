//! The generators of a kustomization: ConfigMaps, Secrets, charts, then those given as configuration.

use super::{Accumulator, Target};
use crate::decode::nest;
use crate::error::{Fail, Res};
use crate::generate::{Made, generate};
use crate::load::Context;
use crate::parts::GeneratorOptions;
use crate::resource::{ORIGIN_ANNOTATION, Resource};
use crate::transform::patches::MATCH;
use crate::{helm, metadata, plugin};

impl Target<'_> {
    pub(super) fn run_generators(&mut self, cx: &mut Context, acc: &mut Accumulator) -> Res<()> {
        let global = self.kustomization.generator_options.clone();
        for (made, field, kind) in [
            (Made::ConfigMap, "configMapGenerator", "ConfigMapGenerator"),
            (Made::Secret, "secretGenerator", "SecretGenerator"),
        ] {
            let list = match made {
                Made::ConfigMap => &mut self.kustomization.config_map_generator,
                Made::Secret => &mut self.kustomization.secret_generator,
            };
            let origin = self.trace.as_ref().map(|t| t.configured(&self.file_name, "builtin", kind, "", ""));
            for (n, mut args) in std::mem::take(list).into_iter().enumerate() {
                args.options = GeneratorOptions::merged(args.options.as_ref(), global.as_ref());
                let outer = format!("{field}[{n}]");
                let mut make = || -> Res<()> {
                    charge_absorb(cx, acc)?;
                    let resource = generate(cx, &self.loader, made, &args)?;
                    absorb(acc, vec![resource], origin.as_deref())
                };
                make().map_err(|e| nest(e, &outer).at(args.pos))?;
            }
        }
        let charts = std::mem::take(&mut self.kustomization.helm_charts);
        for (n, chart) in charts.iter().enumerate() {
            let named = |e: Fail| nest(e, &format!("helmCharts[{n}]")).at(chart.pos);
            let namespace = &self.kustomization.namespace.text;
            let namespace = if namespace.is_empty() { &self.helm_namespace } else { namespace };
            let home = &self.kustomization.helm_chart_home;
            let made = helm::generate(cx, &self.loader, chart, namespace, home).map_err(named)?;
            let kind = "HelmChartInflationGenerator";
            let origin = self.trace.as_ref().map(|t| t.configured(&self.file_name, "builtin", kind, "", ""));
            absorb(acc, made, origin.as_deref()).map_err(named)?;
        }
        plugin::generate(cx, self, acc)
    }
}

/// What it costs to find out whether a generated resource is there already.
fn charge_absorb(cx: &Context, acc: &Accumulator) -> Res<()> {
    cx.work.check_objects(acc.resources.0.len())?;
    cx.work.spend_for(acc.resources.0.len() + 1, MATCH)
}

/// Adds generated resources, with a note of where they come from.
pub(crate) fn absorb(acc: &mut Accumulator, made: Vec<Resource>, origin: Option<&str>) -> Res<()> {
    for mut resource in made {
        if let Some(origin) = origin
            && resource.annotation(ORIGIN_ANNOTATION).is_none()
        {
            metadata::set_origin(&mut resource, origin)?;
        }
        acc.resources.absorb(resource)?;
    }
    Ok(())
}
