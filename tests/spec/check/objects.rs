//! Objects of the store: `config`, slots, sessions, commits, index deltas; and the key file.

use kist::crypto::secret::{Key, Passphrase};
use kist::crypto::{hash, seal, sign};
use kist::format::commit::{Resolution, fence, summary_context};
use kist::format::config::{self, Config};
use kist::format::id::{RepoId, SessionId, SlotId, hex};
use kist::format::index::IndexDelta;
use kist::format::keys::{INFO_LEN, KeyFile, KeyName, Slot};
use kist::format::object;
use kist::format::session::{Session, unwrap_lane};
use kist::format::{Error, keys::Lock};
use serde_json::{Value, json};

use crate::check::Checked;
use crate::shapes;
use crate::vector::{Encoded, Vector};

pub fn config(vector: &Vector) -> Result<Checked, Error> {
    let config = Config::decode(vector.bytes())?;
    let mut fields = shapes::config(&config);
    fields["digest"] = json!(hex(&config::digest(vector.bytes())));
    let encoded = config.encode(&Key::new(vector.hex("owner_seed")));
    Ok(Checked { fields, encoded: Encoded::Bytes(encoded) })
}

pub fn slot(vector: &Vector) -> Result<Checked, Error> {
    let (repo, id) = (RepoId(vector.hex("repository")), SlotId(vector.hex("slot_id")));
    let slot = Slot::decode(vector.bytes())?;
    let unlock = match &slot.lock {
        Lock::KeyFile => Key::new(vector.hex("unlock")),
        Lock::Passphrase { .. } => {
            let passphrase = Passphrase::new(vector.text("passphrase").as_bytes().to_vec());
            slot.passphrase_key(&passphrase).expect("a passphrase unlocks it")?
        }
    };
    let info_key = Key::new(vector.hex("info_key"));
    let info = slot.open_info(&info_key, repo, id)?;
    let secrets = slot.open(&unlock, repo, id)?;
    let header_len = if slot.lock == Lock::KeyFile { 11 } else { 39 };
    let nonce = |at: usize| *vector.bytes()[at..].first_chunk().expect("a nonce");
    let nonces = [nonce(header_len), nonce(header_len + INFO_LEN + seal::OVERHEAD)];
    let fields = json!({
        "lock": shapes::lock(&slot.lock),
        "unlock": hex(unlock.expose()),
        "info": shapes::slot_info(&info),
        "secrets": shapes::secrets(&secrets),
    });
    let encoded = Slot::seal(slot.lock, (repo, id), &info_key, &info, &secrets, nonces).encode();
    Ok(Checked { fields, encoded: Encoded::Bytes(encoded) })
}

fn text(vector: &Vector) -> &str {
    let Encoded::Text(text) = &vector.encoded else { panic!("{}: text expected", vector.name) };
    text
}

fn key_file_fields(file: &KeyFile) -> Value {
    json!({
        "repository": file.repo.to_string(),
        "slot_id": file.slot.to_string(),
        "unlock": hex(file.unlock.expose()),
    })
}

pub fn key_file(vector: &Vector) -> Result<Checked, Error> {
    let file = KeyFile::parse(text(vector))?;
    let encoded = file.to_text(vector.text("comment")).to_string();
    Ok(Checked { fields: key_file_fields(&file), encoded: Encoded::Text(encoded) })
}

pub fn kit(vector: &Vector) -> Result<Checked, Error> {
    let file = KeyFile::from_kit(text(vector))?;
    Ok(Checked { fields: key_file_fields(&file), encoded: Encoded::Text(file.to_kit().to_string()) })
}

/// A sealed object opened, and what is needed to seal one like it.
pub(super) struct Opened {
    structure: Key,
    pub repo: RepoId,
    pub key: String,
    pub plain: Vec<u8>,
}

impl Opened {
    pub fn new(vector: &Vector, key: String) -> Result<Self, Error> {
        let (structure, repo) = (Key::new(vector.hex("structure")), RepoId(vector.hex("repository")));
        let plain = object::open_object("vector", &structure, repo, &key, vector.bytes())?;
        Ok(Self { structure, repo, key, plain })
    }

    pub fn seal_again(&self, vector: &Vector, plain: Vec<u8>) -> Encoded {
        let nonce = *vector.bytes().first_chunk().expect("what opened has a nonce");
        Encoded::Bytes(object::seal_object(&self.structure, nonce, self.repo, &self.key, plain))
    }
}

pub fn session(vector: &Vector) -> Result<Checked, Error> {
    let id = SessionId(vector.hex("session"));
    let opened = Opened::new(vector, object::session_key(id))?;
    let session = Session::decode(&opened.plain)?;
    session.verify(&vector.hex("owner"), opened.repo, id)?;
    let seed = Key::new(vector.hex("recipient_seed"));
    let mut lanes = Vec::new();
    for (number, lane) in session.lanes.iter().enumerate() {
        let place = (opened.repo, id, number as u32);
        let wrapped = |k: &kist::format::session::WrappedKey| json!({"recipient": hex(&k.recipient), "wrapped": hex(&k.wrapped)});
        lanes.push(json!({
            "signing": hex(&lane.signing),
            "keys": lane.keys.iter().map(wrapped).collect::<Vec<_>>(),
            "data_key": hex(unwrap_lane(place, &seed, &lane.keys)?.expose()),
        }));
    }
    let fields = json!({
        "key": opened.key,
        "started": session.started.0,
        "certificate": shapes::certificate(&session.certificate),
        "lanes": lanes,
        "signature": hex(&session.signature),
    });
    Ok(Checked { fields, encoded: opened.seal_again(vector, session.encode()) })
}

pub fn commit(vector: &Vector) -> Result<Checked, Error> {
    let id = SessionId(vector.hex("session"));
    let opened = Opened::new(vector, object::commit_key(id))?;
    let commit = match Resolution::decode(&opened.plain)? {
        Resolution::Commit(commit) => commit,
        Resolution::Fence => {
            return Ok(Checked { fields: json!("fence"), encoded: opened.seal_again(vector, fence()) });
        }
        Resolution::Repack(repack) => {
            repack.verify(&vector.hex("owner"), opened.repo, id)?;
            let repack_fields = json!({
                "certificate": shapes::certificate(&repack.certificate),
                "signature": hex(&repack.signature),
            });
            let fields = json!({"key": opened.key, "repack": repack_fields});
            return Ok(Checked { fields, encoded: opened.seal_again(vector, repack.encode()) });
        }
    };
    commit.verify(&vector.hex("owner"), opened.repo, id)?;
    let meta = Key::new(vector.hex("meta_key"));
    let summary = seal::open(&meta, &summary_context(opened.repo, id), &commit.summary)
        .map_err(|source| Error::Crypto { what: "summary", source })?;
    let mut fields = shapes::commit(&commit);
    fields["key"] = json!(opened.key);
    fields["meta_key_name"] = shapes::key_name(&commit.meta_key_name(commit.source));
    fields["summary"] = serde_json::from_slice::<Value>(&summary).expect("a summary is JSON");
    Ok(Checked { fields, encoded: opened.seal_again(vector, commit.encode()) })
}

pub fn index(vector: &Vector) -> Result<Checked, Error> {
    let id = SessionId(vector.hex("session"));
    let (lane, number) = (vector.number("lane") as u32, vector.number("number") as u32);
    let opened = Opened::new(vector, object::index_key(id, lane, number))?;
    let seed = Key::new(vector.hex("lane_seed"));
    let delta = IndexDelta::decode(&opened.plain, &sign::public(&seed), opened.repo, &opened.key)?;
    let fields = json!({
        "key": opened.key,
        "packs": delta.packs.iter().map(shapes::index_pack).collect::<Vec<_>>(),
    });
    let encoded = opened.seal_again(vector, delta.encode(&seed, opened.repo, &opened.key));
    Ok(Checked { fields, encoded })
}

/// The meta key that a key name names, from the scope's key.
pub fn meta_key(scope: &Key, name: &KeyName) -> Key {
    let KeyName::Meta { source, .. } = name else { panic!("not a meta key: {name:?}") };
    hash::derive(kist::crypto::context::META, scope, &source.0)
}

/// Info and secrets of a slot, without their padding; those that open.
pub fn slot_plain(vector: &Vector) -> [Option<Vec<u8>>; 2] {
    if !Slot::decode(vector.bytes()).is_ok_and(|slot| slot.lock == Lock::KeyFile) {
        return [None, None];
    }
    let (header, rest) = vector.bytes().split_at(11);
    let (info, secrets) = rest.split_at(INFO_LEN + seal::OVERHEAD);
    let (repo, id): ([u8; 16], [u8; 16]) = (vector.hex("repository"), vector.hex("slot_id"));
    let key = hash::derive(kist::crypto::context::SLOT, &Key::new(vector.hex("unlock")), &id);
    let open = |key: &Key, context: &[&[u8]], sealed: &[u8]| {
        let mut plain = seal::open(key, &context.concat(), sealed).ok()?;
        plain.truncate(plain.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1));
        Some(plain)
    };
    let info_key = Key::new(vector.hex("info_key"));
    [
        open(&info_key, &[b"kist slot info", &repo, &id, header], info),
        open(&key, &[b"kist slot", &repo, &id, header, info], secrets),
    ]
}
