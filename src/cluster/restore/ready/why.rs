//! What the cluster says about an object that is not ready: its pods first, then its conditions, then events.

use kube::api::{GetParams, ListParams};
use kube::core::{ApiResource, Request};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::cluster::error::reason;
use crate::cluster::plain::plain;
use crate::cluster::restore::kinds::url;

/// Pods that are told of one by one.
const TOLD: usize = 3;
/// Of pods and events that are read: enough to find one that says why.
const PAGE: u32 = 500;

pub(super) async fn why(cluster: &Cluster, resource: &ApiResource, namespace: &str, name: &str) -> String {
    let body = match get(cluster, &url(resource, Some(namespace)), name).await {
        Ok(body) => body,
        Err(error) => return reason(&error),
    };
    let mut said = Vec::new();
    if resource.kind == "Pod" {
        said.extend(of_pod(&body));
    } else if body["spec"]["selector"].is_object() {
        let pods = list(cluster, namespace, "pods", &ListParams::default()).await;
        said.extend(of_pods(&body, &pods));
    }
    if said.is_empty() {
        said.extend(of_conditions(&body["status"]));
    }
    if said.is_empty() {
        let uid = body["metadata"]["uid"].as_str().unwrap_or_default();
        let of = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
        said.extend(last_warning(&list(cluster, namespace, "events", &of).await));
    }
    if said.is_empty() { phase(&body) } else { said.join("; ") }
}

async fn get(cluster: &Cluster, url: &str, name: &str) -> Result<Value, kube::Error> {
    let request = Request::new(url).get(name, &GetParams::default()).map_err(kube::Error::BuildRequest)?;
    cluster.client.request(request).await
}

/// Empty if it can't be had: then it says nothing.
async fn list(cluster: &Cluster, namespace: &str, plural: &str, params: &ListParams) -> Vec<Value> {
    let url = format!("/api/v1/namespaces/{namespace}/{plural}");
    let Ok(request) = Request::new(url).list(&params.clone().limit(PAGE)) else { return Vec::new() };
    let listed: Result<Value, kube::Error> = cluster.client.request(request).await;
    match listed.map(|mut list| list["items"].take()) {
        Ok(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

/// Of pods that the selector takes, what the first few that are not ready say.
fn of_pods(workload: &Value, pods: &[Value]) -> Vec<String> {
    let labels = workload["spec"]["selector"]["matchLabels"].as_object();
    let is_own = |pod: &&Value| {
        labels.is_some_and(|labels| {
            labels.iter().all(|(name, value)| pod["metadata"]["labels"][name] == *value)
        })
    };
    let own: Vec<&Value> = pods.iter().filter(is_own).collect();
    let is_ready =
        |pod: &&&Value| condition(&pod["status"], "Ready").is_some_and(|ready| ready["status"] == "True");
    let ready = own.iter().filter(is_ready).count();
    let not_ready = own.iter().filter(|pod| !is_ready(pod));
    let told = not_ready.take(TOLD).filter_map(|pod| {
        let name = pod["metadata"]["name"].as_str()?;
        Some(format!("pod {name}: {}", of_pod(pod)?))
    });
    let mut told: Vec<String> = told.collect();
    if !told.is_empty() {
        told.insert(0, format!("{ready} of {} pods ready", own.len()));
    }
    told
}

/// Why a pod is not ready: not scheduled, a container that waits or ended, or its own condition.
fn of_pod(pod: &Value) -> Option<String> {
    let status = &pod["status"];
    if let Some(scheduled) = condition(status, "PodScheduled").filter(|it| it["status"] == "False") {
        return Some(format!("not scheduled: {}", message(scheduled)));
    }
    let lists = ["initContainerStatuses", "containerStatuses"].map(|list| status[list].as_array());
    for container in lists.into_iter().flatten().flatten() {
        let name = container["name"].as_str().unwrap_or_default();
        let waiting = &container["state"]["waiting"];
        let ended = &container["lastState"]["terminated"];
        // What every container says while its pod is being set up explains nothing.
        let early = matches!(waiting["reason"].as_str(), Some("ContainerCreating" | "PodInitializing"));
        if waiting.is_object() && !early {
            let mut said = format!("container {name} waits: {}", reason_and_message(waiting));
            if ended.is_object() {
                said.push_str(&format!(" (it ended: {}, exit code {})", reason_of(ended), ended["exitCode"]));
            }
            return Some(said);
        }
        let ended = &container["state"]["terminated"];
        if ended.is_object() && ended["exitCode"] != 0 {
            let reason = reason_and_message(ended);
            return Some(format!("container {name} ended: {reason}, exit code {}", ended["exitCode"]));
        }
    }
    if let Some(text) = status["message"].as_str() {
        return Some(plain(text));
    }
    condition(status, "Ready").map(reason_and_message).or_else(|| Some(phase(pod)))
}

/// Conditions that tell of something wrong.
fn of_conditions(status: &Value) -> Option<String> {
    let failing = condition(status, "ReplicaFailure").filter(|it| it["status"] == "True");
    let stuck = condition(status, "Progressing").filter(|it| it["status"] == "False");
    failing.or(stuck).map(message)
}

/// The newest one: a list of events is in the order of their names, which says nothing.
fn last_warning(events: &[Value]) -> Option<String> {
    let warnings = events.iter().filter(|event| event["type"] == "Warning");
    let time = |event: &&Value| {
        let times = [&event["lastTimestamp"], &event["eventTime"], &event["metadata"]["creationTimestamp"]];
        times.into_iter().find_map(Value::as_str).unwrap_or_default().to_owned()
    };
    warnings.max_by_key(time).map(reason_and_message)
}

pub(super) fn condition<'a>(status: &'a Value, name: &str) -> Option<&'a Value> {
    status["conditions"].as_array()?.iter().find(|condition| condition["type"] == name)
}

fn reason_and_message(said: &Value) -> String {
    match said["message"].as_str().map(str::trim).filter(|text| !text.is_empty()) {
        Some(text) => format!("{}: {}", reason_of(said), plain(text)),
        None => reason_of(said),
    }
}

fn message(said: &Value) -> String {
    said["message"].as_str().map_or_else(|| reason_of(said), plain)
}

fn reason_of(said: &Value) -> String {
    said["reason"].as_str().map_or_else(|| "no reason given".into(), plain)
}

fn phase(body: &Value) -> String {
    match body["status"]["phase"].as_str() {
        Some(phase) => format!("it is {phase}"),
        None => "nothing is said about it yet".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, status: Value) -> Value {
        json!({"metadata": {"name": name, "labels": {"app": "web", "x": "y"}}, "status": status})
    }

    #[test]
    fn a_pod_says_why_it_does_not_run() {
        let unscheduled = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/1 nodes are available: 1 Insufficient cpu."}]});
        let waits = json!({"containerStatuses": [{"name": "main", "state": {"waiting": {
            "reason": "ImagePullBackOff", "message": "Back-off pulling image \"web:1\""}}}]});
        let crashes = json!({"containerStatuses": [{"name": "main",
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"reason": "Error", "exitCode": 2}}}]});
        let creating = json!({"containerStatuses": [{"name": "main", "state": {"waiting": {
            "reason": "ContainerCreating"}}}],
            "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady",
                            "message": "containers with unready status: [main]"}]});
        let rows = [
            (unscheduled, "not scheduled: 0/1 nodes are available: 1 Insufficient cpu."),
            (waits, "container main waits: ImagePullBackOff: Back-off pulling image \"web:1\""),
            (crashes, "container main waits: CrashLoopBackOff (it ended: Error, exit code 2)"),
            (creating, "ContainersNotReady: containers with unready status: [main]"),
        ];
        for (status, said) in rows {
            assert_eq!(of_pod(&pod("a", status)).unwrap(), said);
        }
    }

    #[test]
    fn a_workload_speaks_by_its_pods() {
        let workload = json!({"spec": {"selector": {"matchLabels": {"app": "web"}}}});
        let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        let failed = json!({"message": "The node was low on resource: memory."});
        let mut other = pod("other", json!({}));
        other["metadata"]["labels"] = json!({"app": "db"});
        let said = of_pods(&workload, &[pod("a", ready), pod("b", failed), other]);
        assert_eq!(said, ["1 of 2 pods ready", "pod b: The node was low on resource: memory."]);
        assert!(of_pods(&workload, &[]).is_empty());
    }

    #[test]
    fn without_pods_conditions_speak_and_then_events() {
        let status = json!({"conditions": [
            {"type": "Progressing", "status": "True", "message": "fine"},
            {"type": "ReplicaFailure", "status": "True", "message": "pods \"web-1-\" is forbidden: quota"}]});
        assert_eq!(of_conditions(&status).unwrap(), "pods \"web-1-\" is forbidden: quota");
        let events = [
            json!({"type": "Warning", "reason": "New", "message": "none", "lastTimestamp": "2026-01-02T00:00:00Z"}),
            json!({"type": "Warning", "reason": "Old", "message": "x", "lastTimestamp": "2026-01-01T00:00:00Z"}),
            json!({"type": "Normal", "reason": "Fine", "message": "x", "lastTimestamp": "2026-01-03T00:00:00Z"}),
        ];
        assert_eq!(last_warning(&events).unwrap(), "New: none");
    }
}
