//! Puts the objects of an installation into a cluster, by server-side apply, in their order.
//!
//! May be repeated: what is as it should be stays untouched. Answers are asked for as metadata only, since
//! one of the objects is a Secret. Last, what a former installation of the name had is removed.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, ResourceExt};
use serde_json::Value;

use crate::cluster::install::{INSTANCE, Install};
use crate::cluster::request::request;
use crate::cluster::{Cluster, Error, KIST, MANAGED_BY, Result};

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Applied {
    Created,
    Configured,
    Unchanged,
    Removed,
}

/// What may be left over: rights of namespaces that are no longer backed up, and a policy that is not wanted
/// any more. All else has the same name every time.
const SWEPT: [(&str, &str); 4] = [
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding"),
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy"),
];

/// Says of each object what became of it, such as "CronJob kist-system/kist-backup".
pub async fn apply(
    cluster: &Cluster,
    install: &Install,
    objects: &[Value],
    mut say: impl FnMut(Applied, &str),
) -> Result<()> {
    for object in objects {
        let place = Place::of(object)?;
        say(apply_one(cluster, &place, object).await?, &place.label());
    }
    for (api_version, kind) in SWEPT {
        for place in left_over(cluster, install, objects, api_version, kind).await? {
            let params = DeleteParams::default();
            let api = place.api(cluster);
            let doing = || format!("remove the {}", place.label());
            request(doing, api.delete(&place.name, &params)).await?;
            say(Applied::Removed, &place.label());
        }
    }
    Ok(())
}

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    resource: ApiResource,
    namespace: Option<String>,
    name: String,
}

impl Place {
    fn of(object: &Value) -> Result<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let place = || {
            let resource = resource(object["apiVersion"].as_str()?, object["kind"].as_str()?)?;
            let metadata = &object["metadata"];
            Some(Self { resource, namespace: text(&metadata["namespace"]), name: text(&metadata["name"])? })
        };
        place().ok_or_else(|| Error::Other("an object to apply has no kind or no name".into()))
    }

    fn label(&self) -> String {
        let kind = &self.resource.kind;
        match &self.namespace {
            Some(namespace) => format!("{kind} {namespace}/{}", self.name),
            None => format!("{kind} {}", self.name),
        }
    }

    fn api(&self, cluster: &Cluster) -> Api<DynamicObject> {
        let client = cluster.client.clone();
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &self.resource),
            None => Api::all_with(client, &self.resource),
        }
    }
}

fn resource(api_version: &str, kind: &str) -> Option<ApiResource> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    Some(ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind)))
}

async fn apply_one(cluster: &Cluster, place: &Place, object: &Value) -> Result<Applied> {
    let api = place.api(cluster);
    let before = request(|| format!("read the {}", place.label()), api.get_metadata_opt(&place.name)).await?;
    // Forced: what it is installed with counts, whoever has changed it by hand.
    let params = PatchParams::apply(KIST).force();
    let doing = || format!("apply the {}", place.label());
    let after = request(doing, api.patch_metadata(&place.name, &params, &Patch::Apply(object))).await?;
    Ok(match before {
        None => Applied::Created,
        Some(before) if is_same(&before.metadata, &after.metadata) => Applied::Unchanged,
        Some(_) => Applied::Configured,
    })
}

/// Whether nothing of ours has changed. Controllers write into an object's status meanwhile: that gives it a new
/// version, but no new generation, where it has one.
fn is_same(before: &ObjectMeta, after: &ObjectMeta) -> bool {
    let told = |meta: &ObjectMeta| (meta.generation, meta.labels.clone(), meta.annotations.clone());
    let by_generation = before.generation.is_some() && told(before) == told(after);
    before.resource_version == after.resource_version || by_generation
}

async fn left_over(
    cluster: &Cluster,
    install: &Install,
    objects: &[Value],
    api_version: &str,
    kind: &str,
) -> Result<Vec<Place>> {
    let wanted: Vec<Place> = objects.iter().map(Place::of).collect::<Result<_>>()?;
    let Some(resource) = resource(api_version, kind) else { return Ok(Vec::new()) };
    let api: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &resource);
    let labels = format!("{MANAGED_BY}={KIST},{INSTANCE}={}", install.wide_name());
    let params = ListParams::default().labels(&labels);
    let listed = request(|| format!("list the {kind} objects of kist"), api.list_metadata(&params)).await;
    let found = match listed {
        Ok(found) => found.items,
        // Older servers have no such policies.
        Err(error) if error.status() == Some(404) => Vec::new(),
        Err(error) => return Err(error),
    };
    let places = found.into_iter().map(|object| Place {
        resource: resource.clone(),
        namespace: object.namespace(),
        name: object.name_any(),
    });
    Ok(places.filter(|place| !wanted.contains(place)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_of_an_installation_are_found_where_the_api_has_them() {
        for (api_version, kind, plural) in [
            ("v1", "Namespace", "namespaces"),
            ("v1", "ServiceAccount", "serviceaccounts"),
            ("v1", "Secret", "secrets"),
            ("batch/v1", "CronJob", "cronjobs"),
            ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings"),
            (SWEPT[3].0, SWEPT[3].1, "validatingadmissionpolicies"),
            (SWEPT[2].0, SWEPT[2].1, "validatingadmissionpolicybindings"),
        ] {
            assert_eq!(resource(api_version, kind).unwrap().plural, plural);
        }
    }

    #[test]
    fn applying_may_move_between_threads() {
        fn is_send(_: impl Send) {}
        let _ = |cluster: &Cluster, install: &Install, objects: &[Value]| {
            is_send(apply(cluster, install, objects, |_, _| {}));
        };
    }
}
