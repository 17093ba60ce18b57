//! A backup on a schedule: `kist install`, a Job from its CronJob that backs up from inside the cluster, where its
//! verdict is told, and what its account may do: asked of the API server, and tried.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::{Value, json};

use crate::cluster::image::KIST_IMAGE;
use crate::cluster::wait;
use crate::harness::LIMIT;
use crate::kist::Outcome;
use crate::objects;
use crate::scenarios::{deployment_ready, named, nothing_is_left};
use crate::stage::{Repo, Stage};

const SYSTEM: &str = "kist-system";
const BACKED_UP: &str = "scheduled";
/// Backed up only by the second installation of the name.
const OTHER: &str = "scheduled-later";
const NAME: &str = "kist-sched";
/// So rare that only the Jobs that are made here run; the deadline bounds the pause at the start to 5 s.
const INSTALL: &str = "install --create-namespace --name sched --schedule @yearly --starting-deadline 10s";

pub async fn a_scheduled_backup(stage: Arc<Stage>) {
    let client = stage.first.client();
    let objects =
        [named(BACKED_UP), objects::claim("data", "lab-wait"), objects::deployment_with_claim("app", "data")];
    wait::apply(&client, BACKED_UP, objects).await.unwrap();
    wait::apply(&client, OTHER, [named(OTHER)]).await.unwrap();
    deployment_ready(&client, BACKED_UP, "app").await;
    let repo = stage.s3_repository("cronjob").await;
    let install = format!("{INSTALL} --image {KIST_IMAGE} --backup-namespace {BACKED_UP}");

    refusals_change_nothing(&stage, &repo, &install).await;
    let installed = repo.writer.json(&install, 0).await;
    assert_eq!(actions(&installed), BTreeSet::from(["created".to_owned()]), "{}", installed.all());
    let again = repo.writer.json(&install, 0).await;
    assert_eq!(actions(&again), BTreeSet::from(["unchanged".to_owned()]), "{}", again.all());

    a_job_backs_up(&client, &repo).await;
    a_job_that_fails_says_so(&client).await;
    nothing_is_left(&client, BACKED_UP).await;
    the_rights_are_few(&client).await;
    only_movers_may_be_created(&stage).await;

    let later = format!("{INSTALL} --image {KIST_IMAGE} --backup-namespace {OTHER} --hooks");
    let later = repo.writer.json(&later, 0).await;
    later.says(&["removed", "RoleBinding", BACKED_UP]);
    hooks_are_another_grant(&client).await;

    let wide = format!("install --name all --schedule @yearly --image {KIST_IMAGE} --no-jitter");
    repo.writer.json(&wide, 0).await;
    reading_all_is_not_running_all(&client).await;
}

fn actions(outcome: &Outcome) -> BTreeSet<String> {
    let objects = outcome.of_type("object");
    objects.iter().map(|object| object["action"].as_str().unwrap().to_owned()).collect()
}

/// An owner's key never goes into a cluster, a folder is out of a pod's reach, and a dry run shows no key.
async fn refusals_change_nothing(stage: &Stage, repo: &Repo, install: &str) {
    repo.owner.json(install, 2).await.says(&["owner", "writer's bundle"]);
    let local = stage.local_repository("cronjob-local").await;
    local.writer.json(install, 2).await.says(&["folder", "no pod can reach"]);
    let shown = repo.writer.run(&format!("{install} --dry-run")).await;
    shown.ended_with(0);
    shown.says(&["kind: CronJob"]);
    for (_, secret) in stage.store.credentials() {
        assert!(!shown.stdout.contains(secret), "a key is shown");
    }
    let accounts: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(stage.first.client());
    assert!(accounts.get_opt(SYSTEM).await.unwrap().is_none(), "nothing was made");
}

/// As `kubectl create job --from=cronjob/…` makes it.
async fn job(client: &Client, name: &str, more: &[&str]) -> Job {
    let crons: Api<CronJob> = Api::namespaced(client.clone(), SYSTEM);
    let cron = crons.get(NAME).await.unwrap();
    let template = serde_json::to_value(cron.spec.unwrap().job_template).unwrap();
    let mut job = json!({ "metadata": template["metadata"], "spec": template["spec"] });
    job["metadata"]["name"] = json!(name);
    job["metadata"]["annotations"] = json!({ "cronjob.kubernetes.io/instantiate": "manual" });
    let args = job["spec"]["template"]["spec"]["containers"][0]["args"].as_array_mut().unwrap();
    args.extend(more.iter().map(|word| json!(word)));
    let jobs: Api<Job> = Api::namespaced(client.clone(), SYSTEM);
    jobs.create(&PostParams::default(), &serde_json::from_value(job).unwrap()).await.unwrap();
    let has_ended = |job: Option<&Job>| {
        let conditions = job.and_then(|job| job.status.as_ref()?.conditions.clone()).unwrap_or_default();
        conditions.iter().any(|is| ["Complete", "Failed"].contains(&is.type_.as_str()) && is.status == "True")
    };
    wait::until(jobs, name, &format!("the end of the job {name}"), LIMIT, has_ended).await.unwrap().unwrap()
}

/// What the pod of a job says at its end, and the event about it.
async fn verdict(client: &Client, job: &Job) -> (Value, Event) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), SYSTEM);
    let labels = format!("batch.kubernetes.io/job-name={}", job.name_any());
    let pods = pods.list(&ListParams::default().labels(&labels)).await.unwrap().items;
    let [pod] = pods.as_slice() else { panic!("{} pods of a job", pods.len()) };
    let containers = pod.status.clone().unwrap().container_statuses.unwrap();
    let ended = containers[0].state.clone().unwrap().terminated.unwrap();
    let message = ended.message.unwrap_or_default();
    let message = serde_json::from_str(&message).unwrap_or_else(|_| panic!("not a verdict: {message}"));
    let events: Api<Event> = Api::namespaced(client.clone(), SYSTEM);
    let events = events.list(&ListParams::default()).await.unwrap().items;
    let mut ours = events.into_iter().filter(|event| {
        let is_of_pod = event.regarding.as_ref().is_some_and(|pod_of| pod_of.uid == pod.metadata.uid);
        is_of_pod && event.reporting_controller.as_deref() == Some("kist.dev/backup")
    });
    let event = ours.next().unwrap_or_else(|| panic!("no event about {}: {message}", pod.name_any()));
    assert!(ours.next().is_none(), "one event is enough");
    (message, event)
}

async fn a_job_backs_up(client: &Client, repo: &Repo) {
    let job = job(client, "first", &[]).await;
    let (message, event) = verdict(client, &job).await;
    assert_eq!(job.status.unwrap().succeeded, Some(1), "{message}");
    assert_eq!(message["result"], "complete", "{message}");
    assert_eq!(message["volumesFirst"][0]["volume"], format!("{BACKED_UP}/data"), "{message}");
    assert_eq!(event.type_.as_deref(), Some("Normal"));
    assert_eq!(event.reason.as_deref(), Some("BackupComplete"));
    let snapshot = message["snapshot"].as_str().unwrap();
    assert!(event.note.unwrap().contains(snapshot));
    let snapshots = repo.owner.json("snapshots", 0).await;
    let found = snapshots.of_type("snapshot");
    assert!(found.iter().any(|found| found["snapshot"] == snapshot && found["complete"] == true));
    repo.owner.json("check --read-data", 0).await;
}

/// A namespace that it has no rights in: the job has failed, and says why.
async fn a_job_that_fails_says_so(client: &Client) {
    let job = job(client, "second", &["--namespace", OTHER]).await;
    let (message, event) = verdict(client, &job).await;
    assert_eq!(job.status.unwrap().failed, Some(1), "{message}");
    assert_eq!(message["result"], "failed", "{message}");
    assert!(message["error"].as_str().unwrap().contains(OTHER), "{message}");
    assert_eq!(event.reason.as_deref(), Some("BackupFailed"));
    assert_eq!(event.type_.as_deref(), Some("Warning"));
}

/// Verb, resource as kubectl has it, namespace, name.
type Request<'a> = (&'a str, &'a str, &'a str, &'a str);

/// Asks the API server whether an installation's account may do something.
async fn may(client: &Client, account: &str, (verb, resource, namespace, name): Request<'_>) -> bool {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let spec = SubjectAccessReviewSpec {
        user: Some(user(account)),
        groups: Some(groups()),
        resource_attributes: Some(ResourceAttributes {
            verb: text(verb),
            group: text(group),
            resource: text(resource),
            subresource: text(subresource),
            namespace: text(namespace),
            name: text(name),
            ..Default::default()
        }),
        ..Default::default()
    };
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let review = SubjectAccessReview { spec, ..Default::default() };
    reviews.create(&PostParams::default(), &review).await.unwrap().status.unwrap().allowed
}

fn user(account: &str) -> String {
    format!("system:serviceaccount:{SYSTEM}:{account}")
}

fn groups() -> Vec<String> {
    let own = format!("system:serviceaccounts:{SYSTEM}");
    [own.as_str(), "system:serviceaccounts", "system:authenticated"].map(str::to_owned).into()
}

async fn check(client: &Client, account: &str, allowed: bool, requests: &[Request<'_>]) {
    for request in requests {
        assert_eq!(may(client, account, *request).await, allowed, "{account}: {request:?}");
    }
}

async fn the_rights_are_few(client: &Client) {
    let needed = [
        // All of them: README says what that means.
        ("list", "secrets", BACKED_UP, ""),
        ("list", "coupons.shop.example.com", BACKED_UP, ""),
        ("create", "pods", BACKED_UP, ""),
        ("delete", "pods", BACKED_UP, "kist-mover-1-1"),
        ("get", "pods/exec", BACKED_UP, "kist-mover-1-1"),
        ("create", "pods/exec", BACKED_UP, "kist-mover-4-4"),
        ("update", "leases.coordination.k8s.io", BACKED_UP, "kist-run-1"),
        ("get", "namespaces", "", "kube-system"),
        ("get", "persistentvolumes", "", "any"),
        ("create", "events.events.k8s.io", SYSTEM, ""),
    ];
    check(client, NAME, true, &needed).await;
    let never = [
        ("get", "pods/exec", BACKED_UP, "db-0"),
        ("create", "pods/exec", BACKED_UP, "db-0"),
        ("create", "pods/attach", BACKED_UP, "kist-mover-1-1"),
        ("get", "pods/log", BACKED_UP, "db-0"),
        ("get", "nodes/proxy", "", "node"),
        ("create", "nodes/proxy", "", "node"),
        ("delete", "pods", BACKED_UP, "db-0"),
        ("patch", "pods", BACKED_UP, "db-0"),
        ("update", "pods/ephemeralcontainers", BACKED_UP, "db-0"),
        ("create", "pods/eviction", BACKED_UP, "db-0"),
        ("create", "deployments.apps", BACKED_UP, ""),
        ("update", "deployments.apps", BACKED_UP, "app"),
        ("delete", "deployments.apps", BACKED_UP, "app"),
        ("create", "secrets", BACKED_UP, ""),
        ("update", "secrets", BACKED_UP, "payment"),
        ("delete", "persistentvolumeclaims", BACKED_UP, "data"),
        ("create", "serviceaccounts/token", BACKED_UP, "default"),
        ("update", "leases.coordination.k8s.io", BACKED_UP, "of-others"),
        ("impersonate", "serviceaccounts", BACKED_UP, "default"),
        ("impersonate", "users", "", "admin"),
        ("escalate", "clusterroles.rbac.authorization.k8s.io", "", ""),
        ("bind", "clusterroles.rbac.authorization.k8s.io", "", "cluster-admin"),
        ("update", "rolebindings.rbac.authorization.k8s.io", BACKED_UP, "any"),
        ("list", "secrets", "kube-system", ""),
        ("create", "pods", "kube-system", ""),
        ("get", "pods/exec", "kube-system", "kist-mover-1-1"),
        ("list", "secrets", SYSTEM, ""),
        ("create", "pods", SYSTEM, ""),
        ("list", "secrets", OTHER, ""),
        ("list", "secrets", "", ""),
        ("delete", "persistentvolumes", "", "any"),
        ("update", "cronjobs.batch", SYSTEM, NAME),
    ];
    check(client, NAME, false, &never).await;
}

async fn hooks_are_another_grant(client: &Client) {
    let given = [("get", "pods/exec", OTHER, "db-0"), ("create", "pods/exec", OTHER, "db-0")];
    check(client, NAME, true, &given).await;
    let gone = [
        ("create", "pods/exec", BACKED_UP, "kist-mover-1-1"),
        ("list", "secrets", BACKED_UP, ""),
        ("create", "pods", BACKED_UP, ""),
        ("delete", "pods", OTHER, "db-0"),
    ];
    check(client, NAME, false, &gone).await;
}

/// The whole cluster is backed up by listing: `get` on everything would open every pod and every node.
async fn reading_all_is_not_running_all(client: &Client) {
    let needed = [
        ("list", "secrets", "", ""),
        ("list", "pods", "kube-system", ""),
        ("create", "pods", BACKED_UP, ""),
        ("get", "namespaces", "", OTHER),
    ];
    check(client, "kist-all", true, &needed).await;
    let never = [
        ("get", "pods/exec", BACKED_UP, "db-0"),
        ("create", "pods/exec", "kube-system", "any"),
        ("get", "nodes/proxy", "", "node"),
        ("get", "services/proxy", BACKED_UP, "web"),
        ("get", "secrets", BACKED_UP, "payment"),
        ("update", "namespaces", "", OTHER),
        ("delete", "pods", "kube-system", "any"),
        ("escalate", "roles.rbac.authorization.k8s.io", "kube-system", ""),
    ];
    check(client, "kist-all", false, &never).await;
}

/// A word of the reason, and what makes a mover's pod into one that is refused.
type Refused = (&'static str, fn(&mut Value));

/// RBAC lets the account create pods; the policy says which: none that writes, none with another's rights.
async fn only_movers_may_be_created(stage: &Stage) {
    let client = as_account(stage.first.kubeconfig()).await;
    let pods: Api<Pod> = Api::namespaced(client, BACKED_UP);
    let try_out = PostParams { dry_run: true, ..Default::default() };
    let refused: [Refused; 6] = [
        ("another name", |pod| pod["metadata"]["name"] = json!("anything")),
        ("write to a volume", |pod| {
            pod["spec"]["containers"][0]["volumeMounts"][0]["readOnly"] = json!(false);
        }),
        ("other volumes", |pod| {
            pod["spec"]["volumes"] = json!([{ "name": "data", "secret": { "secretName": "payment" } }]);
        }),
        // The token comes as a volume, before policies look.
        ("other volumes", |pod| pod["spec"]["automountServiceAccountToken"] = json!(true)),
        ("environment", |pod| {
            pod["spec"]["containers"][0]["envFrom"] = json!([{ "secretRef": { "name": "payment" } }]);
        }),
        ("its node", |pod| pod["spec"]["hostPID"] = json!(true)),
    ];
    for (why, change) in refused {
        let mut pod = mover();
        change(&mut pod);
        let answer = pods.create(&try_out, &serde_json::from_value(pod).unwrap()).await;
        let error = answer.expect_err(why).to_string();
        assert!(error.contains("movers only") && error.contains(why), "{why}: {error}");
    }
    pods.create(&try_out, &serde_json::from_value(mover()).unwrap()).await.unwrap();
}

fn mover() -> Value {
    json!({
        "metadata": { "name": "kist-mover-1-1" },
        "spec": {
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "mover", "image": KIST_IMAGE,
                "securityContext": { "capabilities": { "drop": ["ALL"], "add": ["DAC_OVERRIDE"] } },
                "volumeMounts": [{ "name": "data", "mountPath": "/volumes/0", "readOnly": true }],
            }],
            "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "data" } }],
        },
    })
}

/// A client that the API server takes for the installation's account.
async fn as_account(kubeconfig: &Path) -> Client {
    let mut config = Kubeconfig::read_from(kubeconfig).unwrap();
    let auth = config.auth_infos[0].auth_info.as_mut().unwrap();
    auth.impersonate = Some(user(NAME));
    auth.impersonate_groups = Some(groups());
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}
