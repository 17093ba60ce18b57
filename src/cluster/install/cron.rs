//! The CronJob of an installation: one pod that runs `kist backup cluster` and says how it went.
//!
//! Invariants: no secret stands in the CronJob, it names the Secret; the pod is fit for a namespace that
//! enforces pod security `restricted`.

use serde_json::{Value, json};

use crate::cluster::install::Install;
use crate::cluster::mover::{SCRATCH, SCRATCH_FOLDER};

const BUNDLE: &str = "bundle";
const AUTHORITIES: &str = "ca.crt";
const KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const KEY_SECRET: &str = "AWS_SECRET_ACCESS_KEY";
const TOKEN: &str = "AWS_SESSION_TOKEN";
/// Where the Secret's files are.
const FOLDER: &str = "/etc/kist";
const TERMINATION_LOG: &str = "/dev/termination-log";
/// "nobody" of most images; no file in kist's image belongs to it.
const USER: u32 = 65532;
/// To take movers away and thaw what is frozen, when the run is told to end.
const GRACE_SECS: u32 = 120;

/// What is in the Secret, by its keys.
pub(super) fn secrets(install: &Install) -> Vec<(&'static str, String)> {
    let store = &install.store;
    let mut secrets = vec![
        (BUNDLE, install.bundle.to_string()),
        (KEY_ID, store.access_key_id.0.to_string()),
        (KEY_SECRET, store.secret_access_key.0.to_string()),
    ];
    secrets.extend(store.session_token.as_ref().map(|token| (TOKEN, token.0.to_string())));
    secrets.extend(store.authorities.as_ref().map(|pem| (AUTHORITIES, pem.clone())));
    secrets
}

pub(super) fn cron_job(install: &Install) -> Value {
    let run = &install.run;
    let mut spec = json!({
        "schedule": run.schedule.as_str(),
        // The next one would meet the last one's pods and freeze the same databases.
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": run.starting_deadline.as_secs(),
        "successfulJobsHistoryLimit": run.successful_history,
        "failedJobsHistoryLimit": run.failed_history,
        "jobTemplate": {
            "metadata": { "labels": install.labels() },
            "spec": {
                "activeDeadlineSeconds": run.active_deadline.as_secs(),
                // What was incomplete is so again a minute later; the next run is on the schedule.
                "backoffLimit": 0,
                // But a node that is drained is no verdict.
                "podFailurePolicy": { "rules": [{
                    "action": "Ignore", "onPodConditions": [{ "type": "DisruptionTarget", "status": "True" }],
                }] },
                "template": { "metadata": { "labels": install.labels() }, "spec": pod(install) },
            },
        },
    });
    if let Some(zone) = &run.time_zone {
        spec["timeZone"] = json!(zone);
    }
    json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": install.metadata(Some(&install.namespace), &install.own_name()),
        "spec": spec,
    })
}

fn pod(install: &Install) -> Value {
    let run = &install.run;
    let files = [BUNDLE, AUTHORITIES].into_iter().filter(|key| *key == BUNDLE || has_authorities(install));
    let files: Value = files.map(|key| json!({ "key": key, "path": key })).collect();
    json!({
        "restartPolicy": "Never",
        "serviceAccountName": install.own_name(),
        "automountServiceAccountToken": true,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": GRACE_SECS,
        "imagePullSecrets": run.pull_secrets.iter().map(|name| json!({ "name": name })).collect::<Value>(),
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
            "seccompProfile": { "type": "RuntimeDefault" },
        },
        "containers": [{
            "name": "kist",
            "image": run.image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["/kist"],
            "args": arguments(install),
            "env": environment(install),
            "resources": {
                "requests": { "cpu": "100m", "memory": "256Mi" }, "limits": { "memory": "512Mi" },
            },
            "securityContext": {
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                "capabilities": { "drop": ["ALL"] },
            },
            "terminationMessagePath": TERMINATION_LOG,
            // If it could not even say that it failed.
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [
                { "name": "keys", "mountPath": FOLDER, "readOnly": true },
                { "name": SCRATCH, "mountPath": SCRATCH_FOLDER },
            ],
        }],
        "volumes": [
            { "name": "keys", "secret": {
                "secretName": install.own_name(), "defaultMode": 0o400, "items": files,
            } },
            { "name": SCRATCH, "emptyDir": {} },
        ],
    })
}

fn has_authorities(install: &Install) -> bool {
    install.store.authorities.is_some()
}

fn arguments(install: &Install) -> Vec<String> {
    let mut words: Vec<String> =
        ["--no-catalog", "backup", "cluster"].into_iter().map(str::to_owned).collect();
    for namespace in &install.backed_up {
        words.extend(["--namespace".to_owned(), namespace.clone()]);
    }
    if !install.hooks {
        words.push("--no-hooks".into());
    }
    if let Some(delay) = install.run.delay.filter(|delay| !delay.is_zero()) {
        words.extend(["--delay".to_owned(), format!("{}s", delay.as_secs())]);
    }
    words.extend(install.run.arguments.iter().cloned());
    words
}

fn environment(install: &Install) -> Vec<Value> {
    let plain = |name: &str, value: String| json!({ "name": name, "value": value });
    let field =
        |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    let secret = |name: &str| json!({ "name": name, "valueFrom": { "secretKeyRef": { "name": install.own_name(), "key": name } } });
    let store = &install.store;
    let mut all = vec![
        plain("KIST_REPO", escaped(&store.url)),
        plain("KIST_KEY_FILE", format!("{FOLDER}/{BUNDLE}")),
        plain("KIST_MOVER_IMAGE", escaped(&install.run.image)),
        plain("KIST_TERMINATION_LOG", TERMINATION_LOG.into()),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("POD_NAME", "metadata.name"),
        field("POD_UID", "metadata.uid"),
        // Put together by the kubelet from those before it.
        plain("KIST_EVENT", "$(POD_NAMESPACE)/$(POD_NAME)/$(POD_UID)".into()),
        secret(KEY_ID),
        secret(KEY_SECRET),
    ];
    all.extend(store.session_token.as_ref().map(|_| secret(TOKEN)));
    all.extend(store.region.as_ref().map(|region| plain("AWS_REGION", escaped(region))));
    if has_authorities(install) {
        all.push(plain("KIST_CA_FILE", format!("{FOLDER}/{AUTHORITIES}")));
    }
    all
}

/// The kubelet replaces `$(NAME)` in values.
fn escaped(text: &str) -> String {
    text.replace("$(", "$$(")
}
