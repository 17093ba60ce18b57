//! What this account may do, asked before anything is started.
//!
//! A run that finds out halfway that it may not create pods has stopped someone's database for nothing. So
//! the API server is asked for each thing that the run can't do without, and all refusals are told at once.

use std::fmt;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::Api;
use kube::api::PostParams;

use crate::cluster::request::request;
use crate::cluster::{Cluster, Error, Result};

/// Requests at a time; each is answered from the server's memory.
const AT_A_TIME: usize = 8;

/// Something that a run wants to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    pub verb: String,
    /// Empty for the core group.
    pub group: String,
    /// The plural, as in roles: `pods`.
    pub resource: String,
    pub subresource: Option<String>,
    /// None: in all of the cluster.
    pub namespace: Option<String>,
    /// None: whatever its name.
    pub name: Option<String>,
}

impl Want {
    /// In all of the cluster. `resource` as kubectl has it: `pods`, `pods/exec`, `leases.coordination.k8s.io`.
    pub fn to(verb: &str, resource: &str) -> Self {
        let (resource, subresource) = match resource.split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
            None => (resource, None),
        };
        let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
        Self {
            verb: verb.to_owned(),
            group: group.to_owned(),
            resource: resource.to_owned(),
            subresource,
            namespace: None,
            name: None,
        }
    }

    #[must_use]
    pub fn within(self, namespace: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..self }
    }

    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self }
    }
}

impl fmt::Display for Want {
    /// Such as "create pods in shop".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        if let Some(subresource) = &self.subresource {
            write!(f, "/{subresource}")?;
        }
        if let Some(name) = &self.name {
            write!(f, " {name}")?;
        }
        match &self.namespace {
            Some(namespace) => write!(f, " in {namespace}"),
            None => Ok(()),
        }
    }
}

/// What a backup can't do without in a namespace. `pod` and `lease` are one each of the names that movers and
/// runs take there: a role may allow these names and no others, and creating can't be held to a name.
///
/// Other kinds are not asked for: one that can't be listed is listed as missing, and the rest is worth having.
pub fn for_backup(namespace: &str, pod: &str, lease: &str) -> Vec<Want> {
    let mut wants = vec![
        Want::to("get", "namespaces").within(namespace).named(namespace),
        Want::to("list", "persistentvolumeclaims").within(namespace),
    ];
    wants.extend(for_movers(namespace, pod, lease));
    wants
}

/// What a restore can't do without in a namespace, whatever is restored. The rest is found by the dry run of
/// its plan.
pub fn for_restore(namespace: &str, pod: &str, lease: &str) -> Vec<Want> {
    let mut wants = for_movers(namespace, pod, lease);
    for resource in ["persistentvolumeclaims", "secrets", "configmaps", "serviceaccounts", "services"] {
        wants.push(Want::to("create", resource).within(namespace));
    }
    wants
}

/// Movers are started, watched and taken away, and leases say that their run is alive.
fn for_movers(namespace: &str, pod: &str, lease: &str) -> Vec<Want> {
    const LEASES: &str = "leases.coordination.k8s.io";
    let mut wants = vec![
        Want::to("list", "pods"),
        Want::to("create", "pods"),
        Want::to("get", "pods").named(pod),
        Want::to("watch", "pods").named(pod),
        Want::to("delete", "pods").named(pod),
        // A websocket is opened by a GET. Newer servers want `create` for it too.
        Want::to("get", "pods/exec").named(pod),
        Want::to("create", "pods/exec").named(pod),
        Want::to("create", LEASES),
    ];
    wants.extend(["get", "update", "delete"].map(|verb| Want::to(verb, LEASES).named(lease)));
    wants.into_iter().map(|want| want.within(namespace)).collect()
}

/// Fails with all that this account may not.
pub async fn may(cluster: &Cluster, wants: &[Want]) -> Result<()> {
    let answers: Vec<Option<String>> = stream::iter(wants.to_vec())
        .map(|want| async move {
            let allowed = is_allowed(cluster, &want).await?;
            Ok::<_, Error>((!allowed).then(|| want.to_string()))
        })
        .buffered(AT_A_TIME)
        .try_collect()
        .await?;
    let missing: Vec<String> = answers.into_iter().flatten().collect();
    if missing.is_empty() { Ok(()) } else { Err(Error::MayNot { missing }) }
}

async fn is_allowed(cluster: &Cluster, want: &Want) -> Result<bool> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(cluster.client.clone());
    let doing = || format!("ask whether this account may {want}");
    let review = request(doing, reviews.create(&PostParams::default(), &review(want))).await?;
    Ok(review.status.is_some_and(|status| status.allowed))
}

fn review(want: &Want) -> SelfSubjectAccessReview {
    let attributes = ResourceAttributes {
        verb: Some(want.verb.clone()),
        group: Some(want.group.clone()),
        resource: Some(want.resource.clone()),
        subresource: want.subresource.clone(),
        namespace: want.namespace.clone(),
        name: want.name.clone(),
        ..Default::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    SelfSubjectAccessReview { spec, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_may_move_between_threads() {
        fn compiled<'a>(cluster: &'a Cluster, wants: &'a [Want]) -> impl Send + 'a {
            may(cluster, wants)
        }
        let _ = compiled;
    }

    #[test]
    fn a_want_is_said_as_one_would_say_it() {
        let said = |want: Want| want.to_string();
        assert_eq!(said(Want::to("create", "pods").within("shop")), "create pods in shop");
        assert_eq!(said(Want::to("create", "namespaces")), "create namespaces");
        let exec = Want::to("get", "pods/exec").named("kist-mover-1-1").within("shop");
        assert_eq!(said(exec), "get pods/exec kist-mover-1-1 in shop");
        let lease = Want::to("update", "leases.coordination.k8s.io").within("shop");
        assert_eq!((lease.resource.as_str(), lease.group.as_str()), ("leases", "coordination.k8s.io"));
        assert_eq!(said(lease), "update leases.coordination.k8s.io in shop");
    }

    #[test]
    fn creating_is_never_asked_for_by_name() {
        for want in for_backup("shop", "pod", "lease").into_iter().chain(for_restore("shop", "pod", "lease"))
        {
            let is_exec = want.subresource.is_some();
            assert!(want.verb != "create" || want.name.is_none() || is_exec, "{want}");
            assert_eq!(want.namespace.as_deref(), Some("shop"), "{want}");
        }
    }

    #[test]
    fn the_question_has_all_parts_of_the_want() {
        let asked = review(&Want::to("get", "pods/exec").named("p").within("shop"));
        assert_eq!(
            serde_json::to_value(asked).unwrap()["spec"]["resourceAttributes"],
            serde_json::json!({
                "verb": "get", "group": "", "resource": "pods", "subresource": "exec", "namespace": "shop",
                "name": "p",
            })
        );
    }
}
