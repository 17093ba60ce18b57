//! Restoring a cluster: snapshot → plan, a value → what volumes need → volumes through movers → workloads →
//! ready → report.
//!
//! Volumes are filled before any workload exists. Where one can't be filled whole, the workloads are held
//! back: nothing starts on half of its data, unless the user says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use serde::Serialize;

use crate::archive::documents;
use crate::cluster::Cluster;
use crate::cluster::access;
use crate::cluster::manifest::{Manifest, ObjectKey};
use crate::cluster::mover::{Place, Purpose, volume_path};
use crate::cluster::restore::{
    AFTER_VOLUMES, AT_LAST, BEFORE_VOLUMES, ClaimToFill, NotReady, Options, Plan, Report as Objects, apply,
    dry_run, look, plan, ready,
};
use crate::format::commit::{Root, RootKind};
use crate::format::summary::Source;
use crate::format::task::{Done as TaskDone, Hex, Report, Restored, Transport, Work};
use crate::job::find::{self, Described, volume_source};
use crate::job::hold::{Holds, Movers, Wanted};
use crate::job::volume::{Order, delete_all, drive, task, unless_cancelled};
use crate::job::{Error, Result};
use crate::progress::Progress;
use crate::repo::{self, Index, Reader, Repository, Snapshot, chain};
use crate::store::May;

/// How to restore.
pub struct Request {
    pub movers: Movers,
    /// How long workloads may take until they are ready.
    pub ready_limit: Duration,
    /// Go on although files of volumes are lost.
    pub accept_loss: bool,
}

/// A snapshot that was read, and what restoring it into a cluster would do.
pub struct Prepared {
    pub plan: Plan,
    snapshot: Snapshot,
    /// The cluster that the snapshot is of.
    cluster: String,
    reader: Arc<Reader>,
}

/// What became of one volume.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// In the target.
    pub namespace: String,
    pub name: String,
    /// None if it could not be filled.
    pub transport: Option<Transport>,
    pub why: String,
    #[serde(flatten)]
    pub restored: Restored,
    /// Why it was not filled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl Volume {
    pub fn is_whole(&self) -> bool {
        self.failure.is_none() && self.restored.lost.is_empty() && self.restored.more_lost == 0
    }
}

/// What a restore did.
pub struct Done {
    pub objects: Objects,
    pub volumes: Vec<Volume>,
    pub not_ready: Vec<NotReady>,
    /// Workloads were not created, because a volume is not whole.
    pub held_back: bool,
    pub swept: Vec<String>,
}

/// Reads a snapshot's manifests, looks at the target, and plans.
pub async fn prepare(
    repo: &Repository,
    found: &Described,
    cluster: &Cluster,
    options: &Options,
) -> Result<Prepared> {
    let snapshot = find::load(repo, found).await?;
    let root = snapshot.commit.roots.iter().find(|root| root.kind == RootKind::Manifests);
    let root = root.ok_or_else(|| Error::NotOfCluster { snapshot: found.name() })?.node;
    if !repo.keys.can_read_data() {
        return Err(repo::Error::Role { needed: "owner", have: repo.keys.role.to_string() }.into());
    }
    let of = match repo::summary(repo, &snapshot)?.map(|summary| summary.source) {
        Some(Source::Cluster { cluster, .. }) => cluster,
        _ => return Err(Error::NotOfCluster { snapshot: found.name() }),
    };
    let reader = Arc::new(Reader::new(repo, Arc::new(Index::load(repo).await?)));
    let mut manifests = Vec::new();
    for (path, body) in documents::load(&reader, root).await? {
        let key = ObjectKey::from_path(&path);
        let body = serde_json::from_slice(&body).ok();
        match key.zip(body) {
            Some((key, body)) => manifests.push(Manifest { key, body }),
            None => return Err(Error::NotInSnapshot { path: path.to_string(), snapshot: found.name() }),
        }
    }
    let target = look(cluster, &manifests, options).await?;
    let plan = plan(&manifests, &target, options);
    Ok(Prepared { plan, snapshot, cluster: of, reader })
}

/// Has the server try what can be tried, for a plan that is shown.
pub async fn try_out(cluster: &Cluster, prepared: &mut Prepared) -> Result<()> {
    Ok(dry_run(cluster, &mut prepared.plan).await?)
}

/// Carries a plan out.
pub async fn carry_out(
    repo: &Repository,
    cluster: &Cluster,
    prepared: &Prepared,
    request: &Request,
    progress: Arc<dyn Progress>,
) -> Result<Done> {
    let plan = &prepared.plan;
    if !plan.obstacles.is_empty() {
        return Err(Error::Obstacles { obstacles: plan.obstacles.clone() });
    }
    let mut objects = Objects::default();
    let stop = progress.as_ref();
    unless_cancelled(stop, apply(cluster, plan, BEFORE_VOLUMES, &mut objects)).await?;
    let namespaces: BTreeSet<String> = plan.claims.iter().map(|claim| claim.namespace.clone()).collect();
    let taking = Holds::take(cluster, &repo.world, namespaces, access::for_restore);
    let (holds, swept) = unless_cancelled(stop, taking).await?;
    let filling =
        Filling { repo, prepared, holds: &holds, movers: &request.movers, progress: progress.clone() };
    let volumes = tokio::select! {
        volumes = filling.all() => volumes,
        lost = holds.lost() => Err(lost),
    };
    holds.release().await;
    let mut volumes = volumes?;
    volumes.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    let failed = volumes.iter().any(|volume| volume.failure.is_some());
    let lost = volumes.iter().any(|volume| !volume.is_whole());
    if failed || (lost && !request.accept_loss) {
        return Ok(Done { objects, volumes, not_ready: Vec::new(), held_back: true, swept });
    }
    unless_cancelled(stop, apply(cluster, plan, AFTER_VOLUMES, &mut objects)).await?;
    let waiting = async { Ok::<_, Error>(ready(cluster, plan, request.ready_limit).await) };
    let not_ready = unless_cancelled(stop, waiting).await?;
    unless_cancelled(stop, apply(cluster, plan, AT_LAST, &mut objects)).await?;
    Ok(Done { objects, volumes, not_ready, held_back: false, swept })
}

struct Filling<'a> {
    repo: &'a Repository,
    prepared: &'a Prepared,
    holds: &'a Holds,
    movers: &'a Movers,
    progress: Arc<dyn Progress>,
}

impl Filling<'_> {
    /// Claims that one pod uses are filled by one mover, so that they end up where that pod can run.
    async fn all(&self) -> Result<Vec<Volume>> {
        let mut together: BTreeMap<(&str, String), Vec<&ClaimToFill>> = BTreeMap::new();
        for claim in &self.prepared.plan.claims {
            let pod = claim.consumer.as_ref().map(|consumer| format!("pod {}", consumer.pod));
            let key = pod.unwrap_or_else(|| format!("claim {}", claim.name));
            together.entry((&claim.namespace, key)).or_default().push(claim);
        }
        let filling = futures::stream::iter(together.into_values()).map(|claims| self.group(claims));
        let filled: Vec<_> = filling.buffer_unordered(self.movers.parallel.max(1)).collect().await;
        let filled = filled.into_iter().collect::<Result<Vec<_>>>()?;
        Ok(filled.into_iter().flatten().collect())
    }

    async fn group(&self, claims: Vec<&ClaimToFill>) -> Result<Vec<Volume>> {
        // A claim without a tree in the snapshot can't be filled; the others of its pod are.
        let (with, without): (Vec<_>, Vec<_>) =
            claims.into_iter().map(|claim| (claim, self.root(claim))).partition(|(_, root)| root.is_some());
        let nothing = "the snapshot has no data of it: it was listed as missing when it was made";
        let mut volumes: Vec<Volume> =
            without.iter().map(|(claim, _)| not_filled(claim, nothing.into())).collect();
        let with: Vec<(&ClaimToFill, Root)> =
            with.into_iter().filter_map(|(claim, root)| Some((claim, root?))).collect();
        let Some((first, _)) = with.first() else { return Ok(volumes) };
        let name = self.holds.name(&first.namespace).await?;
        let consumer = first.consumer.as_ref();
        let wanted = Wanted {
            claims: with.iter().map(|(claim, _)| claim.name.clone()).collect(),
            purpose: Purpose::Write,
            place: match consumer {
                None => Place::Anywhere,
                Some(like) => Place::Like {
                    node_selector: like.node_selector.clone(),
                    affinity: like.affinity.clone(),
                    tolerations: like.tolerations.clone(),
                    spread: like.spread.clone(),
                },
            },
            identity: consumer.map(|like| like.identity.clone()).unwrap_or_default(),
            selinux: serde_json::Value::Null,
            pull_secrets: Vec::new(),
        };
        let starting = self.holds.start(&first.namespace, &name, self.movers, wanted);
        let mover = match unless_cancelled(self.progress.as_ref(), starting).await {
            Ok(mover) => mover,
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => {
                volumes.extend(with.iter().map(|(claim, _)| not_filled(claim, chain(&error))));
                return Ok(volumes);
            }
        };
        let mut interrupted = false;
        for (k, (claim, root)) in with.iter().enumerate() {
            match self.fill(&mover, claim, *root, k).await {
                Ok(volume) => volumes.push(volume),
                Err(Error::Interrupted) => {
                    interrupted = true;
                    break;
                }
                Err(error) => volumes.push(not_filled(claim, chain(&error))),
            }
        }
        delete_all([mover], self.progress.as_ref()).await;
        if interrupted { Err(Error::Interrupted) } else { Ok(volumes) }
    }

    /// The tree of a claim: of this very claim, by its cluster and UID, never of one that is only called so.
    fn root(&self, claim: &ClaimToFill) -> Option<Root> {
        let source =
            volume_source(&self.prepared.cluster, &claim.from_namespace, &claim.from_name, &claim.from_uid);
        let source = self.repo.keys.source_id(&source);
        let roots = &self.prepared.snapshot.commit.roots;
        roots.iter().find(|root| root.kind == RootKind::Volume && root.source == source).copied()
    }

    async fn fill(
        &self,
        mover: &crate::cluster::mover::Mover,
        claim: &ClaimToFill,
        root: Root,
        k: usize,
    ) -> Result<Volume> {
        let work = Work::Restore { path: volume_path(k), root: Hex(root.node) };
        let meta = self.prepared.snapshot.commit.meta_key_name(root.source);
        let task = task(self.repo, meta, self.movers.direct.as_ref(), work).await?;
        let order = Order { task, may: May::restore(), keys: Some(self.prepared.reader.clone()) };
        let report = drive(mover, self.repo, order, self.progress.clone()).await?;
        let Report { transport, why, done: TaskDone::Restore(restored), .. } = report else {
            return Err(Error::Link { what: "the mover reports another task".into() });
        };
        let (namespace, name) = (claim.namespace.clone(), claim.name.clone());
        Ok(Volume { namespace, name, transport: Some(transport), why, restored, failure: None })
    }
}

fn not_filled(claim: &ClaimToFill, why: String) -> Volume {
    Volume {
        namespace: claim.namespace.clone(),
        name: claim.name.clone(),
        transport: None,
        why: String::new(),
        restored: Restored::default(),
        failure: Some(why),
    }
}
