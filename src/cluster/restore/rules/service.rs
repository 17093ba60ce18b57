//! Services: addresses and ports that the old cluster gave are left to the new one to give.
//!
//! A node port that someone chose is part of what they run, so it stays: it stands in the manifest that
//! was applied, or in the fields that a client wrote. The server's own choice stands in neither.

use serde_json::Value;

use crate::cluster::manifest::Manifest;
use crate::cluster::restore::context::annotation;
use crate::cluster::restore::rules::Draft;

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

pub(super) fn service(draft: &mut Draft<'_>) {
    // "None" is no address: it makes the Service headless.
    if draft.body["spec"]["clusterIP"] != "None" {
        draft.cut("/spec", "clusterIP");
        draft.take("/spec", "clusterIPs");
    }
    let from = draft.from;
    if !is_chosen(from, &|spec| !spec["healthCheckNodePort"].is_null(), "f:healthCheckNodePort") {
        draft.cut("/spec", "healthCheckNodePort");
    }
    let count = draft.list("/spec/ports").map_or(0, |ports| ports.len());
    for nth in 0..count {
        let port = &from.body["spec"]["ports"][nth];
        if !port["nodePort"].is_null() && !is_port_chosen(from, port) {
            draft.cut(&format!("/spec/ports/{nth}"), "nodePort");
        }
    }
}

fn is_port_chosen(service: &Manifest, port: &Value) -> bool {
    let applied = |spec: &Value| {
        let ports = spec["ports"].as_array().map_or(&[][..], Vec::as_slice);
        let same = |other: &&Value| other["port"] == port["port"] && protocol(other) == protocol(port);
        ports.iter().find(same).is_some_and(|other| !other["nodePort"].is_null())
    };
    let written = format!("k:{{\"port\":{},\"protocol\":\"{}\"}}", port["port"], protocol(port));
    let is_written = |fields: &Value| {
        let ports = &fields["f:spec"]["f:ports"];
        !ports[&written]["f:nodePort"].is_null()
    };
    is_applied(service, &applied) || writers(service).any(is_written)
}

fn is_chosen(service: &Manifest, applied: &dyn Fn(&Value) -> bool, field: &str) -> bool {
    is_applied(service, applied) || writers(service).any(|fields| !fields["f:spec"][field].is_null())
}

fn is_applied(service: &Manifest, has: &dyn Fn(&Value) -> bool) -> bool {
    let applied = annotation(service, LAST_APPLIED).and_then(|text| serde_json::from_str(text).ok());
    applied.is_some_and(|applied: Value| has(&applied["spec"]))
}

/// What each client wrote.
fn writers(service: &Manifest) -> impl Iterator<Item = &Value> {
    let fields = service.metadata("managedFields").as_array().map_or(&[][..], Vec::as_slice);
    fields.iter().map(|entry| &entry["fieldsV1"])
}

fn protocol(port: &Value) -> &str {
    port["protocol"].as_str().unwrap_or("TCP")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::restore::rules::tests::prepared;
    use serde_json::json;

    fn node_port() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "namespace": "shop", "managedFields": [
                {"manager": "client", "operation": "Update", "fieldsV1": {"f:spec": {"f:ports": {
                    ".": {}, "k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}}}},
            ]},
            "spec": {
                "type": "NodePort", "clusterIP": "10.96.7.7", "clusterIPs": ["10.96.7.7"],
                "ipFamilies": ["IPv4"], "selector": {"app": "web"},
                "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080, "nodePort": 31234}],
            },
        })
    }

    #[test]
    fn given_addresses_and_ports_are_given_anew() {
        let (body, changes) = prepared(node_port());
        assert_eq!(
            body["spec"],
            json!({
                "type": "NodePort", "ipFamilies": ["IPv4"], "selector": {"app": "web"},
                "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}],
            })
        );
        assert_eq!(changes, ["spec.clusterIP removed", "spec.ports.0.nodePort removed"]);
    }

    #[test]
    fn a_headless_service_stays_headless() {
        let mut service = node_port();
        service["spec"] = json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 5432}]});
        let (body, changes) = prepared(service.clone());
        assert_eq!(body["spec"], service["spec"]);
        assert!(changes.is_empty());
    }

    #[test]
    fn node_ports_that_someone_chose_stay() {
        let mut written = node_port();
        written["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:ports"]["k:{\"port\":80,\"protocol\":\"TCP\"}"]
            ["f:nodePort"] = json!({});
        let mut applied = node_port();
        let manifest = json!({"spec": {"ports": [{"port": 80, "nodePort": 31234}]}}).to_string();
        applied["metadata"]["annotations"] = json!({ LAST_APPLIED: manifest });
        for service in [written, applied] {
            assert_eq!(prepared(service).0["spec"]["ports"][0]["nodePort"], 31234);
        }
    }

    #[test]
    fn a_port_of_health_checks_stays_only_if_it_was_chosen() {
        let mut service = node_port();
        service["spec"]["healthCheckNodePort"] = json!(30001);
        assert!(prepared(service.clone()).0["spec"]["healthCheckNodePort"].is_null());
        service["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:healthCheckNodePort"] = json!({});
        assert_eq!(prepared(service).0["spec"]["healthCheckNodePort"], 30001);
    }
}
