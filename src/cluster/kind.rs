//! The kinds that an API server serves, by its own discovery, each in the version that it prefers.
//!
//! Aggregated discovery answers with all of them in two requests (Kubernetes 1.26 and later); older servers
//! are asked group by group. A group that can't be asked (the server behind its APIService is down) does
//! not hide the others: it is broken, and said.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource;
use kube::core::discovery::v2::{APIGroupDiscovery, APIResourceDiscovery};

use crate::cluster::error::reason;
use crate::cluster::request::answered;
use crate::cluster::{Cluster, Error, Result};

/// Requests of discovery at a time. They are small, and answered from memory.
const AT_A_TIME: usize = 8;
/// A server that is down is answered for with 503, which the client tries again for minutes.
const GROUP_LIMIT: Duration = Duration::from_secs(20);

/// A kind of objects and where its objects are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    /// Empty for the core group.
    pub group: String,
    pub version: String,
    pub kind: String,
    /// As in paths: `statefulsets`.
    pub plural: String,
    pub namespaced: bool,
    pub verbs: Vec<String>,
}

impl Kind {
    pub fn api_version(&self) -> String {
        group_version(&self.group, &self.version)
    }

    /// Where the API has the objects: those of one namespace, or all.
    pub fn path(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        let within = namespace.map_or_else(String::new, |name| format!("/namespaces/{name}"));
        format!("{root}/{}{within}/{}", self.api_version(), self.plural)
    }

    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|known| known == verb)
    }
}

impl fmt::Display for Kind {
    /// As kubectl takes it: `pods`, `statefulsets.apps`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.plural)?;
        if self.group.is_empty() { Ok(()) } else { write!(f, ".{}", self.group) }
    }
}

/// A version of a group that is registered, and can't be asked what it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    pub group: String,
    pub version: String,
    pub why: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Served {
    /// Each once, whatever the number of versions that serve it.
    pub kinds: Vec<Kind>,
    pub broken: Vec<Broken>,
}

impl Served {
    pub fn find(&self, group: &str, plural: &str) -> Option<&Kind> {
        self.kinds.iter().find(|kind| kind.group == group && kind.plural == plural)
    }
}

/// A version of a group; versions come in the order of preference.
struct Version {
    group: String,
    version: String,
    /// None if it has to be asked for on its own.
    kinds: Option<Vec<Kind>>,
}

pub(crate) async fn served(cluster: &Cluster) -> Result<Served> {
    let failed = || Error::api(|| "discover the kinds of the cluster".into());
    let client = &cluster.client;
    // A server without aggregated discovery answers in its old shape, which has no items.
    let core = answered(client.list_core_api_versions_aggregated()).await.map_err(failed())?;
    let versions = if core.items.is_empty() {
        listed_versions(cluster).await.map_err(failed())?
    } else {
        let groups = answered(client.list_api_groups_aggregated()).await.map_err(failed())?;
        core.items.into_iter().chain(groups.items).flat_map(aggregated).collect()
    };
    let asked = stream::iter(versions)
        .map(|version| ask(cluster, version))
        .buffered(AT_A_TIME)
        .collect::<Vec<_>>()
        .await;
    Ok(preferred(asked))
}

/// The versions of all groups, from a server without aggregated discovery.
async fn listed_versions(cluster: &Cluster) -> Result<Vec<Version>, kube::Error> {
    let named = |group: &str, version: String| Version { group: group.to_owned(), version, kinds: None };
    let core = answered(cluster.client.list_core_api_versions()).await?;
    let mut versions: Vec<Version> = core.versions.into_iter().map(|version| named("", version)).collect();
    for group in answered(cluster.client.list_api_groups()).await?.groups {
        let first = group.preferred_version.map(|version| version.version);
        let others = group.versions.into_iter().map(|version| version.version);
        let others: Vec<String> = others.filter(|version| first.as_ref() != Some(version)).collect();
        versions.extend(first.into_iter().chain(others).map(|version| named(&group.name, version)));
    }
    Ok(versions)
}

fn aggregated(group: APIGroupDiscovery) -> Vec<Version> {
    let name = group.metadata.and_then(|metadata| metadata.name).unwrap_or_default();
    let of_version = |found: kube::core::discovery::v2::APIVersionDiscovery| {
        let version = found.version.unwrap_or_default();
        // What a stale document has may be long out of date, or nothing.
        let fresh = found.freshness.as_deref() != Some("Stale");
        let kinds = fresh.then(|| {
            let resources = found.resources.into_iter();
            resources.filter_map(|resource| aggregated_kind(&name, &version, resource)).collect()
        });
        Version { group: name.clone(), version, kinds }
    };
    group.versions.into_iter().map(of_version).collect()
}

fn aggregated_kind(group: &str, version: &str, resource: APIResourceDiscovery) -> Option<Kind> {
    let kind = resource.response_kind?.kind.filter(|kind| !kind.is_empty())?;
    Some(Kind {
        group: group.to_owned(),
        version: version.to_owned(),
        kind,
        plural: resource.resource?,
        namespaced: resource.scope.as_deref() == Some("Namespaced"),
        verbs: resource.verbs,
    })
}

/// None for a subresource.
fn listed_kind(group: &str, version: &str, resource: APIResource) -> Option<Kind> {
    (!resource.name.contains('/')).then(|| Kind {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: resource.kind,
        plural: resource.name,
        namespaced: resource.namespaced,
        verbs: resource.verbs,
    })
}

async fn ask(cluster: &Cluster, version: Version) -> Result<Vec<Kind>, Broken> {
    let Version { group, version, kinds } = version;
    if let Some(kinds) = kinds {
        return Ok(kinds);
    }
    let name = group_version(&group, &version);
    let client = &cluster.client;
    let asking = async {
        if group.is_empty() {
            client.list_core_api_resources(&version).await
        } else {
            client.list_api_group_resources(&name).await
        }
    };
    let why = match tokio::time::timeout(GROUP_LIMIT, asking).await {
        Ok(Ok(list)) => {
            let resources = list.resources.into_iter();
            return Ok(resources.filter_map(|resource| listed_kind(&group, &version, resource)).collect());
        }
        // Removed since it was named.
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => return Ok(Vec::new()),
        Ok(Err(error)) => reason(&error),
        Err(_) => format!("its server did not answer in {} s", GROUP_LIMIT.as_secs()),
    };
    Err(Broken { group, version, why })
}

/// Of each kind the first version: they come in the order of preference.
fn preferred(versions: Vec<Result<Vec<Kind>, Broken>>) -> Served {
    let mut served = Served::default();
    let mut known = BTreeSet::new();
    for version in versions {
        match version {
            Ok(kinds) => served.kinds.extend(
                kinds.into_iter().filter(|kind| known.insert((kind.group.clone(), kind.plural.clone()))),
            ),
            Err(broken) => served.broken.push(broken),
        }
    }
    served
}

/// `v1`, `apps/v1`.
pub(crate) fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn group(document: serde_json::Value) -> Vec<Version> {
        aggregated(serde_json::from_value(document).unwrap())
    }

    fn resource(plural: &str, kind: &str, scope: &str) -> serde_json::Value {
        json!({
            "resource": plural, "scope": scope, "verbs": ["get", "list"],
            "responseKind": {"group": "", "version": "", "kind": kind},
        })
    }

    #[test]
    fn each_kind_is_found_once_in_the_version_that_is_preferred() {
        let versions = group(json!({"metadata": {"name": "autoscaling"}, "versions": [
            {"version": "v2", "freshness": "Current", "resources": [
                resource("horizontalpodautoscalers", "HorizontalPodAutoscaler", "Namespaced")]},
            {"version": "v1", "freshness": "Current", "resources": [
                resource("horizontalpodautoscalers", "HorizontalPodAutoscaler", "Namespaced"),
                resource("oldthings", "OldThing", "Cluster")]},
        ]}));
        let served = preferred(versions.into_iter().map(|version| Ok(version.kinds.unwrap())).collect());
        let found: Vec<String> = served.kinds.iter().map(|kind| kind.path(Some("shop"))).collect();
        assert_eq!(
            found,
            [
                "/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers",
                "/apis/autoscaling/v1/namespaces/shop/oldthings",
            ]
        );
        assert!(served.kinds[0].namespaced && !served.kinds[1].namespaced);
        assert!(served.kinds[0].can("list") && !served.kinds[0].can("create"));
    }

    #[test]
    fn a_stale_version_is_asked_for_on_its_own() {
        let versions = group(json!({"metadata": {"name": "x.example.org"}, "versions": [
            {"version": "v1", "freshness": "Stale", "resources": [resource("things", "Thing", "Cluster")]},
        ]}));
        assert!(versions[0].kinds.is_none());
    }

    #[test]
    fn the_core_group_has_a_path_of_its_own() {
        let versions = group(json!({"versions": [
            {"version": "v1", "resources": [resource("pods", "Pod", "Namespaced"), {"resource": "odd"}]},
        ]}));
        let kinds = versions[0].kinds.as_ref().unwrap();
        assert_eq!(kinds.len(), 1);
        assert_eq!(kinds[0].path(None), "/api/v1/pods");
        assert_eq!(kinds[0].to_string(), "pods");
    }

    #[test]
    fn subresources_are_no_kinds() {
        let of = |name: &str| APIResource { name: name.into(), kind: "Pod".into(), ..Default::default() };
        assert!(listed_kind("", "v1", of("pods/exec")).is_none());
        assert_eq!(listed_kind("", "v1", of("pods")).unwrap().plural, "pods");
    }

    #[test]
    fn a_broken_group_hides_no_other() {
        let broken = Broken { group: "x.example.org".into(), version: "v1".into(), why: "down".into() };
        let fine = group(json!({"metadata": {"name": "apps"}, "versions": [
            {"version": "v1", "resources": [resource("deployments", "Deployment", "Namespaced")]}]}));
        let fine = fine.into_iter().map(|version| Ok(version.kinds.unwrap()));
        let served = preferred([Err(broken.clone())].into_iter().chain(fine).collect());
        assert_eq!(served.broken, [broken]);
        assert_eq!(served.find("apps", "deployments").unwrap().kind, "Deployment");
    }
}
