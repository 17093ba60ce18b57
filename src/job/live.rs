//! Reading volumes while they are in use: start movers → freeze → have them read → thaw → movers gone.
//!
//! A volume that can't be read is listed, and the others go on. A pod whose pre-hook was started gets its
//! post-hook, whatever came between.

use std::sync::Arc;

use futures::StreamExt;
use futures::future::join_all;

use crate::cluster::Cluster;
use crate::cluster::hook::{self, HookResult, OnError, Phase, PodHooks};
use crate::cluster::mover::{MOVERS, Mover, Place, Purpose, Rung, volume_path};
use crate::cluster::volume::{Claim, Consumer, Way};
use crate::format::id::{ChunkPrefix, NodeId, SourceId};
use crate::format::summary::{self, Missing, Source, Verdict};
use crate::format::task::{self, BackedUp, FailureClass, Hex, Report, Transport, Work};
use crate::job::backup::OldTree;
use crate::job::group::Group;
use crate::job::hold::{Holds, Movers, Name, Wanted};
use crate::job::volume::{Order, delete_all, drive, task, unless_cancelled};
use crate::job::{Error, Result};
use crate::progress::Progress;
use crate::repo::{Lane, Repository, Snapshots, chain};
use crate::store::May;

/// How often a volume is tried: its mover may be evicted, or its node go. Each time in a lane of its own.
pub const TRIES: usize = 2;

/// What all reading needs.
pub struct Reading<'a> {
    pub repo: &'a Repository,
    pub cluster: &'a Cluster,
    pub claims: &'a [Claim],
    pub hooks: &'a [PodHooks],
    pub holds: &'a Holds,
    pub movers: &'a Movers,
    /// [`TRIES`] for each claim.
    pub lanes: &'a [Lane],
    pub before: &'a Snapshots,
    pub progress: Arc<dyn Progress>,
}

/// What is missing is listed up to so many bytes of text, of all volumes together; more is counted.
const MISSING_BYTES: usize = 4 * 1024 * 1024;

/// What came of it.
#[derive(Default)]
pub struct Read {
    pub roots: Vec<(SourceId, NodeId)>,
    /// What each root makes little use of, as the movers say.
    pub sparse: Vec<(SourceId, Vec<ChunkPrefix>)>,
    pub volumes: Vec<summary::Volume>,
    pub hooks: Vec<summary::Hook>,
    pub missing: Vec<Missing>,
    pub more_missing: u64,
    missing_bytes: usize,
}

/// A mover that runs, its name, and the claims that it has mounted.
type Started<'a> = (&'a Vec<usize>, Name, Mover);

/// A volume that was read.
struct Volume {
    source: SourceId,
    summary: summary::Volume,
    done: BackedUp,
}

impl Reading<'_> {
    /// Reads all groups, several at a time. Fails only if the run is to end.
    pub async fn all(&self, groups: &[Group]) -> Result<Read> {
        let mut read = Read::default();
        // Pods with hooks of which no volume is read: nothing is gained by keeping them frozen.
        let (loose, with_volumes): (Vec<&Group>, Vec<&Group>) =
            groups.iter().partition(|group| group.movers.is_empty());
        let loose: Vec<PodHooks> = loose.iter().flat_map(|group| self.pods(group)).collect();
        self.freeze(&loose, &mut read).await;
        self.thaw(&loose, &mut read).await;
        let reading = futures::stream::iter(with_volumes).map(|group| self.group(group));
        let results: Vec<Result<Read>> =
            reading.buffer_unordered(self.movers.parallel.max(1)).collect().await;
        for result in results {
            read.add(result?);
        }
        read.volumes.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        read.roots.sort();
        Ok(read)
    }

    fn pods(&self, group: &Group) -> Vec<PodHooks> {
        group.hooks.iter().map(|number| self.hooks[*number].clone()).collect()
    }

    async fn group(&self, group: &Group) -> Result<Read> {
        let mut read = Read::default();
        let most = MOVERS as usize;
        for claim in group.movers.iter().skip(most).flatten() {
            let why = format!("its pods are frozen together with others, on more than {most} nodes in all");
            read.miss(&self.claims[*claim], &why);
        }
        let movers = &group.movers[..group.movers.len().min(most)];
        let waiting = self.holds.names(&group.namespace, movers.len());
        let names = match unless_cancelled(self.progress.as_ref(), waiting).await {
            Ok(names) => names,
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => {
                movers.iter().flatten().for_each(|claim| read.miss(&self.claims[*claim], &chain(&error)));
                return Ok(read);
            }
        };
        let mut started = Vec::new();
        for (claims, name) in movers.iter().zip(names) {
            match self.start(&group.namespace, &name, claims).await {
                Ok(mover) => started.push((claims, name, mover)),
                Err(Error::Interrupted) => {
                    delete_all(started.into_iter().map(|(.., mover)| mover), self.progress.as_ref()).await;
                    return Err(Error::Interrupted);
                }
                Err(error) => claims.iter().for_each(|claim| read.miss(&self.claims[*claim], &chain(&error))),
            }
        }
        if !started.is_empty() {
            self.read_frozen(group, started, &mut read).await?;
        }
        Ok(read)
    }

    /// Freezes a group's pods, has its volumes read, and thaws the pods whatever happened. Frozen only now, because
    /// starting a pod takes its time.
    async fn read_frozen(&self, group: &Group, started: Vec<Started<'_>>, read: &mut Read) -> Result<()> {
        let pods = self.pods(group);
        let all: Vec<usize> = started.iter().flat_map(|(claims, ..)| claims.iter().copied()).collect();
        self.freeze(&pods, read).await;
        let is_frozen = read.hooks.iter().all(|hook| hook.ok);
        let each = started.into_iter().map(|(claims, name, mover)| self.read(claims, name, mover));
        let volumes = tokio::select! {
            volumes = join_all(each) => Ok(volumes),
            // Another run may sweep our movers from now on: what they have read does not count.
            lost = self.holds.lost(&group.namespace) => Err(lost),
        };
        self.thaw(&pods, read).await;
        let volumes = match volumes {
            Ok(volumes) => volumes,
            Err(lost) => {
                all.iter().for_each(|claim| read.miss(&self.claims[*claim], &chain(&lost)));
                return Ok(());
            }
        };
        for (claim, volume) in volumes.into_iter().flatten() {
            match volume {
                Ok(volume) => read.take(volume, is_frozen && self.is_hooked(&self.claims[claim])),
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Err(error) => read.miss(&self.claims[claim], &chain(&error)),
            }
        }
        Ok(())
    }

    /// Whether every pod that uses a claim has a hook that freezes it.
    fn is_hooked(&self, claim: &Claim) -> bool {
        let freezes = |user: &Consumer| {
            let of = |pod: &&PodHooks| pod.namespace == claim.namespace && pod.pod == user.pod;
            self.hooks.iter().find(of).is_some_and(|pod| pod.pre.is_some())
        };
        !claim.consumers.is_empty() && claim.consumers.iter().all(freezes)
    }

    /// Runs pre-hooks. A failed one makes the run incomplete, unless its pod says that it may fail. Without a note
    /// of what is owed for it no hook is run.
    async fn freeze(&self, pods: &[PodHooks], read: &mut Read) {
        if pods.is_empty() || self.progress.is_cancelled() {
            return;
        }
        let results = match self.holds.owe(pods).await {
            Ok(()) => hook::run_all(self.cluster, &self.repo.world, pods, Phase::Pre).await,
            Err(error) => pods.iter().map(|pod| not_run(pod, &chain(&error))).collect(),
        };
        read.hooked(results);
    }

    async fn thaw(&self, pods: &[PodHooks], read: &mut Read) {
        if pods.is_empty() {
            return;
        }
        let results = hook::run_all(self.cluster, &self.repo.world, pods, Phase::Post).await;
        read.hooked(results);
        if let Err(error) = self.holds.paid(pods).await {
            tracing::warn!(error = chain(&error), "a lease still says that post-hooks are owed");
        }
    }

    async fn start(&self, namespace: &str, name: &Name, claims: &[usize]) -> Result<Mover> {
        let first = &self.claims[claims[0]];
        let (node, user) = match first.way() {
            Way::Live { node, consumer } => (node, consumer.and_then(|number| first.consumers.get(number))),
            Way::No { .. } => (None, None),
        };
        let place = match node {
            Some(node) => Place::Node {
                hostname_label: self.cluster.hostname_label(&node).await,
                tolerations: user.map(|user| user.tolerations.clone()).unwrap_or_default(),
            },
            None => Place::Anywhere,
        };
        let wanted = Wanted {
            claims: claims.iter().map(|claim| self.claims[*claim].name.clone()).collect(),
            purpose: Purpose::Read,
            place,
            identity: user.map(|user| user.identity.clone()).unwrap_or_default(),
            selinux: user.map(|user| user.selinux.clone()).unwrap_or_default(),
            pull_secrets: user.map(|user| user.pull_secrets.clone()).unwrap_or_default(),
        };
        let starting = self.holds.start(namespace, name, self.movers, wanted);
        unless_cancelled(self.progress.as_ref(), starting).await
    }

    /// Reads the claims of one mover, one after the other, and deletes it.
    async fn read(&self, claims: &[usize], name: Name, mover: Mover) -> Vec<(usize, Result<Volume>)> {
        let mut mover = Some(mover);
        let mut volumes = Vec::new();
        for (k, claim) in claims.iter().enumerate() {
            let mut volume = Err(Error::Interrupted);
            for attempt in 0..TRIES {
                if mover.is_none() {
                    match self.start(&self.claims[*claim].namespace, &name, claims).await {
                        Ok(started) => mover = Some(started),
                        Err(error) => {
                            volume = Err(error);
                            break;
                        }
                    }
                }
                let Some(running) = &mover else { break };
                volume = self.read_one(running, *claim, k, &self.lanes[claim * TRIES + attempt]).await;
                match &volume {
                    Err(error) if may_pass(error) && attempt + 1 < TRIES => {
                        tracing::warn!(error = chain(error), "a volume is read again, by another mover");
                        delete_all(mover.take(), self.progress.as_ref()).await;
                    }
                    _ => break,
                }
            }
            volumes.push((*claim, volume));
        }
        delete_all(mover, self.progress.as_ref()).await;
        drop(name);
        volumes
    }

    async fn read_one(&self, mover: &Mover, claim: usize, k: usize, lane: &Lane) -> Result<Volume> {
        let claim = &self.claims[claim];
        let source = Source::volume(&self.cluster.uid, &claim.namespace, &claim.name, &claim.uid);
        let source = self.repo.keys.ids()?.source_id(&source);
        let parent = self.before.parent_of(self.repo, source);
        let old = parent.and_then(|parent| OldTree::of(self.repo, parent, source));
        let work = Work::Backup {
            path: volume_path(k),
            source: Hex(source),
            parent: old.as_ref().map(|old| Hex(old.root)),
            sparse: old.map_or_else(Vec::new, |old| old.sparse),
            lane: task::Lane {
                session: Hex(lane.session),
                number: lane.number,
                data: Hex(lane.data.clone()),
                signing: Hex(lane.signing.clone()),
            },
        };
        let meta = self.repo.keys.own_meta_key(source)?.0;
        let task = task(self.repo, meta, self.movers.direct.as_ref(), work).await?;
        let order = Order { task, may: May::backup(lane.session, lane.number), keys: None };
        let report = drive(mover, self.repo, order, self.progress.clone()).await?;
        let Report { transport, why, done: task::Done::Backup(done), .. } = report else {
            return Err(Error::Link { what: "the mover reports another task".into() });
        };
        let summary = summary::Volume {
            namespace: claim.namespace.clone(),
            name: claim.name.clone(),
            uid: claim.uid.clone(),
            way: "live".into(),
            transport: match transport {
                Transport::Direct => "direct".into(),
                Transport::Relay => "relay".into(),
            },
            why,
            verdict: if done.changed.is_some() { Verdict::Torn } else { Verdict::Quiet },
            changed: done.changed.clone(),
            rung: match mover.rung {
                Rung::Root => "root".into(),
                Rung::Consumer => "consumer".into(),
            },
            node: mover.node.clone(),
            counts: done.counts,
        };
        Ok(Volume { source, summary, done })
    }
}

/// A pre-hook that was not started.
fn not_run(pod: &PodHooks, why: &str) -> HookResult {
    HookResult {
        namespace: pod.namespace.clone(),
        pod: pod.pod.clone(),
        phase: Phase::Pre,
        ok: false,
        on_error: OnError::Fail,
        seconds: 0.0,
        message: why.to_owned(),
    }
}

/// Whether another mover may do better.
pub fn may_pass(error: &Error) -> bool {
    match error {
        Error::Wire(_) | Error::Link { .. } => true,
        Error::Cluster(error) => error.class() == crate::cluster::Class::Other,
        Error::Mover { class, .. } => *class == FailureClass::Transient,
        Error::Repo(error) => error.class() == crate::repo::Class::Transient,
        _ => false,
    }
}

impl Read {
    fn add(&mut self, other: Read) {
        self.roots.extend(other.roots);
        self.sparse.extend(other.sparse);
        self.volumes.extend(other.volumes);
        self.hooks.extend(other.hooks);
        other.missing.into_iter().for_each(|missing| self.list(missing));
        self.more_missing += other.more_missing;
    }

    fn list(&mut self, missing: Missing) {
        self.missing_bytes += missing.what.len() + missing.why.len();
        match self.missing_bytes <= MISSING_BYTES {
            true => self.missing.push(missing),
            false => self.more_missing += 1,
        }
    }

    fn miss(&mut self, claim: &Claim, why: &str) {
        let what = format!("volume {}/{}", claim.namespace, claim.name);
        self.list(Missing { what, why: why.to_owned() });
    }

    fn take(&mut self, volume: Volume, frozen: bool) {
        let Volume { source, mut summary, done } = volume;
        if frozen && summary.verdict == Verdict::Quiet {
            summary.verdict = Verdict::Frozen;
        }
        let place = format!("volume {}/{}", summary.namespace, summary.name);
        for file in done.missing {
            self.list(Missing { what: format!("{place}: {}", file.what), why: file.why });
        }
        self.more_missing += done.more_missing;
        self.roots.push((source, done.root.0));
        self.sparse.push((source, done.sparse));
        self.volumes.push(summary);
    }

    fn hooked(&mut self, results: Vec<HookResult>) {
        for result in results {
            let pod = format!("{}/{}", result.namespace, result.pod);
            let phase = match result.phase {
                Phase::Pre => "pre",
                Phase::Post => "post",
            };
            if !result.ok && result.on_error == OnError::Fail {
                let what = format!("{phase}-hook of pod {pod}");
                self.list(Missing { what, why: result.message.clone() });
            }
            self.hooks.push(summary::Hook {
                pod,
                phase: phase.into(),
                ok: result.ok,
                message: result.message,
            });
        }
    }
}
