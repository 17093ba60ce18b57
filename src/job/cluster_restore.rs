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
use crate::cluster::manifest::Manifest;
use crate::cluster::mover::{Mover, Place, Purpose, volume_path};
use crate::cluster::restore::{
    AFTER_VOLUMES, BEFORE_VOLUMES, ClaimToFill, NotReady, Options, Plan, Report as Objects, apply,
    apply_last, dry_run, look, plan, ready,
};
use crate::format::commit::{Root, RootKind};
use crate::format::summary::{Source, Summary};
use crate::format::task::{Done as TaskDone, Hex, Report, Restored, Transport, Work};
use crate::job::find::{self, Described};
use crate::job::hold::{Holds, Movers, Name, Wanted, allowed};
use crate::job::live::{TRIES, may_pass};
use crate::job::volume::{Order, delete_all, drive, task, unless_cancelled};
use crate::job::{Error, Result};
use crate::progress::Progress;
use crate::repo::{self, Index, Reader, Repository, Snapshot, TreeReader, chain};
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
        let restored = &self.restored;
        let lost = !restored.lost.is_empty() || restored.more_lost > 0;
        self.failure.is_none() && !lost && restored.unwritten == 0
    }
}

/// What a restore did.
#[derive(Default)]
pub struct Done {
    pub objects: Objects,
    pub volumes: Vec<Volume>,
    pub not_ready: Vec<NotReady>,
    /// Workloads were not created, because a volume is not whole.
    pub held_back: bool,
    /// The user has ended it; what is told here was done.
    pub interrupted: bool,
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
    let root = *root.ok_or_else(|| Error::NotOfCluster { snapshot: found.name() })?;
    repo.keys.check_reads_data()?;
    let not_of_cluster = || Error::NotOfCluster { snapshot: found.name() };
    let summary = repo::summary(repo, &snapshot)?.ok_or_else(not_of_cluster)?;
    let Source::Cluster { cluster: of, .. } = summary.source.clone() else { return Err(not_of_cluster()) };
    let reader = Arc::new(Reader::new(repo, Arc::new(Index::load(repo).await?)));
    let mut manifests = Vec::new();
    for (path, body) in documents::load(&TreeReader::new(reader.clone(), &snapshot, &root)).await? {
        let not_there = || Error::NotInSnapshot { path: path.to_string(), snapshot: found.name() };
        manifests.push(Manifest::decode(&path, &body).ok_or_else(not_there)?);
    }
    let target = look(cluster, &manifests, options).await?;
    let mut plan = plan(&manifests, &target, options);
    plan.remarks.extend(remarks(repo, &snapshot, &summary, &plan));
    Ok(Prepared { plan, snapshot, cluster: of, reader })
}

/// Has the server try what can be tried, for a plan that is shown.
pub async fn try_out(cluster: &Cluster, prepared: &mut Prepared) -> Result<()> {
    Ok(dry_run(cluster, &mut prepared.plan).await?)
}

/// Carries a plan out. What was done is told also of a run that was interrupted.
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
    let mut done = Done::default();
    let run = Run { repo, cluster, prepared, request, progress };
    match run.carry_out(&mut done).await {
        Err(Error::Interrupted) => done.interrupted = true,
        carried_out => carried_out?,
    }
    done.volumes.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Ok(done)
}

struct Run<'a> {
    repo: &'a Repository,
    cluster: &'a Cluster,
    prepared: &'a Prepared,
    request: &'a Request,
    progress: Arc<dyn Progress>,
}

impl Run<'_> {
    async fn carry_out(&self, done: &mut Done) -> Result<()> {
        let (plan, stop) = (&self.prepared.plan, self.progress.as_ref());
        let namespaces: BTreeSet<String> = plan.claims.iter().map(|claim| claim.namespace.clone()).collect();
        // Before anything is made: a namespace that is half there would be in the way of the next try.
        allowed(self.cluster, &namespaces, access::for_restore, stop).await?;
        unless_cancelled(stop, apply(self.cluster, plan, BEFORE_VOLUMES, &mut done.objects)).await?;
        self.fill(namespaces, done).await?;
        if !self.request.accept_loss && !done.volumes.iter().all(Volume::is_whole) {
            done.held_back = true;
            return Ok(());
        }
        unless_cancelled(stop, apply(self.cluster, plan, AFTER_VOLUMES, &mut done.objects)).await?;
        let waiting = async { Ok::<_, Error>(ready(self.cluster, plan, self.request.ready_limit).await) };
        done.not_ready = unless_cancelled(stop, waiting).await?;
        let last = apply_last(self.cluster, plan, &done.not_ready, &mut done.objects);
        unless_cancelled(stop, last).await
    }

    async fn fill(&self, namespaces: BTreeSet<String>, done: &mut Done) -> Result<()> {
        let (world, stop) = (&self.repo.world, self.progress.as_ref());
        let (holds, swept) = Holds::take(self.cluster, world, namespaces, access::for_restore, stop).await?;
        done.swept = swept;
        let filling = Filling {
            repo: self.repo,
            prepared: self.prepared,
            holds: &holds,
            movers: &self.request.movers,
            progress: self.progress.clone(),
        };
        let volumes = filling.all().await;
        holds.release().await;
        done.volumes = volumes?;
        Ok(())
    }
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

    fn root(&self, claim: &ClaimToFill) -> Option<Root> {
        root_of(self.repo, &self.prepared.snapshot, &self.prepared.cluster, claim)
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
        let waiting = self.holds.names(&first.namespace, 1);
        let name = match unless_cancelled(self.progress.as_ref(), waiting).await {
            Ok(mut names) => names.pop().expect("as many as were asked for"),
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => {
                volumes.extend(with.iter().map(|(claim, _)| not_filled(claim, chain(&error))));
                return Ok(volumes);
            }
        };
        volumes.extend(self.fill_all(&with, &name).await?);
        Ok(volumes)
    }

    /// Fills the claims of one mover, one after the other, and deletes it. A mover that is evicted or cut off is
    /// made once more, and goes on where the first one stopped.
    async fn fill_all(&self, with: &[(&ClaimToFill, Root)], name: &Name) -> Result<Vec<Volume>> {
        let mut mover = None;
        let mut volumes = Vec::new();
        for (k, (claim, root)) in with.iter().enumerate() {
            let mut filled = Err(Error::Interrupted);
            for attempt in 1..=TRIES {
                if mover.is_none() {
                    match self.start(with, name).await {
                        Ok(started) => mover = Some(started),
                        Err(error) => {
                            filled = Err(error);
                            break;
                        }
                    }
                }
                let Some(running) = &mover else { break };
                filled = self.fill(running, claim, *root, k, attempt > 1).await;
                match &filled {
                    Err(error) if may_pass(error) && attempt < TRIES => {
                        tracing::warn!(error = chain(error), "a volume is filled on, by another mover");
                        delete_all(mover.take(), self.progress.as_ref()).await;
                    }
                    _ => break,
                }
            }
            match filled {
                Ok(volume) => volumes.push(volume),
                Err(Error::Interrupted) => {
                    delete_all(mover, self.progress.as_ref()).await;
                    return Err(Error::Interrupted);
                }
                Err(error) => volumes.push(not_filled(claim, chain(&error))),
            }
        }
        delete_all(mover, self.progress.as_ref()).await;
        Ok(volumes)
    }

    async fn start(&self, with: &[(&ClaimToFill, Root)], name: &Name) -> Result<Mover> {
        let first = with[0].0;
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
        let starting = self.holds.start(&first.namespace, name, self.movers, wanted);
        unless_cancelled(self.progress.as_ref(), starting).await
    }

    async fn fill(
        &self,
        mover: &Mover,
        claim: &ClaimToFill,
        root: Root,
        k: usize,
        resume: bool,
    ) -> Result<Volume> {
        let work = Work::Restore { path: volume_path(k), root: Hex(root.node), resume };
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

/// The tree of a claim: of this very claim, by its cluster and UID, never of one that is only called so.
fn root_of(repo: &Repository, snapshot: &Snapshot, cluster: &str, claim: &ClaimToFill) -> Option<Root> {
    let source = Source::volume(cluster, &claim.from_namespace, &claim.from_name, &claim.from_uid);
    let source = repo.keys.ids().ok()?.source_id(&source);
    let is_it = |root: &&Root| root.kind == RootKind::Volume && root.source == source;
    snapshot.commit.roots.iter().find(is_it).copied()
}

/// What should be known before such a snapshot is restored.
fn remarks(repo: &Repository, snapshot: &Snapshot, summary: &Summary, plan: &Plan) -> Vec<String> {
    let Source::Cluster { cluster, .. } = &summary.source else { return Vec::new() };
    let unread = plan.claims.iter().filter(|claim| root_of(repo, snapshot, cluster, claim).is_none());
    let unread = unread.map(|claim| {
        format!("volume {}/{} can't be filled: the snapshot has no data of it", claim.namespace, claim.name)
    });
    let missing = summary.missing.len() as u64 + summary.more_missing;
    let first = summary.missing.first().map(|first| {
        format!("the snapshot is not complete: {missing} missing, first {}: {}", first.what, first.why)
    });
    first.into_iter().chain(unread).collect()
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
