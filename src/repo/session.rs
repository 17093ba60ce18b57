//! Sessions: one writer's visit. Begun before the first pack, so that what it leaves behind can be read.
//!
//! Spec: chapters 7 and 8. First `sessions/<sid>` is written, then the gc log is read.

use std::collections::HashMap;

use futures::{StreamExt, TryStreamExt};

use crate::crypto::secret::Key;
use crate::crypto::sign;
use crate::format::id::SessionId;
use crate::format::session::{self as wire, Lane as WireLane, wrap_lane};
use crate::format::{limits, object};
use crate::repo::{Error, Repository, Result};

/// Sessions that are fetched at the same time.
const PARALLEL_GETS: usize = 32;
/// Epochs begin to count when the gc log closes them.
const EPOCH: u32 = 0;

/// A session as it lies in the store, verified.
#[derive(Clone, Debug)]
pub struct Session {
    pub id: SessionId,
    pub body: wire::Session,
}

/// What one of a session's parallel writers needs; nothing of it lasts.
#[derive(Clone)]
pub struct Lane {
    pub session: SessionId,
    pub number: u32,
    pub data: Key,
    pub signing: Key,
}

/// Begins a session with so many lanes: writes it, then reads the gc log. Gives the lanes and the view.
pub async fn begin(repo: &Repository, lanes: u32) -> Result<(SessionId, Vec<Lane>, u64)> {
    let (keys, world) = (&repo.keys, &repo.world);
    let id = SessionId::new(EPOCH, world.bytes());
    let mut made = Vec::with_capacity(lanes as usize);
    let mut written = Vec::with_capacity(lanes as usize);
    for number in 0..lanes {
        let lane =
            Lane { session: id, number, data: Key::new(world.bytes()), signing: Key::new(world.bytes()) };
        let place = (keys.repo, id, number);
        let wrapped = wrap_lane(place, &lane.data, &keys.recipients, world.random.as_ref())
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
    let sealed = object::seal_object(&keys.structure, world.bytes(), keys.repo, &key, body.encode());
    repo.store.put(&key, sealed.into()).await?;
    Ok((id, made, read_view(repo).await?))
}

/// The highest slot of the gc log. Nothing writes one yet; what this kist can't read it must not ignore.
async fn read_view(repo: &Repository) -> Result<u64> {
    match repo.store.list(object::GC_LOG).await?.is_empty() {
        true => Ok(0),
        false => Err(Error::NewerLog),
    }
}

/// All sessions that can be read and verified, and what stood in the way of the others.
pub(super) async fn load_sessions(repo: &Repository) -> Result<(HashMap<SessionId, Session>, Vec<Error>)> {
    let listed = repo.store.list(object::SESSIONS).await?;
    let loading = listed.iter().map(|found| async move {
        Ok::<_, Error>(match load(repo, &found.key).await {
            Err(Error::Store(error)) if error.class() == crate::store::Class::Transient => {
                return Err(error.into());
            }
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

async fn load(repo: &Repository, key: &str) -> Result<Session> {
    let name = key.strip_prefix("sessions/").unwrap_or_default();
    let id = SessionId::parse(name).ok_or_else(|| {
        let found = name.to_owned();
        Error::object(key)(crate::format::Error::Invalid { what: "session", field: "name", found })
    })?;
    let sealed = repo.store.get_at_most(key, limits::SESSION_LEN as u64).await?;
    let plain = object::open_object("session", &repo.keys.structure, repo.config.repo, key, &sealed)
        .map_err(Error::object(key))?;
    let body = wire::Session::decode(&plain).map_err(Error::object(key))?;
    body.verify(&repo.keys.owner, repo.config.repo, id).map_err(Error::object(key))?;
    repo.keys.check_domain(&body.certificate).map_err(Error::object(key))?;
    Ok(Session { id, body })
}
