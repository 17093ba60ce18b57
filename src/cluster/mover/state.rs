//! How a mover's pod is: pure reading of its status.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateWaiting, Pod, PodCondition, PodStatus};

use crate::cluster::mover::{CONTAINER, NODE_SILENCE};
use crate::cluster::plain::plain;

/// What the kubelet says of a container that will not start by waiting alone.
const STUCK: [&str; 9] = [
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImageInspectError",
    "ImagePullBackOff",
    "InvalidImageName",
    "RegistryUnavailable",
    "SignatureValidationFailed",
];

#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    Running,
    /// Not yet; with what it waits for.
    Waiting(String),
    /// Not yet, and hardly ever.
    Stuck(String),
    /// Over, or about to be.
    Ended(String),
}

pub(super) fn state(pod: &Pod) -> State {
    let nothing = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&nothing);
    let container = container(status);
    if matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
        return State::Ended(ended(status, container));
    }
    if pod.metadata.deletion_timestamp.is_some() {
        let why = condition(status, "DisruptionTarget").filter(|condition| condition.status == "True");
        return State::Ended(match why.and_then(told) {
            Some(why) => format!("it is being deleted ({why})"),
            None => "it is being deleted".into(),
        });
    }
    match container {
        Some(ContainerState { running: Some(_), .. }) => State::Running,
        Some(ContainerState { terminated: Some(_), .. }) => State::Ended(ended(status, container)),
        Some(ContainerState { waiting: Some(waiting), .. }) => waits(pod, waiting),
        _ => State::Waiting(unstarted(pod, status)),
    }
}

fn container(status: &PodStatus) -> Option<&ContainerState> {
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    containers.iter().find(|container| container.name == CONTAINER)?.state.as_ref()
}

fn condition<'a>(status: &'a PodStatus, kind: &str) -> Option<&'a PodCondition> {
    status.conditions.as_deref().unwrap_or_default().iter().find(|condition| condition.type_ == kind)
}

fn told(condition: &PodCondition) -> Option<String> {
    joined(condition.reason.as_deref(), condition.message.as_deref())
}

/// `reason: message`, as far as they are there. A pod writes its own messages.
fn joined(reason: Option<&str>, message: Option<&str>) -> Option<String> {
    let parts: Vec<&str> = [reason, message].into_iter().flatten().filter(|part| !part.is_empty()).collect();
    (!parts.is_empty()).then(|| plain(&parts.join(": ")))
}

fn ended(status: &PodStatus, container: Option<&ContainerState>) -> String {
    if let Some(why) = joined(status.reason.as_deref(), status.message.as_deref()) {
        return why;
    }
    let Some(end) = container.and_then(|state| state.terminated.as_ref()) else {
        return "its pod ended".into();
    };
    let why = joined(end.reason.as_deref(), end.message.as_deref());
    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
    format!("its container ended with exit code {}{why}", end.exit_code)
}

fn waits(pod: &Pod, waiting: &ContainerStateWaiting) -> State {
    let reason = waiting.reason.as_deref();
    let why = joined(reason, waiting.message.as_deref()).unwrap_or_else(|| "its container waits".into());
    match reason.is_some_and(|reason| STUCK.contains(&reason)) {
        true => State::Stuck(why),
        false => State::Waiting(format!("{why}, on {}", node(pod))),
    }
}

fn unstarted(pod: &Pod, status: &PodStatus) -> String {
    match condition(status, "PodScheduled") {
        Some(scheduled) if scheduled.status == "True" => {
            format!("its container is not made yet, on {}", node(pod))
        }
        Some(scheduled) => told(scheduled).unwrap_or_else(|| "it has no node".into()),
        None => "the scheduler has not looked at it".into(),
    }
}

fn node(pod: &Pod) -> String {
    let name = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    name.map_or_else(|| "no node".into(), |name| format!("the node {name}"))
}

pub(super) fn is_ready(pod: &Pod) -> bool {
    let ready = pod.status.as_ref().and_then(|status| condition(status, "Ready"));
    ready.is_some_and(|condition| condition.status == "True")
}

pub(super) fn silent_node(node: Option<&str>) -> String {
    let node = node.unwrap_or_default();
    format!("its node {node} has not been heard of for {} s", NODE_SILENCE.as_secs())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn seen(status: Value) -> State {
        let pod = json!({"metadata": {}, "spec": {"containers": [], "nodeName": "n1"}, "status": status});
        state(&serde_json::from_value(pod).unwrap())
    }

    fn with(state: Value) -> Value {
        json!({"phase": "Pending", "containerStatuses": [{"name": "mover", "image": "", "imageID": "",
            "ready": false, "restartCount": 0, "state": state}]})
    }

    #[test]
    fn a_pod_runs_when_its_container_does() {
        assert_eq!(seen(with(json!({"running": {}}))), State::Running);
    }

    #[test]
    fn the_schedulers_reason_is_told() {
        let conditions = json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 Insufficient cpu."}]);
        let why = "Unschedulable: 0/1 nodes are available: 1 Insufficient cpu.";
        assert_eq!(seen(json!({"phase": "Pending", "conditions": conditions})), State::Waiting(why.into()));
        let why = "the scheduler has not looked at it";
        assert_eq!(seen(json!({"phase": "Pending"})), State::Waiting(why.into()));
    }

    #[test]
    fn an_image_that_cant_be_pulled_is_told_from_a_container_that_is_being_made() {
        let pull = with(json!({"waiting": {"reason": "ErrImagePull", "message": "no such image"}}));
        assert_eq!(seen(pull), State::Stuck("ErrImagePull: no such image".into()));
        let made = with(json!({"waiting": {"reason": "ContainerCreating"}}));
        assert_eq!(seen(made), State::Waiting("ContainerCreating, on the node n1".into()));
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_told() {
        let mut ended = with(json!({"terminated": {"exitCode": 1, "message": "\u{1b}[2Kall is well"}}));
        ended["phase"] = json!("Failed");
        let told = r"its container ended with exit code 1 (\u{1b}[2Kall is well)";
        assert_eq!(seen(ended), State::Ended(told.into()));
    }

    #[test]
    fn an_end_is_told_with_its_reason() {
        let mut killed = with(json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}));
        killed["phase"] = json!("Failed");
        assert_eq!(seen(killed), State::Ended("its container ended with exit code 137 (OOMKilled)".into()));
        let deleted: Pod = serde_json::from_value(json!({
            "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"phase": "Running", "conditions": [{"type": "DisruptionTarget", "status": "True",
                "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting"}]},
        }))
        .unwrap();
        let why = "it is being deleted (EvictionByEvictionAPI: Eviction API: evicting)";
        assert_eq!(state(&deleted), State::Ended(why.into()));
    }
}
