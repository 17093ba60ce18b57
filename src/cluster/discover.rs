//! What is in a cluster: the manifests of a backup, every one raw.
//!
//! First step of a backup of a cluster. Which kinds there are, the API server says itself (`kind`); `list`
//! fetches them, `need` says what selected namespaces need of the whole cluster. What can't be listed is a
//! [`Problem`] and the rest goes on: invariant of the result, what was selected is in it or is named.

mod list;
mod need;

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};

use crate::cluster::error::reason;
use crate::cluster::kind::{Kind, Served, group_version, served};
use crate::cluster::manifest::{Manifest, ObjectKey};
use crate::cluster::{Cluster, Error, KIST, MANAGED_BY, RUN, Result};

pub(super) use need::NEEDED;

/// Requests at a time: enough to hide the round trips, and a small part of what one client may have in
/// flight by the server's priority and fairness.
const AT_A_TIME: usize = 8;

/// What is never backed up, and why. What can't be listed (reviews of tokens and of access, bindings) needs
/// no row. A group without a plural is left out whole.
const NEVER: [(&str, Option<&str>, &str); 15] = [
    ("", Some("events"), "what happened, not what is"),
    ("events.k8s.io", Some("events"), "the same once more"),
    ("", Some("nodes"), "machines register themselves"),
    ("", Some("componentstatuses"), "computed when asked"),
    ("storage.k8s.io", Some("csinodes"), "written by each node for itself"),
    ("storage.k8s.io", Some("csistoragecapacities"), "written by drivers about what is free"),
    ("storage.k8s.io", Some("volumeattachments"), "which node has a volume now"),
    ("resource.k8s.io", Some("resourceslices"), "written by drivers about their nodes"),
    ("internal.apiserver.k8s.io", None, "the API servers about themselves"),
    ("metrics.k8s.io", None, "measured when asked"),
    ("custom.metrics.k8s.io", None, "measured when asked"),
    ("external.metrics.k8s.io", None, "measured when asked"),
    (
        "authorization.openshift.io",
        None,
        "a second view of the roles and bindings of rbac.authorization.k8s.io",
    ),
    ("project.openshift.io", None, "a second view of namespaces"),
    ("packages.operators.coreos.com", None, "a view of catalogs, made when asked"),
];

/// RBAC takes names of any length; other kinds' names fit.
const UNKEPT: &str = "its name is too long to be kept";
/// Of such a name.
const TOLD_CHARS: usize = 300;

/// Labels by which users keep an object out: Velero's, so that people can move over, and ours.
const EXCLUDE: [&str; 2] = ["velero.io/exclude-from-backup", EXCLUDED];
pub(super) const EXCLUDED: &str = "kist.dev/exclude";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// None: all, and every object of the whole cluster.
    pub namespaces: Option<BTreeSet<String>>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Discovered {
    /// In tree order, each once.
    pub manifests: Vec<Manifest>,
    /// Any of these makes the run incomplete.
    pub problems: Vec<Problem>,
    /// Objects left out because their labels say so.
    pub excluded: u64,
}

/// Something selected that could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Such as `secrets in shop`.
    pub what: String,
    pub why: String,
}

/// Fails only where going on is meaningless: a selected namespace that isn't there, a server that does not
/// answer, an account that is nobody's.
pub async fn discover(cluster: &Cluster, selection: &Selection) -> Result<Discovered> {
    let mut found = Found::default();
    let places = match &selection.namespaces {
        None => vec![None],
        Some(names) => {
            for namespace in chosen(cluster, names).await? {
                found.take(namespace);
            }
            names.iter().cloned().map(Some).collect()
        }
    };
    let served = served(cluster).await?;
    found.say_broken(&served);
    let wanted: Vec<&Kind> = served.kinds.iter().filter(|kind| is_wanted(kind)).collect();
    let lists: Vec<(Kind, Option<String>)> = wanted
        .into_iter()
        .flat_map(|kind| places.iter().map(|place| (kind.clone(), place.clone())))
        .filter(|(kind, place)| kind.namespaced || place.is_none())
        .collect();
    let mut lists = stream::iter(lists)
        .map(|(kind, place)| async move {
            let listed = list::all(cluster, &kind, place.as_deref()).await;
            (kind, place, listed)
        })
        .buffer_unordered(AT_A_TIME);
    while let Some((kind, place, listed)) = lists.next().await {
        found.take_list(&kind, place.as_deref(), listed)?;
    }
    if let Some(names) = &selection.namespaces {
        add_needed(cluster, &served, names, &mut found).await?;
    }
    Ok(found.finish())
}

/// The selected namespaces' own objects.
async fn chosen(cluster: &Cluster, names: &BTreeSet<String>) -> Result<Vec<Manifest>> {
    let kind = Kind {
        group: String::new(),
        version: "v1".into(),
        kind: "Namespace".into(),
        plural: "namespaces".into(),
        namespaced: false,
        verbs: Vec::new(),
    };
    let mut found = Vec::new();
    for name in names {
        let namespace = list::one(cluster, &kind, name).await?;
        found.push(namespace.ok_or_else(|| Error::NoNamespace { name: name.clone() })?);
    }
    Ok(found)
}

/// Adds the objects of the whole cluster that the selected namespaces can't do without.
async fn add_needed(
    cluster: &Cluster,
    served: &Served,
    names: &BTreeSet<String>,
    found: &mut Found,
) -> Result<()> {
    // Bindings name their subjects, not the other way round: each has to be looked at.
    if let Some(kind) = served.find(need::RBAC, "clusterrolebindings") {
        let listed = list::all(cluster, kind, None).await.map(|all| need::binding(all, names));
        found.take_list(kind, None, listed)?;
    }
    let needs = need::needs(found.manifests.values(), &served.kinds);
    if needs.default_class
        && let Some(kind) = served.find(need::STORAGE, "storageclasses")
    {
        let listed = list::all(cluster, kind, None).await.map(need::default_class);
        found.take_list(kind, None, listed.map(|class| class.into_iter().collect()))?;
    }
    let wanted: Vec<(Kind, String)> = needs
        .objects
        .into_iter()
        .filter_map(|(group, plural, name)| Some((served.find(&group, &plural)?.clone(), name)))
        .collect();
    let mut fetched = stream::iter(wanted)
        .map(|(kind, name)| async move {
            let object = list::one(cluster, &kind, &name).await;
            (kind, name, object)
        })
        .buffer_unordered(AT_A_TIME);
    while let Some((kind, name, object)) = fetched.next().await {
        match object {
            // A reference may dangle in the source too.
            Ok(object) => object.into_iter().for_each(|object| found.take(object)),
            Err(error) => found.say(format!("{kind} {name}"), error)?,
        }
    }
    Ok(())
}

/// Whether the kind's objects can be listed and belong into a backup.
fn is_wanted(kind: &Kind) -> bool {
    kind.can("list") && !is_never(&kind.group, Some(&kind.plural))
}

/// Without a plural: whether the whole group is left out.
fn is_never(group: &str, plural: Option<&str>) -> bool {
    NEVER.iter().any(|(never, which, _)| *never == group && (which.is_none() || *which == plural))
}

/// What runs of kist have in the cluster while they go on: it is not the user's, and gone when they end.
fn is_of_a_run(manifest: &Manifest) -> bool {
    let key = &manifest.key;
    (key.is("", "Pod") || key.is("coordination.k8s.io", "Lease"))
        && manifest.label(MANAGED_BY) == Some(KIST)
        && manifest.label(RUN).is_some()
}

/// What was found so far.
#[derive(Default)]
struct Found {
    manifests: BTreeMap<ObjectKey, Manifest>,
    /// By key: an object may be met twice, in two pages or by two references.
    excluded: BTreeSet<ObjectKey>,
    problems: Vec<Problem>,
}

impl Found {
    fn take(&mut self, manifest: Manifest) {
        if is_of_a_run(&manifest) {
            return;
        }
        if EXCLUDE.iter().any(|label| manifest.label(label) == Some("true")) {
            self.excluded.insert(manifest.key);
        } else if manifest.key.to_path().is_none() {
            let what = manifest.key.to_string().chars().take(TOLD_CHARS).collect();
            let problem = Problem { what, why: UNKEPT.into() };
            // It may be met twice.
            if !self.problems.contains(&problem) {
                self.problems.push(problem);
            }
        } else {
            self.manifests.insert(manifest.key.clone(), manifest);
        }
    }

    fn take_list(&mut self, kind: &Kind, place: Option<&str>, listed: Result<Vec<Manifest>>) -> Result<()> {
        match listed {
            Ok(manifests) => manifests.into_iter().for_each(|manifest| self.take(manifest)),
            // The kind went while we listed, or only says that it can be listed.
            Err(error) if matches!(error.status(), Some(404 | 405)) => {}
            Err(error) => {
                let place = place.map_or_else(String::new, |name| format!(" in {name}"));
                self.say(format!("{kind}{place}"), error)?;
            }
        }
        Ok(())
    }

    /// What failed for one request is a problem of that one; what would be met again by every request that
    /// follows ends the discovery.
    fn say(&mut self, what: String, error: Error) -> Result<()> {
        if list::is_unreachable(&error) || error.status() == Some(401) {
            return Err(error);
        }
        let why = match &error {
            Error::Api { cause, .. } => reason(cause),
            other => other.to_string(),
        };
        self.problems.push(Problem { what, why });
        Ok(())
    }

    fn say_broken(&mut self, served: &Served) {
        for broken in served.broken.iter().filter(|broken| !is_never(&broken.group, None)) {
            let name = group_version(&broken.group, &broken.version);
            self.problems.push(Problem { what: format!("the kinds of {name}"), why: broken.why.clone() });
        }
    }

    fn finish(mut self) -> Discovered {
        // Lists end in any order, and a report should not change between two runs for that.
        self.problems.sort_by(|a, b| a.what.cmp(&b.what));
        Discovered {
            manifests: self.manifests.into_values().collect(),
            problems: self.problems,
            excluded: u64::try_from(self.excluded.len()).expect("a count of objects in memory fits"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::kind::Broken;
    use serde_json::json;

    fn kind(group: &str, plural: &str) -> Kind {
        Kind {
            group: group.into(),
            version: "v1".into(),
            kind: "Kind".into(),
            plural: plural.into(),
            namespaced: true,
            verbs: vec!["get".into(), "list".into()],
        }
    }

    fn labelled(api: &str, kind: &str, name: &str, labels: serde_json::Value) -> Manifest {
        let body = json!({"metadata": {"name": name, "namespace": "shop", "labels": labels}});
        Manifest { key: ObjectKey::of(api, kind, Some("shop"), name), body }
    }

    fn answered(code: u16, message: &str) -> Error {
        let status = kube::core::Status::failure(message, "Reason").with_code(code);
        Error::Api { doing: "list".into(), cause: Box::new(kube::Error::Api(status.boxed())) }
    }

    #[test]
    fn a_discovery_may_move_between_threads() {
        fn compiled(cluster: &Cluster, selection: &Selection) -> impl Send {
            discover(cluster, selection)
        }
        let _ = compiled;
    }

    #[test]
    fn what_is_never_backed_up_is_not_listed() {
        for (group, plural) in
            [("", "events"), ("events.k8s.io", "events"), ("", "nodes"), ("metrics.k8s.io", "pods")]
        {
            assert!(!is_wanted(&kind(group, plural)), "{plural}.{group}");
        }
        for (group, plural) in [("", "pods"), ("", "endpoints"), ("discovery.k8s.io", "endpointslices")] {
            assert!(is_wanted(&kind(group, plural)), "{plural}.{group}");
        }
        let unlisted = Kind { verbs: vec!["create".into()], ..kind("", "bindings") };
        assert!(!is_wanted(&unlisted));
    }

    #[test]
    fn movers_and_leases_of_runs_are_left_out_and_other_things_of_kist_are_not() {
        let run = json!({MANAGED_BY: KIST, RUN: "abc"});
        let mut found = Found::default();
        found.take(labelled("v1", "Pod", "kist-mover-1-1", run.clone()));
        found.take(labelled("coordination.k8s.io/v1", "Lease", "kist-run-1", run.clone()));
        found.take(labelled("coordination.k8s.io/v1", "Lease", "leader", json!({})));
        found.take(labelled("v1", "ConfigMap", "restored", run));
        found.take(labelled("v1", "Pod", "scheduled", json!({MANAGED_BY: KIST})));
        let names: Vec<String> =
            found.finish().manifests.iter().map(|manifest| manifest.key.name.clone()).collect();
        assert_eq!(names, ["leader", "restored", "scheduled"]);
    }

    #[test]
    fn excluded_objects_are_left_out_and_counted_once() {
        let mut found = Found::default();
        for _ in 0..2 {
            found.take(labelled("v1", "Secret", "a", json!({"velero.io/exclude-from-backup": "true"})));
        }
        found.take(labelled("v1", "Secret", "b", json!({"kist.dev/exclude": "true"})));
        found.take(labelled("v1", "Secret", "c", json!({"kist.dev/exclude": "false"})));
        let discovered = found.finish();
        assert_eq!(discovered.excluded, 2);
        assert_eq!(discovered.manifests.len(), 1);
    }

    #[test]
    fn what_has_no_place_in_a_tree_is_a_problem_once() {
        let mut found = Found::default();
        let name = "r".repeat(256);
        for _ in 0..2 {
            found.take(labelled("rbac.authorization.k8s.io/v1", "Role", &name, json!({})));
        }
        let discovered = found.finish();
        assert!(discovered.manifests.is_empty());
        let [problem] = &discovered.problems[..] else { panic!("{:?}", discovered.problems) };
        assert_eq!(problem.what, format!("rbac.authorization.k8s.io/v1 Role shop/{name}"));
        assert_eq!(problem.why, "its name is too long to be kept");
    }

    #[test]
    fn manifests_come_in_tree_order_and_once() {
        let mut found = Found::default();
        for (api, name) in [("v1", "b"), ("apps/v1", "c"), ("v1", "a"), ("policy/v1", "d"), ("v1", "b")] {
            found.take(labelled(api, "Thing", name, json!({})));
        }
        let paths: Vec<_> =
            found.finish().manifests.iter().map(|manifest| manifest.key.to_path().unwrap()).collect();
        assert_eq!(paths.len(), 4);
        assert!(paths.is_sorted());
    }

    #[test]
    fn a_refused_list_is_a_problem_and_one_that_is_not_there_is_none() {
        let mut found = Found::default();
        let secrets = kind("", "secrets");
        found.take_list(&secrets, Some("shop"), Err(answered(403, "secrets is forbidden"))).unwrap();
        found.take_list(&secrets, Some("shop"), Err(answered(404, "no"))).unwrap();
        found.take_list(&kind("a.example.org", "things"), None, Err(answered(405, "no"))).unwrap();
        let why = "secrets is forbidden".to_owned();
        assert_eq!(found.problems, [Problem { what: "secrets in shop".into(), why }]);
    }

    #[test]
    fn a_server_that_knows_us_no_more_ends_the_discovery() {
        let mut found = Found::default();
        assert!(found.take_list(&kind("", "pods"), None, Err(answered(401, "unauthorized"))).is_err());
    }

    #[test]
    fn an_answer_that_makes_no_sense_is_a_problem_of_that_request_alone() {
        let error = serde_json::from_str::<u8>("{").unwrap_err();
        let source = Box::new(kube::Error::SerdeError(error));
        let mut found = Found::default();
        found.say("secrets".into(), Error::Api { doing: "list secrets".into(), cause: source }).unwrap();
        found
            .say("pods".into(), Error::Timeout { what: "list pods".into(), seconds: 1, last: "-".into() })
            .unwrap();
        assert_eq!(found.problems.len(), 2);
    }

    #[test]
    fn a_broken_group_is_a_problem_unless_it_is_never_backed_up() {
        let broken =
            |group: &str| Broken { group: group.into(), version: "v1beta1".into(), why: "down".into() };
        let served = Served {
            kinds: Vec::new(),
            broken: vec![broken("metrics.k8s.io"), broken("things.example.org")],
        };
        let mut found = Found::default();
        found.say_broken(&served);
        let what = "the kinds of things.example.org/v1beta1".to_owned();
        assert_eq!(found.problems, [Problem { what, why: "down".into() }]);
    }
}
