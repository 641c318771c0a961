//! What people see when the fleet is up, and what they can try.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{CLUSTERS, Options};
use crate::fleet::Fleet;

/// The clusters and their units, as the CLI shows them.
pub(super) async fn tables(fleet: &Fleet) -> Result<()> {
    println!("\n$ flotilla get clusters\n{}", fleet.cli(&["get", "clusters"]).await?.trim_end());
    println!("\n$ flotilla get units\n{}\n", fleet.cli(&["get", "units"]).await?.trim_end());
    Ok(())
}

/// Commands to copy, with the paths of this run.
pub(super) fn what_next(fleet: &mut Fleet, options: &Options) -> Result<()> {
    let cli = beside_us("flotilla")?;
    let kubeconfigs = CLUSTERS.map(|name| fleet.member(name).kubeconfig_path().display().to_string());
    let [staging, production] = kubeconfigs;
    println!(
        "What to try, in another terminal:

  alias flotilla='{cli} --data {data}'

  # look at the fleet
  flotilla status
  flotilla tree staging
  flotilla get units --cluster production -o wide

  # change something in Git; the hub looks every few seconds, or at once when told to
  git clone {repo} /tmp/fleet && cd /tmp/fleet
  sed -i 's/count: 2/count: 4/' apps/web/overlays/staging/kustomization.yaml
  git commit -am 'Scale web in staging' && git push && flotilla reconcile
  kubectl --kubeconfig {staging} -n web get deployments

  # change both clusters: staging gets it first, production once it proved itself there
  sed -i 's/memory: 128Mi/memory: 160Mi/' apps/web/base/deployment.yaml
  git commit -am 'Give web more memory' && git push && flotilla reconcile
  flotilla rollout status --watch
  flotilla rollout rollback apps --stage production --reason trial
  flotilla rollout release apps --stage production

  # change something by hand, and see it put back
  kubectl --kubeconfig {production} -n voting scale deployment vote --replicas 9
  kubectl --kubeconfig {production} -n voting delete service vote
  kubectl --kubeconfig {production} -n voting get deployments,services
  flotilla get events --cluster production

  # what the programs say
  tail -f {folder}/*.log
",
        cli = cli.display(),
        data = fleet.data().display(),
        repo = fleet.repo().path().display(),
        folder = fleet.folder().display(),
    );
    let end = match &options.contexts {
        None => "takes everything down and leaves nothing behind",
        Some(_) => {
            "ends the demo: it deletes from both clusters what it applied there (cluster delete --prune)\n\
             and takes the hub and the agents down"
        }
    };
    println!("Ctrl-C {end}.");
    Ok(())
}

fn beside_us(program: &str) -> Result<PathBuf> {
    Ok(std::env::current_exe().context("find the running binary")?.with_file_name(program))
}
