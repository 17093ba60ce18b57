//! What the target says to each object of a plan, without making it.

use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use serde::Serialize;

use crate::cluster::error::reason;
use crate::cluster::restore::kinds::Kinds;
use crate::cluster::restore::{Action, Plan, Step, look};
use crate::cluster::{Cluster, Result};

const AT_A_TIME: usize = 8;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "camelCase")]
pub enum DryRun {
    Accepted,
    Refused {
        why: String,
    },
    /// What it needs is not there before the restore makes it.
    Unknown {
        why: String,
    },
}

/// Asks the target by server-side dry run; nothing is made.
pub async fn dry_run(cluster: &Cluster, plan: &mut Plan) -> Result<()> {
    let kinds = Kinds::discover(cluster).await?;
    let namespaces = look::all_namespaces(cluster).await?;
    let there = namespaces.into_iter().filter(|(_, metadata)| !metadata["deletionTimestamp"].is_string());
    let there: BTreeSet<String> = there.map(|(name, _)| name).collect();
    let (kinds, there) = (&kinds, &there);
    let steps = &plan.steps;
    let asked = (0..steps.len()).filter(|nth| steps[*nth].action == Action::Create);
    let answers: Vec<(usize, DryRun)> = stream::iter(asked.collect::<Vec<_>>())
        .map(|nth| async move { (nth, ask(cluster, kinds, there, &steps[nth]).await) })
        .buffer_unordered(AT_A_TIME)
        .collect()
        .await;
    for (nth, answer) in answers {
        plan.steps[nth].dry_run = Some(answer);
    }
    Ok(())
}

async fn ask(cluster: &Cluster, kinds: &Kinds, there: &BTreeSet<String>, step: &Step) -> DryRun {
    let unknown = |why: &str| DryRun::Unknown { why: why.into() };
    if step.to.namespace.as_ref().is_some_and(|namespace| !there.contains(namespace)) {
        return unknown("it can be told only when the namespace exists");
    }
    match kinds.post(cluster, &step.to, &step.body, true).await {
        None => unknown("it can be told only when its definition exists"),
        Some(Ok(_)) => DryRun::Accepted,
        // These are merged, or waited for.
        Some(Err(kube::Error::Api(status)))
            if status.is_already_exists()
                && (step.to.is("", "ServiceAccount") || step.to.is("", "Namespace")) =>
        {
            DryRun::Accepted
        }
        Some(Err(error)) => DryRun::Refused { why: reason(&error) },
    }
}
