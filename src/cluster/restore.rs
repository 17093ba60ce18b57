//! Objects back into a cluster, in order.
//!
//! [`look`] at the target → [`plan`], a value that can be shown → [`apply`] of its stages, with the volumes
//! filled in between → [`ready`]. The plan decides everything; what carries it out decides nothing.
//! Invariant: no workload exists before the volumes that it mounts are filled.

mod apply;
mod context;
mod dry_run;
mod fill;
mod kinds;
mod look;
mod order;
mod plan;
mod ready;
mod relink;
mod rules;
mod skip;
mod watch;
mod webhooks;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use serde::Serialize;
use serde_json::Value;

use crate::cluster::manifest::ObjectKey;

pub use apply::{Outcome, Report, apply, apply_last};
pub use dry_run::{DryRun, dry_run};
pub use fill::{ClaimToFill, FillLike};
pub use look::{Target, look};
pub use plan::plan;
pub use ready::{NotReady, ready};
pub use rules::differs::{DIFFERS, may_differ};

/// Names in the snapshot → names in the target.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub map_namespaces: BTreeMap<String, String>,
    pub map_classes: BTreeMap<String, String>,
}

impl Options {
    fn namespace<'a>(&'a self, name: &'a str) -> &'a str {
        self.map_namespaces.get(name).map_or(name, String::as_str)
    }

    fn class<'a>(&'a self, name: &'a str) -> &'a str {
        self.map_classes.get(name).map_or(name, String::as_str)
    }
}

/// In the order in which things are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    Crds,
    Namespaces,
    ClusterThings,
    Access,
    Config,
    /// Behind it the volumes are filled.
    Claims,
    Network,
    /// Behind the volumes: an operator that sees its object starts pods at once.
    Custom,
    Workloads,
    Late,
}

/// What is made before the volumes are filled.
pub const BEFORE_VOLUMES: RangeInclusive<Stage> = Stage::Crds..=Stage::Claims;
/// What is made when the volumes are filled; then one waits until it is [`ready`].
pub const AFTER_VOLUMES: RangeInclusive<Stage> = Stage::Network..=Stage::Workloads;
/// What would act on workloads or refuse them, and so comes when they are ready: for [`apply_last`].
pub const AT_LAST: RangeInclusive<Stage> = Stage::Late..=Stage::Late;

/// What is to be done, all of it. Has no Debug: the bodies of Secrets are in it.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// In the order in which they are done.
    pub steps: Vec<Step>,
    pub claims: Vec<ClaimToFill>,
    /// Why it must not be done: with any of these nothing may be changed.
    pub obstacles: Vec<String>,
    /// What should be known before it is done.
    pub remarks: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verb", rename_all = "camelCase")]
pub enum Action {
    Create,
    /// A CronJob that was created suspended and was not so in the snapshot.
    Unsuspend,
    /// Nothing is lost by that.
    Skip {
        why: String,
    },
    /// It was asked for, and the target can't have it.
    Fail {
        why: String,
    },
}

/// What is done about one object.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    pub stage: Stage,
    /// In the snapshot.
    pub key: ObjectKey,
    /// In the target.
    pub to: ObjectKey,
    pub action: Action,
    /// Beside what is always taken off: identity, status, what the server keeps for itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// What is posted.
    #[serde(skip)]
    pub body: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<DryRun>,
    /// Order within the stage.
    #[serde(skip)]
    wave: u8,
    /// In the snapshot.
    #[serde(skip)]
    uid: String,
    #[serde(skip)]
    owners: Vec<Owner>,
    /// Whether it was ready in the snapshot; true for what has no such state.
    #[serde(skip)]
    was_ready: bool,
}

/// An owner that is in the target, or will be.
#[derive(Clone, Debug, PartialEq)]
struct Owner {
    /// Without the UID.
    reference: Value,
    old_uid: String,
    /// Known already if it is there.
    new_uid: Option<String>,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Create => f.write_str("create"),
            Action::Unsuspend => f.write_str("unsuspend"),
            Action::Skip { why } => write!(f, "skip ({why})"),
            Action::Fail { why } => write!(f, "can't ({why})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cluster::Cluster;

    fn send<T: Send>(_: T) {}

    #[test]
    fn a_restore_can_run_on_any_thread() {
        let _ = |cluster: &Cluster, plan: &mut Plan, report: &mut Report| {
            send(look(cluster, &[], &Options::default()));
            send(dry_run(cluster, plan));
            send(apply(cluster, plan, BEFORE_VOLUMES, report));
            send(ready(cluster, plan, Duration::ZERO));
            send(apply_last(cluster, plan, &[], report));
        };
    }
}
