//! What the target's API serves: each kind with its versions, and the requests to its objects.
//!
//! Bodies travel as raw JSON: typed objects would lose the fields that this build does not know.

use std::collections::BTreeMap;

use futures::{StreamExt, stream};
use kube::Api;
use kube::api::{DynamicObject, GetParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::discovery::v2::APIGroupDiscovery;
use kube::core::{ApiResource, Request};
use serde_json::Value;

use crate::cluster::manifest::ObjectKey;
use crate::cluster::request::answered;
use crate::cluster::{Cluster, Error, Result};

/// Who is named as the writer of the fields of what is restored.
pub(super) const MANAGER: &str = "kist";
/// Requests of discovery at a time.
const AT_A_TIME: usize = 8;
/// Objects in one answer to a list.
const PAGE: u32 = 500;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub version: String,
    pub plural: String,
    pub namespaced: bool,
    pub listable: bool,
    /// What can't be made is shown by the server, and nobody's.
    pub creatable: bool,
}

/// By group and kind; the places in the server's order of preference.
#[derive(Clone, Debug, Default)]
pub(super) struct Kinds(BTreeMap<(String, String), Vec<Place>>);

impl Kinds {
    pub async fn discover(cluster: &Cluster) -> Result<Self> {
        let failed = || Error::api(|| "discover the kinds of the target".into());
        let client = &cluster.client;
        let mut kinds = Self::default();
        let core = answered(client.list_core_api_versions_aggregated()).await.map_err(failed())?;
        // A server without aggregated discovery answers in its old shape, which has no items.
        if core.items.is_empty() {
            return Self::discover_by_group(cluster).await.map_err(failed());
        }
        let groups = answered(client.list_api_groups_aggregated()).await.map_err(failed())?;
        for group in core.items.into_iter().chain(groups.items) {
            kinds.take_group(group);
        }
        Ok(kinds)
    }

    async fn discover_by_group(cluster: &Cluster) -> Result<Self, kube::Error> {
        let client = &cluster.client;
        let mut kinds = Self::default();
        let core = answered(client.list_core_api_resources("v1")).await?;
        let groups = answered(client.list_api_groups()).await?.groups;
        let versions = groups.into_iter().flat_map(|group| {
            let preferred = group.preferred_version.map(|version| version.group_version);
            let others = group.versions.into_iter().map(|version| version.group_version);
            let others: Vec<String> = others.filter(|version| Some(version) != preferred.as_ref()).collect();
            preferred.into_iter().chain(others)
        });
        let lists = stream::iter(versions.collect::<Vec<_>>())
            .map(|version| async move { answered(client.list_api_group_resources(&version)).await })
            .buffered(AT_A_TIME)
            .collect::<Vec<_>>()
            .await;
        // A group whose own server is down serves nothing now; the plan says so of its objects.
        for list in std::iter::once(core).chain(lists.into_iter().flatten()) {
            let (group, version) = list.group_version.split_once('/').unwrap_or(("", &list.group_version));
            for resource in list.resources.iter().filter(|resource| !resource.name.contains('/')) {
                let place = Place {
                    version: version.to_owned(),
                    plural: resource.name.clone(),
                    namespaced: resource.namespaced,
                    listable: resource.verbs.iter().any(|verb| verb == "list"),
                    creatable: resource.verbs.iter().any(|verb| verb == "create"),
                };
                kinds.add(group, &resource.kind, place);
            }
        }
        Ok(kinds)
    }

    /// As `define`, for kinds that are not known yet.
    pub fn define_missing(&mut self, definition: &Value) {
        let spec = &definition["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if !self.0.contains_key(&(text(&spec["group"]), text(&spec["names"]["kind"]))) {
            self.define(definition);
        }
    }

    fn take_group(&mut self, group: APIGroupDiscovery) {
        let name = group.metadata.and_then(|metadata| metadata.name).unwrap_or_default();
        for version in group.versions {
            // What is stale is served by a server that is down: a list would be tried for minutes.
            let fresh = version.freshness.as_deref() != Some("Stale");
            for resource in version.resources {
                let kind = resource.response_kind.and_then(|kind| kind.kind).unwrap_or_default();
                let place = Place {
                    version: version.version.clone().unwrap_or_default(),
                    plural: resource.resource.unwrap_or_default(),
                    namespaced: resource.scope.as_deref() == Some("Namespaced"),
                    listable: fresh && resource.verbs.iter().any(|verb| verb == "list"),
                    creatable: resource.verbs.iter().any(|verb| verb == "create"),
                };
                self.add(&name, &kind, place);
            }
        }
    }

    pub fn add(&mut self, group: &str, kind: &str, place: Place) {
        self.0.entry((group.to_owned(), kind.to_owned())).or_default().push(place);
    }

    /// What a CustomResourceDefinition will serve once it is established.
    pub fn define(&mut self, definition: &Value) {
        let spec = &definition["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (group, kind) = (text(&spec["group"]), text(&spec["names"]["kind"]));
        let versions = spec["versions"].as_array().map_or(&[][..], Vec::as_slice);
        for version in versions.iter().filter(|version| version["served"] == true) {
            let place = Place {
                version: text(&version["name"]),
                plural: text(&spec["names"]["plural"]),
                namespaced: spec["scope"] == "Namespaced",
                listable: true,
                creatable: true,
            };
            self.add(&group, &kind, place);
        }
    }

    /// In this version if it is served, else in the one that the server prefers.
    pub fn choose(&self, group: &str, kind: &str, version: &str) -> Option<&Place> {
        let places = self.0.get(&(group.to_owned(), kind.to_owned()))?;
        places.iter().find(|place| place.version == version).or(places.first())
    }

    /// Each kind once, in the version that the server prefers.
    pub fn preferred(&self) -> impl Iterator<Item = (&str, &str, &Place)> {
        self.0.iter().filter_map(|((group, kind), places)| Some((&**group, &**kind, places.first()?)))
    }

    pub fn resource(&self, key: &ObjectKey) -> Option<ApiResource> {
        let place = self.choose(&key.group, &key.kind, &key.version)?;
        Some(ApiResource {
            group: key.group.clone(),
            version: place.version.clone(),
            api_version: ObjectKey { version: place.version.clone(), ..key.clone() }.api_version(),
            kind: key.kind.clone(),
            plural: place.plural.clone(),
        })
    }

    fn request(&self, key: &ObjectKey) -> Option<Request> {
        self.resource(key).map(|resource| Request::new(url(&resource, key.namespace.as_deref())))
    }

    /// None: the server serves no such kind.
    pub async fn post(
        &self,
        cluster: &Cluster,
        key: &ObjectKey,
        body: &Value,
        dry_run: bool,
    ) -> Option<Result<Value, kube::Error>> {
        let params = PostParams { dry_run, field_manager: Some(MANAGER.into()) };
        let request = self.request(key)?;
        let send = async {
            let bytes = serde_json::to_vec(body).map_err(kube::Error::SerdeError)?;
            let request = request.create(&params, bytes).map_err(kube::Error::BuildRequest)?;
            cluster.client.request(request).await
        };
        Some(answered(send).await)
    }

    pub async fn get(&self, cluster: &Cluster, key: &ObjectKey) -> Option<Result<Value, kube::Error>> {
        let request = self.request(key)?.get(&key.name, &GetParams::default());
        Some(match request {
            Ok(request) => answered(cluster.client.request(request)).await,
            Err(error) => Err(kube::Error::BuildRequest(error)),
        })
    }

    pub async fn patch(
        &self,
        cluster: &Cluster,
        key: &ObjectKey,
        patch: &Value,
    ) -> Option<Result<Value, kube::Error>> {
        let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        let request = self.request(key)?.patch(&key.name, &params, &Patch::Merge(patch));
        Some(match request {
            Ok(request) => answered(cluster.client.request(request)).await,
            Err(error) => Err(kube::Error::BuildRequest(error)),
        })
    }
}

/// Where a kind's objects are, in one namespace or all.
pub(super) fn url(resource: &ApiResource, namespace: Option<&str>) -> String {
    let root = if resource.group.is_empty() { "/api" } else { "/apis" };
    let within = namespace.map_or_else(String::new, |name| format!("/namespaces/{name}"));
    format!("{root}/{}{within}/{}", resource.api_version, resource.plural)
}

pub(super) fn api(cluster: &Cluster, resource: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) => Api::namespaced_with(cluster.client.clone(), namespace, resource),
        None => Api::all_with(cluster.client.clone(), resource),
    }
}

/// The metadata of all objects below a URL, or only of the first page's.
pub(super) async fn list(cluster: &Cluster, url: &str, whole: bool) -> Result<Vec<Value>, kube::Error> {
    let mut items = Vec::new();
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let request = Request::new(url).list_metadata(&params).map_err(kube::Error::BuildRequest)?;
        let mut page: Value = answered(cluster.client.request(request)).await?;
        if let Some(found) = page["items"].as_array_mut() {
            items.append(found);
        }
        match page["metadata"]["continue"].as_str() {
            Some(token) if whole && !token.is_empty() => params = params.continue_token(token),
            _ => return Ok(items),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn place(version: &str) -> Place {
        Place {
            version: version.into(),
            plural: "things".into(),
            namespaced: true,
            listable: true,
            creatable: true,
        }
    }

    #[test]
    fn the_snapshots_version_is_kept_where_it_is_served() {
        let mut kinds = Kinds::default();
        kinds.add("example.org", "Thing", place("v2"));
        kinds.add("example.org", "Thing", place("v1"));
        let version = |asked| kinds.choose("example.org", "Thing", asked).unwrap().version.clone();
        assert_eq!(version("v1"), "v1");
        assert_eq!(version("v1beta1"), "v2");
        assert!(kinds.choose("example.org", "Other", "v1").is_none());
    }

    #[test]
    fn a_definition_says_what_it_will_serve() {
        let mut kinds = Kinds::default();
        kinds.define(&json!({"spec": {
            "group": "shop.example.org", "scope": "Namespaced",
            "names": {"kind": "Basket", "plural": "baskets"},
            "versions": [{"name": "v1alpha1", "served": false}, {"name": "v1", "served": true}],
        }}));
        let key = ObjectKey {
            group: "shop.example.org".into(),
            version: "v1".into(),
            kind: "Basket".into(),
            namespace: Some("shop".into()),
            name: "a".into(),
        };
        assert_eq!(kinds.choose(&key.group, &key.kind, "v1alpha1").unwrap().version, "v1");
        let resource = kinds.resource(&key).unwrap();
        assert_eq!(
            url(&resource, key.namespace.as_deref()),
            "/apis/shop.example.org/v1/namespaces/shop/baskets"
        );
    }
}
