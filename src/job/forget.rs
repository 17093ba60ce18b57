//! Deciding what is forgotten: observe → look → policy → a plan that can be shown → an entry of the log.

use std::collections::{BTreeSet, HashMap};

use crate::format::id::{KeyId, SessionId, SourceId};
use crate::job::{Error, Result};
use crate::policy::retention::{Candidate, Policy, Seen, Verdict, decide};
use crate::repo::{self, Log, Repository, Snapshot, Snapshots};
use crate::world::Time;

/// What shall be kept of what.
pub enum What {
    /// All sources, by a policy; or only the one whose id begins like this.
    Policy { policy: Box<Policy>, source: Option<String> },
    /// These snapshots, by the beginnings of their names.
    Named(Vec<String>),
}

/// A snapshot, and what becomes of it.
pub struct Decided {
    pub snapshot: Snapshot,
    /// The source, for who may know it.
    pub source: Option<String>,
    pub keep: bool,
    pub why: String,
}

/// Decides; nothing is forgotten yet. The log is told first which commits are there; if `dry`, it is decided as if it had
/// been.
pub async fn plan(repo: &Repository, what: &What, dry: bool) -> Result<Vec<Decided>> {
    if !dry {
        repo::observe(repo).await?;
    }
    let mut log = Log::load(repo).await?;
    let snapshots = Snapshots::load(repo).await?;
    if let Some(problem) = snapshots.problems.first() {
        return Err(repo::Error::Unsound { what: repo::chain(problem) }.into());
    }
    if dry {
        repo::as_if_observed(repo, &mut log, &snapshots);
    }
    let mut snapshots = snapshots.all;
    match what {
        What::Named(names) => named(repo, snapshots, names),
        What::Policy { policy, source } => {
            if let Some(source) = source {
                let source = one_source(&snapshots, source)?;
                snapshots.retain(|snapshot| snapshot.commit.source == source);
            }
            by_policy(repo, &log, snapshots, policy)
        }
    }
}

fn by_policy(
    repo: &Repository,
    log: &Log,
    snapshots: Vec<Snapshot>,
    policy: &Policy,
) -> Result<Vec<Decided>> {
    if !policy.tags.is_empty() && snapshots.iter().any(|snapshot| summary_of(repo, snapshot).is_none()) {
        return Err(Error::TagsNotReadable);
    }
    let candidates: Vec<Candidate> = snapshots.iter().map(|s| candidate(repo, log, s)).collect();
    let verdicts = decide(policy, &candidates, repo.world.now())?;
    let mut by_id: HashMap<SessionId, Snapshot> = snapshots.into_iter().map(|s| (s.id, s)).collect();
    let decided = |verdict: Verdict| {
        let snapshot = by_id.remove(&verdict.id)?;
        let held = repo::held(log, &snapshot);
        let why = held.map_or_else(|| verdict.why(), |note| format!("held: {note}"));
        Some(Decided { source: source_text(repo, &snapshot), keep: verdict.keep, why, snapshot })
    };
    Ok(verdicts.into_iter().filter_map(decided).collect())
}

fn candidate(repo: &Repository, log: &Log, snapshot: &Snapshot) -> Candidate {
    let commit = &snapshot.commit;
    let observed = log.fact(snapshot.id).observed;
    let never = Time(i64::MIN);
    Candidate {
        id: snapshot.id,
        source: commit.source,
        // Whoever may add can name another's source: each writer's snapshots are counted apart.
        class: [&commit.certificate.key.0[..], &commit.class].concat(),
        time: commit.time,
        by_owner: commit.certificate.key == KeyId::OWNER,
        seen: Seen {
            after: observed.map(|seen| seen.not_before).filter(|time| *time != never),
            by: observed.map(|seen| seen.not_after),
        },
        complete: commit.complete,
        tags: summary_of(repo, snapshot).map(|summary| summary.tags),
        held: repo::held(log, snapshot).is_some(),
    }
}

fn summary_of(repo: &Repository, snapshot: &Snapshot) -> Option<crate::format::summary::Summary> {
    repo::summary(repo, snapshot).ok().flatten()
}

fn source_text(repo: &Repository, snapshot: &Snapshot) -> Option<String> {
    summary_of(repo, snapshot).map(|summary| summary.source.to_string())
}

fn named(repo: &Repository, snapshots: Vec<Snapshot>, names: &[String]) -> Result<Vec<Decided>> {
    let mut decided: Vec<Decided> = Vec::new();
    for name in names {
        let snapshot = one(&snapshots, name)?.clone();
        if decided.iter().all(|known| known.snapshot.id != snapshot.id) {
            let source = source_text(repo, &snapshot);
            decided.push(Decided { source, keep: false, why: "named".to_owned(), snapshot });
        }
    }
    Ok(decided)
}

/// The one snapshot whose name begins like this.
fn one<'a>(snapshots: &'a [Snapshot], name: &str) -> Result<&'a Snapshot> {
    let fits: Vec<&Snapshot> =
        snapshots.iter().filter(|snapshot| snapshot.name().starts_with(name)).collect();
    match fits.as_slice() {
        [one] if !name.is_empty() => Ok(one),
        [] => Err(Error::NoSuchSnapshot { wanted: name.to_owned() }),
        _ => Err(Error::AmbiguousSnapshot {
            wanted: name.to_owned(),
            fits: fits.iter().map(|s| s.name()).collect(),
        }),
    }
}

/// Carries the plan out. Gives how many were forgotten.
pub async fn carry_out(repo: &Repository, plan: &[Decided]) -> Result<usize> {
    let ids: Vec<SessionId> = plan.iter().filter(|one| !one.keep).map(|one| one.snapshot.id).collect();
    repo::forget(repo, &ids).await?;
    Ok(ids.len())
}

/// Brings forgotten snapshots back, by the beginnings of their names. Gives their names.
pub async fn recall(repo: &Repository, names: &[String]) -> Result<Vec<String>> {
    let snapshots = Snapshots::load(repo).await?;
    let found: Vec<&Snapshot> =
        names.iter().map(|name| one(&snapshots.forgotten, name)).collect::<Result<_>>()?;
    let ids: Vec<SessionId> = found.iter().map(|snapshot| snapshot.id).collect();
    repo::recall(repo, &ids).await?;
    Ok(found.iter().map(|snapshot| snapshot.name()).collect())
}

/// The session of a snapshot, by the beginning of its name.
pub async fn snapshot_id(repo: &Repository, name: &str) -> Result<SessionId> {
    let snapshots = Snapshots::load(repo).await?;
    Ok(one(&snapshots.all, name)?.id)
}

/// A source, by the beginning of its id.
pub async fn source_id(repo: &Repository, begins: &str) -> Result<SourceId> {
    one_source(&Snapshots::load(repo).await?.all, begins)
}

/// The one source of these snapshots whose id begins like this.
fn one_source(snapshots: &[Snapshot], begins: &str) -> Result<SourceId> {
    let sources: BTreeSet<SourceId> = snapshots.iter().map(|snapshot| snapshot.commit.source).collect();
    let fits: Vec<SourceId> = sources.into_iter().filter(|id| id.to_string().starts_with(begins)).collect();
    let wanted = || format!("{begins:?}");
    match fits.as_slice() {
        [one] if !begins.is_empty() => Ok(*one),
        [] => Err(Error::NoSuchSource { wanted: wanted() }),
        _ => Err(Error::AmbiguousSource {
            wanted: wanted(),
            fits: fits.iter().map(SourceId::to_string).collect(),
        }),
    }
}
