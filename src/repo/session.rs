//! Sessions: one writer's visit. Begun before the first pack, so that what it leaves behind can be read.
//!
//! Spec: chapters 7 and 8. First `sessions/<sid>` is written, then the gc log is read. Whoever holds a lane of it gives
//! signs of life, whether there is something to upload or not.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use tokio::task::JoinHandle;

use crate::crypto::secret::Key;
use crate::crypto::sign;
use crate::format::id::SessionId;
use crate::format::index::IndexDelta;
use crate::format::session::{self as wire, Lane as WireLane, wrap_lane};
use crate::format::{limits, object};
use crate::repo::index::put_delta;
use crate::repo::snapshots::resolved_after;
use crate::repo::{Error, Index, Log, Repository, Result, Snapshots};

/// Sessions that are fetched at the same time.
const PARALLEL_GETS: usize = 32;
/// Sessions that are begun again because their epoch was closed: each needs a whole plan to come in between.
const ATTEMPTS: usize = 4;
/// Lanes that may be asked for: one more gives the signs of life.
pub const LANES: usize = limits::LANES - 1;
/// Between two signs of life: short enough that one may get lost before a prune takes the session for dead.
const SIGN: Duration = Duration::from_secs(5 * 60);

/// A session as it lies in the store, verified.
#[derive(Clone, Debug)]
pub struct Session {
    pub id: SessionId,
    pub body: wire::Session,
}

/// What one of a session's parallel writers needs; nothing of it lasts. As long as whoever has begun the session holds
/// one, it shows that it is at work.
#[derive(Clone)]
pub struct Lane {
    pub session: SessionId,
    pub number: u32,
    pub data: Key,
    pub signing: Key,
    alive: Option<Arc<Alive>>,
}

impl Lane {
    /// Of a session that another gives the signs of life of.
    pub fn new(session: SessionId, number: u32, data: Key, signing: Key) -> Self {
        Self { session, number, data, signing, alive: None }
    }
}

/// Writes deltas that name nothing, in a lane of its own, until it is dropped. A session that finds nothing new, waits for
/// pods or looks up a tree writes no others for hours, and a prune would fence it.
struct Alive(JoinHandle<()>);

impl Alive {
    fn begin(repo: Repository, lane: Lane) -> Self {
        Self(tokio::spawn(async move {
            let mut number = 0;
            loop {
                tokio::time::sleep(SIGN).await;
                match put_delta(&repo, &lane, number, &IndexDelta::default()).await {
                    Ok(_) => number += 1,
                    // The next may get through; who was fenced is told when it commits.
                    Err(error) => {
                        tracing::debug!(error = crate::repo::chain(&error), "a sign of life got lost");
                    }
                }
            }
        }))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A session that has begun.
pub struct Begun {
    pub session: SessionId,
    pub lanes: Vec<Lane>,
    pub view: View,
    log: Log,
}

/// How far the session has read the gc log. What it commits says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    pub slot: u64,
    /// BLAKE3 of the entry in that slot; zeros for an empty log.
    pub head: [u8; 32],
}

/// Begins a session with so many lanes, at most [`LANES`]: writes it, then reads the gc log. If its epoch was closed meanwhile,
/// another is begun.
pub async fn begin(repo: &Repository, lanes: u32) -> Result<Begun> {
    let mut log = Log::load(repo).await?;
    let certificate = &repo.keys.certificate;
    for _ in 0..ATTEMPTS {
        if log.is_revoked(certificate.key, certificate.serial) {
            return Err(Error::Revoked);
        }
        let (epoch, head) = (log.epoch, log.head);
        let (session, mut lanes) = put(repo, epoch, lanes).await?;
        log.read_on(repo).await?;
        if log.is_renewed_behind(head) {
            // The owner may count the epochs otherwise, and may not have seen this session.
            log = Log::load(repo).await?;
        } else if log.epoch == epoch {
            let signs = lanes.pop().expect("one more than was asked for");
            let alive = Arc::new(Alive::begin(repo.clone(), signs));
            lanes.iter_mut().for_each(|lane| lane.alive = Some(alive.clone()));
            let view = View { slot: log.head, head: log.digest() };
            return Ok(Begun { session, lanes, view, log });
        }
    }
    Err(Error::Fenced)
}

impl Begun {
    /// What the session goes on from: the snapshots before it, and the index that it adds to.
    pub async fn load_before(&self, repo: &Repository) -> Result<(Snapshots, Index)> {
        let mut log = self.log.clone();
        let ids = resolved_after(repo, &mut log).await?;
        let log = log.held(repo).await?;
        let (snapshots, index) = (
            Snapshots::load_before_of(repo, log.clone(), ids.clone()),
            Index::load_to_add_of(repo, self.session, log, &ids),
        );
        tokio::try_join!(snapshots, index)
    }
}

/// Writes a session with so many lanes, and behind them the one of the signs of life.
async fn put(repo: &Repository, epoch: u32, lanes: u32) -> Result<(SessionId, Vec<Lane>)> {
    let (keys, world) = (&repo.keys, &repo.world);
    let id = SessionId::new(epoch, world.bytes());
    let (mut made, mut written) = (Vec::new(), Vec::new());
    for number in 0..=lanes {
        let lane = Lane::new(id, number, Key::new(world.bytes()), Key::new(world.bytes()));
        let place = (keys.repo, id, number);
        // Nothing is sealed with the key of the last one, so nobody needs it.
        let recipients = if number < lanes { &keys.recipients[..] } else { &[] };
        let wrapped = wrap_lane(place, &lane.data, recipients, world.random.as_ref())
            .map_err(Error::object(object::SESSIONS))?;
        written.push(WireLane { signing: sign::public(&lane.signing), keys: wrapped });
        made.push(lane);
    }
    let mut body = wire::Session {
        started: world.now(),
        certificate: keys.certificate.clone(),
        lanes: written,
        signature: [0; sign::SIGNATURE_LEN],
    };
    body.sign(keys.signing()?, keys.repo, id);
    let key = object::session_key(id);
    repo.store.put(&key, repo.seal(&key, body.encode())).await?;
    Ok((id, made))
}

/// The sessions of an epoch that can be read and verified, and what stood in the way of the others.
pub(super) async fn load_sessions(
    repo: &Repository,
    epoch: u32,
) -> Result<(HashMap<SessionId, Session>, Vec<Error>)> {
    let listed = repo.store.list(&object::epoch_folder(object::SESSIONS, epoch)).await?;
    let loading = listed.into_iter().map(|found| async move {
        Ok::<_, Error>(match load(repo, &found.key).await {
            Err(error) if error.is_outage() => return Err(error),
            loaded => loaded,
        })
    });
    let loaded: Vec<_> = futures::stream::iter(loading).buffered(PARALLEL_GETS).try_collect().await?;
    let mut sessions = HashMap::new();
    let mut problems = Vec::new();
    for session in loaded {
        match session {
            Ok(session) => drop(sessions.insert(session.id, session)),
            Err(error) => problems.push(error),
        }
    }
    Ok((sessions, problems))
}

/// One session, by its id.
pub(super) async fn load_session(repo: &Repository, id: SessionId) -> Result<Session> {
    load(repo, &object::session_key(id)).await
}

async fn load(repo: &Repository, key: &str) -> Result<Session> {
    let id = object::parse_session(object::SESSIONS, key).ok_or_else(|| {
        let found = key.to_owned();
        Error::object(key)(crate::format::Error::Invalid { what: "session", field: "name", found })
    })?;
    let sealed = repo.store.get_at_most(key, limits::SESSION_LEN as u64).await?;
    let plain = repo.unseal("session", key, &sealed)?;
    let body = wire::Session::decode(&plain).map_err(Error::object(key))?;
    body.verify(&repo.keys.owner, repo.config.repo, id).map_err(Error::object(key))?;
    repo.keys.check_domain(&body.certificate).map_err(Error::object(key))?;
    Ok(Session { id, body })
}
