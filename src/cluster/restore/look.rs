//! What is in the target already: kinds, namespaces, classes, objects of the whole cluster.
//!
//! Reads only. What is found decides the plan, which touches no cluster itself.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};
use kube::core::ApiResource;
use serde_json::Value;

use crate::cluster::manifest::{Manifest, ObjectKey};
use crate::cluster::restore::Options;
use crate::cluster::restore::context::{is_system, namespace_of};
use crate::cluster::restore::kinds::{self, Kinds, Place};
use crate::cluster::restore::{order, skip};
use crate::cluster::{Cluster, Error, KIST, MANAGED_BY, Result};

/// Lists at a time; each is answered with metadata only.
const AT_A_TIME: usize = 8;
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// The cluster that is restored into, as far as a plan depends on it.
#[derive(Clone, Debug, Default)]
pub struct Target {
    pub(super) kinds: Kinds,
    /// Those of the plan that exist.
    pub(super) namespaces: BTreeMap<String, Found>,
    /// Objects of the whole cluster: by group, kind and name, with their UIDs.
    pub(super) existing: BTreeMap<(String, String, String), String>,
    /// And whether it is the default.
    pub(super) classes: BTreeMap<String, bool>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// With nothing in it but what every namespace has.
    Empty,
    /// With such as this in it.
    Occupied {
        by: String,
    },
    Terminating,
}

impl Target {
    pub(super) fn uid_of(&self, key: &ObjectKey) -> Option<&str> {
        let place = (key.group.clone(), key.kind.clone(), key.name.clone());
        self.existing.get(&place).map(String::as_str)
    }
}

pub async fn look(cluster: &Cluster, manifests: &[Manifest], options: &Options) -> Result<Target> {
    let kinds = Kinds::discover(cluster).await?;
    let existing = existing(cluster, &kinds, manifests).await?;
    let classes = classes(cluster).await?;
    let wanted = wanted(manifests, options);
    let mut namespaces = BTreeMap::new();
    for (name, metadata) in all_namespaces(cluster).await? {
        if wanted.contains(name.as_str()) {
            let found = if metadata["deletionTimestamp"].is_string() {
                Found::Terminating
            } else {
                occupied(cluster, &kinds, &name).await?.map_or(Found::Empty, |by| Found::Occupied { by })
            };
            namespaces.insert(name, found);
        }
    }
    Ok(Target { kinds, namespaces, existing, classes })
}

/// The namespaces of the target that something is restored into.
fn wanted<'a>(manifests: &'a [Manifest], options: &'a Options) -> BTreeSet<&'a str> {
    let names = manifests.iter().filter_map(namespace_of);
    names.map(|name| options.namespace(name)).filter(|name| !is_system(name)).collect()
}

pub(super) async fn all_namespaces(cluster: &Cluster) -> Result<BTreeMap<String, Value>> {
    let failed = Error::api(|| "list the namespaces of the target".into());
    let items = kinds::list(cluster, "/api/v1/namespaces", true).await.map_err(failed)?;
    Ok(items.into_iter().map(|mut item| (name(&item), item["metadata"].take())).collect())
}

async fn classes(cluster: &Cluster) -> Result<BTreeMap<String, bool>> {
    let failed = Error::api(|| "list the storage classes of the target".into());
    let url = "/apis/storage.k8s.io/v1/storageclasses";
    let items = kinds::list(cluster, url, true).await.map_err(failed)?;
    let is_default = |item: &Value| item["metadata"]["annotations"][DEFAULT_CLASS] == "true";
    Ok(items.iter().map(|item| (name(item), is_default(item))).collect())
}

/// Of the kinds of the whole cluster that are in the snapshot, what the target has.
async fn existing(
    cluster: &Cluster,
    kinds: &Kinds,
    manifests: &[Manifest],
) -> Result<BTreeMap<(String, String, String), String>> {
    let of_cluster = manifests.iter().map(|manifest| &manifest.key).filter(|key| key.namespace.is_none());
    let wanted = of_cluster.filter(|key| skip::never(key).is_none() && !key.is("", "Namespace"));
    let wanted: BTreeSet<(&str, &str)> = wanted.map(|key| (&*key.group, &*key.kind)).collect();
    let served = |(group, kind)| Some(resource(group, kind, kinds.choose(group, kind, "")?));
    let wanted: Vec<ApiResource> = wanted.into_iter().filter_map(served).collect();
    let lists = stream::iter(wanted)
        .map(|resource| async move {
            let failed = Error::api(|| format!("list the {} of the target", resource.plural));
            let items = kinds::list(cluster, &kinds::url(&resource, None), true).await.map_err(failed)?;
            let of = |item: Value| {
                let uid = item["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
                ((resource.group.clone(), resource.kind.clone(), name(&item)), uid)
            };
            Ok::<_, Error>(items.into_iter().map(of).collect::<Vec<_>>())
        })
        .buffer_unordered(AT_A_TIME)
        .try_collect::<Vec<_>>()
        .await?;
    Ok(lists.into_iter().flatten().collect())
}

/// An object in a namespace that its users put there.
async fn occupied(cluster: &Cluster, kinds: &Kinds, namespace: &str) -> Result<Option<String>> {
    let listable =
        kinds.preferred().filter(|(.., place)| place.namespaced && place.listable && place.creatable);
    let listable: Vec<ApiResource> =
        listable.map(|(group, kind, place)| resource(group, kind, place)).collect();
    let mut lists = stream::iter(listable)
        .map(|resource| async move {
            let listed = kinds::list(cluster, &kinds::url(&resource, Some(namespace)), false).await;
            match listed {
                Ok(items) => Ok(items.iter().find_map(|item| by_user(item, &resource, namespace))),
                // Neither is what it serves anyone's: a group that is down, a kind that has no lists.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 405 | 503) => Ok(None),
                // The same, of a server that never answers. If it is the API server itself that is silent, the
                // lists of its own kinds fail.
                Err(kube::Error::Service(_)) if !order::is_built_in(&resource.group) => Ok(None),
                Err(error) => Err(Error::api(|| format!("list {} in {namespace}", resource.plural))(error)),
            }
        })
        .buffer_unordered(AT_A_TIME);
    while let Some(found) = lists.next().await {
        if let Some(by) = found? {
            return Ok(Some(by));
        }
    }
    Ok(None)
}

/// None for what every namespace has and for what is not stored (metrics and the like).
fn by_user(item: &Value, resource: &ApiResource, namespace: &str) -> Option<String> {
    let key = ObjectKey {
        group: resource.group.clone(),
        version: resource.version.clone(),
        kind: resource.kind.clone(),
        namespace: Some(namespace.to_owned()),
        name: name(item),
    };
    let of_accounts = key.is("", "ServiceAccount") && skip::ACCOUNTS.contains(&key.name.as_str());
    let token = key.is("", "Secret")
        && item["metadata"]["annotations"]["kubernetes.io/service-account.name"]
            .as_str()
            .is_some_and(|account| skip::ACCOUNTS.contains(&account));
    let kists = item["metadata"]["labels"][MANAGED_BY] == KIST;
    let everywhere = skip::is_in_every_cluster(&key) || skip::never(&key).is_some();
    let of_kubernetes = key.is("discovery.k8s.io", "EndpointSlice") && namespace == "default";
    let is_users = !(everywhere || of_accounts || token || kists || of_kubernetes);
    is_users.then(|| format!("{} {}", key.kind, key.name))
}

fn resource(group: &str, kind: &str, place: &Place) -> ApiResource {
    let api_version = match group {
        "" => place.version.clone(),
        group => format!("{group}/{}", place.version),
    };
    ApiResource {
        group: group.to_owned(),
        version: place.version.clone(),
        api_version,
        kind: kind.to_owned(),
        plural: place.plural.clone(),
    }
}

fn name(item: &Value) -> String {
    item["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_users_made_occupies_a_namespace() {
        let by = |group: &str, kind: &str, name: &str| {
            let place = Place {
                version: "v1".into(),
                plural: "x".into(),
                namespaced: true,
                listable: true,
                creatable: true,
            };
            by_user(&json!({"metadata": {"name": name}}), &resource(group, kind, &place), "shop")
        };
        assert_eq!(by("", "ServiceAccount", "default"), None);
        assert_eq!(by("", "ConfigMap", "kube-root-ca.crt"), None);
        assert_eq!(by("", "Event", "a.17"), None);
        assert_eq!(by("", "ServiceAccount", "app").unwrap(), "ServiceAccount app");
        assert_eq!(by("", "ConfigMap", "settings").unwrap(), "ConfigMap settings");
    }
}
