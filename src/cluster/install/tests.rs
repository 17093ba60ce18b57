//! What an installation is made of, and what its account may do by the rules: read as RBAC reads them.

use super::*;
use crate::cluster::access::{Want, for_backup};
use crate::cluster::{lease, mover};
use crate::format::task::Hidden;

const KEY: &str = "planted-bundle";
const SECRET: &str = "planted-secret";
const EXEC: &str = "pods/exec";

fn install(backed_up: &[&str], hooks: bool) -> Install {
    let hidden = |text: &str| Hidden(Zeroizing::new(text.to_owned()));
    Install {
        name: "backup".into(),
        namespace: "kist-system".into(),
        create_namespace: true,
        backed_up: backed_up.iter().map(|name| (*name).to_owned()).collect(),
        hooks,
        policy: true,
        bundle: Zeroizing::new(KEY.to_owned()),
        store: Direct {
            url: "s3://bucket/a".into(),
            access_key_id: hidden("planted-id"),
            secret_access_key: hidden(SECRET),
            session_token: Some(hidden("planted-token")),
            region: Some("r".into()),
            authorities: Some("planted-authorities".into()),
        },
        run: Run {
            schedule: Schedule::parse("*/30 * * * *").unwrap(),
            time_zone: Some("Europe/Berlin".into()),
            starting_deadline: Duration::from_secs(600),
            active_deadline: Duration::from_secs(6 * 3600),
            successful_history: 3,
            failed_history: 2,
            delay: Some(Duration::from_secs(17)),
            image: "registry.example.org/kist:1".into(),
            pull_secrets: vec!["pull".into()],
            arguments: vec!["--parallel=2".into()],
        },
        version: "0.0.1".into(),
    }
}

fn has(list: &Value, word: &str) -> bool {
    list.as_array().unwrap().iter().any(|entry| entry == "*" || entry == word)
}

/// As RBAC decides: some rule of a role in the namespace, or of a cluster role, has it all.
fn allows(objects: &[Value], want: &Want) -> bool {
    let resource = match &want.subresource {
        Some(subresource) => format!("{}/{subresource}", want.resource),
        None => want.resource.clone(),
    };
    let rules = objects.iter().filter(|object| match object["kind"].as_str() {
        Some("ClusterRole") => true,
        Some("Role") => object["metadata"]["namespace"].as_str() == want.namespace.as_deref(),
        _ => false,
    });
    rules.flat_map(|role| role["rules"].as_array().unwrap()).any(|rule| {
        has(&rule["verbs"], &want.verb)
            && has(&rule["apiGroups"], &want.group)
            && has(&rule["resources"], &resource)
            && (rule["resourceNames"].is_null()
                || want.name.as_ref().is_some_and(|name| has(&rule["resourceNames"], name)))
    })
}

fn cron_job(install: &Install) -> Value {
    objects(install).unwrap().pop().unwrap()
}

#[test]
fn a_backup_may_do_what_it_asks_for_and_in_no_other_namespace() {
    for hooks in [true, false] {
        let (everywhere, selected) = (install(&[], hooks), install(&["shop", "blog"], hooks));
        let (everywhere, selected) = (objects(&everywhere).unwrap(), objects(&selected).unwrap());
        for slot in 1..=lease::SLOTS {
            for pod in mover::names(slot) {
                for want in for_backup("shop", &pod, &lease::name(slot)) {
                    assert!(allows(&everywhere, &want), "{want}");
                    assert!(allows(&selected, &want), "{want}");
                }
                for want in for_backup("other", &pod, &lease::name(slot)) {
                    assert!(!allows(&selected, &want), "{want}");
                }
            }
        }
    }
}

#[test]
fn nothing_more_is_allowed_than_a_backup_needs() {
    let never = [
        Want::to("get", "secrets").named("payment"),
        Want::to("update", "secrets"),
        Want::to("create", "secrets"),
        Want::to("delete", "pods").named("db-0"),
        Want::to("get", "pods/log").named("db-0"),
        Want::to("create", "pods/ephemeralcontainers"),
        Want::to("create", "serviceaccounts/token").named("default"),
        Want::to("create", "deployments.apps"),
        Want::to("delete", "persistentvolumeclaims"),
        Want::to("impersonate", "serviceaccounts"),
        Want::to("escalate", "roles.rbac.authorization.k8s.io"),
        Want::to("bind", "roles.rbac.authorization.k8s.io"),
        Want::to("update", "leases.coordination.k8s.io").named("leader"),
    ];
    let node = [Want::to("get", "nodes/proxy").named("n"), Want::to("create", "nodes/proxy").named("n")];
    for hooks in [true, false] {
        for backed_up in [&[][..], &["shop"]] {
            let objects = objects(&install(backed_up, hooks)).unwrap();
            for want in never.iter().map(|want| want.clone().within("shop")).chain(node.clone()) {
                assert!(!allows(&objects, &want), "{want}");
            }
            let list = Want::to("list", "secrets").within("shop");
            assert!(allows(&objects, &list), "secrets are backed up");
            let elsewhere = Want::to("list", "secrets").within("other");
            assert_eq!(allows(&objects, &elsewhere), backed_up.is_empty());
        }
    }
}

#[test]
fn commands_are_run_in_other_pods_only_with_hooks() {
    for backed_up in [&[][..], &["shop"]] {
        for hooks in [true, false] {
            let objects = objects(&install(backed_up, hooks)).unwrap();
            for verb in ["get", "create"] {
                let own = Want::to(verb, EXEC).within("shop").named("kist-mover-1-1");
                assert!(allows(&objects, &own));
                let other = Want::to(verb, EXEC).within("shop").named("db-0");
                assert_eq!(allows(&objects, &other), hooks, "{other}");
                let elsewhere = Want::to(verb, EXEC).within("other").named("db-0");
                assert_eq!(allows(&objects, &elsewhere), hooks && backed_up.is_empty());
            }
        }
    }
}

/// `get` on a wildcard opens `pods/exec`, `nodes/proxy`, `services/proxy`.
#[test]
fn no_rule_has_another_verb_than_list_on_a_wildcard() {
    for backed_up in [&[][..], &["shop"]] {
        for role in objects(&install(backed_up, true)).unwrap() {
            for rule in role["rules"].as_array().into_iter().flatten() {
                let is_wild = ["apiGroups", "resources"].iter().any(|part| has(&rule[part], "*"));
                assert!(!is_wild || rule["verbs"] == json!(["list"]), "{rule}");
                assert!(!has(&rule["verbs"], "*"), "{rule}");
            }
        }
    }
}

#[test]
fn every_binding_gives_its_role_to_the_account_alone() {
    let objects = objects(&install(&["shop"], true)).unwrap();
    let subjects = json!([{ "kind": "ServiceAccount", "namespace": "kist-system", "name": "kist-backup" }]);
    let mut bindings = 0;
    for object in &objects {
        if let Some("RoleBinding" | "ClusterRoleBinding") = object["kind"].as_str() {
            bindings += 1;
            assert_eq!(object["subjects"], subjects);
            let role = objects.iter().find(|role| {
                role["kind"] == object["roleRef"]["kind"]
                    && role["metadata"]["name"] == object["roleRef"]["name"]
                    && role["metadata"]["namespace"] == object["metadata"]["namespace"]
            });
            assert!(role.is_some(), "{object}");
        }
    }
    assert_eq!(bindings, 3, "of the cluster, of shop, of kist's own namespace");
}

#[test]
fn secrets_are_in_the_secret_alone_and_not_shown() {
    let mut all = objects(&install(&[], false)).unwrap();
    for object in &all {
        assert_eq!(object.to_string().contains("planted"), object["kind"] == "Secret", "{}", object["kind"]);
    }
    let secret = all.iter().find(|object| object["kind"] == "Secret").unwrap();
    assert_eq!(secret["stringData"]["bundle"], KEY);
    assert_eq!(secret["stringData"]["AWS_SECRET_ACCESS_KEY"], SECRET);
    assert_eq!(secret["metadata"]["labels"]["kist.dev/exclude"], "true");
    conceal(&mut all);
    assert!(!all.iter().any(|object| object.to_string().contains("planted")));
}

#[test]
fn objects_come_in_an_order_in_which_they_can_be_made() {
    let kinds = |install: &Install| -> Vec<String> {
        let objects = objects(install).unwrap();
        objects.iter().map(|object| object["kind"].as_str().unwrap().to_owned()).collect()
    };
    let wanted = [
        "Namespace",
        "ServiceAccount",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
        "Secret",
        "CronJob",
    ];
    assert_eq!(kinds(&install(&[], false)), wanted);
    let plain = Install { create_namespace: false, policy: false, ..install(&[], false) };
    assert_eq!(
        kinds(&plain),
        ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "Secret", "CronJob"]
    );
}

#[test]
fn the_cron_job_starts_one_backup_at_a_time_and_bounds_it() {
    let cron = cron_job(&install(&["shop"], false));
    let spec = &cron["spec"];
    assert_eq!(spec["schedule"], "*/30 * * * *");
    assert_eq!(spec["timeZone"], "Europe/Berlin");
    assert_eq!(spec["concurrencyPolicy"], "Forbid");
    assert_eq!(spec["startingDeadlineSeconds"], 600);
    assert_eq!(spec["successfulJobsHistoryLimit"], 3);
    assert_eq!(spec["failedJobsHistoryLimit"], 2);
    assert_eq!(spec["jobTemplate"]["spec"]["activeDeadlineSeconds"], 6 * 3600);
    let pod = &spec["jobTemplate"]["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let words = [
        "--no-catalog",
        "backup",
        "cluster",
        "--namespace",
        "shop",
        "--no-hooks",
        "--delay",
        "17s",
        "--parallel=2",
    ];
    assert_eq!(container["args"], json!(words));
    assert_eq!(pod["imagePullSecrets"], json!([{ "name": "pull" }]));
    let event = container["env"].as_array().unwrap().iter().find(|entry| entry["name"] == "KIST_EVENT");
    assert_eq!(event.unwrap()["value"], "$(POD_NAMESPACE)/$(POD_NAME)/$(POD_UID)");

    let other =
        Install { run: Run { time_zone: None, delay: None, ..install(&[], true).run }, ..install(&[], true) };
    let cron = cron_job(&other);
    assert!(cron["spec"]["timeZone"].is_null());
    let args = &cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["args"];
    assert_eq!(args, &json!(["--no-catalog", "backup", "cluster", "--parallel=2"]));
}

#[test]
fn what_the_kubelet_would_replace_stays_as_it_is() {
    let mut odd = install(&[], false);
    odd.run.image = "registry.example.org/$(POD_NAME)".into();
    let cron = cron_job(&odd);
    let env = &cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["env"];
    let image = env.as_array().unwrap().iter().find(|entry| entry["name"] == "KIST_MOVER_IMAGE").unwrap();
    assert_eq!(image["value"], "registry.example.org/$$(POD_NAME)");
}

#[test]
fn names_that_kubernetes_would_refuse_are_refused_before() {
    let refused = |change: fn(&mut Install)| {
        let mut wrong = install(&["shop"], false);
        change(&mut wrong);
        objects(&wrong).unwrap_err().to_string()
    };
    assert!(refused(|wrong| wrong.name = "Backup".into()).contains("the name \"Backup\""));
    assert!(refused(|wrong| wrong.name = "b".repeat(48)).contains("the name"));
    assert!(refused(|wrong| wrong.namespace = String::new()).contains("the namespace"));
    assert!(refused(|wrong| _ = wrong.backed_up.insert("-x".into())).contains("\"-x\""));
    assert!(refused(|wrong| wrong.namespace = "n".repeat(60)).contains("63 letters"));
}

#[test]
fn clusters_start_at_times_of_their_own_and_always_the_same() {
    let deadline = Duration::from_secs(600);
    let of = |number: u32| spread(RepoId([7; 16]), &format!("uid-{number}"), "kist-system/backup", deadline);
    let delays: BTreeSet<Duration> = (0..100).map(of).collect();
    assert!(delays.len() > 70, "{} different ones of 100", delays.len());
    assert!(delays.iter().all(|delay| *delay <= deadline / 2));
    assert_eq!(of(1), of(1));
    assert_eq!(spread(RepoId([7; 16]), "uid", "a", Duration::from_secs(1)), Duration::ZERO);
}
