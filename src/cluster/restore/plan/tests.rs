//! Plans of a made-up shop.

use super::testing::{empty_target, object};
use super::*;
use crate::cluster::restore::Stage;

fn named(api: &str, kind: &str, name: &str) -> Value {
    json!({"apiVersion": api, "kind": kind,
           "metadata": {"name": name, "namespace": "shop", "uid": format!("{kind}-{name}")}})
}

fn of_cluster(api: &str, kind: &str, name: &str) -> Value {
    json!({"apiVersion": api, "kind": kind, "metadata": {"name": name, "uid": format!("{kind}-{name}")}})
}

fn owned(mut it: Value, by: &Value) -> Value {
    it["metadata"]["ownerReferences"] = json!([{"apiVersion": by["apiVersion"], "kind": by["kind"],
        "name": by["metadata"]["name"], "uid": by["metadata"]["uid"], "controller": true}]);
    it
}

fn claim(name: &str) -> Value {
    let mut claim = named("v1", "PersistentVolumeClaim", name);
    claim["spec"] = json!({"storageClassName": "lab-wait", "volumeName": "pv-1"});
    claim["status"] = json!({"phase": "Bound"});
    claim
}

/// A namespace with a bit of everything, in the order of a tree's paths.
fn shop() -> Vec<Manifest> {
    const RBAC: &str = "rbac.authorization.k8s.io/v1";
    let mut definition =
        of_cluster("apiextensions.k8s.io/v1", "CustomResourceDefinition", "baskets.example.org");
    definition["spec"] = json!({"group": "example.org", "scope": "Namespaced",
        "names": {"kind": "Basket", "plural": "baskets"}, "versions": [{"name": "v1", "served": true}]});
    let (web, set) = (named("apps/v1", "Deployment", "web"), named("apps/v1", "StatefulSet", "db"));
    let replicas = owned(named("apps/v1", "ReplicaSet", "web-1"), &web);
    let (web_pod, db_pod) =
        (owned(named("v1", "Pod", "web-1-a"), &replicas), owned(named("v1", "Pod", "db-0"), &set));
    let mut cron = named("batch/v1", "CronJob", "tidy");
    cron["spec"] = json!({"suspend": false});
    let basket = named("example.org/v1", "Basket", "first");
    let all = vec![
        of_cluster("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "check"),
        definition,
        owned(named("apps/v1", "ControllerRevision", "db-1"), &set),
        web,
        replicas,
        set.clone(),
        named("autoscaling/v2", "HorizontalPodAutoscaler", "web"),
        owned(named("batch/v1", "Job", "tidy-1"), &cron),
        cron,
        owned(named("v1", "ConfigMap", "of-basket"), &basket),
        named("v1", "ConfigMap", "kube-root-ca.crt"),
        named("v1", "Event", "x"),
        of_cluster("v1", "Namespace", "shop"),
        of_cluster("v1", "PersistentVolume", "pv-1"),
        owned(claim("data-db-0"), &set),
        web_pod,
        db_pod,
        named("v1", "Pod", "shell"),
        named("v1", "Secret", "password"),
        named("v1", "Service", "db"),
        named("v1", "ServiceAccount", "app"),
        basket,
        named(RBAC, "RoleBinding", "app"),
        named(RBAC, "Role", "app"),
        of_cluster("storage.k8s.io/v1", "StorageClass", "lab-wait"),
    ];
    all.into_iter().map(object).collect()
}

fn made(plan: &Plan) -> Vec<String> {
    let done = plan.steps.iter().filter(|step| matches!(step.action, Action::Create | Action::Unsuspend));
    done.map(|step| format!("{:?} {} {}", step.stage, step.to.kind, step.to.name)).collect()
}

#[test]
fn a_shop_comes_back_in_order() {
    let shop = shop();
    let plan = plan(&shop, &empty_target(&shop), &Options::default());
    assert_eq!(plan.obstacles, Vec::<String>::new());
    assert_eq!(
        made(&plan),
        [
            "Crds CustomResourceDefinition baskets.example.org",
            "Namespaces Namespace shop",
            "ClusterThings StorageClass lab-wait",
            "Access Role app",
            "Access ServiceAccount app",
            "Access RoleBinding app",
            "Config ConfigMap of-basket",
            "Config Secret password",
            "Claims PersistentVolumeClaim data-db-0",
            "Network Service db",
            "Custom Basket first",
            "Workloads CronJob tidy",
            "Workloads Deployment web",
            "Workloads Pod shell",
            "Workloads StatefulSet db",
            "Late HorizontalPodAutoscaler web",
            "Late CronJob tidy",
            "Late ValidatingWebhookConfiguration check",
        ]
    );
    // Every object is spoken of, and the one of CronJob twice.
    assert_eq!(plan.steps.len(), shop.len() + 1);
    let claims: Vec<_> = plan.claims.iter().map(|claim| (&*claim.name, claim.from_uid.as_str())).collect();
    assert_eq!(claims, [("data-db-0", "PersistentVolumeClaim-data-db-0")]);
}

#[test]
fn owners_are_linked_again_where_they_come_back() {
    let mut shop = shop();
    shop.push(object(owned(named("v1", "ConfigMap", "of-pod"), &named("v1", "Pod", "web-1-a"))));
    let plan = plan(&shop, &empty_target(&shop), &Options::default());
    let step = |name: &str| plan.steps.iter().find(|step| step.to.name == name).unwrap();
    assert_eq!(
        step("data-db-0").owners,
        [Owner {
            reference: json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "controller": true}),
            old_uid: "StatefulSet-db".into(),
            new_uid: None,
        }]
    );
    assert!(step("data-db-0").body["metadata"]["ownerReferences"].is_null());
    assert_eq!(step("of-basket").owners[0].old_uid, "Basket-first");
    assert!(step("of-pod").owners.is_empty());
    assert_eq!(step("of-pod").changes, ["no longer owned by Pod web-1-a, which is not restored"]);
}

#[test]
fn an_owner_that_is_there_already_is_linked_at_once() {
    let node_class = of_cluster("v1", "Thing", "shared");
    let all = [object(node_class.clone()), object(owned(named("v1", "ConfigMap", "a"), &node_class))];
    let mut target = empty_target(&all);
    target.existing.insert((String::new(), "Thing".into(), "shared".into()), "new".into());
    let plan = plan(&all, &target, &Options::default());
    let step = plan.steps.iter().find(|step| step.to.kind == "ConfigMap").unwrap();
    assert_eq!(step.owners[0].new_uid.as_deref(), Some("new"));
}

#[test]
fn what_the_whole_cluster_has_already_is_left_as_it_is() {
    let shop = shop();
    let mut target = empty_target(&shop);
    target.existing.insert(("storage.k8s.io".into(), "StorageClass".into(), "lab-wait".into()), "u".into());
    target.namespaces.insert("shop".into(), Found::Empty);
    let plan = plan(&shop, &target, &Options::default());
    for kind in ["StorageClass", "Namespace"] {
        let step = plan.steps.iter().find(|step| step.to.kind == kind).unwrap();
        assert_eq!(step.action, Action::Skip { why: EXISTS.into() }, "{kind}");
    }
    assert!(plan.obstacles.is_empty());
}

#[test]
fn subjects_that_a_binding_of_the_cluster_lacks_are_told_of() {
    let mut binding = of_cluster("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "app");
    binding["subjects"] = json!([{"kind": "ServiceAccount", "name": "app", "namespace": "shop"}]);
    let all = [object(of_cluster("v1", "Namespace", "shop")), object(binding)];
    let mut target = empty_target(&all);
    let place = ("rbac.authorization.k8s.io".into(), "ClusterRoleBinding".into(), "app".into());
    target.existing.insert(place, "u".into());
    let why = |options: &Options| {
        let plan = plan(&all, &target, options);
        plan.steps.into_iter().find(|step| step.to.name == "app").unwrap().action.to_string()
    };
    assert_eq!(why(&Options::default()), "skip (exists already in the target)");
    let options = Options { map_namespaces: [("shop".into(), "x".into())].into(), ..Options::default() };
    assert!(why(&options).ends_with("its subjects in mapped namespaces are not added)"));
}

#[test]
fn a_namespace_in_use_is_an_obstacle_and_one_that_goes_is_waited_for() {
    let shop = shop();
    let mut target = empty_target(&shop);
    target.namespaces.insert("shop".into(), Found::Occupied { by: "Service web".into() });
    let refused = plan(&shop, &target, &Options::default());
    assert_eq!(
        refused.obstacles,
        ["the namespace shop exists already in the target, with Service web in it"]
    );
    let mapped = Options { map_namespaces: [("shop".into(), "bazaar".into())].into(), ..Options::default() };
    assert!(plan(&shop, &target, &mapped).obstacles.is_empty());
    target.namespaces.insert("shop".into(), Found::Terminating);
    let waits = plan(&shop, &target, &Options::default());
    let step = waits.steps.iter().find(|step| step.to.kind == "Namespace").unwrap();
    assert!(waits.obstacles.is_empty() && step.action == Action::Create);
    assert!(step.changes[0].starts_with("waits until"));
}

#[test]
fn a_mapped_namespace_takes_all_with_it() {
    let shop = shop();
    let options = Options { map_namespaces: [("shop".into(), "bazaar".into())].into(), ..Options::default() };
    let plan = plan(&shop, &empty_target(&shop), &options);
    assert!(plan.obstacles.is_empty());
    for step in plan.steps.iter().filter(|step| step.action == Action::Create) {
        if step.key.namespace.is_some() {
            assert_eq!(step.to.namespace.as_deref(), Some("bazaar"), "{}", step.key);
            assert_eq!(step.body["metadata"]["namespace"], "bazaar");
        }
    }
    let namespace = plan.steps.iter().find(|step| step.key.is("", "Namespace")).unwrap();
    assert_eq!((&*namespace.key.name, &*namespace.to.name), ("shop", "bazaar"));
    assert_eq!(namespace.body["metadata"]["name"], "bazaar");
    assert_eq!(plan.claims[0].namespace, "bazaar");
}

#[test]
fn mappings_that_fit_nothing_are_obstacles() {
    let shop = shop();
    let map = |from: &str, to: &str| [(from.to_owned(), to.to_owned())].into();
    let target = empty_target(&shop);
    let obstacles = |options: &Options| plan(&shop, &target, options).obstacles;
    let options = Options { map_namespaces: map("shpo", "x"), ..Options::default() };
    assert_eq!(obstacles(&options), ["the namespace shpo is mapped to x, and is not in the snapshot"]);
    let options = Options { map_classes: map("lab-wait", "fast"), ..Options::default() };
    let found = obstacles(&options);
    assert_eq!(found[0], "the storage class lab-wait is mapped to fast, which the target does not have");
    assert_eq!(
        found[1],
        "the claim shop/data-db-0 wants the storage class fast, which the target does not have"
    );
    let options = Options { map_classes: map("slow", "lab-wait"), ..Options::default() };
    assert!(obstacles(&options)[0].ends_with("no claim in the snapshot uses it"));
}

#[test]
fn claims_without_a_class_need_one() {
    let mut bare = claim("bare");
    bare["spec"]["storageClassName"] = json!("");
    let mut default = claim("default");
    default["spec"] = json!({});
    let all = [object(of_cluster("v1", "Namespace", "shop")), object(bare), object(default)];
    let mut target = empty_target(&all);
    assert_eq!(plan(&all, &target, &Options::default()).obstacles.len(), 1);
    target.classes.insert("lab-wait".into(), false);
    assert_eq!(plan(&all, &target, &Options::default()).obstacles.len(), 2);
    let map_classes = [(String::new(), "lab-wait".to_owned())].into();
    let mapped = plan(&all, &target, &Options { map_classes, ..Options::default() });
    assert_eq!(mapped.obstacles.len(), 1);
    let step = mapped.steps.iter().find(|step| step.to.name == "bare").unwrap();
    assert_eq!(step.body["spec"]["storageClassName"], "lab-wait");
}

#[test]
fn two_namespaces_do_not_become_one() {
    let mut other = named("v1", "ConfigMap", "a");
    other["metadata"]["namespace"] = json!("other");
    let all = [object(named("v1", "ConfigMap", "a")), object(other)];
    let options = Options { map_namespaces: [("other".into(), "shop".into())].into(), ..Options::default() };
    let plan = plan(&all, &empty_target(&all), &options);
    assert_eq!(plan.obstacles, ["the namespaces other, shop would all become shop"]);
}

#[test]
fn the_clusters_own_namespaces_are_left_alone() {
    let mut dns = named("v1", "ConfigMap", "coredns");
    dns["metadata"]["namespace"] = json!("kube-system");
    let all = [object(of_cluster("v1", "Namespace", "kube-system")), object(dns)];
    let target = empty_target(&all);
    assert!(made(&plan(&all, &target, &Options::default())).is_empty());
    let options =
        Options { map_namespaces: [("kube-system".into(), "x".into())].into(), ..Options::default() };
    assert_eq!(made(&plan(&all, &target, &options)), ["Namespaces Namespace x", "Config ConfigMap coredns"]);
}

#[test]
fn a_kind_that_the_target_lacks_is_said() {
    let all = [object(named("gone.example.org/v1", "Gone", "a"))];
    let plan = plan(&all, &empty_target(&all), &Options::default());
    let why = "the target serves no gone.example.org/v1 Gone".to_owned();
    assert_eq!(plan.steps[0].action, Action::Fail { why });
}

#[test]
fn another_version_is_taken_and_said() {
    let all = [object(named("autoscaling/v2beta2", "HorizontalPodAutoscaler", "web"))];
    let target = empty_target(&[object(named("autoscaling/v2", "HorizontalPodAutoscaler", "web"))]);
    let plan = plan(&all, &target, &Options::default());
    let step = plan.steps.iter().find(|step| step.stage == Stage::Late).unwrap();
    assert_eq!((&*step.to.version, step.body["apiVersion"].as_str()), ("v2", Some("autoscaling/v2")));
    assert_eq!(step.changes, ["autoscaling/v2 instead of autoscaling/v2beta2"]);
    // The namespace, which is not in the snapshot, is made all the same.
    assert_eq!(plan.steps[0].to.name, "shop");
}

#[test]
fn a_plan_in_json_shows_no_body() {
    let mut secret = named("v1", "Secret", "password");
    secret["data"] = json!({"password": "aHVudGVyMg=="});
    let all = [object(secret)];
    let plan = plan(&all, &empty_target(&all), &Options::default());
    let text = serde_json::to_string(&plan).unwrap();
    assert!(text.contains(r#""action":{"verb":"create"}"#) && !text.contains("aHVudGVyMg"), "{text}");
}
