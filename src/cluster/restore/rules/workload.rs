//! Pods, and what makes them.

use serde_json::{Value, json};

use crate::cluster::restore::rules::{ANNOTATIONS, Draft, SUSPENDED};

/// The labels that the Job controller makes of a Job's own UID; with them no new Job would fit its selector.
const JOB_UID: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
const JOB_NAME: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];
/// Where a Job's labels stand.
const JOB_LABELS: [&str; 3] =
    ["/metadata/labels", "/spec/selector/matchLabels", "/spec/template/metadata/labels"];

pub(super) fn pod(draft: &mut Draft<'_>) {
    draft.cut("/spec", "nodeName");
    draft.cut("/spec", "ephemeralContainers");
    // Admission computes both from the class, and refuses a pod that brings others.
    draft.take("/spec", "priority");
    draft.take("/spec", "preemptionPolicy");
    let account = draft.body["spec"]["serviceAccountName"].as_str().unwrap_or("default");
    let token = format!("{account}-token-");
    let is_injected = |volume: &Value| {
        let name = volume["name"].as_str().unwrap_or_default();
        let of_secret = volume["secret"]["secretName"] == name && name.starts_with(&token);
        of_secret || (volume["projected"].is_object() && name.starts_with("kube-api-access-"))
    };
    let Some(volumes) = draft.list("/spec/volumes") else { return };
    let (injected, rest): (Vec<Value>, Vec<Value>) = volumes.drain(..).partition(is_injected);
    *volumes = rest;
    for containers in ["/spec/containers", "/spec/initContainers"] {
        for container in draft.list(containers).into_iter().flatten() {
            if let Some(mounts) = container["volumeMounts"].as_array_mut() {
                mounts.retain(|mount| !injected.iter().any(|volume| volume["name"] == mount["name"]));
            }
        }
    }
}

pub(super) fn deployment(draft: &mut Draft<'_>) {
    draft.take(ANNOTATIONS, "deployment.kubernetes.io/revision");
}

pub(super) fn daemon_set(draft: &mut Draft<'_>) {
    draft.take(ANNOTATIONS, "deprecated.daemonset.template.generation");
}

pub(super) fn stateful_set(draft: &mut Draft<'_>) {
    let count = draft.list("/spec/volumeClaimTemplates").map_or(0, |templates| templates.len());
    for nth in 0..count {
        draft.map_class(&format!("/spec/volumeClaimTemplates/{nth}"));
    }
}

pub(super) fn cron_job(draft: &mut Draft<'_>) {
    let Some(spec) = draft.body["spec"].as_object_mut() else { return };
    if spec.insert("suspend".into(), json!(true)) != Some(json!(true)) {
        draft.said(SUSPENDED.into());
    }
}

pub(super) fn job(draft: &mut Draft<'_>) {
    if draft.body["spec"]["manualSelector"] == true {
        return;
    }
    for labels in JOB_LABELS {
        for name in JOB_UID.iter().chain(&JOB_NAME) {
            draft.take(labels, name);
        }
    }
    if draft.body["spec"]["selector"]["matchLabels"] == json!({}) {
        draft.take("/spec/selector", "matchLabels");
    }
    if draft.body["spec"]["selector"] == json!({}) {
        draft.take("/spec", "selector");
    }
    draft.said("generated selector removed".into());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::restore::Options;
    use crate::cluster::restore::rules::tests::{prepared, prepared_with};

    #[test]
    fn a_bare_pod_is_free_of_its_old_node() {
        let (body, changes) = prepared(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "shell", "namespace": "shop", "uid": "1"},
            "spec": {
                "nodeName": "one", "priority": 0, "preemptionPolicy": "PreemptLowerPriority",
                "serviceAccountName": "default",
                "containers": [{"name": "main", "image": "busybox", "volumeMounts": [
                    {"name": "data", "mountPath": "/data"},
                    {"name": "kube-api-access-x7x7x", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"},
                ]}],
                "volumes": [
                    {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
                    {"name": "default-token-abcde", "secret": {"secretName": "default-token-abcde"}},
                    {"name": "default-token-mine", "secret": {"secretName": "default-token-ci"}},
                    {"name": "kube-api-access-x7x7x", "projected": {"sources": []}},
                ],
            },
            "status": {"phase": "Running"},
        }));
        assert_eq!(
            body["spec"],
            json!({
                "serviceAccountName": "default",
                "containers": [{"name": "main", "image": "busybox", "volumeMounts": [
                    {"name": "data", "mountPath": "/data"},
                ]}],
                "volumes": [
                    {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
                    {"name": "default-token-mine", "secret": {"secretName": "default-token-ci"}},
                ],
            })
        );
        assert_eq!(changes, ["spec.nodeName removed"]);
    }

    fn running_job() -> Value {
        json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": "fill", "namespace": "shop", "labels": {
                "controller-uid": "1", "batch.kubernetes.io/controller-uid": "1", "app": "fill"}},
            "spec": {
                "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "1"}},
                "template": {"metadata": {"labels": {
                    "app": "fill", "batch.kubernetes.io/controller-uid": "1", "controller-uid": "1",
                    "batch.kubernetes.io/job-name": "fill", "job-name": "fill"}},
                    "spec": {"restartPolicy": "Never"}},
            },
        })
    }

    #[test]
    fn a_job_gets_a_selector_of_its_own() {
        let (body, _) = prepared(running_job());
        assert_eq!(body["metadata"]["labels"], json!({"app": "fill"}));
        assert_eq!(
            body["spec"],
            json!({"template": {"metadata": {"labels": {"app": "fill"}}, "spec": {"restartPolicy": "Never"}}})
        );
    }

    #[test]
    fn a_jobs_selector_made_by_hand_stays() {
        let mut job = running_job();
        job["spec"]["manualSelector"] = json!(true);
        job["spec"]["selector"] = json!({"matchLabels": {"job-name": "fill"}});
        assert_eq!(prepared(job.clone()).0["spec"], job["spec"]);
    }

    #[test]
    fn a_cron_job_does_not_fire_in_the_middle() {
        let job = |suspend: Value| {
            json!({"apiVersion": "batch/v1", "kind": "CronJob",
                   "metadata": {"name": "tidy", "namespace": "shop"},
                   "spec": {"schedule": "* * * * *", "suspend": suspend}})
        };
        let (body, changes) = prepared(job(json!(false)));
        assert_eq!(body["spec"]["suspend"], true);
        assert_eq!(changes, ["suspended until the end"]);
        assert!(prepared(job(json!(true))).1.is_empty());
    }

    #[test]
    fn counters_of_revisions_start_anew() {
        for (kind, name) in [
            ("Deployment", "deployment.kubernetes.io/revision"),
            ("DaemonSet", "deprecated.daemonset.template.generation"),
        ] {
            let (body, _) = prepared(json!({"apiVersion": "apps/v1", "kind": kind,
                "metadata": {"name": "web", "namespace": "shop", "annotations": {name: "7", "mine": "x"}}}));
            assert_eq!(body["metadata"]["annotations"], json!({"mine": "x"}));
        }
    }

    #[test]
    fn templates_of_claims_follow_the_mapping_of_classes() {
        let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {"name": "db", "namespace": "shop"},
        "spec": {"volumeClaimTemplates": [
            {"metadata": {"name": "data"}, "spec": {"storageClassName": "slow"}, "status": {"phase": "Pending"}},
            {"metadata": {"name": "log"}, "spec": {"storageClassName": "other"}},
        ]}});
        let options = Options { map_classes: [("slow".into(), "fast".into())].into(), ..Options::default() };
        let (body, changes) = prepared_with(set, &options);
        assert_eq!(body["spec"]["volumeClaimTemplates"][0]["spec"]["storageClassName"], "fast");
        assert_eq!(body["spec"]["volumeClaimTemplates"][1]["spec"]["storageClassName"], "other");
        assert_eq!(changes, ["storage class fast instead of slow"]);
    }
}
