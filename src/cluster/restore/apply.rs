//! Carries a plan out, stage by stage; within a stage many objects at a time.
//!
//! Objects are posted, never replaced: what is there already stays as it is. A refused object is in the
//! report, and the rest goes on; only a namespace that can't be had ends it, since nothing fits then.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use futures::{StreamExt, stream};
use kube::Api;
use kube::runtime::wait::await_condition;
use serde::Serialize;
use serde_json::{Value, json};

use crate::cluster::error::reason;
use crate::cluster::manifest::ObjectKey;
use crate::cluster::plain::plain;
use crate::cluster::request::request;
use crate::cluster::restore::kinds::{Kinds, MANAGER, api};
use crate::cluster::restore::relink::{Pending, Uids, known};
use crate::cluster::restore::watch::until_done;
use crate::cluster::restore::webhooks::left_out;
use crate::cluster::restore::{AT_LAST, Action, NotReady, Plan, Stage, Step};
use crate::cluster::{Cluster, Error, Result};

/// Creates at a time: enough that a round trip costs little, and below what API servers throttle.
const AT_A_TIME: usize = 8;
/// A definition is established within seconds, if it is at all.
const ESTABLISHED_LIMIT: Duration = Duration::from_secs(60);
/// For the rest of a namespace that is being deleted.
const GONE_LIMIT: Duration = Duration::from_secs(120);

/// What became of the plan. Goes through all calls of [`apply`] of one restore.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub created: Vec<Outcome>,
    /// Changed after they were created: linked to owners, run again.
    pub changed: Vec<Outcome>,
    pub skipped: Vec<Outcome>,
    pub failed: Vec<Outcome>,
    #[serde(skip)]
    uids: Uids,
    #[serde(skip)]
    pending: Vec<Pending>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// As it is called in the target.
    pub object: String,
    /// Empty where there is nothing to say.
    pub why: String,
}

/// What became of one step.
enum Done {
    Created { uid: String, why: String, linked: usize },
    Changed { why: String },
    Skipped { why: String },
    Failed(Failure),
}

struct Failure {
    why: String,
    /// Whether another try may help: what it needs, or who refused it, may be there by then.
    again: bool,
}

/// Does the steps of these stages. What the target refused is in the report.
pub async fn apply(
    cluster: &Cluster,
    plan: &Plan,
    stages: RangeInclusive<Stage>,
    report: &mut Report,
) -> Result<()> {
    apply_all_but(cluster, plan, stages, &BTreeMap::new(), report).await
}

/// Does the steps of [`AT_LAST`], knowing what is not [`ready`](super::ready): webhooks whose own pods do not
/// run would refuse what these need, so they are left out, and are in the report as failed.
pub async fn apply_last(
    cluster: &Cluster,
    plan: &Plan,
    not_ready: &[NotReady],
    report: &mut Report,
) -> Result<()> {
    let left_out = left_out(plan, not_ready, &report.failed);
    let outcomes = left_out.iter().map(|(object, why)| Outcome { object: object.clone(), why: why.clone() });
    report.failed.extend(outcomes);
    apply_all_but(cluster, plan, AT_LAST, &left_out, report).await
}

async fn apply_all_but(
    cluster: &Cluster,
    plan: &Plan,
    stages: RangeInclusive<Stage>,
    left_out: &BTreeMap<String, String>,
    report: &mut Report,
) -> Result<()> {
    let mut kinds = Kinds::discover(cluster).await?;
    // Definitions of an earlier call are established; discovery may be a little behind.
    for step in plan.steps.iter().filter(|step| step.stage == Stage::Crds && step.stage < *stages.start()) {
        kinds.define_missing(&step.body);
    }
    let is_done = |step: &&Step| stages.contains(&step.stage) && !left_out.contains_key(&step.to.to_string());
    let steps: Vec<&Step> = plan.steps.iter().filter(is_done).collect();
    for wave in steps.chunk_by(|a, b| (a.stage, a.wave) == (b.stage, b.wave)) {
        let stage = wave[0].stage;
        if stage == Stage::Namespaces {
            wait_until_gone(cluster, wave).await?;
        }
        let failed = report.failed.len();
        run(cluster, &kinds, wave, report).await;
        if stage == Stage::Namespaces
            && let Some(Outcome { object, why }) = report.failed.get(failed)
        {
            return Err(Error::Other(format!("create {object}: {why}")));
        }
        if stage == Stage::Crds {
            establish(cluster, &mut kinds, wave, report).await;
        }
        link(cluster, &kinds, report).await;
    }
    Ok(())
}

/// All steps of a wave, and once more those for which that may help.
async fn run(cluster: &Cluster, kinds: &Kinds, wave: &[&Step], report: &mut Report) {
    let uids = &report.uids;
    let first = stream::iter(0..wave.len())
        .map(|nth| async move { (nth, do_step(cluster, kinds, wave[nth], uids).await) })
        .buffered(AT_A_TIME)
        .collect::<Vec<_>>()
        .await;
    let last = stream::iter(first)
        .map(|(nth, done)| async move {
            match done {
                Done::Failed(Failure { again: true, .. }) => {
                    (nth, do_step(cluster, kinds, wave[nth], uids).await)
                }
                done => (nth, done),
            }
        })
        .buffered(AT_A_TIME)
        .collect::<Vec<_>>()
        .await;
    for (nth, done) in last {
        report.take(wave[nth], done);
    }
}

impl Report {
    fn take(&mut self, step: &Step, done: Done) {
        let outcome = |why: String| Outcome { object: step.to.to_string(), why };
        match done {
            Done::Created { uid, why, linked } => {
                if linked < step.owners.len() {
                    let owners = step.owners.clone();
                    self.pending.push(Pending { object: step.to.clone(), owners, linked });
                }
                self.uids.insert(step.uid.clone(), uid);
                self.created.push(outcome(why));
            }
            Done::Changed { why } => self.changed.push(outcome(why)),
            Done::Skipped { why } => self.skipped.push(outcome(why)),
            Done::Failed(failure) => self.failed.push(outcome(failure.why)),
        }
    }
}

async fn do_step(cluster: &Cluster, kinds: &Kinds, step: &Step, uids: &Uids) -> Done {
    match &step.action {
        Action::Skip { why } => Done::Skipped { why: why.clone() },
        Action::Fail { why } => Done::failed(why.clone()),
        Action::Unsuspend => match kinds.patch(cluster, &step.to, &step.body).await {
            Some(Ok(_)) => Done::Changed { why: "not suspended any more".into() },
            Some(Err(error)) => Done::refused(&error),
            None => Done::not_served(&step.to),
        },
        Action::Create => create(cluster, kinds, step, uids).await,
    }
}

async fn create(cluster: &Cluster, kinds: &Kinds, step: &Step, uids: &Uids) -> Done {
    let references = known(&step.owners, uids);
    let linked = references.len();
    let posted = if references.is_empty() {
        kinds.post(cluster, &step.to, &step.body, false).await
    } else {
        let mut body = step.body.clone();
        body["metadata"]["ownerReferences"] = json!(references);
        kinds.post(cluster, &step.to, &body, false).await
    };
    match posted {
        None => Done::not_served(&step.to),
        Some(Ok(made)) => Done::Created { uid: uid_of(&made), why: step.changes.join(", "), linked },
        Some(Err(kube::Error::Api(status))) if status.is_already_exists() => {
            exists(cluster, kinds, step, linked).await
        }
        Some(Err(error)) => Done::refused(&error),
    }
}

/// Somebody made it before: the cluster itself, an operator that saw its object, or an own request whose
/// answer was lost.
async fn exists(cluster: &Cluster, kinds: &Kinds, step: &Step, linked: usize) -> Done {
    let there = match kinds.get(cluster, &step.to).await {
        Some(Ok(there)) => there,
        Some(Err(error)) => return Done::refused(&error),
        None => return Done::not_served(&step.to),
    };
    if step.to.is("", "ServiceAccount") {
        return match kinds.patch(cluster, &step.to, &merged(&step.body, &there)).await {
            Some(Ok(_)) => {
                let why = "merged with the one that was there".into();
                Done::Created { uid: uid_of(&there), why, linked: step.owners.len() }
            }
            Some(Err(error)) => Done::refused(&error),
            None => Done::not_served(&step.to),
        };
    }
    // The client sends a request again when a gateway gives up on it, and the first may have been heard.
    let writers = there["metadata"]["managedFields"].as_array().map_or(&[][..], Vec::as_slice);
    if writers.iter().any(|writer| writer["manager"] == MANAGER) {
        return Done::Created { uid: uid_of(&there), why: step.changes.join(", "), linked };
    }
    let owners = there["metadata"]["ownerReferences"].as_array().map_or(&[][..], Vec::as_slice);
    let controller = owners.iter().find(|owner| owner["controller"] == true);
    match (controller.map(|owner| (owner["kind"].as_str(), owner["name"].as_str())), &step.to.namespace) {
        (Some((Some(kind), Some(name))), _) => {
            Done::Skipped { why: format!("{kind} {name} made it in the target") }
        }
        (_, None) => Done::Skipped { why: "exists already in the target".into() },
        _ => Done::failed("exists already in the target, and was left as it is".into()),
    }
}

impl Done {
    fn failed(why: String) -> Self {
        Self::Failed(Failure { why, again: false })
    }

    fn not_served(key: &ObjectKey) -> Self {
        Self::failed(format!("the target serves no {} {}", key.api_version(), key.kind))
    }

    fn refused(error: &kube::Error) -> Self {
        let is_final = matches!(error, kube::Error::Api(status) if status.is_invalid());
        Self::Failed(Failure { why: reason(error), again: !is_final })
    }
}

/// What a service account of the snapshot adds to the one that is there: a merge patch replaces lists, so
/// they are put together here.
fn merged(ours: &Value, there: &Value) -> Value {
    let mut patch = json!({});
    for field in ["labels", "annotations"] {
        if ours["metadata"][field].is_object() {
            patch["metadata"][field] = ours["metadata"][field].clone();
        }
    }
    for field in ["secrets", "imagePullSecrets"] {
        let mut list = there[field].as_array().cloned().unwrap_or_default();
        let new = ours[field].as_array().map_or(&[][..], Vec::as_slice);
        let before = list.len();
        list.extend(
            new.iter().filter(|item| !there[field].as_array().is_some_and(|l| l.contains(item))).cloned(),
        );
        if list.len() > before {
            patch[field] = json!(list);
        }
    }
    if !ours["automountServiceAccountToken"].is_null() {
        patch["automountServiceAccountToken"] = ours["automountServiceAccountToken"].clone();
    }
    patch
}

fn uid_of(object: &Value) -> String {
    object["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
}

/// Namespaces of the plan that are still being deleted.
async fn wait_until_gone(cluster: &Cluster, wave: &[&Step]) -> Result<()> {
    let all: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(cluster.client.clone());
    for step in wave.iter().filter(|step| step.action == Action::Create) {
        let name = &step.to.name;
        let doing = || format!("read the namespace {name}");
        let Some(namespace) = request(doing, all.get_opt(name)).await? else { continue };
        if namespace.metadata.deletion_timestamp.is_none() {
            continue;
        }
        let is_gone = |it: Option<&k8s_openapi::api::core::v1::Namespace>| {
            it.is_none_or(|it| it.metadata.uid != namespace.metadata.uid)
        };
        let waiting = await_condition(all.clone(), name, is_gone);
        let what = || format!("the end of the namespace {name}, which is being deleted,");
        match tokio::time::timeout(GONE_LIMIT, waiting).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(Error::Other(format!("watch the namespace {name}: {error}"))),
            Err(_) => {
                let last = what_holds(&request(doing, all.get_opt(name)).await?);
                return Err(Error::Timeout { what: what(), seconds: GONE_LIMIT.as_secs(), last });
            }
        }
    }
    Ok(())
}

/// The conditions of a namespace that say what is still in it.
fn what_holds(namespace: &Option<k8s_openapi::api::core::v1::Namespace>) -> String {
    let conditions = namespace.as_ref().and_then(|it| it.status.as_ref()?.conditions.as_ref());
    let said = conditions.into_iter().flatten().filter(|condition| condition.status == "True");
    let said: Vec<String> = said.filter_map(|condition| condition.message.as_deref().map(plain)).collect();
    if said.is_empty() { "it says nothing".into() } else { said.join("; ") }
}

/// Objects of a definition can be made when it is established.
async fn establish(cluster: &Cluster, kinds: &mut Kinds, wave: &[&Step], report: &mut Report) {
    let created: BTreeSet<&str> = report.created.iter().map(|outcome| &*outcome.object).collect();
    let new: Vec<&&Step> = wave
        .iter()
        .filter(|step| step.action == Action::Create && created.contains(&*step.to.to_string()))
        .collect();
    let Some(resource) = new.first().and_then(|step| kinds.resource(&step.to)) else { return };
    let mut left: BTreeSet<String> = new.iter().map(|step| step.to.name.clone()).collect();
    let mut gone = BTreeSet::new();
    let waiting = until_done(api(cluster, &resource, None), is_established, &mut left, &mut gone);
    // What is left then is told below.
    let _ = tokio::time::timeout(ESTABLISHED_LIMIT, waiting).await;
    for step in new {
        let object = step.to.to_string();
        if left.contains(&step.to.name) {
            let why = format!("not established within {} s", ESTABLISHED_LIMIT.as_secs());
            report.failed.push(Outcome { object, why });
        } else if gone.contains(&step.to.name) {
            report.failed.push(Outcome { object, why: "deleted by someone".into() });
        } else {
            kinds.define(&step.body);
        }
    }
}

fn is_established(definition: &Value) -> bool {
    let conditions = definition["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    conditions.iter().any(|condition| condition["type"] == "Established" && condition["status"] == "True")
}

/// Links what waits for owners that are there by now.
async fn link(cluster: &Cluster, kinds: &Kinds, report: &mut Report) {
    let (uids, pending) = (&report.uids, std::mem::take(&mut report.pending));
    let (now, later): (Vec<Pending>, Vec<Pending>) =
        pending.into_iter().partition(|pending| known(&pending.owners, uids).len() > pending.linked);
    let linked = stream::iter(now)
        .map(|pending| async move {
            let references = known(&pending.owners, uids);
            let count = references.len();
            let patch = json!({"metadata": {"ownerReferences": references}});
            (kinds.patch(cluster, &pending.object, &patch).await, Pending { linked: count, ..pending })
        })
        .buffered(AT_A_TIME)
        .collect::<Vec<_>>()
        .await;
    report.pending = later;
    for (answer, pending) in linked {
        let object = pending.object.to_string();
        match answer {
            Some(Ok(_)) => {
                report.changed.push(Outcome { object, why: "linked to its owner".into() });
                if pending.linked < pending.owners.len() {
                    report.pending.push(pending);
                }
            }
            Some(Err(error)) => {
                let why = format!("not linked to its owner: {}", reason(&error));
                report.failed.push(Outcome { object, why });
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_account_is_merged_with_the_one_that_is_there() {
        let there = json!({"metadata": {"name": "default"}, "imagePullSecrets": [{"name": "a"}]});
        let ours = json!({
            "metadata": {"name": "default", "labels": {"x": "y"}},
            "imagePullSecrets": [{"name": "a"}, {"name": "b"}], "automountServiceAccountToken": false,
        });
        assert_eq!(
            merged(&ours, &there),
            json!({
                "metadata": {"labels": {"x": "y"}},
                "imagePullSecrets": [{"name": "a"}, {"name": "b"}], "automountServiceAccountToken": false,
            })
        );
        assert_eq!(merged(&json!({"metadata": {"name": "default"}}), &there), json!({}));
    }

    #[test]
    fn a_lost_answer_is_tried_again_and_an_invalid_object_is_not() {
        let refused = |code, reason: &str| {
            let status = kube::core::Status::failure("no", reason).with_code(code);
            match Done::refused(&kube::Error::Api(status.boxed())) {
                Done::Failed(failure) => (failure.again, failure.why),
                _ => unreachable!("a refusal is a failure"),
            }
        };
        assert_eq!(refused(422, "Invalid"), (false, "no".into()));
        assert_eq!(refused(403, "Forbidden"), (true, "no".into()));
        let lost = kube::Error::LinesCodecMaxLineLengthExceeded;
        assert!(matches!(Done::refused(&lost), Done::Failed(Failure { again: true, .. })));
    }

    #[test]
    fn a_definition_counts_when_it_is_established() {
        let with =
            |status: &str| json!({"status": {"conditions": [{"type": "Established", "status": status}]}});
        assert!(is_established(&with("True")));
        assert!(!is_established(&with("False")) && !is_established(&json!({})));
    }
}
