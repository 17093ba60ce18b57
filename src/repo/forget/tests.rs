//! Entries that name snapshots: what an observation says, and what is too much for one entry. In a memory store.

use super::*;
use crate::format::id::SourceId;
use crate::format::summary::{Counts, Source, Summary};
use crate::repo::testing::{NOW, repository};
use crate::repo::{Begun, ToCommit, begin, commit};
use crate::world::{Time, fixed};

const HOUR: i64 = 3600 * 1_000_000_000;

/// The same, hours later.
fn later(repo: &Repository, hours: i64) -> Repository {
    let mut repo = repo.clone();
    repo.world.clock = fixed::world(0, Time(NOW.0 + hours * HOUR)).clock;
    repo
}

/// Commits a snapshot of nothing.
async fn snapshot(repo: &Repository) -> SessionId {
    let Begun { session, view, .. } = begin(repo, 1).await.unwrap();
    let summary = Summary {
        version: 0,
        kist: "test".into(),
        source: Source::Files { host: "box".into(), paths: vec!["/source".into()] },
        tags: vec![],
        parent: None,
        counts: Counts::default(),
        missing: vec![],
        more_missing: 0,
        sparse: Default::default(),
        cluster: None,
        copied_from: None,
    };
    let what = ToCommit {
        view,
        time: repo.world.now(),
        source: SourceId([1; 16]),
        complete: true,
        class: vec![],
        held: false,
        roots: vec![],
        summary,
    };
    let before = Snapshots::load(repo).await.unwrap();
    commit(repo, session, &before, what).await.unwrap().id
}

async fn snapshots(repo: &Repository, count: usize) -> Vec<SessionId> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(snapshot(repo).await);
    }
    ids
}

/// What the log says of when it was seen first: after, by, in hours.
async fn seen(repo: &Repository, id: SessionId) -> Option<(i64, i64)> {
    let seen = Log::load(repo).await.unwrap().fact(id).observed?;
    let hours = |time: Time| time.0.saturating_sub(NOW.0).max(-HOUR) / HOUR;
    Some((hours(seen.not_before), hours(seen.not_after)))
}

#[tokio::test]
async fn the_first_observation_of_a_commit_counts_and_lies_between_two_times_of_the_log() {
    let repo = repository().await;
    let first = snapshot(&repo).await;
    assert_eq!(seen(&repo, first).await, None);
    assert_eq!(observe(&later(&repo, 5)).await.unwrap(), [first]);
    assert_eq!(seen(&repo, first).await, Some((-1, 5)), "nobody has looked before");
    let second = snapshot(&repo).await;
    assert_eq!(observe(&later(&repo, 7)).await.unwrap(), [second]);
    assert_eq!(seen(&repo, second).await, Some((5, 7)));
    // Whoever says it again changes nothing.
    let mut log = Log::load(&repo).await.unwrap();
    log.append(&later(&repo, 9), Action::Observe { sessions: vec![first] }).await.unwrap();
    assert_eq!(seen(&repo, first).await, Some((-1, 5)));
    let third = snapshot(&repo).await;
    observe(&later(&repo, 3)).await.unwrap();
    assert_eq!(
        seen(&repo, third).await,
        Some((9, 9)),
        "a clock that runs behind does not turn the order around"
    );
}

#[tokio::test]
async fn an_observation_of_nothing_new_is_said_once_an_hour() {
    let repo = repository().await;
    let slot = async |hours| {
        observe(&later(&repo, hours)).await.unwrap();
        Log::load(&repo).await.unwrap().head
    };
    assert_eq!([slot(0).await, slot(0).await, slot(1).await, slot(1).await], [1, 1, 2, 2]);
}

#[tokio::test]
async fn what_is_too_much_for_one_entry_is_said_in_several() {
    let repo = repository().await;
    let ids = snapshots(&repo, 5).await;
    let twice = [&ids[..], &ids].concat();
    let slots = async || Log::load(&repo).await.unwrap().head;
    let left = async || {
        let snapshots = Snapshots::load(&repo).await.unwrap();
        (snapshots.all.len(), snapshots.forgotten.len())
    };
    forget_by(&repo, &twice, 2).await.unwrap();
    assert_eq!((slots().await, left().await), (3, (0, 5)));
    forget_by(&repo, &twice, 2).await.unwrap();
    assert_eq!(slots().await, 3, "there is nothing to say any more");
    recall_by(&repo, &twice, 2).await.unwrap();
    assert_eq!((slots().await, left().await), (6, (5, 0)));
    let mut holds = Vec::new();
    for id in ids {
        holds.push(hold(&repo, Scope::Snapshot(id), "an auditor").await.unwrap());
    }
    let before = slots().await;
    lift_by(&repo, &[&holds[..], &holds].concat(), 2).await.unwrap();
    assert_eq!((slots().await, Log::load(&repo).await.unwrap().state.holds.len()), (before + 3, 0));
}

#[test]
fn parts_hold_no_more_than_an_entry_may() {
    let ids: Vec<u32> = (0..limits::LOG_IDS as u32 + 1).rev().collect();
    let parts = parts(&ids, limits::LOG_IDS);
    assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [limits::LOG_IDS, 1]);
    assert!(parts.concat().is_sorted());
}
