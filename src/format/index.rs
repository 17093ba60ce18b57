//! Index deltas: which packs a lane wrote, and where each id lies.
//!
//! Spec: chapter 5. Holds the length and the BLAKE3 of each whole pack, so that all bytes
//! can be checked by whoever has the structure key. Signed with the lane's key, which the
//! session names: so nobody can say in another's name where a chunk lies. Sealed as an object.

use crate::crypto::secret::Key;
use crate::crypto::{context, hash, seal, sign};
use crate::format::codec::{Reader, Writer, padded_len};
use crate::format::id::{KeyId, PackId, RecordId, RepoId, SessionId};
use crate::format::pack::PackKind;
use crate::format::{Error, limits};

const WHAT: &str = "index";
const RECORD_LEN: usize = 32 + 4;
const PACK_LEN: usize = 16 + 1 + 4 + 32 + 16 + 1 + 1 + 1;
/// What one delta, or one part of a generation, is filled with, in bytes: a reader holds a few of them at a time.
const FILLED_LEN: usize = 8 * 1024 * 1024;
/// The longest pack by itself, with counts of three bytes, and everything around it.
const LONGEST_PACK: usize =
    PACK_LEN + 4 + limits::PACK_SESSIONS * SessionId::LEN + limits::PACK_RECORDS * RECORD_LEN;
const AROUND: usize = 3 + sign::SIGNATURE_LEN + seal::OVERHEAD;

// Whatever a delta or a part is filled with can be read again.
const _: () = {
    let longest = if LONGEST_PACK > FILLED_LEN { LONGEST_PACK } else { FILLED_LEN };
    assert!(padded_len(longest + AROUND) <= limits::INDEX_LEN);
    assert!(limits::PACK_RECORDS <= limits::INDEX_RECORDS);
};

/// A record of a pack, whose kind is the pack's. It begins where the one before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexRecord {
    pub id: [u8; 32],
    /// Header and parts, in bytes.
    pub len: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexPack {
    pub id: PackId,
    pub kind: PackKind,
    pub len: u32,
    /// BLAKE3 of all bytes of the pack, padding included.
    pub hash: [u8; 32],
    /// Whose records they are: the key id of the writer that has sealed them.
    pub origin: KeyId,
    /// Somebody who can read has opened every record and compared its id; in checkpoints only.
    pub verified: bool,
    /// The sessions whose lane keys open the records, ascending. A node pack has none of its own.
    pub sessions: Vec<SessionId>,
    /// In the order of their places, without gaps, the first at 0.
    pub records: Vec<IndexRecord>,
}

impl IndexPack {
    /// Each record's id, offset and length. The records are within the pack.
    pub fn places(&self) -> impl Iterator<Item = (RecordId, u32, u32)> {
        let mut next = 0;
        self.records.iter().map(move |record| {
            let offset = next;
            next += record.len;
            (self.kind.record(record.id), offset, record.len)
        })
    }

    /// Bytes that it takes in a delta or a part, or a few more.
    fn encoded_len(&self) -> usize {
        PACK_LEN + 4 + self.sessions.len() * SessionId::LEN + self.records.len() * RECORD_LEN
    }
}

/// Packs that are gathered for one delta, or one part of a generation, within all bounds of what is read again.
#[derive(Debug, Default)]
pub struct Filling {
    packs: Vec<IndexPack>,
    records: usize,
    bytes: usize,
}

impl Filling {
    /// Whether the pack goes in as well. The first one always does.
    pub fn takes(&self, pack: &IndexPack) -> bool {
        self.packs.is_empty()
            || self.packs.len() < limits::INDEX_PACKS
                && self.records + pack.records.len() <= limits::INDEX_RECORDS
                && self.bytes + pack.encoded_len() <= FILLED_LEN
    }

    pub fn push(&mut self, pack: IndexPack) {
        assert!(self.takes(&pack), "whoever fills has asked whether it takes the pack");
        self.records += pack.records.len();
        self.bytes += pack.encoded_len();
        self.packs.push(pack);
    }

    pub fn packs(&self) -> usize {
        self.packs.len()
    }

    pub fn records(&self) -> usize {
        self.records
    }

    /// What was gathered; nothing if that is no pack. Begins anew.
    pub fn take(&mut self) -> Option<IndexDelta> {
        let packs = std::mem::take(self).packs;
        (!packs.is_empty()).then_some(IndexDelta { packs })
    }
}

/// What `index/<sid>/<lane>-<k>` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexDelta {
    pub packs: Vec<IndexPack>,
}

impl IndexPack {
    /// BLAKE3 of what is said of the pack's bytes and records: who names the pack again with the same digest says the
    /// same of it.
    pub fn digest(&self) -> [u8; 32] {
        self.digest_with(&[])
    }

    /// BLAKE3 of all that is said of the pack, its sessions too: who says all of that again adds nothing.
    pub fn naming(&self) -> [u8; 32] {
        self.digest_with(&self.sessions)
    }

    /// BLAKE3 of what a delta with this pack alone holds before its signature, if it says so of it.
    fn digest_with(&self, sessions: &[SessionId]) -> [u8; 32] {
        let mut out = Writer::new();
        out.varint(1);
        self.write(&mut out, false, sessions);
        hash::plain(&out.into_bytes())
    }

    fn write(&self, out: &mut Writer, verified: bool, sessions: &[SessionId]) {
        out.raw(&self.id.0);
        out.u8(self.kind.number());
        out.u32(self.len);
        out.raw(&self.hash);
        out.raw(&self.origin.0);
        out.u8(verified.into());
        out.varint(sessions.len() as u64);
        sessions.iter().for_each(|session| out.raw(&session.0));
        out.varint(self.records.len() as u64);
        for record in &self.records {
            out.raw(&record.id);
            out.u32(record.len);
        }
    }
}

impl IndexDelta {
    /// What is stored, before sealing: the delta and the lane's signature, for the object at `key`.
    pub fn encode(&self, lane: &Key, repo: RepoId, key: &str) -> Vec<u8> {
        let mut bytes = self.body();
        let signature = sign::sign(lane, context::SIGN_INDEX, &signed(repo, key, &bytes));
        bytes.extend_from_slice(&signature);
        bytes
    }

    /// What is stored before the signature; a part of a checkpoint's index is no more than this.
    pub fn body(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.varint(self.packs.len() as u64);
        self.packs.iter().for_each(|pack| pack.write(&mut out, pack.verified, &pack.sessions));
        out.into_bytes()
    }

    /// Decodes a part of a checkpoint's index: padding may follow.
    pub fn decode_part(bytes: &[u8]) -> Result<Self, Error> {
        let mut input = Reader::new(WHAT, bytes);
        let packs = read_packs(&mut input)?;
        input.zeros()?;
        Ok(Self { packs })
    }

    /// Decodes what [`crate::format::object::open_object`] gave (padding may follow) and holds
    /// the signature against the lane's public key.
    pub fn decode(
        bytes: &[u8],
        lane: &[u8; sign::PUBLIC_LEN],
        repo: RepoId,
        key: &str,
    ) -> Result<Self, Error> {
        let mut input = Reader::new(WHAT, bytes);
        let packs = read_packs(&mut input)?;
        let message = signed(repo, key, &bytes[..input.at()]);
        let signature = input.array()?;
        input.zeros()?;
        sign::verify(lane, context::SIGN_INDEX, &message, &signature)
            .map_err(|source| Error::Crypto { what: WHAT, source })?;
        Ok(Self { packs })
    }
}

fn signed(repo: RepoId, key: &str, body: &[u8]) -> Vec<u8> {
    [&repo.0[..], key.as_bytes(), &[0], &hash::plain(body)].concat()
}

fn read_packs(input: &mut Reader<'_>) -> Result<Vec<IndexPack>, Error> {
    let count = input.count("packs", limits::INDEX_PACKS, PACK_LEN)?;
    let mut packs = Vec::with_capacity(count);
    let mut records = 0;
    for _ in 0..count {
        let pack = read_pack(input)?;
        records += pack.records.len();
        if records > limits::INDEX_RECORDS {
            return Err(too_much("records", records, limits::INDEX_RECORDS));
        }
        packs.push(pack);
    }
    Ok(packs)
}

fn too_much(field: &'static str, found: usize, most: usize) -> Error {
    Error::TooMuch { what: WHAT, field, found: found as u64, most: most as u64 }
}

fn read_pack(input: &mut Reader<'_>) -> Result<IndexPack, Error> {
    let id = PackId::read(input)?;
    let kind = PackKind::read(input)?;
    let len = input.u32()?;
    if len as usize > limits::PACK_LEN {
        return Err(too_much("pack length", len as usize, limits::PACK_LEN));
    }
    let hash = input.array()?;
    let origin = KeyId::read(input)?;
    let verified = input.flag("verified")?;
    let count = input.count("sessions", limits::PACK_SESSIONS, SessionId::LEN)?;
    let sessions = (0..count).map(|_| SessionId::read(input)).collect::<Result<Vec<_>, _>>()?;
    if !sessions.is_sorted_by(|a, b| a < b) {
        return Err(input.invalid("sessions", "not ascending"));
    }
    let count = input.count("records", limits::PACK_RECORDS, RECORD_LEN)?;
    let mut records = Vec::with_capacity(count);
    let mut end = 0u32;
    for _ in 0..count {
        let record = IndexRecord { id: input.array()?, len: input.u32()? };
        match end.checked_add(record.len) {
            Some(next) if next <= len => end = next,
            _ => return Err(input.invalid("records", "beyond the pack's end")),
        }
        records.push(record);
    }
    Ok(IndexPack { id, kind, len, hash, origin, verified, sessions, records })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(sessions: u8, records: Vec<IndexRecord>) -> IndexPack {
        IndexPack {
            id: PackId([2; 16]),
            kind: PackKind::Data,
            len: 1024,
            hash: [3; 32],
            origin: KeyId([7; 16]),
            verified: false,
            sessions: (0..sessions).map(|number| SessionId([number; 16])).collect(),
            records,
        }
    }

    fn records(count: usize) -> Vec<IndexRecord> {
        vec![IndexRecord { id: [1; 32], len: 0 }; count]
    }

    #[test]
    fn a_delta_comes_back_and_nothing_may_follow_it_but_zeros() {
        let delta = IndexDelta { packs: vec![pack(1, vec![IndexRecord { id: [1; 32], len: 500 }])] };
        let (seed, repo) = (Key::new([4; 32]), RepoId([5; 16]));
        let lane = sign::public(&seed);
        let mut bytes = delta.encode(&seed, repo, "index/a/0-0");
        bytes.extend_from_slice(&[0; 9]);
        assert_eq!(IndexDelta::decode(&bytes, &lane, repo, "index/a/0-0").unwrap(), delta);
        assert!(IndexDelta::decode(&bytes, &lane, repo, "index/a/0-1").is_err());
        assert!(IndexDelta::decode(&bytes, &[6; 32], repo, "index/a/0-0").is_err());
        *bytes.last_mut().unwrap() = 1;
        assert!(IndexDelta::decode(&bytes, &lane, repo, "index/a/0-0").is_err());
    }

    #[test]
    fn what_is_gathered_is_never_longer_than_was_counted() {
        for (sessions, count) in
            [(0, 0), (1, 1), (200, 127), (255, 128), (9, 16_384), (1, limits::PACK_RECORDS)]
        {
            let pack = pack(sessions, records(count));
            let counted = pack.encoded_len();
            let found = IndexDelta { packs: vec![pack] }.body().len() - 1;
            assert!(found <= counted && counted <= found + 4, "{found} bytes, counted as {counted}");
        }
    }

    #[test]
    fn records_are_as_many_as_an_index_may_have_and_no_more() {
        let half = || pack(0, records(limits::INDEX_RECORDS / 2));
        let most = IndexDelta { packs: vec![half(), half()] };
        assert_eq!(IndexDelta::decode_part(&most.body()).as_ref(), Ok(&most));
        let more = IndexDelta { packs: vec![half(), half(), pack(0, records(1))] };
        let found = IndexDelta::decode_part(&more.body());
        assert!(matches!(found, Err(Error::TooMuch { field: "records", .. })), "{found:?}");
    }

    /// The story: parts of a generation were bounded by packs and records alone.
    #[test]
    fn packs_of_many_sessions_make_no_part_that_is_too_long_to_be_read() {
        let sessions = (0..limits::PACK_SESSIONS as u128).map(|number| SessionId(number.to_be_bytes()));
        let long = IndexPack { sessions: sessions.collect(), ..pack(0, records(1)) };
        let mut filling = Filling::default();
        while filling.takes(&long) {
            filling.push(long.clone());
        }
        let body = filling.take().expect("packs").body();
        assert!(padded_len(body.len() + seal::OVERHEAD) <= limits::INDEX_LEN, "{} bytes", body.len());
    }

    #[test]
    fn a_filling_takes_no_pack_beyond_what_an_index_may_have() {
        let mut filling = Filling::default();
        let empty = pack(0, vec![]);
        (0..limits::INDEX_PACKS).for_each(|_| filling.push(empty.clone()));
        assert!(!filling.takes(&empty));
        assert_eq!(filling.take().map(|delta| delta.packs.len()), Some(limits::INDEX_PACKS));
        assert_eq!(filling.take(), None);
        // One that is longer than what is filled otherwise is alone.
        let longest = pack(255, records(limits::PACK_RECORDS));
        assert!(filling.takes(&longest));
        filling.push(longest);
        assert!(!filling.takes(&empty));
    }
}
