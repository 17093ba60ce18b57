//! Checkpoints: what the gc log has come to at a sweep, so that nobody needs to read it from the start.
//!
//! Spec: chapter 11. A small head, created exclusively, names the parts of the state and of the index by their
//! hashes. The parts lie in a folder of their own and are there before the head is.

use std::collections::BTreeMap;

use crate::crypto::secret::Key;
use crate::crypto::{context, sign};
use crate::format::codec::{Reader, Writer};
use crate::format::id::{KeyId, PackId, RepoId, SessionId, SourceId};
use crate::format::keys::Certificate;
use crate::format::log::Hold;
use crate::format::{Error, limits, signed};
use crate::world::Time;

const HEAD: &str = "checkpoint";
const STATE: &str = "checkpoint state";
/// Bytes of the state in one part.
const PIECE_LEN: usize = 16 * 1024 * 1024;
/// Commits of each key whose hashes are kept after the commits are gone.
pub const REMEMBERED: usize = 64;

/// `checkpoints/<n>`, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// BLAKE3 of `gc/<n>` as stored.
    pub entry: [u8; 32],
    pub time: Time,
    /// Condemns up to the slot.
    pub epoch: u32,
    /// Random; in the name of the folder of the parts.
    pub name: [u8; 16],
    /// BLAKE3 of each part as stored: of the state, and of the index.
    pub state: Vec<[u8; 32]>,
    pub index: Vec<[u8; 32]>,
    pub certificate: Certificate,
    pub signature: [u8; sign::SIGNATURE_LEN],
}

impl Checkpoint {
    pub fn sign(&mut self, seed: &Key, repo: RepoId, n: u64) {
        self.signature = sign::sign(seed, context::SIGN_CHECKPOINT, &self.signed(repo, n));
    }

    pub fn verify(&self, owner: &[u8; sign::PUBLIC_LEN], repo: RepoId, n: u64) -> Result<(), Error> {
        self.certificate.verify_maintains(owner, repo)?;
        self.certificate.holds(HEAD, context::SIGN_CHECKPOINT, &self.signed(repo, n), &self.signature)
    }

    fn signed(&self, repo: RepoId, n: u64) -> [u8; 32] {
        let names: [&[u8]; 3] = [&repo.0, &self.certificate.domain.0, &n.to_le_bytes()];
        signed::message(&names, |out| self.write_body(out))
    }

    fn write_body(&self, out: &mut Writer) {
        out.raw(&self.entry);
        out.i64(self.time.0);
        out.u32(self.epoch);
        out.raw(&self.name);
        for parts in [&self.state, &self.index] {
            out.varint(parts.len() as u64);
            parts.iter().for_each(|part| out.raw(part));
        }
        self.certificate.write(out);
    }

    pub fn encode(&self) -> Vec<u8> {
        signed::encode(|out| self.write_body(out), &self.signature)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut input = Reader::new(HEAD, bytes);
        let checkpoint = Self {
            entry: input.array()?,
            time: Time(input.i64()?),
            epoch: input.u32()?,
            name: input.array()?,
            state: read_parts(&mut input)?,
            index: read_parts(&mut input)?,
            certificate: Certificate::read(&mut input)?,
            signature: input.array()?,
        };
        input.zeros()?;
        Ok(checkpoint)
    }
}

fn read_parts(input: &mut Reader<'_>) -> Result<Vec<[u8; 32]>, Error> {
    let count = input.count("parts", limits::CHECKPOINT_PARTS, 32)?;
    (0..count).map(|_| input.array()).collect()
}

/// A commit of an ended epoch that is not gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// BLAKE3 of the commit as stored.
    pub digest: [u8; 32],
    pub key: KeyId,
    pub serial: u32,
    pub sequence: u64,
    pub time: Time,
    pub source: SourceId,
    pub class: Vec<u8>,
    pub complete: bool,
    /// Held by the commit itself.
    pub held: bool,
}

/// What the log says of a commit, whether its epoch has ended or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fact {
    pub observed: Option<Observed>,
    pub forgotten: bool,
    /// Forgotten before a sweep: it can't be recalled.
    pub gone: bool,
    /// The hold that the commit was made with is lifted.
    pub lifted: bool,
}

/// Between which observations a commit appeared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// It was not there at this time; the smallest of all times if nobody has looked before.
    pub not_before: Time,
    pub not_after: Time,
}

/// What the log up to a sweep has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Packs of all sweeps, ascending.
    pub swept: Vec<PackId>,
    /// Packs that were found damaged and not swept, ascending.
    pub damaged: Vec<PackId>,
    pub rows: BTreeMap<SessionId, Row>,
    /// Of those rows, and of commits of epochs that have not ended.
    pub facts: BTreeMap<SessionId, Fact>,
    /// For each key id the newest of its commits: by sequence, the hash of the commit.
    pub remembered: BTreeMap<KeyId, Vec<(u64, [u8; 32])>>,
    pub holds: BTreeMap<[u8; 16], Hold>,
    /// The highest serial of each key id that does not count any more.
    pub revoked: BTreeMap<KeyId, u32>,
    pub last_observed: Option<Time>,
    /// Keys in the store that are still to be deleted, ascending.
    pub pending: Vec<String>,
}

/// Stands for "never" where a time is wanted.
const NEVER: Time = Time(i64::MIN);

impl State {
    /// Whether a key's certificates with this serial were revoked.
    pub fn is_revoked(&self, key: KeyId, serial: u32) -> bool {
        self.revoked.get(&key).is_some_and(|revoked| serial <= *revoked)
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        for packs in [&self.swept, &self.damaged] {
            out.varint(packs.len() as u64);
            packs.iter().for_each(|pack| out.raw(&pack.0));
        }
        out.varint(self.rows.len() as u64);
        for (id, row) in &self.rows {
            out.raw(&id.0);
            row.write(&mut out);
        }
        out.varint(self.facts.len() as u64);
        for (id, fact) in &self.facts {
            out.raw(&id.0);
            fact.write(&mut out);
        }
        let remembered = self.remembered.iter().flat_map(|(key, all)| all.iter().map(move |one| (key, one)));
        out.varint(remembered.clone().count() as u64);
        for (key, (sequence, digest)) in remembered {
            out.raw(&key.0);
            out.u64(*sequence);
            out.raw(digest);
        }
        out.varint(self.holds.len() as u64);
        self.holds.values().for_each(|hold| hold.write(&mut out));
        out.varint(self.revoked.len() as u64);
        for (key, serial) in &self.revoked {
            out.raw(&key.0);
            out.u32(*serial);
        }
        out.i64(self.last_observed.unwrap_or(NEVER).0);
        out.varint(self.pending.len() as u64);
        self.pending.iter().for_each(|key| out.bytes(key.as_bytes()));
        out.into_bytes()
    }

    /// The encoded state cut into what each part holds before sealing.
    pub fn pieces(&self) -> Vec<Vec<u8>> {
        let piece = |bytes: &[u8]| {
            let mut out = Writer::new();
            out.bytes(bytes);
            out.into_bytes()
        };
        self.encode().chunks(PIECE_LEN).map(piece).collect()
    }

    /// The bytes of the state that a part holds; padding may follow.
    pub fn piece(bytes: &[u8]) -> Result<&[u8], Error> {
        let mut input = Reader::new(STATE, bytes);
        let piece = input.bytes("piece", PIECE_LEN)?;
        input.zeros()?;
        Ok(piece)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut input = Reader::new(STATE, bytes);
        let mut state = Self::default();
        for (field, packs) in [("swept packs", &mut state.swept), ("damaged packs", &mut state.damaged)] {
            for _ in 0..input.count(field, limits::STATE_ROWS, 16)? {
                let id = PackId::read(&mut input)?;
                ascending(&input, field, packs.last().copied(), id)?;
                packs.push(id);
            }
        }
        for _ in 0..input.count("commits", limits::STATE_ROWS, 16 + Row::SHORTEST)? {
            let id = SessionId::read(&mut input)?;
            let row = Row::read(&mut input)?;
            ascending(&input, "commits", state.rows.last_key_value().map(|last| *last.0), id)?;
            state.rows.insert(id, row);
        }
        for _ in 0..input.count("facts", limits::STATE_ROWS, 16 + 1)? {
            let id = SessionId::read(&mut input)?;
            let fact = Fact::read(&mut input)?;
            ascending(&input, "facts", state.facts.last_key_value().map(|last| *last.0), id)?;
            state.facts.insert(id, fact);
        }
        for _ in 0..input.count("remembered commits", limits::STATE_ROWS, 16 + 8 + 32)? {
            let key = KeyId::read(&mut input)?;
            let last = state.remembered.last_key_value().map(|last| *last.0);
            let (sequence, digest) = (input.u64()?, input.array()?);
            let all = state.remembered.entry(key).or_default();
            let fits =
                last.is_none_or(|last| last <= key) && all.last().is_none_or(|l| *l < (sequence, digest));
            if !fits || all.len() == REMEMBERED {
                return Err(input.invalid("remembered commits", "not ascending, or too many"));
            }
            all.push((sequence, digest));
        }
        for _ in 0..input.count("holds", limits::STATE_ROWS, 16 + 1 + 16 + 1)? {
            let hold = Hold::read(&mut input)?;
            ascending(&input, "holds", state.holds.last_key_value().map(|last| *last.0), hold.id)?;
            state.holds.insert(hold.id, hold);
        }
        for _ in 0..input.count("revocations", limits::STATE_ROWS, 16 + 4)? {
            let (key, serial) = (KeyId::read(&mut input)?, input.u32()?);
            ascending(&input, "revocations", state.revoked.last_key_value().map(|last| *last.0), key)?;
            state.revoked.insert(key, serial);
        }
        state.last_observed = Some(Time(input.i64()?)).filter(|time| *time != NEVER);
        for _ in 0..input.count("pending deletions", limits::STATE_ROWS, 1)? {
            let key = input.bytes("key", limits::STORE_KEY_LEN)?;
            let key = std::str::from_utf8(key).map_err(|_| input.invalid("key", "not UTF-8"))?.to_owned();
            ascending(&input, "pending deletions", state.pending.last().cloned(), key.clone())?;
            state.pending.push(key);
        }
        input.end()?;
        Ok(state)
    }
}

fn ascending<T: Ord>(input: &Reader<'_>, field: &'static str, last: Option<T>, next: T) -> Result<(), Error> {
    match last.is_none_or(|last| last < next) {
        true => Ok(()),
        false => Err(input.invalid(field, "not ascending")),
    }
}

impl Row {
    /// Without a class.
    const SHORTEST: usize = 32 + 16 + 4 + 8 + 8 + 16 + 1 + 1;

    fn write(&self, out: &mut Writer) {
        out.raw(&self.digest);
        out.raw(&self.key.0);
        out.u32(self.serial);
        out.u64(self.sequence);
        out.i64(self.time.0);
        out.raw(&self.source.0);
        out.bytes(&self.class);
        out.u8(flags([self.complete, self.held, false, false]));
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Error> {
        let (digest, key, serial) = (input.array()?, KeyId::read(input)?, input.u32()?);
        let (sequence, time, source) = (input.u64()?, Time(input.i64()?), SourceId::read(input)?);
        let class = input.bytes("retention class", limits::CLASS_LEN)?.to_vec();
        let [complete, held, _, _] = read_flags(input, 2)?;
        Ok(Self { digest, key, serial, sequence, time, source, class, complete, held })
    }
}

impl Fact {
    fn write(&self, out: &mut Writer) {
        out.u8(flags([self.observed.is_some(), self.forgotten, self.gone, self.lifted]));
        if let Some(observed) = self.observed {
            out.i64(observed.not_before.0);
            out.i64(observed.not_after.0);
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Error> {
        let [observed, forgotten, gone, lifted] = read_flags(input, 4)?;
        let observed = match observed {
            true => Some(Observed { not_before: Time(input.i64()?), not_after: Time(input.i64()?) }),
            false => None,
        };
        Ok(Self { observed, forgotten, gone, lifted })
    }
}

fn flags(set: [bool; 4]) -> u8 {
    set.iter().enumerate().map(|(bit, set)| u8::from(*set) << bit).sum()
}

fn read_flags(input: &mut Reader<'_>, known: u32) -> Result<[bool; 4], Error> {
    let flags = input.u8()?;
    match u32::from(flags) < 1 << known {
        true => Ok([0, 1, 2, 3].map(|bit| flags & (1 << bit) != 0)),
        false => Err(input.invalid("flags", flags)),
    }
}
