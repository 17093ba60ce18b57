//! Leases: each run holds one in each namespace that it works in, as the sign that it lives.
//!
//! A lease's slot gives the names of the run's movers, so RBAC can name all of them. It also notes the pods
//! to which the run owes their post-hooks: whose, never what, since others may write leases too. Invariant: a
//! run whose lease is lost has to stop, since the others may take what it made for a dead run's; so it
//! gives up before the others do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease as Object, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::cluster::hook::PodHooks;
use crate::cluster::request::{found, persist, request};
use crate::cluster::{Cluster, Error, KIST, MANAGED_BY, RUN, Result};
use crate::world::{Time, World};

/// Runs that may be at work in a namespace at once.
pub const SLOTS: u32 = 4;
/// Annotation: the pods to which the run owes their post-hooks, as JSON.
const OWES: &str = "kist.dev/owes";
/// All annotations of an object may take 256 KiB together.
const OWES_BYTES: usize = 200 << 10;
const DURATION: Duration = Duration::from_secs(30);
const RENEWAL: Duration = Duration::from_secs(10);
/// The rest of the duration: who has not renewed until then has lost.
const PATIENCE: Duration = Duration::from_secs(20);

pub fn name(slot: u32) -> String {
    format!("kist-run-{slot}")
}

pub(super) fn leases(cluster: &Cluster, namespace: &str) -> Api<Object> {
    Api::namespaced(cluster.client.clone(), namespace)
}

/// A lease that is held, and renewed in the background. One that is dropped lapses, and the next run
/// sweeps what belongs to it.
pub struct Lease {
    held: Arc<Held>,
    slot: u32,
    renewal: JoinHandle<()>,
    lost: watch::Receiver<Option<String>>,
}

impl Lease {
    /// Takes the first free slot. Sweep before: what a dead run holds is not free.
    pub async fn take(cluster: &Cluster, world: &World, namespace: &str, run: &str) -> Result<Self> {
        let leases = leases(cluster, namespace);
        let mut runs = Vec::new();
        for slot in 1..=SLOTS {
            let name = name(slot);
            let doing = || format!("create the lease {namespace}/{name}");
            let new = object(&name, namespace, run, world.now());
            match request(doing, leases.create(&PostParams::default(), &new)).await {
                Ok(object) => return Ok(Self::hold(leases, world, slot, run, object)),
                Err(error) if error.status() == Some(409) => {}
                Err(error) => return Err(error),
            }
            let there = request(|| format!("read the lease {namespace}/{name}"), leases.get(&name)).await;
            match found(there)? {
                // An answer was lost, and the request was made twice.
                Some(object) if holder(&object) == run => {
                    return Ok(Self::hold(leases, world, slot, run, object));
                }
                Some(object) => runs.push(holder(&object).to_owned()),
                None => runs.push("one that has just ended".into()),
            }
        }
        Err(Error::Busy { namespace: namespace.into(), runs })
    }

    fn hold(leases: Api<Object>, world: &World, slot: u32, run: &str, object: Object) -> Self {
        let label = format!("{}/{}", object.namespace().unwrap_or_default(), name(slot));
        let uid = object.uid();
        let held = Held {
            leases,
            world: world.clone(),
            label,
            name: name(slot),
            run: run.into(),
            uid,
            object: Mutex::new(object),
        };
        let held = Arc::new(held);
        let (tell, lost) = watch::channel(None);
        let renewal = tokio::spawn(renew(held.clone(), tell));
        Self { held, slot, renewal, lost }
    }

    /// From 1 to [`SLOTS`].
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// Waits until the lease is lost. From then on the run must change nothing in the namespace.
    pub fn lost(&self) -> impl Future<Output = Error> + Send + use<> {
        let mut lost = self.lost.clone();
        let lease = self.held.label.clone();
        async move {
            let why = lost.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
            match why {
                Some(why) => Error::LeaseLost { lease, why },
                // It was released or dropped: there is nothing to lose.
                None => std::future::pending().await,
            }
        }
    }

    /// Notes whose post-hooks have to be run if this run dies; before the first pre-hook is started. It takes
    /// the place of what was noted before.
    pub async fn owe(&self, hooks: &[PodHooks]) -> Result<()> {
        let note = note(hooks);
        if note.len() > OWES_BYTES {
            let (lease, count) = (&self.held.label, hooks.len());
            return Err(Error::Other(format!(
                "the names of {count} pods with hooks are too long for the lease {lease}"
            )));
        }
        let write = move |object: &mut Object| {
            object.annotations_mut().insert(OWES.into(), note.clone());
        };
        self.held.update(write).await
    }

    /// The post-hooks have been run.
    pub async fn paid(&self) -> Result<()> {
        let note = |object: &mut Object| {
            object.annotations_mut().remove(OWES);
        };
        self.held.update(note).await
    }

    /// Deletes the lease. If it owes something still, it is left to lapse: the next run pays.
    pub async fn release(self) -> Result<()> {
        self.renewal.abort();
        if self.held.object.lock().await.annotations().contains_key(OWES) {
            return Ok(());
        }
        delete(&self.held.leases, &self.held.label, &self.held.name, self.held.uid.clone()).await
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

struct Held {
    leases: Api<Object>,
    world: World,
    /// `namespace/name`.
    label: String,
    name: String,
    run: String,
    uid: Option<String>,
    /// As last seen.
    object: Mutex<Object>,
}

impl Held {
    /// Makes a change, and renews with it.
    async fn update(&self, change: impl Fn(&mut Object)) -> Result<()> {
        let mut object = self.object.lock().await;
        let doing = || format!("renew the lease {}", self.label);
        loop {
            let replace = || {
                // With its UID: the API creates leases by an update too, and a deleted one must not come back.
                let mut next = object.clone();
                change(&mut next);
                next.spec.get_or_insert_default().renew_time = Some(moment(self.world.now()));
                let (leases, name) = (self.leases.clone(), &self.name);
                async move { leases.replace(name, &PostParams::default(), &next).await }
            };
            match persist(PATIENCE, doing, replace).await {
                Ok(next) => {
                    *object = next;
                    return Ok(());
                }
                Err(error) if matches!(error.status(), Some(404 | 409)) => {}
                Err(error) => return Err(error),
            }
            // Somebody else has changed it, or our own change has arrived without an answer.
            let there = persist(PATIENCE, doing, || self.leases.get(&self.name)).await;
            *object = self.still_ours(found(there)?)?;
        }
    }

    fn still_ours(&self, there: Option<Object>) -> Result<Object> {
        let lost = |why: String| Error::LeaseLost { lease: self.label.clone(), why };
        match there {
            None => Err(lost("it was deleted".into())),
            Some(object) if holder(&object) != self.run => Err(lost(format!("{} took it", holder(&object)))),
            Some(object) if object.uid() != self.uid => Err(lost("it was deleted and made anew".into())),
            Some(object) => Ok(object),
        }
    }
}

async fn renew(held: Arc<Held>, tell: watch::Sender<Option<String>>) {
    let why = loop {
        sleep(RENEWAL).await;
        match timeout(PATIENCE, held.update(|_| ())).await {
            Ok(Ok(())) => {}
            Ok(Err(Error::LeaseLost { why, .. })) => break why,
            Ok(Err(error)) => {
                let (error, lease) = (&error as &dyn std::error::Error, &held.label);
                tracing::warn!(error, lease, "the lease can't be renewed");
                break format!("it could not be renewed ({error})");
            }
            Err(_) => break format!("it could not be renewed for {} s", DURATION.as_secs()),
        }
    };
    // Nobody may be listening.
    let _ = tell.send(Some(why));
}

fn object(name: &str, namespace: &str, run: &str, now: Time) -> Object {
    let labels = [(MANAGED_BY, KIST), (RUN, run)].map(|(key, value)| (key.to_owned(), value.to_owned()));
    Object {
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: Some(namespace.into()),
            labels: Some(labels.into()),
            ..Default::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(run.into()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: Some(moment(now)),
            renew_time: Some(moment(now)),
            ..Default::default()
        }),
    }
}

fn moment(time: Time) -> MicroTime {
    MicroTime(
        Timestamp::from_nanosecond(time.0.into()).expect("64 bits of ns end long before a timestamp does"),
    )
}

pub(super) fn holder(object: &Object) -> &str {
    object.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or("nobody")
}

/// Of its run's pods too; the holder may be a sweeper by now.
pub(super) fn run_of(object: &Object) -> Option<&str> {
    object.labels().get(RUN).map(String::as_str)
}

/// What the lease says, and never more than our own leases last: a foreign one could say years.
pub(super) fn duration(object: &Object) -> Duration {
    let seconds = object.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
    let said = seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    said.map_or(DURATION, |said| said.min(DURATION))
}

/// Whether it has run out by our clock. Clocks differ, so this alone means nothing: see [`is_unrenewed`].
pub(super) fn is_due(object: &Object, now: Time) -> bool {
    let renewed = object.spec.as_ref().and_then(|spec| spec.renew_time.as_ref());
    let Some(renewed) = renewed else { return true };
    let end =
        renewed.0.as_nanosecond() + i128::try_from(duration(object).as_nanos()).unwrap_or(i128::MAX / 2);
    end < i128::from(now.0)
}

/// Whether nothing has happened to it between two looks.
pub(super) fn is_unrenewed(before: &Object, after: &Object) -> bool {
    before.uid() == after.uid() && before.resource_version() == after.resource_version()
}

/// A pod that may be frozen. Older notes have the namespace and the hook too.
#[derive(Serialize, Deserialize)]
struct Debt {
    pod: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
}

fn note(hooks: &[PodHooks]) -> String {
    let owed = hooks.iter().filter(|pod| pod.post.is_some());
    owed.map(|pod| serde_json::json!(Debt { pod: pod.pod.clone(), namespace: None }))
        .collect::<serde_json::Value>()
        .to_string()
}

/// The pods, all of the lease's own namespace, to which its run owes their post-hooks.
pub fn debts(object: &Object) -> Result<BTreeSet<String>, String> {
    let Some(note) = object.annotations().get(OWES) else { return Ok(BTreeSet::new()) };
    let debts: Vec<Debt> = serde_json::from_str(note)
        .map_err(|error| format!("its note of owed hooks can't be read: {error}"))?;
    let own = object.namespace();
    let foreign = debts.iter().find(|debt| debt.namespace.is_some() && debt.namespace != own);
    // No run writes such a note: whoever did may reach that namespace through us only.
    if let Some(Debt { pod, namespace: Some(namespace) }) = foreign {
        return Err(format!("its note of owed hooks names {namespace}/{pod}, of another namespace"));
    }
    Ok(debts.into_iter().map(|debt| debt.pod).collect())
}

/// Makes a lapsed lease the sweeper's for one more duration. None if somebody was faster.
pub(super) async fn take_over(
    leases: &Api<Object>,
    label: &str,
    mut lapsed: Object,
    world: &World,
) -> Result<Option<Object>> {
    let spec = lapsed.spec.get_or_insert_default();
    spec.holder_identity = Some("a sweep".into());
    spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
    spec.renew_time = Some(moment(world.now()));
    let name = lapsed.name_any();
    let doing = || format!("take over the lease {label}");
    match request(doing, leases.replace(&name, &PostParams::default(), &lapsed)).await {
        Ok(object) => Ok(Some(object)),
        Err(error) if matches!(error.status(), Some(404 | 409)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Deletes that very lease; one that is gone or another's is left.
pub(super) async fn delete(leases: &Api<Object>, label: &str, name: &str, uid: Option<String>) -> Result<()> {
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid, resource_version: None }),
        ..Default::default()
    };
    let doing = || format!("delete the lease {label}");
    match persist(PATIENCE, doing, || leases.delete(name, &params)).await {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.status(), Some(404 | 409)) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::hook::{Hook, OnError};

    const SECOND: i64 = 1_000_000_000;

    fn at(second: i64) -> Object {
        let mut object = object("kist-run-1", "shop", "r1", Time(second * SECOND));
        object.metadata.uid = Some("u".into());
        object.metadata.resource_version = Some("1".into());
        object
    }

    #[test]
    fn a_lease_is_due_after_its_duration() {
        let lease = at(1_000);
        assert!(!is_due(&lease, Time(1_000 * SECOND)));
        assert!(!is_due(&lease, Time(1_030 * SECOND)));
        assert!(is_due(&lease, Time(1_031 * SECOND)));
        // A clock that is behind ours tells nothing.
        assert!(!is_due(&lease, Time(0)));
        assert!(is_due(&Object::default(), Time(0)), "it was never renewed");
    }

    #[test]
    fn nobody_makes_a_sweep_wait_longer_than_a_lease_of_ours_lasts() {
        let mut lease = at(1_000);
        for seconds in [i32::MAX, -1] {
            lease.spec.get_or_insert_default().lease_duration_seconds = Some(seconds);
            assert_eq!(duration(&lease), DURATION);
            assert!(is_due(&lease, Time(1_031 * SECOND)));
        }
        lease.spec.get_or_insert_default().lease_duration_seconds = Some(5);
        assert_eq!(duration(&lease), Duration::from_secs(5));
    }

    #[test]
    fn any_change_shows_that_the_run_lives() {
        let before = at(1_000);
        assert!(is_unrenewed(&before, &at(1_000)));
        let mut renewed = at(1_010);
        renewed.metadata.resource_version = Some("2".into());
        assert!(!is_unrenewed(&before, &renewed));
        let mut anew = at(1_000);
        anew.metadata.uid = Some("v".into());
        assert!(!is_unrenewed(&before, &anew));
    }

    #[test]
    fn a_lease_tells_its_run_to_people_and_to_the_sweep() {
        let json = serde_json::to_value(at(1_000)).unwrap();
        assert_eq!(json["metadata"]["labels"], serde_json::json!({MANAGED_BY: KIST, RUN: "r1"}));
        assert_eq!(json["spec"]["leaseDurationSeconds"], 30);
        assert_eq!(json["spec"]["renewTime"], "1970-01-01T00:16:40.000000Z");
        assert_eq!((holder(&at(0)), run_of(&at(0))), ("r1", Some("r1")));
    }

    #[test]
    fn debts_are_read_back_and_a_broken_note_is_said() {
        let mut lease = at(0);
        assert!(debts(&lease).unwrap().is_empty());
        let hook = Hook {
            container: "db".into(),
            command: vec!["/thaw".into()],
            on_error: OnError::Fail,
            timeout_millis: 1,
        };
        let hooks = |pod: &str, post| PodHooks { namespace: "shop".into(), pod: pod.into(), pre: None, post };
        let written = note(&[hooks("db-0", Some(hook)), hooks("web", None)]);
        assert_eq!(written, r#"[{"pod":"db-0"}]"#);
        lease.annotations_mut().insert(OWES.into(), written);
        assert_eq!(debts(&lease).unwrap(), ["db-0".to_owned()].into());
        lease.annotations_mut().insert(OWES.into(), "{".into());
        assert!(debts(&lease).unwrap_err().contains("can't be read"));
    }

    #[test]
    fn of_an_older_note_only_the_names_of_pods_of_its_own_namespace_count() {
        let mut lease = at(0);
        let older = |namespace: &str| {
            let post = serde_json::json!({"container": "c", "command": ["/evil"], "on_error": "fail",
                "timeout_millis": 1});
            serde_json::json!([{"namespace": namespace, "pod": "db-0", "pre": null, "post": post}])
        };
        lease.annotations_mut().insert(OWES.into(), older("shop").to_string());
        assert_eq!(debts(&lease).unwrap(), ["db-0".to_owned()].into());
        lease.annotations_mut().insert(OWES.into(), older("kube-system").to_string());
        assert!(debts(&lease).unwrap_err().contains("names kube-system/db-0, of another namespace"));
    }

    #[test]
    fn the_owner_gives_up_before_the_others_may_take() {
        assert!(RENEWAL + PATIENCE <= DURATION);
    }

    #[test]
    fn leases_may_be_held_on_any_thread() {
        fn is_send(_: impl Send) {}
        let _ = |cluster: &Cluster, world: &World| is_send(Lease::take(cluster, world, "shop", "r1"));
        let _ = |lease: &Lease| is_send((lease.owe(&[]), lease.paid(), lease.lost()));
        let _ = |lease: Lease| is_send(lease.release());
    }
}
