//! Starts a mover: down the ladder until the namespace admits it, then until its container runs.
//!
//! Invariants: everything is within the caller's limit; an error says what the cluster gave as reason;
//! after an error no pod is left.

use std::sync::Mutex;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Pod, ServiceAccount};
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};
use tokio::time::{sleep, timeout};

use crate::cluster::mover::state::{State, state};
use crate::cluster::mover::{Mover, Owned, Rung, Spec, over, pod};
use crate::cluster::plain::plain;
use crate::cluster::request::{found, passes, request};
use crate::cluster::watch::{next, watch};
use crate::cluster::{Cluster, Error, KIST, MANAGED_BY, RUN, Result};

/// Between attempts to create the pod, the first; each next one is twice as long, up to the last.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(15);
/// A registry that hiccups is asked again by the kubelet within ten seconds; after two failures it is no hiccup.
const STUCK: Duration = Duration::from_secs(20);

/// Makes the pod and waits until its container runs, all of it within the limit.
pub async fn start(cluster: &Cluster, spec: Spec, limit: Duration) -> Result<Mover> {
    let owned = Owned::new(cluster, &spec);
    let seen = Mutex::new(Seen { why: "it was not made yet".into(), uid: None });
    let outcome = match timeout(limit, bring_up(cluster, &spec, &seen)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Error::Timeout {
            what: format!("the start of the mover {}", owned.label()),
            seconds: limit.as_secs(),
            last: last_seen(cluster, &spec, &seen).await,
        }),
    };
    match outcome {
        Ok(Up { uid, node, rung, why }) => Ok(Mover { owned, uid, node, rung, why }),
        Err(error) => {
            let label = owned.label();
            if let Err(left) = owned.delete().await {
                let left = &left as &dyn std::error::Error;
                tracing::warn!(
                    error = left,
                    pod = label,
                    "a mover that did not start is left to the next run"
                );
            }
            Err(error)
        }
    }
}

struct Up {
    uid: String,
    node: Option<String>,
    rung: Rung,
    why: Option<String>,
}

/// What is told if the limit is reached.
struct Seen {
    why: String,
    uid: Option<String>,
}

impl Seen {
    fn say(seen: &Mutex<Self>, why: impl Into<String>) {
        seen.lock().expect("no holder of this lock panics").why = why.into();
    }
}

async fn bring_up(cluster: &Cluster, spec: &Spec, seen: &Mutex<Seen>) -> Result<Up> {
    let (made, rung, why) = climb_down(cluster, spec, seen).await?;
    let uid = made.uid().unwrap_or_default();
    {
        let mut seen = seen.lock().expect("no holder of this lock panics");
        *seen = Seen { why: "nothing was heard of it".into(), uid: Some(uid.clone()) };
    }
    let node = until_running(cluster, spec, &uid, seen).await?;
    Ok(Up { uid, node, rung, why })
}

/// Creates the pod on the first rung that is admitted. A rung is tried by a dry run first, so that a refusal
/// leaves no trace but in the answer.
async fn climb_down(
    cluster: &Cluster,
    spec: &Spec,
    seen: &Mutex<Seen>,
) -> Result<(Pod, Rung, Option<String>)> {
    let mut reasons: Vec<String> = Vec::new();
    for rung in pod::rungs(spec) {
        let mut answer = admit(cluster, spec, *rung, true, seen).await?;
        if let Answer::Admitted(_) = answer {
            answer = admit(cluster, spec, *rung, false, seen).await?;
        }
        match answer {
            Answer::Admitted(made) => {
                let why = (!reasons.is_empty())
                    .then(|| format!("it runs {}: {}", pod::described(spec, *rung), reasons.join("; ")));
                return Ok((*made, *rung, why));
            }
            Answer::Refused(why) => reasons.push(format!("{}: {why}", pod::described(spec, *rung))),
        }
    }
    Err(Error::Refused { pod: format!("{}/{}", spec.namespace, spec.name), reasons })
}

enum Answer {
    Admitted(Box<Pod>),
    Refused(String),
}

/// Asks until there is an answer that stands: what only has to pass is waited for.
async fn admit(
    cluster: &Cluster,
    spec: &Spec,
    rung: Rung,
    dry_run: bool,
    seen: &Mutex<Seen>,
) -> Result<Answer> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &spec.namespace);
    let wanted = pod::pod(spec, rung)?;
    let params = PostParams { dry_run, field_manager: Some(KIST.into()) };
    let mut pause = FIRST_RETRY;
    loop {
        let doing = || format!("create the pod {}/{}", spec.namespace, spec.name);
        let error = match request(doing, pods.create(&params, &wanted)).await {
            Ok(made) => return Ok(Answer::Admitted(Box::new(made))),
            Err(error) => error,
        };
        match reading(&error) {
            // Names are looked at after admission.
            Reading::NameTaken | Reading::NoDryRun if dry_run => {
                return Ok(Answer::Admitted(Box::new(wanted)));
            }
            Reading::NameTaken => make_way(cluster, spec, seen).await?,
            Reading::NoAccountYet => {
                Seen::say(seen, "its namespace has no service account yet");
                until_there_is_an_account(cluster, &spec.namespace).await?;
            }
            Reading::Refused(why) => return Ok(Answer::Refused(why)),
            // A pod that was made without an answer is found by its name, and makes way.
            Reading::Passing => {
                Seen::say(seen, error.to_string());
                sleep(pause).await;
                pause = LAST_RETRY.min(pause * 2);
            }
            Reading::Other | Reading::NoDryRun => return Err(error),
        }
    }
}

/// What the API server means by refusing to create a pod.
#[derive(Debug, PartialEq, Eq)]
enum Reading {
    NameTaken,
    /// A webhook has effects and says so.
    NoDryRun,
    /// The namespace is so new that its controller has not made the default service account.
    NoAccountYet,
    /// By admission: a smaller pod might do.
    Refused(String),
    /// The server is busy, broke or silent: the same request may succeed later.
    Passing,
    Other,
}

fn reading(error: &Error) -> Reading {
    let otherwise = if passes(error) { Reading::Passing } else { Reading::Other };
    let Error::Api { cause: source, .. } = error else { return otherwise };
    let kube::Error::Api(status) = &**source else { return otherwise };
    let says = |what: &str| status.message.contains(what);
    // Webhooks and policies choose their codes themselves.
    let is_denied = says("denied the request") || says("denied request");
    match status.code {
        409 if status.reason == "AlreadyExists" => Reading::NameTaken,
        _ if says("does not support dry run") => Reading::NoDryRun,
        403 if says("error looking up service account") => Reading::NoAccountYet,
        // The account's own rights: the same on every rung.
        403 if says("cannot create resource") => Reading::Other,
        403 => Reading::Refused(without_name(&status.message)),
        _ if is_denied => Reading::Refused(without_name(&status.message)),
        _ => otherwise,
    }
}

/// `pods "a" is forbidden: violates …` begins with what the reader knows.
fn without_name(message: &str) -> String {
    plain(message.split_once(" is forbidden: ").map_or(message, |(_, why)| why))
}

/// Sees to it that the pod's name becomes free: what is left of the own run is deleted, what is ending is
/// waited for. What belongs to others is left alone, and said.
async fn make_way(cluster: &Cluster, spec: &Spec, seen: &Mutex<Seen>) -> Result<()> {
    let label = format!("{}/{}", spec.namespace, spec.name);
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &spec.namespace);
    let there = request(|| format!("read the pod {label}"), pods.get(&spec.name)).await;
    let Some(there) = found(there)? else { return Ok(()) };
    if there.labels().get(RUN) == Some(&spec.run) {
        Seen::say(seen, "a former pod of this run has its name and is not gone");
        return super::remove(cluster, &spec.namespace, &spec.name, &spec.run).await.map(|_| ());
    }
    if there.metadata.deletion_timestamp.is_none() {
        let run =
            there.labels().get(RUN).filter(|_| there.labels().get(MANAGED_BY).is_some_and(|by| by == KIST));
        let owner = run.map_or_else(|| "none of kist's runs".into(), |run| format!("the run {run}"));
        return Err(Error::Taken { pod: label, owner });
    }
    Seen::say(seen, "another run's pod of its name is not gone yet");
    let uid = there.uid();
    let mut states = watch(pods, &spec.name, format!("the pod {label}"));
    while next(&mut states).await?.is_some_and(|pod| pod.uid() == uid) {}
    Ok(())
}

async fn until_there_is_an_account(cluster: &Cluster, namespace: &str) -> Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), namespace);
    let mut states = watch(accounts, "default", format!("the service account {namespace}/default"));
    while next(&mut states).await?.is_none() {}
    Ok(())
}

/// The node that it runs on.
async fn until_running(
    cluster: &Cluster,
    spec: &Spec,
    uid: &str,
    seen: &Mutex<Seen>,
) -> Result<Option<String>> {
    let label = format!("{}/{}", spec.namespace, spec.name);
    let failed = |why: String| Error::Mover { pod: label.clone(), what: "does not start", why };
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &spec.namespace);
    let mut states = watch(pods, &spec.name, format!("the pod {label}"));
    let mut patience = None;
    loop {
        let pod = tokio::select! {
            pod = next(&mut states) => pod?,
            () = over(&mut patience) => {
                return Err(failed(seen.lock().expect("no holder of this lock panics").why.clone()));
            }
        };
        let Some(pod) = pod.filter(|pod| pod.metadata.uid.as_deref() == Some(uid)) else {
            return Err(failed("it was deleted".into()));
        };
        match state(&pod) {
            State::Running => return Ok(pod.spec.and_then(|spec| spec.node_name)),
            State::Ended(why) => return Err(failed(why)),
            State::Waiting(why) => {
                Seen::say(seen, why);
                patience = None;
            }
            State::Stuck(why) => {
                Seen::say(seen, why);
                patience.get_or_insert_with(|| Box::pin(sleep(STUCK)));
            }
        }
    }
}

/// What it last waited for, and what the cluster's events warn of: a volume that can't be mounted is told
/// nowhere else.
async fn last_seen(cluster: &Cluster, spec: &Spec, seen: &Mutex<Seen>) -> String {
    let (why, uid) = {
        let seen = seen.lock().expect("no holder of this lock panics");
        (seen.why.clone(), seen.uid.clone())
    };
    let Some(uid) = uid else { return why };
    let events: Api<Event> = Api::namespaced(cluster.client.clone(), &spec.namespace);
    let params = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
    let doing = || format!("list the events of the pod {}/{}", spec.namespace, spec.name);
    match request(doing, events.list(&params)).await {
        Ok(events) => with_warning(why, events.items),
        // They are not worth another error: the account may not be allowed to see them.
        Err(_) => why,
    }
}

fn with_warning(why: String, events: Vec<Event>) -> String {
    let warnings = events.into_iter().filter(|event| event.type_.as_deref() == Some("Warning"));
    let last = warnings.max_by_key(|event| {
        let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
        let last = event.last_timestamp.as_ref().map(|time| time.0);
        series.map(|time| time.0).or(last).or(event.event_time.as_ref().map(|time| time.0))
    });
    let Some(message) = last.as_ref().and_then(|event| event.message.as_deref()).map(plain) else {
        return why;
    };
    if why.contains(&message) {
        return why;
    }
    let reason = last.as_ref().and_then(|event| event.reason.as_deref()).unwrap_or("Warning");
    format!("{why}; {}: {message}", plain(reason))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(code: u16, reason: &str, message: &str) -> Reading {
        let status = serde_json::from_value(json!({"code": code, "reason": reason, "message": message}));
        let source = Box::new(kube::Error::Api(Box::new(status.unwrap())));
        reading(&Error::Api { doing: "create the pod".into(), cause: source })
    }

    #[test]
    fn an_admission_refusal_is_told_from_a_missing_right() {
        let security = r#"pods "kist-mover-1-1" is forbidden: violates PodSecurity "restricted:latest": x"#;
        let why = r#"violates PodSecurity "restricted:latest": x"#;
        assert_eq!(read(403, "Forbidden", security), Reading::Refused(why.into()));
        let rights = r#"pods is forbidden: User "a" cannot create resource "pods" in API group "" in the namespace "b""#;
        assert_eq!(read(403, "Forbidden", rights), Reading::Other);
        let webhook = r#"admission webhook "v.example.org" denied the request: root"#;
        assert_eq!(read(400, "", webhook), Reading::Refused(webhook.into()));
        let policy =
            r#"pods "a" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: root"#;
        assert!(matches!(read(422, "Invalid", policy), Reading::Refused(_)));
        assert_eq!(read(422, "Invalid", "spec.containers[0].image: Required value"), Reading::Other);
    }

    #[test]
    fn what_passes_is_tried_again_and_a_refusal_is_not() {
        assert_eq!(read(500, "InternalError", "etcdserver: request timed out"), Reading::Passing);
        assert_eq!(read(503, "ServiceUnavailable", "the server is shutting down"), Reading::Passing);
        assert_eq!(read(429, "TooManyRequests", "try again later"), Reading::Passing);
        let silent = Error::Timeout { what: "the answer".into(), seconds: 30, last: "silent".into() };
        assert_eq!(reading(&silent), Reading::Passing);
        let policy = r#"admission webhook "v.example.org" denied the request: root"#;
        assert_eq!(read(500, "", policy), Reading::Refused(policy.into()));
        assert_eq!(read(404, "NotFound", r#"namespaces "shop" not found"#), Reading::Other);
    }

    #[test]
    fn what_only_has_to_pass_is_no_refusal() {
        let account = r#"pods "a" is forbidden: error looking up service account b/default: serviceaccount "default" not found"#;
        assert_eq!(read(403, "Forbidden", account), Reading::NoAccountYet);
        assert_eq!(read(409, "AlreadyExists", r#"pods "a" already exists"#), Reading::NameTaken);
        let webhook = r#"admission webhook "v.example.org" does not support dry run"#;
        assert_eq!(read(400, "BadRequest", webhook), Reading::NoDryRun);
    }

    #[test]
    fn the_last_warning_is_told_once() {
        let event = |at: &str, kind: &str, reason: &str, message: &str| -> Event {
            serde_json::from_value(json!({"metadata": {}, "involvedObject": {}, "type": kind,
                "reason": reason, "message": message, "lastTimestamp": at}))
            .unwrap()
        };
        let events = vec![
            event("2026-01-01T00:00:03Z", "Warning", "FailedMount", "no such volume"),
            event("2026-01-01T00:00:01Z", "Warning", "FailedScheduling", "no node"),
            event("2026-01-01T00:00:09Z", "Normal", "Pulled", "image"),
        ];
        let told = with_warning("it waits".into(), events.clone());
        assert_eq!(told, "it waits; FailedMount: no such volume");
        assert_eq!(with_warning(told.clone(), events), told);
        assert_eq!(with_warning("it waits".into(), vec![]), "it waits");
    }

    #[test]
    fn movers_may_be_started_run_and_deleted_on_any_thread() {
        fn is_send(_: impl Send) {}
        let _ = |cluster: &Cluster, spec: Spec| is_send(start(cluster, spec, STUCK));
        let _ = |mover: &Mover| is_send((mover.run(), mover.gone()));
        let _ = |mover: Mover| is_send(mover.delete());
    }
}
