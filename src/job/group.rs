//! Which volumes are read together: those whose pods are frozen together, by one mover for each node.
//!
//! Pure. A pod with hooks that uses two volumes is frozen once for both; two pods with hooks that share a
//! volume are frozen together for it.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::hook::PodHooks;
use crate::cluster::volume::{Claim, Way};

/// Claims and pods, by their places in the lists that they come from.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Group {
    pub namespace: String,
    pub hooks: Vec<usize>,
    /// The claims of each mover.
    pub movers: Vec<Vec<usize>>,
}

/// Groups the claims that have a way; pods with hooks and without such a claim make a group of no movers,
/// which comes first.
pub fn groups(claims: &[Claim], pods: &[PodHooks]) -> Vec<Group> {
    let hooked = |claim: &Claim| -> BTreeSet<usize> {
        let uses = |pod: &PodHooks| {
            pod.namespace == claim.namespace && claim.consumers.iter().any(|user| user.pod == pod.pod)
        };
        (0..pods.len()).filter(|number| uses(&pods[*number])).collect()
    };
    // Sets of hooked pods that no claim connects, each with its claims.
    let mut sets: Vec<(BTreeSet<usize>, Vec<usize>)> =
        (0..pods.len()).map(|number| (BTreeSet::from([number]), Vec::new())).collect();
    let mut alone = Vec::new();
    for (number, claim) in claims.iter().enumerate() {
        if matches!(claim.way(), Way::No { .. }) {
            continue;
        }
        let users = hooked(claim);
        if users.is_empty() {
            alone.push((BTreeSet::new(), vec![number]));
            continue;
        }
        let (joined, apart): (Vec<_>, Vec<_>) =
            sets.into_iter().partition(|(set, _)| !set.is_disjoint(&users));
        let mut merged = (BTreeSet::new(), vec![number]);
        for (set, numbers) in joined {
            merged.0.extend(set);
            merged.1.extend(numbers);
        }
        merged.1.sort_unstable();
        sets = apart;
        sets.push(merged);
    }
    let mut groups: Vec<Group> = sets.into_iter().chain(alone).map(|set| group(claims, pods, set)).collect();
    groups.sort_by_key(|group| (!group.movers.is_empty(), group.hooks.clone(), group.movers.clone()));
    groups
}

fn group(claims: &[Claim], pods: &[PodHooks], (hooks, numbers): (BTreeSet<usize>, Vec<usize>)) -> Group {
    let mut by_node: BTreeMap<Option<String>, Vec<usize>> = BTreeMap::new();
    for number in &numbers {
        if let Way::Live { node, .. } = claims[*number].way() {
            by_node.entry(node).or_default().push(*number);
        }
    }
    let hooked = hooks.first().map(|number| pods[*number].namespace.clone());
    let claimed = numbers.first().map(|number| claims[*number].namespace.clone());
    Group {
        namespace: claimed.or(hooked).unwrap_or_default(),
        hooks: hooks.into_iter().collect(),
        movers: by_node.into_values().collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::manifest::{Manifest, ObjectKey};
    use crate::cluster::volume::claims;

    fn object(kind: &str, name: &str, body: serde_json::Value) -> Manifest {
        let key = ObjectKey {
            group: String::new(),
            version: "v1".into(),
            kind: kind.into(),
            namespace: Some("shop".into()),
            name: name.into(),
        };
        Manifest { key, body }
    }

    fn claim(name: &str) -> Manifest {
        let body = json!({
            "metadata": { "name": name, "namespace": "shop", "uid": name },
            "spec": { "volumeName": name, "accessModes": ["ReadWriteMany"] },
            "status": { "phase": "Bound" },
        });
        object("PersistentVolumeClaim", name, body)
    }

    fn pod(name: &str, node: &str, uses: &[&str]) -> Manifest {
        let volumes: Vec<_> = uses
            .iter()
            .map(|claim| json!({ "name": claim, "persistentVolumeClaim": { "claimName": claim } }))
            .collect();
        let mounts: Vec<_> = uses.iter().map(|claim| json!({ "name": claim, "mountPath": claim })).collect();
        let body = json!({
            "metadata": { "name": name, "namespace": "shop", "uid": name },
            "spec": {
                "nodeName": node, "volumes": volumes,
                "containers": [{ "name": "main", "volumeMounts": mounts }],
            },
            "status": { "phase": "Running" },
        });
        object("Pod", name, body)
    }

    fn hooked(pod: &str) -> PodHooks {
        PodHooks { namespace: "shop".into(), pod: pod.into(), pre: None, post: None }
    }

    #[test]
    fn volumes_of_pods_that_freeze_together_are_read_together() {
        let manifests = [
            claim("a"),
            claim("b"),
            claim("shared"),
            claim("unused"),
            pod("one", "n1", &["a", "shared"]),
            pod("two", "n2", &["b", "shared"]),
        ];
        let claims = claims(&manifests);
        assert_eq!(
            claims.iter().map(|claim| claim.name.as_str()).collect::<Vec<_>>(),
            ["a", "b", "shared", "unused"]
        );
        let groups = groups(&claims, &[hooked("one"), hooked("two"), hooked("three")]);
        let shapes: Vec<_> = groups.iter().map(|group| (group.hooks.clone(), group.movers.clone())).collect();
        let expected = [(vec![2], vec![]), (vec![], vec![vec![3]]), (vec![0, 1], vec![vec![0, 2], vec![1]])];
        assert_eq!(shapes, expected, "one mover for each node; the pod without volumes comes first");
    }
}
