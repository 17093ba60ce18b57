//! The snapshots that exist: one for each commit that can be read and verified.
//!
//! Spec: chapters 7 and 8. A snapshot exists when its commit does; a fence is none.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use crate::crypto::{hash, seal, sign};
use crate::format::commit::{Commit, Resolution, Root, summary_context};
use crate::format::id::{SessionId, SourceId};
use crate::format::summary::Summary;
use crate::format::{limits, object};
use crate::repo::{Error, Repository, Result};
use crate::store::Created;
use crate::world::Time;

/// Commits that are fetched at the same time.
const PARALLEL_GETS: usize = 32;

/// A committed snapshot.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub id: SessionId,
    pub commit: Commit,
    /// BLAKE3 of the commit as stored.
    pub digest: [u8; 32],
}

impl Snapshot {
    /// The name that people see and type.
    pub fn name(&self) -> String {
        self.id.snapshot_name()
    }
}

/// All snapshots, oldest first, and the commits that can't be read.
#[derive(Default)]
pub struct Snapshots {
    pub all: Vec<Snapshot>,
    pub problems: Vec<Error>,
}

impl Snapshots {
    pub async fn load(repo: &Repository) -> Result<Self> {
        Self::load_some(repo, &resolved(repo).await?).await
    }

    /// Those of the given sessions that are committed.
    pub async fn load_some(repo: &Repository, ids: &[SessionId]) -> Result<Self> {
        let loading = ids.iter().map(|id| async move {
            Ok::<_, Error>(match load(repo, *id).await {
                Err(Error::Store(error)) if error.class() == crate::store::Class::Transient => {
                    return Err(error.into());
                }
                loaded => loaded,
            })
        });
        let loaded: Vec<_> = futures::stream::iter(loading).buffered(PARALLEL_GETS).try_collect().await?;
        let mut snapshots = Snapshots::default();
        for found in loaded {
            match found {
                Ok(found) => snapshots.all.extend(found),
                Err(error) => snapshots.problems.push(error),
            }
        }
        snapshots.all.sort_by_key(|snapshot| (snapshot.commit.time, snapshot.id));
        Ok(snapshots)
    }

    /// The newest of a source whose names the holder of `keys` can read: what the next one is compared with.
    pub fn parent_of(&self, repo: &Repository, source: SourceId) -> Option<&Snapshot> {
        self.all.iter().rev().find(|snapshot| {
            let commit = &snapshot.commit;
            let readable = repo.keys.meta_key(&commit.meta_key_name(source)).is_some();
            readable && commit.roots.iter().any(|root| root.source == source)
        })
    }
}

/// The sessions that have committed or were fenced, by one listing. What else lies there is passed over.
pub async fn resolved(repo: &Repository) -> Result<Vec<SessionId>> {
    let listed = repo.store.list(object::COMMITS).await?;
    let id = |key: &str| SessionId::parse(key.strip_prefix("commits/")?);
    Ok(listed.iter().filter_map(|found| id(&found.key)).collect())
}

/// The summary, for who may know it.
pub fn summary(repo: &Repository, snapshot: &Snapshot) -> Result<Option<Summary>> {
    let commit = &snapshot.commit;
    let Some(key) = repo.keys.meta_key(&commit.meta_key_name(commit.source)) else { return Ok(None) };
    let name = object::commit_key(snapshot.id);
    let context = summary_context(repo.config.repo, snapshot.id);
    let plain = seal::open(&key, &context, &commit.summary).map_err(|source| Error::Object {
        key: name.clone(),
        source: crate::format::Error::Crypto { what: "summary", source },
    })?;
    let parsed = serde_json::from_slice(&plain).map_err(|error| Error::Object {
        key: name,
        source: crate::format::Error::Invalid { what: "summary", field: "JSON", found: error.to_string() },
    })?;
    Ok(Some(parsed))
}

async fn load(repo: &Repository, id: SessionId) -> Result<Option<Snapshot>> {
    let key = object::commit_key(id);
    let sealed = repo.store.get_at_most(&key, limits::COMMIT_LEN as u64).await?;
    decode(repo, id, &key, &sealed)
}

fn decode(repo: &Repository, id: SessionId, key: &str, sealed: &Bytes) -> Result<Option<Snapshot>> {
    let plain = object::open_object("commit", &repo.keys.structure, repo.config.repo, key, sealed)
        .map_err(Error::object(key))?;
    match Resolution::decode(&plain).map_err(Error::object(key))? {
        Resolution::Fence => Ok(None),
        Resolution::Commit(commit) => {
            commit.verify(&repo.keys.owner, repo.config.repo, id).map_err(Error::object(key))?;
            repo.keys.check_domain(&commit.certificate).map_err(Error::object(key))?;
            Ok(Some(Snapshot { id, commit: *commit, digest: hash::plain(sealed) }))
        }
    }
}

/// What a session has to say when it commits.
pub struct ToCommit {
    pub view: u64,
    pub time: Time,
    pub source: SourceId,
    pub complete: bool,
    pub roots: Vec<Root>,
    pub summary: Summary,
}

/// Commits a session: after this its snapshot exists. All of its packs and index are there before.
pub async fn commit(
    repo: &Repository,
    session: SessionId,
    before: &Snapshots,
    what: ToCommit,
) -> Result<Snapshot> {
    let (keys, world) = (&repo.keys, &repo.world);
    keys.check_adds()?;
    let own = |snapshot: &&Snapshot| snapshot.commit.certificate.key == keys.certificate.key;
    let last = before.all.iter().filter(own).max_by_key(|snapshot| snapshot.commit.sequence);
    let (_, key) = keys.own_meta_key(what.source)?;
    let plain = serde_json::to_vec(&what.summary).expect("a summary is plain data");
    if plain.len() > limits::SUMMARY_LEN {
        let (found, most) = (plain.len() as u64, limits::SUMMARY_LEN as u64);
        return Err(Error::TooLarge { what: "the summary of the snapshot", found, most });
    }
    let summary = seal::seal(&key, world.bytes(), &summary_context(repo.config.repo, session), &plain);
    let mut commit = Commit {
        view: what.view,
        time: what.time,
        source: what.source,
        complete: what.complete,
        sequence: last.map_or(1, |last| last.commit.sequence + 1),
        previous: last.map_or([0; 32], |last| last.digest),
        roots: what.roots,
        summary,
        certificate: keys.certificate.clone(),
        signature: [0; sign::SIGNATURE_LEN],
    };
    commit.sign(keys.signing()?, repo.config.repo, session);
    let key = object::commit_key(session);
    let sealed: Bytes =
        object::seal_object(&keys.structure, world.bytes(), repo.config.repo, &key, commit.encode()).into();
    match repo.store.create_exclusive(&key, sealed.clone()).await? {
        Created::Mine => Ok(Snapshot { id: session, commit, digest: hash::plain(&sealed) }),
        Created::Other(_) => Err(Error::Fenced),
    }
}
