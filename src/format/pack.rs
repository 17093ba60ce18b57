//! Packs: objects that hold records.
//!
//! Spec: chapter 4. `record* ‖ padding ‖ sealed table of contents ‖ sealed trailer`; a record
//! is a sealed header of fixed length and one sealed part (chunk) or two (node). Headers,
//! table and trailer open with the structure key, so a maintainer can copy and check
//! records that it can't read. The table binds each record's place by a short hash.

use crate::crypto::secret::Key;
use crate::crypto::{hash, seal};
use crate::format::codec::{Reader, Writer, padded_len};
use crate::format::id::{ChunkId, NodeId, PackId, RecordId, RepoId};
use crate::format::keys::KeyName;
use crate::format::{Error, limits};

/// What a pack holds; never both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PackKind {
    Data,
    Nodes,
}

impl PackKind {
    pub fn number(self) -> u8 {
        match self {
            PackKind::Data => 1,
            PackKind::Nodes => 2,
        }
    }

    pub fn read(input: &mut Reader<'_>) -> Result<Self, Error> {
        match input.u8()? {
            1 => Ok(PackKind::Data),
            2 => Ok(PackKind::Nodes),
            other => Err(input.invalid("pack kind", other)),
        }
    }

    /// The id of a record in a pack of this kind.
    pub fn record(self, id: [u8; 32]) -> RecordId {
        match self {
            PackKind::Data => RecordId::Chunk(ChunkId(id)),
            PackKind::Nodes => RecordId::Node(NodeId(id)),
        }
    }

    pub fn of(id: &RecordId) -> Self {
        match id {
            RecordId::Chunk(_) => PackKind::Data,
            RecordId::Node(_) => PackKind::Nodes,
        }
    }
}

/// How a part was compressed before it was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Zstd,
}

/// One sealed part of a record, as its header describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartHeader {
    pub compression: Compression,
    /// Length of the sealed box, in bytes.
    pub stored_len: u32,
    /// Length of the plaintext, in bytes; bounds the decoder.
    pub raw_len: u32,
}

/// A record's header. A chunk has one part, a node two: references and entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    pub id: RecordId,
    /// The key of a chunk's only part, and of a node's entries. References are sealed with the structure key.
    pub key: KeyName,
    pub parts: [PartHeader; 2],
}

const HEADER: &str = "record header";
const HEADER_PLAIN_LEN: usize = 1 + 32 + KeyName::LEN + 2 * 9;
/// Length of a sealed record header, in bytes.
pub const HEADER_LEN: usize = HEADER_PLAIN_LEN + seal::OVERHEAD;
const NO_PART: PartHeader = PartHeader { compression: Compression::None, stored_len: 0, raw_len: 0 };

impl RecordHeader {
    pub fn chunk(id: RecordId, key: KeyName, part: PartHeader) -> Self {
        Self { id, key, parts: [part, NO_PART] }
    }

    /// Length of the whole record: sealed header and parts.
    pub fn record_len(&self) -> usize {
        HEADER_LEN + self.parts.iter().map(|part| part.stored_len as usize).sum::<usize>()
    }

    pub fn seal_into(&self, out: &mut Vec<u8>, structure: &Key, repo: RepoId, nonce: [u8; seal::NONCE_LEN]) {
        let mut plain = Writer::new();
        plain.u8(self.id.kind());
        plain.raw(self.id.bytes());
        plain.raw(&self.key.to_bytes());
        for part in &self.parts {
            plain.u8(match part.compression {
                Compression::None => 0,
                Compression::Zstd => 1,
            });
            plain.u32(part.stored_len);
            plain.u32(part.raw_len);
        }
        seal::seal_into(out, structure, nonce, &header_context(repo), &plain.into_bytes());
    }

    pub fn open(structure: &Key, repo: RepoId, sealed: &[u8]) -> Result<Self, Error> {
        let plain = seal::open(structure, &header_context(repo), sealed)
            .map_err(|source| Error::Crypto { what: HEADER, source })?;
        let mut input = Reader::new(HEADER, &plain);
        let id = RecordId::read(&mut input)?;
        let key = KeyName::read(&mut input)?;
        let parts = [read_part(&mut input, &id)?, read_part(&mut input, &id)?];
        input.end()?;
        if (PackKind::of(&id) == PackKind::Data) != matches!(key, KeyName::Data { .. }) {
            return Err(input.invalid("key name", "of the other kind of record"));
        }
        if (PackKind::of(&id) == PackKind::Data) != (parts[1] == NO_PART) || parts[0] == NO_PART {
            return Err(input.invalid("parts", "wrong number for its kind"));
        }
        Ok(Self { id, key, parts })
    }
}

fn read_part(input: &mut Reader<'_>, id: &RecordId) -> Result<PartHeader, Error> {
    let compression = match input.u8()? {
        0 => Compression::None,
        1 => Compression::Zstd,
        other => return Err(input.invalid("compression", other)),
    };
    let part = PartHeader { compression, stored_len: input.u32()?, raw_len: input.u32()? };
    let most = match PackKind::of(id) {
        PackKind::Data => limits::CHUNK_LEN,
        PackKind::Nodes => limits::NODE_PART_LEN,
    };
    if part.raw_len as usize > most {
        return Err(Error::TooMuch {
            what: HEADER,
            field: "raw length",
            found: part.raw_len.into(),
            most: most as u64,
        });
    }
    let sealed_raw = part.raw_len as usize + seal::OVERHEAD;
    let plausible = match compression {
        Compression::None => part == NO_PART || part.stored_len as usize == sealed_raw,
        Compression::Zstd => {
            (part.stored_len as usize) < sealed_raw && part.stored_len as usize > seal::OVERHEAD
        }
    };
    match plausible {
        true => Ok(part),
        false => Err(input.invalid("stored length", part.stored_len)),
    }
}

/// What part `part` of a record is bound to.
pub fn part_context(repo: RepoId, id: &RecordId, part: u8, key: &KeyName) -> Vec<u8> {
    [b"kist record".as_slice(), &repo.0, &[id.kind(), part], id.bytes(), &key.to_bytes()].concat()
}

fn header_context(repo: RepoId) -> Vec<u8> {
    [b"kist record header".as_slice(), &repo.0].concat()
}

/// Where a record lies in its pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TocRecord {
    pub id: RecordId,
    pub offset: u32,
    /// Header and parts, in bytes.
    pub len: u32,
    /// The first half of the BLAKE3 of the record's bytes.
    pub short_hash: [u8; 16],
}

impl TocRecord {
    /// Its bytes, of the pack whose table was opened.
    pub fn of<'a>(&self, pack: &'a [u8]) -> &'a [u8] {
        &pack[self.offset as usize..self.offset as usize + self.len as usize]
    }
}

/// The table of contents of a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toc {
    pub kind: PackKind,
    pub records: Vec<TocRecord>,
}

const TOC: &str = "pack table of contents";
const TRAILER: &str = "pack trailer";
const TOC_RECORD_LEN: usize = 33 + 4 + 4 + 16;
/// Length of the sealed trailer at the end of a pack, in bytes.
pub const TRAILER_LEN: usize = 4 + seal::OVERHEAD;

pub fn short_hash(record: &[u8]) -> [u8; 16] {
    *hash::plain(record).first_chunk().expect("a hash has 32 bytes")
}

impl Toc {
    /// Length of the sealed table for a number of records.
    pub fn sealed_len(records: usize) -> usize {
        1 + varint_len(records as u64) + records * TOC_RECORD_LEN + seal::OVERHEAD
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u8(self.kind.number());
        out.varint(self.records.len() as u64);
        for record in &self.records {
            out.u8(record.id.kind());
            out.raw(record.id.bytes());
            out.u32(record.offset);
            out.u32(record.len);
            out.raw(&record.short_hash);
        }
        out.into_bytes()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut input = Reader::new(TOC, bytes);
        let kind = PackKind::read(&mut input)?;
        let count = input.count("records", limits::PACK_RECORDS, TOC_RECORD_LEN)?;
        let mut records = Vec::with_capacity(count);
        let mut end = 0u32;
        for _ in 0..count {
            let record = TocRecord {
                id: RecordId::read(&mut input)?,
                offset: input.u32()?,
                len: input.u32()?,
                short_hash: input.array()?,
            };
            if PackKind::of(&record.id) != kind || record.offset != end || (record.len as usize) <= HEADER_LEN
            {
                return Err(input.invalid("record", format!("{} at {}", record.id, record.offset)));
            }
            end = end.checked_add(record.len).ok_or_else(|| input.invalid("record length", record.len))?;
            records.push(record);
        }
        input.end()?;
        Ok(Self { kind, records })
    }

    /// Opens the table of the pack `id` from all of its bytes.
    pub fn open(structure: &Key, repo: RepoId, id: PackId, pack: &[u8]) -> Result<Self, Error> {
        Self::open_tail(structure, repo, id, pack, pack.len() as u64)
    }

    /// The same from the last bytes of so many. If they are too few, the error says how many are needed.
    pub fn open_tail(
        structure: &Key,
        repo: RepoId,
        id: PackId,
        tail: &[u8],
        len: u64,
    ) -> Result<Self, Error> {
        let short = |needed: usize| Error::Short { what: "pack", at: needed };
        let (rest, trailer) =
            tail.split_at(tail.len().checked_sub(TRAILER_LEN).ok_or_else(|| short(TRAILER_LEN))?);
        let toc_len = Self::open_trailer(structure, repo, id, trailer)? as usize;
        let toc_start = rest.len().checked_sub(toc_len).ok_or_else(|| short(toc_len + TRAILER_LEN))?;
        let toc = Self::open_sealed(structure, repo, id, &rest[toc_start..])?;
        let end = toc.records.last().map_or(0, |last| u64::from(last.offset) + u64::from(last.len));
        match end + (toc_len + TRAILER_LEN) as u64 <= len {
            true => Ok(toc),
            false => {
                Err(Error::Invalid { what: TOC, field: "records", found: "beyond the pack's end".into() })
            }
        }
    }

    /// The length of the sealed table, from the sealed trailer.
    pub fn open_trailer(structure: &Key, repo: RepoId, id: PackId, sealed: &[u8]) -> Result<u32, Error> {
        let plain = seal::open(structure, &toc_context(b"kist pack trailer", repo, id), sealed)
            .map_err(|source| Error::Crypto { what: TRAILER, source })?;
        let mut input = Reader::new(TRAILER, &plain);
        let len = input.u32()?;
        input.end()?;
        Ok(len)
    }

    fn open_sealed(structure: &Key, repo: RepoId, id: PackId, sealed: &[u8]) -> Result<Self, Error> {
        let plain = seal::open(structure, &toc_context(b"kist pack toc", repo, id), sealed)
            .map_err(|source| Error::Crypto { what: TOC, source })?;
        Self::decode(&plain)
    }

    /// What stands behind the records: padding, the sealed table, the sealed trailer.
    pub fn finish(
        &self,
        pack: &mut Vec<u8>,
        structure: &Key,
        (repo, id): (RepoId, PackId),
        nonces: [[u8; seal::NONCE_LEN]; 2],
        fill: impl FnOnce(&mut [u8]),
    ) {
        let toc_len = Self::sealed_len(self.records.len());
        let fixed = pack.len() + toc_len + TRAILER_LEN;
        let start = pack.len();
        pack.resize(start + padded_len(fixed) - fixed, 0);
        fill(&mut pack[start..]);
        seal::seal_into(pack, structure, nonces[0], &toc_context(b"kist pack toc", repo, id), &self.encode());
        let trailer = (toc_len as u32).to_le_bytes();
        seal::seal_into(pack, structure, nonces[1], &toc_context(b"kist pack trailer", repo, id), &trailer);
    }
}

fn varint_len(value: u64) -> usize {
    (64 - value.max(1).leading_zeros() as usize).div_ceil(7)
}

fn toc_context(what: &[u8], repo: RepoId, id: PackId) -> Vec<u8> {
    [what, &repo.0, &id.0].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::id::{ChunkId, SessionId};

    fn sample() -> (Key, RepoId, PackId, Vec<u8>, Toc) {
        let (structure, repo, id) = (Key::new([1; 32]), RepoId([2; 16]), PackId([3; 16]));
        let record_id = RecordId::Chunk(ChunkId([4; 32]));
        let key = KeyName::Data { session: SessionId([5; 16]), lane: 0 };
        let part = PartHeader { compression: Compression::None, stored_len: 43, raw_len: 3 };
        let header = RecordHeader::chunk(record_id, key, part);
        let mut pack = Vec::new();
        header.seal_into(&mut pack, &structure, repo, [6; 24]);
        pack.extend_from_slice(&[7; 43]);
        let record =
            TocRecord { id: record_id, offset: 0, len: pack.len() as u32, short_hash: short_hash(&pack) };
        let toc = Toc { kind: PackKind::Data, records: vec![record] };
        toc.finish(&mut pack, &structure, (repo, id), [[8; 24], [9; 24]], |pad| pad.fill(1));
        (structure, repo, id, pack, toc)
    }

    #[test]
    fn a_pack_gives_its_table_back_under_its_own_name_only() {
        let (structure, repo, id, pack, toc) = sample();
        assert_eq!(pack.len(), padded_len(pack.len()));
        assert_eq!(Toc::open(&structure, repo, id, &pack).unwrap(), toc);
        assert!(Toc::open(&structure, repo, PackId([4; 16]), &pack).is_err());
        assert!(
            Toc::open(&structure, repo, id, &pack[1..]).is_ok(),
            "records are bound by the table's hashes"
        );
        assert!(Toc::open(&structure, repo, id, &pack[..pack.len() - 1]).is_err());
        assert!(Toc::open(&structure, repo, id, &[]).is_err());
    }

    #[test]
    fn a_header_that_claims_too_much_is_refused() {
        let (structure, repo, ..) = sample();
        let key = KeyName::Data { session: SessionId([5; 16]), lane: 0 };
        let part = |raw_len, stored_len| PartHeader { compression: Compression::Zstd, stored_len, raw_len };
        let open = |part| {
            let mut out = Vec::new();
            RecordHeader::chunk(RecordId::Chunk(ChunkId([4; 32])), key, part)
                .seal_into(&mut out, &structure, repo, [0; 24]);
            RecordHeader::open(&structure, repo, &out)
        };
        assert!(open(part(1000, 500)).is_ok());
        assert!(open(part(limits::CHUNK_LEN as u32 + 1, 500)).is_err());
        assert!(open(part(100, 5000)).is_err());
    }

    #[test]
    fn varint_len_is_what_the_writer_takes() {
        for value in [0, 1, 127, 128, 16383, 16384, 1 << 20] {
            let mut out = Writer::new();
            out.varint(value);
            assert_eq!(out.len(), varint_len(value));
        }
    }
}
