//! Events: what `kubectl get events` and `kubectl describe` show of a run.
//!
//! Only told about the pod that the run is in, in that pod's own namespace. They are gone after an hour, and
//! the run does not depend on them.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event as Object;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::PostParams;

use crate::cluster::request::request;
use crate::cluster::{Cluster, KIST, MANAGED_BY, Result};
use crate::format::id::hex;
use crate::world::World;

/// Of a note, by the API.
pub const NOTE_BYTES: usize = 1024;

/// The pod that an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPod {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl OwnPod {
    /// From `namespace/name/uid`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/').map(str::to_owned);
        let pod = Self { namespace: parts.next()?, name: parts.next()?, uid: parts.next()? };
        let is_whole = ![&pod.namespace, &pod.name, &pod.uid].into_iter().any(String::is_empty);
        (is_whole && parts.next().is_none()).then_some(pod)
    }
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub is_warning: bool,
    /// Such as `BackupComplete`.
    pub reason: &'static str,
    /// Cut off after [`NOTE_BYTES`].
    pub note: String,
}

pub async fn tell(cluster: &Cluster, world: &World, pod: &OwnPod, event: &Event) -> Result<()> {
    let events: Api<Object> = Api::namespaced(cluster.client.clone(), &pod.namespace);
    let object = object(world, pod, event);
    let doing = || format!("create an event about the pod {}/{}", pod.namespace, pod.name);
    request(doing, events.create(&PostParams::default(), &object)).await.map(drop)
}

fn object(world: &World, pod: &OwnPod, event: &Event) -> Object {
    let note = &event.note[..event.note.floor_char_boundary(NOTE_BYTES)];
    let now = Timestamp::from_nanosecond(world.now().0.into()).unwrap_or_default();
    Object {
        metadata: ObjectMeta {
            name: Some(format!("{KIST}.{}", hex(&world.bytes::<8>()))),
            namespace: Some(pod.namespace.clone()),
            labels: Some([(MANAGED_BY.to_owned(), KIST.to_owned())].into()),
            ..Default::default()
        },
        event_time: Some(MicroTime(now)),
        type_: Some(if event.is_warning { "Warning" } else { "Normal" }.into()),
        reason: Some(event.reason.into()),
        action: Some("Backup".into()),
        note: Some(note.to_owned()),
        reporting_controller: Some("kist.dev/backup".into()),
        // At most 128 letters, and a pod may have 253.
        reporting_instance: Some(pod.name.chars().take(128).collect()),
        regarding: Some(ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            namespace: Some(pod.namespace.clone()),
            name: Some(pod.name.clone()),
            uid: Some(pod.uid.clone()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{Time, fixed};

    #[test]
    fn a_pod_is_named_by_namespace_name_and_uid() {
        let pod = OwnPod { namespace: "a".into(), name: "b".into(), uid: "c".into() };
        assert_eq!(OwnPod::parse("a/b/c"), Some(pod));
        for text in ["", "a/b", "a//c", "a/b/c/d", "a/b/"] {
            assert_eq!(OwnPod::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_note_is_cut_between_letters() {
        let world = fixed::world(1, Time(0));
        let pod = OwnPod::parse("a/b/c").unwrap();
        let event = Event { is_warning: true, reason: "BackupFailed", note: "ä".repeat(NOTE_BYTES) };
        let object = object(&world, &pod, &event);
        assert_eq!(object.note.unwrap().len(), NOTE_BYTES);
        assert_eq!(object.type_.as_deref(), Some("Warning"));
        let event = Event { note: format!("a{}", event.note), ..event };
        assert_eq!(super::object(&world, &pod, &event).note.unwrap().len(), NOTE_BYTES - 1);
    }
}
