//! What a mover's pod looks like: pure, from its spec and the rung of the ladder.
//!
//! Invariants: no service-account token, no host access, no fsGroup (it would change every file's group),
//! no capability that the purpose does not take; volumes to be read are read-only by their mount.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value, json};

use crate::cluster::mover::{
    CONTAINER, Place, Purpose, Reading, Rung, SCRATCH, SCRATCH_FOLDER, Spec, WAIT, volume_path,
};
use crate::cluster::{Error, KIST, MANAGED_BY, RUN, Result};

/// Ten terabytes have to come to an end within it, and a day is not enough for them. It is the last resort for
/// a mover that was forgotten where no run comes again: what removes leftovers is the sweep.
const LONGEST_SECS: u32 = 7 * 24 * 3600;
/// The main process only waits, so it has nothing to put in order.
const GRACE_SECS: u32 = 2;
/// Runs as this if the consumer's user is unknown: "nobody" of most images.
const NOBODY: i64 = 65532;
/// What keeps the meshes' sidecars out, as labels and as annotations: they differ in where they look. A sidecar would keep the pod from being what it is given out for:
/// a single process without network but to the store, that ends when it is told to.
const NO_SIDECARS: [(&str, &str); 4] = [
    ("sidecar.istio.io/inject", "false"),
    ("linkerd.io/inject", "disabled"),
    ("kuma.io/sidecar-injection", "disabled"),
    ("consul.hashicorp.com/connect-inject", "false"),
];
/// What keeps the autoscalers from taking the node away.
const NO_EVICTION: [(&str, &str); 2] =
    [("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"), ("karpenter.sh/do-not-disrupt", "true")];

/// The rungs that there are, in the order in which they are tried.
pub(super) fn rungs(spec: &Spec) -> &'static [Rung] {
    match spec.identity.uid {
        // A consumer that is root leaves no lower rung.
        Some(0) => &[Rung::Root],
        _ => &[Rung::Root, Rung::Consumer],
    }
}

/// As whom that is, for people.
pub(super) fn described(spec: &Spec, rung: Rung) -> String {
    match (rung, spec.identity.uid) {
        (Rung::Root, _) => "as root".into(),
        (Rung::Consumer, Some(uid)) => format!("as the consumer's user {uid}"),
        (Rung::Consumer, None) => format!("as the user {NOBODY}, since the consumer's user is unknown"),
    }
}

pub(super) fn pod(spec: &Spec, rung: Rung) -> Result<Pod> {
    serde_json::from_value(body(spec, rung)).map_err(|error| {
        Error::Other(format!("the pod {}/{} can't be made: {error}", spec.namespace, spec.name))
    })
}

fn body(spec: &Spec, rung: Rung) -> Value {
    let mut labels = object(&NO_SIDECARS);
    labels.insert(MANAGED_BY.into(), KIST.into());
    labels.insert(RUN.into(), spec.run.as_str().into());
    let mut annotations = object(&NO_SIDECARS);
    annotations.extend(object(&NO_EVICTION));

    let volumes = spec.mounts.iter().enumerate().map(|(k, mount)| {
        json!({"name": format!("volume-{k}"), "persistentVolumeClaim": {"claimName": mount.claim}})
    });
    let volumes = volumes.chain([json!({"name": SCRATCH, "emptyDir": {}})]);
    let mut pod = json!({
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECS,
        "activeDeadlineSeconds": LONGEST_SECS,
        "imagePullSecrets": spec.pull_secrets.iter().map(|name| json!({"name": name})).collect::<Value>(),
        "securityContext": pod_security(spec, rung),
        "containers": [container(spec, rung)],
        "volumes": volumes.collect::<Value>(),
    });
    for (field, value) in placed(&spec.place) {
        pod[field] = value;
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": spec.name,
            "namespace": spec.namespace,
            "labels": labels,
            "annotations": annotations,
        },
        "spec": pod,
    })
}

fn object(pairs: &[(&str, &str)]) -> Map<String, Value> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect()
}

fn container(spec: &Spec, rung: Rung) -> Value {
    let mounts = spec.mounts.iter().enumerate().map(|(k, mount)| {
        let read_only = mount.read_only || spec.purpose == Purpose::Read;
        json!({"name": format!("volume-{k}"), "mountPath": volume_path(k), "readOnly": read_only})
    });
    let mounts = mounts.chain([json!({"name": SCRATCH, "mountPath": SCRATCH_FOLDER})]);
    let resources = &spec.resources;
    let mut limits = json!({"memory": resources.memory_limit});
    if let Some(cpu) = &resources.cpu_limit {
        limits["cpu"] = json!(cpu);
    }
    json!({
        "name": CONTAINER,
        "image": spec.image,
        // A node that has the image needs no registry.
        "imagePullPolicy": "IfNotPresent",
        "command": WAIT,
        "env": environment(spec),
        "resources": {
            "requests": {"cpu": resources.cpu_request, "memory": resources.memory_request},
            "limits": limits,
        },
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "capabilities": capabilities(spec.purpose, rung),
        },
        "volumeMounts": mounts.collect::<Value>(),
    })
}

/// What a run in the container finds there: what it may take (`kist help`).
fn environment(spec: &Spec) -> Value {
    let Reading { threads, gives_way, limits } = &spec.resources.reading;
    if spec.purpose == Purpose::Write {
        return json!([]);
    }
    let priority = if *gives_way { "low" } else { "normal" };
    let pairs = [
        ("KIST_THREADS", Some(threads.to_string())),
        ("KIST_PRIORITY", Some(priority.to_owned())),
        ("KIST_LIMIT_READ", limits.read.map(|limit| limit.to_string())),
        ("KIST_LIMIT_UPLOAD", limits.upload.map(|limit| limit.to_string())),
    ];
    pairs.into_iter().filter_map(|(name, value)| Some(json!({"name": name, "value": value?}))).collect()
}

fn capabilities(purpose: Purpose, rung: Rung) -> Value {
    match (rung, purpose) {
        (Rung::Consumer, _) => json!({"drop": ["ALL"]}),
        (Rung::Root, Purpose::Read) => json!({"drop": ["ALL"], "add": ["DAC_OVERRIDE"]}),
        (Rung::Root, Purpose::Write) => json!({
            "drop": ["ALL"],
            "add": ["DAC_OVERRIDE", "CHOWN", "FOWNER", "FSETID", "SETFCAP", "MKNOD"],
        }),
    }
}

fn pod_security(spec: &Spec, rung: Rung) -> Value {
    let identity = &spec.identity;
    let mut context = match rung {
        Rung::Root => json!({"runAsUser": 0, "runAsGroup": 0, "runAsNonRoot": false}),
        Rung::Consumer => json!({"runAsUser": identity.uid.unwrap_or(NOBODY), "runAsNonRoot": true}),
    };
    if rung == Rung::Consumer {
        if let Some(gid) = identity.gid {
            context["runAsGroup"] = json!(gid);
        }
        if !identity.groups.is_empty() {
            context["supplementalGroups"] = json!(identity.groups);
        }
        // A new volume's folder belongs to root, and only its group can be given to somebody else. There is nothing
        // else in it that kubelet would change; of one that is read nothing may be changed at all.
        let group = identity.groups.first().copied().or(identity.gid).or(identity.uid);
        if let (Purpose::Write, Some(group)) = (spec.purpose, group) {
            context["fsGroup"] = json!(group);
            context["fsGroupChangePolicy"] = json!("OnRootMismatch");
        }
    }
    context["seccompProfile"] = json!({"type": "RuntimeDefault"});
    if spec.selinux.is_object() {
        context["seLinuxOptions"] = spec.selinux.clone();
    }
    context
}

/// The fields of the pod that decide on its node.
fn placed(place: &Place) -> Vec<(&'static str, Value)> {
    let fields = match place {
        Place::Anywhere => vec![],
        Place::Node { hostname_label, tolerations } => {
            let mut tolerations = tolerations.as_array().cloned().unwrap_or_default();
            tolerations.push(json!({
                "key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule",
            }));
            let here = json!({"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [hostname_label]},
            ]});
            // Not nodeName: that goes around the scheduler, and so around the binding of volumes.
            let required =
                json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [here]}});
            vec![("affinity", json!({"nodeAffinity": required})), ("tolerations", Value::Array(tolerations))]
        }
        Place::Like { node_selector, affinity, tolerations, spread } => vec![
            ("nodeSelector", node_selector.clone()),
            ("affinity", without_company(affinity)),
            ("tolerations", tolerations.clone()),
            ("topologySpreadConstraints", spread.clone()),
        ],
    };
    fields.into_iter().filter(|(_, value)| !value.is_null()).collect()
}

/// Movers come before the pods that the consumer wants to be near to: they would wait for them for ever.
fn without_company(affinity: &Value) -> Value {
    let mut affinity = affinity.clone();
    if let Some(affinity) = affinity.as_object_mut() {
        affinity.remove("podAffinity");
    }
    affinity
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::cluster::identity::Identity;
    use crate::cluster::mover::{Mount, Removals, Resources};
    use crate::pace::Limits;

    fn spec(purpose: Purpose, place: Place) -> Spec {
        let mount = |claim: &str| Mount { claim: claim.into(), read_only: false };
        Spec {
            namespace: "shop".into(),
            name: "kist-mover-1-1".into(),
            run: "r1".into(),
            image: "kist:1".into(),
            pull_secrets: vec!["pull".into()],
            mounts: vec![mount("data"), mount("logs")],
            purpose,
            place,
            identity: Identity { uid: Some(999), gid: Some(998), groups: vec![7] },
            selinux: Value::Null,
            resources: Resources::default(),
            removals: Removals::default(),
        }
    }

    fn made(spec: &Spec, rung: Rung) -> Value {
        serde_json::to_value(pod(spec, rung).unwrap()).unwrap()["spec"].clone()
    }

    #[test]
    fn a_root_that_reads_has_one_capability_and_read_only_mounts() {
        let pod = made(&spec(Purpose::Read, Place::Anywhere), Rung::Root);
        let security = json!({"runAsUser": 0, "runAsGroup": 0, "runAsNonRoot": false,
            "seccompProfile": {"type": "RuntimeDefault"}});
        assert_eq!(pod["securityContext"], security);
        let container = &pod["containers"][0];
        let security = json!({"allowPrivilegeEscalation": false, "privileged": false,
            "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"], "add": ["DAC_OVERRIDE"]}});
        assert_eq!(container["securityContext"], security);
        let mounts = json!([{"name": "volume-0", "mountPath": "/volumes/0", "readOnly": true},
            {"name": "volume-1", "mountPath": "/volumes/1", "readOnly": true},
            {"name": "scratch", "mountPath": "/tmp"}]);
        assert_eq!(container["volumeMounts"], mounts);
        assert_eq!(container["command"], json!(["/kist", "mover", "wait"]));
        assert_eq!(
            container["resources"],
            json!({"requests": {"cpu": "100m", "memory": "256Mi"},
            "limits": {"memory": "512Mi"}})
        );
        let env = json!([{"name": "KIST_THREADS", "value": "2"}, {"name": "KIST_PRIORITY", "value": "low"}]);
        assert_eq!(container["env"], env);
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(pod["volumes"][1]["persistentVolumeClaim"], json!({"claimName": "logs"}));
        assert_eq!(pod["volumes"][2], json!({"name": "scratch", "emptyDir": {}}), "a disk, not memory");
        assert_eq!(pod["imagePullSecrets"], json!([{"name": "pull"}]));
        assert!(pod.get("affinity").is_none() && pod.get("tolerations").is_none());
    }

    #[test]
    fn a_mover_that_reads_keeps_to_the_limits_that_are_set() {
        let mut spec = spec(Purpose::Read, Place::Anywhere);
        let reading = &mut spec.resources.reading;
        reading.gives_way = false;
        reading.limits = Limits { read: NonZeroU64::new(1 << 20), upload: NonZeroU64::new(5) };
        let pod = made(&spec, Rung::Root);
        let env = json!([{"name": "KIST_THREADS", "value": "2"}, {"name": "KIST_PRIORITY", "value": "normal"},
            {"name": "KIST_LIMIT_READ", "value": "1048576"}, {"name": "KIST_LIMIT_UPLOAD", "value": "5"}]);
        assert_eq!(pod["containers"][0]["env"], env);
    }

    #[test]
    fn a_root_that_writes_can_set_owners_modes_and_devices_and_no_more() {
        let pod = made(&spec(Purpose::Write, Place::Anywhere), Rung::Root);
        let container = &pod["containers"][0];
        let added = json!(["DAC_OVERRIDE", "CHOWN", "FOWNER", "FSETID", "SETFCAP", "MKNOD"]);
        assert_eq!(container["securityContext"]["capabilities"]["add"], added);
        assert_eq!(container["volumeMounts"][0]["readOnly"], json!(false));
        assert_eq!(container["env"], json!([]), "somebody waits for a restore");
    }

    #[test]
    fn the_lower_rung_is_the_consumer_without_capabilities() {
        let mut spec = spec(Purpose::Read, Place::Anywhere);
        let pod = made(&spec, Rung::Consumer);
        let security = json!({"runAsUser": 999, "runAsGroup": 998, "runAsNonRoot": true,
            "supplementalGroups": [7], "seccompProfile": {"type": "RuntimeDefault"}});
        assert_eq!(pod["securityContext"], security);
        assert_eq!(pod["containers"][0]["securityContext"]["capabilities"], json!({"drop": ["ALL"]}));

        spec.identity = Identity::default();
        spec.selinux = json!({"level": "s0:c1,c2"});
        let security = json!({"runAsUser": 65532, "runAsNonRoot": true,
            "seccompProfile": {"type": "RuntimeDefault"}, "seLinuxOptions": {"level": "s0:c1,c2"}});
        assert_eq!(made(&spec, Rung::Consumer)["securityContext"], security);
        assert!(described(&spec, Rung::Consumer).contains("unknown"));
    }

    #[test]
    fn only_who_fills_a_volume_without_being_root_gets_an_fs_group() {
        let group = |purpose, rung| {
            let pod = made(&spec(purpose, Place::Anywhere), rung);
            pod["securityContext"]["fsGroup"].clone()
        };
        assert_eq!(group(Purpose::Write, Rung::Consumer), json!(7));
        assert_eq!(group(Purpose::Write, Rung::Root), json!(null));
        assert_eq!(group(Purpose::Read, Rung::Consumer), json!(null), "kubelet would change what is read");
    }

    #[test]
    fn a_consumer_that_is_root_leaves_no_lower_rung() {
        let mut spec = spec(Purpose::Read, Place::Anywhere);
        assert_eq!(rungs(&spec), [Rung::Root, Rung::Consumer]);
        spec.identity.uid = Some(0);
        assert_eq!(rungs(&spec), [Rung::Root]);
    }

    #[test]
    fn a_node_is_chosen_by_affinity_and_may_be_cordoned() {
        let tolerations = json!([{"key": "db", "operator": "Exists"}]);
        let place = Place::Node { hostname_label: "n1".into(), tolerations };
        let pod = made(&spec(Purpose::Read, place), Rung::Root);
        assert!(pod.get("nodeName").is_none());
        let terms = &pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        let here = json!([{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}]);
        assert_eq!(terms["nodeSelectorTerms"][0]["matchExpressions"], here);
        let tolerations = json!([{"key": "db", "operator": "Exists"},
            {"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoSchedule"}]);
        assert_eq!(pod["tolerations"], tolerations);
    }

    #[test]
    fn a_pod_like_its_consumer_keeps_its_constraints_but_needs_no_company() {
        let anti = json!({"requiredDuringSchedulingIgnoredDuringExecution":
            [{"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "db"}}}]});
        let place = Place::Like {
            node_selector: json!({"disk": "ssd"}),
            affinity: json!({"podAffinity": anti, "podAntiAffinity": anti}),
            tolerations: Value::Null,
            spread: json!([{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]),
        };
        let pod = made(&spec(Purpose::Write, place), Rung::Root);
        assert_eq!(pod["nodeSelector"], json!({"disk": "ssd"}));
        assert_eq!(pod["affinity"], json!({"podAntiAffinity": anti}));
        assert_eq!(pod["topologySpreadConstraints"][0]["topologyKey"], "zone");
        assert!(pod.get("tolerations").is_none());
    }

    #[test]
    fn a_mover_is_found_by_its_labels_and_left_alone_by_meshes_and_autoscalers() {
        let pod = pod(&spec(Purpose::Read, Place::Anywhere), Rung::Root).unwrap();
        let labels = pod.metadata.labels.unwrap();
        assert_eq!((&*labels[MANAGED_BY], &*labels[RUN]), ("kist", "r1"));
        for (key, value) in &NO_SIDECARS {
            assert_eq!(labels[*key], *value);
        }
        let annotations = pod.metadata.annotations.unwrap();
        for (key, value) in NO_SIDECARS.iter().chain(&NO_EVICTION) {
            assert_eq!(annotations[*key], *value);
        }
    }
}
