//! Webhooks that must not be restored yet: those whose own pods do not run.
//!
//! Pure. A webhook that nobody answers refuses every object that it is asked about, the pods among them that
//! would answer it; such a cluster does not come up by itself any more.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cluster::manifest::ObjectKey;
use crate::cluster::restore::{Action, NotReady, Outcome, Plan, Step};

const ADMISSION: &str = "admissionregistration.k8s.io";
const KINDS: [&str; 2] = ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];

/// The configurations, as they are called in the target, and why each is left out.
pub(super) fn left_out(plan: &Plan, not_ready: &[NotReady], failed: &[Outcome]) -> BTreeMap<String, String> {
    let mut broken: BTreeMap<&str, &str> = failed.iter().map(|it| (&*it.object, &*it.why)).collect();
    broken.extend(not_ready.iter().map(|it| (&*it.object, &*it.why)));
    let all = created(plan).filter(|step| KINDS.iter().any(|kind| step.to.is(ADMISSION, kind)));
    all.filter_map(|step| Some((step.to.to_string(), why_not(plan, &step.body, &broken)?))).collect()
}

fn created(plan: &Plan) -> impl Iterator<Item = &Step> {
    plan.steps.iter().filter(|step| step.action == Action::Create)
}

fn why_not(plan: &Plan, configuration: &Value, broken: &BTreeMap<&str, &str>) -> Option<String> {
    let webhooks = configuration["webhooks"].as_array().map_or(&[][..], Vec::as_slice);
    webhooks.iter().find_map(|webhook| {
        let service = &webhook["clientConfig"]["service"];
        let key =
            ObjectKey::of("v1", "Service", Some(service["namespace"].as_str()?), service["name"].as_str()?);
        // What the target had before is not ours to judge.
        let service = created(plan).find(|step| step.to == key)?;
        let of_service = created(plan).filter(|step| is_behind(service, step)).chain([service]);
        let mut names = of_service.map(|step| step.to.to_string());
        let (name, why) = names.find_map(|name| broken.get(&*name).copied().map(|why| (name, why)))?;
        Some(format!("left out: it would refuse objects as long as nothing answers it, and {name}: {why}"))
    })
}

/// Whether the service leads to the pod, or to the pods of the workload.
fn is_behind(service: &Step, step: &Step) -> bool {
    let Some(selector) = service.body["spec"]["selector"].as_object().filter(|all| !all.is_empty()) else {
        return false;
    };
    let metadata = if step.to.is("", "Pod") { "/metadata" } else { "/spec/template/metadata" };
    let Some(metadata) = step.body.pointer(metadata) else { return false };
    step.to.namespace == service.to.namespace
        && selector.iter().all(|(name, value)| metadata["labels"][name] == *value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::manifest::Manifest;
    use crate::cluster::restore::plan::testing::{empty_target, object};
    use crate::cluster::restore::{Options, plan};
    use serde_json::json;

    fn shop() -> Vec<Manifest> {
        let workload = |name: &str| {
            object(json!({"apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": name, "namespace": "shop", "uid": name},
                "spec": {"template": {"metadata": {"labels": {"app": name, "x": "y"}}}}}))
        };
        let webhook = |kind: &str, service: Value| {
            object(json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
                "metadata": {"name": "check", "uid": kind},
                "webhooks": [{"clientConfig": {"url": "https://x"}}, {"clientConfig": {"service": service}}]}))
        };
        vec![
            workload("hook"),
            workload("other"),
            object(json!({"apiVersion": "v1", "kind": "Service",
                "metadata": {"name": "hook", "namespace": "shop", "uid": "s"},
                "spec": {"selector": {"app": "hook"}}})),
            webhook(KINDS[0], json!({"namespace": "elsewhere", "name": "hook"})),
            webhook(KINDS[1], json!({"namespace": "shop", "name": "hook"})),
        ]
    }

    #[test]
    fn a_webhook_is_left_out_if_its_own_pods_are_not_ready() {
        let manifests = shop();
        let plan = plan(&manifests, &empty_target(&manifests), &Options::default());
        let left_out = |not_ready: &str, failed: &str| {
            let not_ready = [NotReady { object: not_ready.into(), why: "0 of 1 pods ready".into() }];
            left_out(&plan, &not_ready, &[Outcome { object: failed.into(), why: "refused".into() }])
        };
        let own = left_out("apps/v1 Deployment shop/hook", "");
        let [(object, why)] = &own.into_iter().collect::<Vec<_>>()[..] else { panic!("one is left out") };
        assert_eq!(object, "admissionregistration.k8s.io/v1 ValidatingWebhookConfiguration check");
        assert!(why.ends_with("apps/v1 Deployment shop/hook: 0 of 1 pods ready"), "{why}");
        assert_eq!(left_out("", "v1 Service shop/hook").len(), 1);
        assert!(left_out("apps/v1 Deployment shop/other", "v1 ConfigMap shop/x").is_empty());
    }
}
