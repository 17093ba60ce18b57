//! The namespaces that a run works in: swept, held by a lease each, and the names that its movers take there.
//!
//! Taken before anything is made in the cluster and released behind everything, whatever came between.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use crate::cluster::Cluster;
use crate::cluster::access::{Want, may};
use crate::cluster::hook::PodHooks;
use crate::cluster::identity::Identity;
use crate::cluster::lease::{self, Lease};
use crate::cluster::mover::{self, Mount, Mover, Place, Purpose, Removals, Resources, Spec};
use crate::cluster::sweep::sweep;
use crate::format::task::Direct;
use crate::job::volume::unless_cancelled;
use crate::job::{Error, Result};
use crate::progress::Progress;
use crate::repo::chain;
use crate::world::World;

/// How long movers that were given up may take until they are gone.
const REMOVAL: Duration = Duration::from_secs(8);

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
    /// Of movers that were given up while they started.
    removals: Removals,
    /// Namespaces that could not be had, and why: their volumes are missing, the others are read.
    refused: BTreeMap<String, String>,
}

struct Hold {
    lease: Lease,
    /// As many as there are names in `free`; a group takes all that it needs at once, so that no two groups wait
    /// for each other.
    places: Arc<Semaphore>,
    free: Arc<Names>,
    /// Of pods that may be frozen.
    owed: Mutex<Vec<PodHooks>>,
}

type Names = std::sync::Mutex<Vec<String>>;

/// A name that a mover has until this is dropped.
pub struct Name {
    name: String,
    free: Arc<Names>,
    _place: OwnedSemaphorePermit,
}

impl Drop for Name {
    fn drop(&mut self) {
        let name = std::mem::take(&mut self.name);
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(name);
    }
}

impl Holds {
    /// Asks whether the account may do what the run takes, removes what dead runs left behind, and takes a
    /// lease in each namespace. Gives what was swept, in sentences.
    pub async fn take(
        cluster: &Cluster,
        world: &World,
        namespaces: BTreeSet<String>,
        wants: fn(&str, &str, &str) -> Vec<Want>,
        progress: &dyn Progress,
    ) -> Result<(Self, Vec<String>)> {
        allowed(cluster, &namespaces, wants, progress).await?;
        let run = crate::format::id::hex(&world.bytes::<8>());
        let mut holds = Self {
            cluster: cluster.clone(),
            run,
            held: BTreeMap::new(),
            removals: Removals::default(),
            refused: BTreeMap::new(),
        };
        let sweeping = join_all(namespaces.iter().map(|namespace| sweep(cluster, world, namespace)));
        let swept = unless_cancelled(progress, async { Ok::<_, Error>(sweeping.await) }).await?;
        let mut said = Vec::new();
        let only = namespaces.len() == 1;
        for (namespace, swept) in namespaces.into_iter().zip(swept) {
            let taken = match swept {
                Ok(swept) => {
                    said.extend(swept.done.into_iter().chain(swept.problems));
                    Lease::take(cluster, world, &namespace, &holds.run).await
                }
                Err(error) => Err(error),
            };
            match taken {
                Ok(lease) => holds.add(namespace, lease),
                Err(error) if only => return Err(error.into()),
                Err(error) => drop(holds.refused.insert(namespace, chain(&error))),
            }
            // Not in the middle of taking one: a lease that nobody knows of would stay for a while.
            if progress.is_cancelled() {
                holds.release().await;
                return Err(Error::Interrupted);
            }
        }
        Ok((holds, said))
    }

    fn add(&mut self, namespace: String, lease: Lease) {
        let names = mover::names(lease.slot());
        let places = Arc::new(Semaphore::new(names.len()));
        let free = Arc::new(Names::new(names.into()));
        self.held.insert(namespace, Hold { lease, places, free, owed: Mutex::default() });
    }

    fn hold(&self, namespace: &str) -> Result<&Hold> {
        let why = || self.refused.get(namespace).cloned().unwrap_or_else(|| "it is not held".into());
        self.held.get(namespace).ok_or_else(|| Error::NotHeld { namespace: namespace.to_owned(), why: why() })
    }

    /// Waits for names that no other mover has: at most [`mover::MOVERS`].
    pub async fn names(&self, namespace: &str, count: usize) -> Result<Vec<Name>> {
        let hold = self.hold(namespace)?;
        let count = u32::try_from(count).unwrap_or(mover::MOVERS).min(mover::MOVERS);
        let closed = "nothing closes this semaphore";
        let mut places = hold.places.clone().acquire_many_owned(count).await.expect(closed);
        let mut free = hold.free.lock().unwrap_or_else(PoisonError::into_inner);
        let names = std::iter::from_fn(|| {
            let (name, free) = (free.pop()?, hold.free.clone());
            Some(Name { name, free, _place: places.split(1)? })
        });
        Ok(names.take(count as usize).collect())
    }

    /// Starts a mover under a name.
    pub async fn start(
        &self,
        namespace: &str,
        name: &Name,
        movers: &Movers,
        wanted: Wanted,
    ) -> Result<Mover> {
        let read_only = wanted.purpose == Purpose::Read;
        let mut pull_secrets = movers.pull_secrets.clone();
        pull_secrets
            .extend(wanted.pull_secrets.into_iter().filter(|name| !movers.pull_secrets.contains(name)));
        let spec = Spec {
            namespace: namespace.to_owned(),
            name: name.name.clone(),
            run: self.run.clone(),
            image: movers.image.clone(),
            pull_secrets,
            mounts: wanted.claims.into_iter().map(|claim| Mount { claim, read_only }).collect(),
            purpose: wanted.purpose,
            place: wanted.place,
            identity: wanted.identity,
            selinux: wanted.selinux,
            resources: movers.resources.clone(),
            removals: self.removals.clone(),
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

    /// Ends with an error when the lease in a namespace is lost: nothing may be changed there any more.
    pub async fn lost(&self, namespace: &str) -> Error {
        match self.held.get(namespace) {
            Some(hold) => hold.lease.lost().await.into(),
            None => std::future::pending().await,
        }
    }

    /// Gives all namespaces back. What can't be released lapses, and the next run takes it.
    pub async fn release(self) {
        self.removals.settled(REMOVAL).await;
        let released = join_all(self.held.into_values().map(|hold| hold.lease.release()));
        for error in released.await.into_iter().filter_map(Result::err) {
            tracing::warn!(
                error = chain(&error),
                "a lease could not be released: it lapses, and the next run removes it"
            );
        }
    }
}

/// Fails with all that this account may not do of what a run in these namespaces takes.
pub async fn allowed(
    cluster: &Cluster,
    namespaces: &BTreeSet<String>,
    wants: fn(&str, &str, &str) -> Vec<Want>,
    progress: &dyn Progress,
) -> Result<()> {
    let (pod, lease) = (&mover::names(1)[0], lease::name(1));
    let wants: Vec<Want> = namespaces.iter().flat_map(|namespace| wants(namespace, pod, &lease)).collect();
    unless_cancelled(progress, may(cluster, &wants)).await
}

fn by_namespace(hooks: &[PodHooks]) -> BTreeMap<&str, Vec<PodHooks>> {
    let mut all: BTreeMap<&str, Vec<PodHooks>> = BTreeMap::new();
    for pod in hooks {
        all.entry(&pod.namespace).or_default().push(pod.clone());
    }
    all
}
