//! Who takes part: writers, collectors, a keeper who forgets and recalls, a checker.
//!
//! Each does its work as a process after another: it opens the repository anew, and may be killed at any request.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use kist::archive::tree::{NodeSink, TreeBuilder};
use kist::format::commit::{Root, RootKind};
use kist::format::id::{NodeId, SessionId, SourceId};
use kist::format::log::Scope;
use kist::format::summary::{Counts, Source, Summary};
use kist::progress::Silent;
use kist::repo::{
    self, Begun, Class, Error, Finding, Index, Limits, Log, PruneSettings, Reader, Reading, Report,
    Repository, Result, Snapshots, ToCommit, Told, Unlock, Writer, WriterSettings, chain,
};

use crate::draw::Draw;
use crate::oracle::Ledger;
use crate::run::off_runtime;
use crate::sea::Sea;
use crate::time::{pause, rest, wait, world};
use crate::trees::{self, Tree};

const WRITER: WriterSettings = WriterSettings {
    data_pack_bytes: 4096,
    node_pack_bytes: 2048,
    open_data_packs: 2,
    compression_level: 1,
    hurried_level: 1,
};
/// How often a writer reads its source again after it was fenced; `job::backup` does the same.
const RERUNS: usize = 3;

/// What all actors share, and who this one is.
#[derive(Clone)]
pub struct Actor {
    pub sea: Arc<Sea>,
    pub ledger: Arc<Mutex<Ledger>>,
    pub name: String,
    pub key: Unlock,
    pub draw: Draw,
    /// How often it works.
    pub rounds: u64,
    /// Of its processes so many in a thousand are killed.
    pub kill: u64,
}

/// What became of a process's work.
enum Ended<T> {
    Done(T),
    Failed(Error),
    Killed,
}

impl Actor {
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    /// Opens the repository and works, until that is done or the process is killed.
    async fn process<T>(&mut self, work: impl AsyncFnOnce(Repository) -> Result<T>) -> Ended<T> {
        let left = self.draw.per_mille(self.kill).then(|| 5 + self.draw.below(120));
        let weight = *self.draw.pick(&[1, 4, 4, 4, 16]);
        let (process, store) = self.sea.process(&self.name, weight, left);
        let world = world(&self.sea.since, self.draw.number());
        let key = self.key.clone();
        let works = async { work(repo::open(store, &world, &key, None).await?).await };
        tokio::select! {
            biased;
            () = process.died() => {
                self.ledger().deaths += 1;
                Ended::Killed
            }
            done = works => match done {
                Ok(done) => Ended::Done(done),
                Err(error) => {
                    self.sea.note(format!("{} ends: {}", self.name, chain(&error)));
                    Ended::Failed(error)
                }
            },
        }
    }
}

/// What may go wrong with a store that fails and others that are at work.
fn tolerable(name: &str, error: Error) -> std::result::Result<(), String> {
    match error.class() {
        Class::Transient | Class::Conflict => Ok(()),
        _ => Err(format!("{name}: {}", chain(&error))),
    }
}

/// Backs up what changes from round to round.
pub async fn writer(mut actor: Actor, host: u64) -> std::result::Result<(), String> {
    let mut tree = trees::sown(&mut actor.draw);
    for _ in 0..actor.rounds {
        rest(&mut actor.draw).await;
        trees::change(&mut tree, &mut actor.draw);
        for _ in 0..RERUNS {
            let number = actor.ledger().begin(&tree);
            let (draw, wanted) = (actor.draw.fork(), tree.clone());
            let work = async |repo: Repository| back_up(&repo, draw, &wanted, number, host).await;
            match actor.process(work).await {
                Ended::Done((id, is_another)) => {
                    actor.sea.note(format!("{} is told: {} of run {number}", actor.name, id.snapshot_name()));
                    let mut ledger = actor.ledger();
                    ledger.told.insert(id, number);
                    ledger.resumed += u64::from(is_another);
                    break;
                }
                Ended::Failed(Error::Fenced) => actor.ledger().fenced += 1,
                Ended::Failed(error) => tolerable(&actor.name, error)?,
                // The one who comes after it finds another tree.
                Ended::Killed => break,
            }
        }
    }
    Ok(())
}

/// The steps of `job::backup`, without files and threads. Gives the snapshot, and whether its session was fenced meanwhile
/// and another has committed.
pub async fn back_up(
    repo: &Repository,
    draw: Draw,
    tree: &Tree,
    number: u32,
    host: u64,
) -> Result<(SessionId, bool)> {
    let begun = repo::begin(repo, 1).await?;
    go_on(repo, begun, draw, tree, (number, host)).await
}

/// The same, in a session that has begun.
pub async fn go_on(
    repo: &Repository,
    begun: Begun,
    mut draw: Draw,
    tree: &Tree,
    (number, host): (u32, u64),
) -> Result<(SessionId, bool)> {
    let source = Source::Files { host: format!("host {host}"), paths: vec!["/".into()] };
    let ids = repo.keys.ids()?.clone();
    let source_id = ids.source_id(&source);
    let meta = repo.keys.own_meta_key(source_id)?;
    let time = repo.world.now();
    pause(&mut draw).await;
    let (before, index) = begun.load_before(repo).await?;
    let (Begun { session, mut lanes, view, .. }, index) = (begun, Arc::new(index));
    pause(&mut draw).await;
    look_at_parent(repo, &before, &index, source_id).await?;
    let writer = Writer::new(repo, index, lanes.remove(0), WRITER);
    let cut = ids.node_cut();
    let sink = NodeSink { writer: &writer, meta: &meta, cut: &cut };
    let mut builder = TreeBuilder::new();
    let files: Vec<(String, Vec<u8>)> = tree.clone().into_iter().collect();
    for files in files.chunks(1 + draw.below(8) as usize) {
        off_runtime(|| trees::save(&sink, &mut builder, files))?;
        pause(&mut draw).await;
    }
    let node = off_runtime(|| builder.finish(&sink))?;
    writer.finish().await?;
    pause(&mut draw).await;
    let what = ToCommit {
        view,
        time,
        source: source_id,
        complete: true,
        class: number.to_le_bytes().to_vec(),
        held: false,
        roots: vec![Root { kind: RootKind::Files, source: source_id, node }],
        summary: summary(source),
    };
    let id = repo::commit_again(repo, session, &before, what).await?.id;
    Ok((id, id != session))
}

/// The comparison with the parent reads its nodes; those that come back are referred to.
async fn look_at_parent(
    repo: &Repository,
    before: &Snapshots,
    index: &Arc<Index>,
    source: SourceId,
) -> Result<()> {
    let Some(parent) = before.parent_of(repo, source) else { return Ok(()) };
    let reader = Reader::new(repo, index.clone());
    let mut next: Vec<NodeId> = parent.commit.roots.iter().map(|root| root.node).collect();
    while let Some(id) = next.pop() {
        match reader.node(id).await {
            Ok(_) => next.extend(reader.node_refs(id).await?.2.nodes),
            Err(Error::Store(error)) if !error.is_damage() => return Err(error.into()),
            // What is lost is saved again; a prune may have been quicker.
            Err(_) => {}
        }
    }
    Ok(())
}

fn summary(source: Source) -> Summary {
    Summary {
        sparse: Default::default(),
        version: 0,
        kist: "sim".into(),
        source,
        tags: vec![],
        parent: None,
        counts: Counts::default(),
        missing: vec![],
        more_missing: 0,
        cluster: None,
        copied_from: None,
    }
}

/// Prunes, with other settings each time.
pub async fn collector(mut actor: Actor) -> std::result::Result<(), String> {
    for _ in 0..actor.rounds {
        rest(&mut actor.draw).await;
        let settings = settings(&mut actor.draw);
        let work = async |repo: Repository| repo::prune(&repo, settings, &|_| {}).await;
        match actor.process(work).await {
            Ended::Done(pruned) => {
                let mut ledger = actor.ledger();
                ledger.prunes += 1;
                ledger.swept += pruned.swept_packs;
                ledger.repacked += pruned.plan.map_or(0, |plan| plan.repacked().count() as u64);
            }
            Ended::Failed(error) => tolerable(&actor.name, error)?,
            Ended::Killed => {}
        }
    }
    Ok(())
}

fn settings(draw: &mut Draw) -> PruneSettings {
    let secs = |draw: &mut Draw, from: &[u64]| Duration::from_secs(*draw.pick(from));
    PruneSettings {
        limits: Limits {
            max_repack_bytes: *draw.pick(&[0, 20_000, u64::MAX, u64::MAX]),
            min_used_percent: *draw.pick(&[20, 50, 90]),
            small_pack_bytes: *draw.pick(&[0, 0, 100_000]),
        },
        silence: secs(draw, &[0, 0, 2, 60, 900]),
        patience: secs(draw, &[0, 10, 600]),
        grace: secs(draw, &[0, 0, 0, 120]),
    }
}

/// Forgets, recalls, holds and observes. One alone, so that the last word on each snapshot is known.
pub async fn keeper(mut actor: Actor) -> std::result::Result<(), String> {
    for _ in 0..actor.rounds {
        rest(&mut actor.draw).await;
        let told: Vec<SessionId> = actor.ledger().told.keys().copied().collect();
        if told.is_empty() {
            continue;
        }
        let ids: Vec<SessionId> = (0..1 + actor.draw.below(3)).map(|_| *actor.draw.pick(&told)).collect();
        let deed = actor.draw.below(10);
        if deed < 6 {
            actor.ledger().forgetting.extend(ids.iter().copied());
        }
        let work = async |repo: Repository| match deed {
            0..6 => repo::forget(&repo, &ids).await,
            6..8 => repo::recall(&repo, &ids).await,
            8 => repo::observe(&repo).await.map(drop),
            _ => {
                let hold = repo::hold(&repo, Scope::Snapshot(ids[0]), "an audit").await?;
                repo::lift(&repo, &[hold]).await
            }
        };
        match actor.process(work).await {
            Ended::Done(()) if (6..8).contains(&deed) => {
                actor.sea.note(format!("keeper is told: recalled {ids:?}"));
                actor.ledger().forgetting.retain(|id| !ids.contains(id));
            }
            Ended::Done(()) | Ended::Killed => {}
            // It was swept, and is gone.
            Ended::Failed(Error::NoSuchSnapshot { snapshot }) => {
                let ledger = actor.ledger();
                let is_fine =
                    |id: &SessionId| id.snapshot_name() != snapshot || ledger.forgetting.contains(id);
                if !ids.iter().all(is_fine) {
                    return Err(format!("keeper: {snapshot} is gone, and nobody has forgotten it"));
                }
            }
            Ended::Failed(Error::Held { .. }) => {}
            Ended::Failed(error) => tolerable(&actor.name, error)?,
        }
    }
    Ok(())
}

/// Checks the structure. What it finds counts if nobody has changed the log or the checkpoint meanwhile.
pub async fn checker(mut actor: Actor) -> std::result::Result<(), String> {
    for _ in 0..actor.rounds {
        rest(&mut actor.draw).await;
        wait(Duration::from_secs(1)).await;
        let work = async |repo: Repository| {
            let before = stand(&repo).await?;
            let (_, findings) = checked(&repo, None).await?;
            Ok((before == stand(&repo).await?, findings))
        };
        match actor.process(work).await {
            Ended::Done((true, findings)) if !findings.is_empty() => {
                let findings: Vec<_> = findings.iter().map(|finding| chain(finding)).collect();
                return Err(format!("a check finds: {findings:?}"));
            }
            Ended::Done(_) | Ended::Killed => {}
            Ended::Failed(error) => tolerable(&actor.name, error)?,
        }
    }
    Ok(())
}

/// A check that keeps what it finds.
pub async fn checked(repo: &Repository, reading: Option<Reading>) -> Result<(Report, Vec<Finding>)> {
    let found = std::sync::Mutex::new(Vec::new());
    let tell = |told| match told {
        Told::Found(finding) => found.lock().expect("nobody panics").push(finding),
        Told::Touched(_) | Told::Refused { .. } => {}
    };
    let report = repo::check(repo, reading, &tell, &Silent).await?;
    Ok((report, found.into_inner().expect("nobody panics")))
}

async fn stand(repo: &Repository) -> Result<(u64, Option<u64>)> {
    let log = Log::load(repo).await?;
    Ok((log.head, log.base.map(|(slot, _)| slot)))
}
