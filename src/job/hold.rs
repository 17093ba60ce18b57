//! The namespaces that a run works in: swept, held by a lease each, and the names that its movers take there.
//!
//! Taken before anything is made in the cluster and released behind everything, whatever came between.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::{join_all, select_all, try_join_all};
use tokio::sync::{Mutex, MutexGuard};

use crate::cluster::Cluster;
use crate::cluster::access::{Want, may};
use crate::cluster::hook::PodHooks;
use crate::cluster::identity::Identity;
use crate::cluster::lease::{self, Lease};
use crate::cluster::mover::{self, Mount, Mover, Place, Purpose, Resources, Spec};
use crate::cluster::sweep::sweep;
use crate::format::task::Direct;
use crate::job::{Error, Result};
use crate::world::World;

/// What all movers of a run have in common.
pub struct Movers {
    pub image: String,
    pub pull_secrets: Vec<String>,
    /// Volumes that are read or filled at the same time.
    pub parallel: usize,
    /// How movers reach the store without the job; none for a folder.
    pub direct: Option<Direct>,
    /// How long a mover may take until it runs.
    pub start_limit: Duration,
    pub resources: Resources,
}

/// Where and as whom one mover runs.
pub struct Wanted {
    pub claims: Vec<String>,
    pub purpose: Purpose,
    pub place: Place,
    pub identity: Identity,
    pub selinux: serde_json::Value,
    pub pull_secrets: Vec<String>,
}

/// All that a run holds.
pub struct Holds {
    cluster: Cluster,
    run: String,
    held: BTreeMap<String, Hold>,
}

struct Hold {
    lease: Lease,
    names: Vec<Mutex<String>>,
    /// Of pods that may be frozen.
    owed: Mutex<Vec<PodHooks>>,
}

/// A name that a mover has until this is dropped.
pub struct Name<'a>(MutexGuard<'a, String>);

impl Holds {
    /// Asks whether the account may do what the run takes, removes what dead runs left behind, and takes a
    /// lease in each namespace. Gives what was swept, in sentences.
    pub async fn take(
        cluster: &Cluster,
        world: &World,
        namespaces: BTreeSet<String>,
        wants: fn(&str, &str, &str) -> Vec<Want>,
    ) -> Result<(Self, Vec<String>)> {
        let (pod, lease) = (&mover::names(1)[0], lease::name(1));
        let wants: Vec<Want> =
            namespaces.iter().flat_map(|namespace| wants(namespace, pod, &lease)).collect();
        may(cluster, &wants).await?;
        let swept = try_join_all(namespaces.iter().map(|namespace| sweep(cluster, world, namespace))).await?;
        let said = swept.into_iter().flat_map(|swept| swept.done.into_iter().chain(swept.problems)).collect();
        let run = crate::format::id::hex(&world.bytes::<8>());
        let mut holds = Self { cluster: cluster.clone(), run, held: BTreeMap::new() };
        for namespace in namespaces {
            match Lease::take(cluster, world, &namespace, &holds.run).await {
                Ok(lease) => {
                    let names = mover::names(lease.slot()).into_iter().map(Mutex::new).collect();
                    holds.held.insert(namespace, Hold { lease, names, owed: Mutex::default() });
                }
                Err(error) => {
                    holds.release().await;
                    return Err(error.into());
                }
            }
        }
        Ok((holds, said))
    }

    fn hold(&self, namespace: &str) -> Result<&Hold> {
        self.held.get(namespace).ok_or_else(|| Error::Link { what: format!("{namespace} is not held") })
    }

    /// Waits for a name that no other mover has.
    pub async fn name(&self, namespace: &str) -> Result<Name<'_>> {
        let waiting = self.hold(namespace)?.names.iter().map(|name| Box::pin(name.lock()));
        Ok(Name(select_all(waiting).await.0))
    }

    /// Starts a mover under a name.
    pub async fn start(
        &self,
        namespace: &str,
        name: &Name<'_>,
        movers: &Movers,
        wanted: Wanted,
    ) -> Result<Mover> {
        let read_only = wanted.purpose == Purpose::Read;
        let mut pull_secrets = movers.pull_secrets.clone();
        pull_secrets
            .extend(wanted.pull_secrets.into_iter().filter(|name| !movers.pull_secrets.contains(name)));
        let spec = Spec {
            namespace: namespace.to_owned(),
            name: name.0.clone(),
            run: self.run.clone(),
            image: movers.image.clone(),
            pull_secrets,
            mounts: wanted.claims.into_iter().map(|claim| Mount { claim, read_only }).collect(),
            purpose: wanted.purpose,
            place: wanted.place,
            identity: wanted.identity,
            selinux: wanted.selinux,
            resources: movers.resources.clone(),
        };
        Ok(mover::start(&self.cluster, spec, movers.start_limit).await?)
    }

    /// Notes in the leases that these pods may be frozen from now on.
    pub async fn owe(&self, hooks: &[PodHooks]) -> Result<()> {
        for (namespace, hooks) in by_namespace(hooks) {
            let hold = self.hold(namespace)?;
            let mut owed = hold.owed.lock().await;
            owed.extend(hooks);
            hold.lease.owe(&owed).await?;
        }
        Ok(())
    }

    /// The post-hooks of these pods have run.
    pub async fn paid(&self, hooks: &[PodHooks]) -> Result<()> {
        for (namespace, hooks) in by_namespace(hooks) {
            let hold = self.hold(namespace)?;
            let mut owed = hold.owed.lock().await;
            owed.retain(|pod| !hooks.contains(pod));
            match owed.is_empty() {
                true => hold.lease.paid().await?,
                false => hold.lease.owe(&owed).await?,
            }
        }
        Ok(())
    }

    /// Ends with an error when one of the leases is lost.
    pub async fn lost(&self) -> Error {
        let lost: Vec<_> = self.held.values().map(|hold| Box::pin(hold.lease.lost())).collect();
        match lost.is_empty() {
            true => std::future::pending().await,
            false => select_all(lost).await.0.into(),
        }
    }

    /// Gives all namespaces back. What can't be released lapses, and the next run takes it.
    pub async fn release(self) {
        let released = join_all(self.held.into_values().map(|hold| hold.lease.release())).await;
        for error in released.into_iter().filter_map(Result::err) {
            tracing::warn!(%error, "a lease could not be released: it lapses, and the next run removes it");
        }
    }
}

fn by_namespace(hooks: &[PodHooks]) -> BTreeMap<&str, Vec<PodHooks>> {
    let mut all: BTreeMap<&str, Vec<PodHooks>> = BTreeMap::new();
    for pod in hooks {
        all.entry(&pod.namespace).or_default().push(pod.clone());
    }
    all
}
