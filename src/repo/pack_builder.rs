//! From plaintext to records to packs: compress, seal, open again and compare, lay end to end.
//!
//! Spec: chapter 4. Pure CPU work, done by whichever thread saves. A record that does not
//! come back from its own seal is never uploaded.

use std::cell::RefCell;

use crate::crypto::secret::Key;
use crate::crypto::{hash, seal};
use crate::format::id::{ChunkId, PackId, RecordId, SessionId};
use crate::format::index::{IndexPack, IndexRecord};
use crate::format::keys::KeyName;
use crate::format::node::NodeParts;
use crate::format::pack::{
    Compression, PackKind, PartHeader, RecordHeader, Toc, TocRecord, part_context, short_hash,
};
use crate::format::{limits, pack};
use crate::repo::keys::Keys;
use crate::repo::{Error, Result};
use crate::world::World;

/// Compression that saves less than a twentieth is not worth undoing.
const WORTH_COMPRESSING: (usize, usize) = (19, 20);

/// A pack that still takes records.
pub struct OpenPack {
    id: PackId,
    kind: PackKind,
    /// Whose lane keys open the records; ascending.
    sessions: Vec<SessionId>,
    bytes: Vec<u8>,
    records: Vec<TocRecord>,
}

/// A pack ready to be uploaded, and what the index will say of it.
pub struct SealedPack {
    pub index: IndexPack,
    pub bytes: Vec<u8>,
}

impl OpenPack {
    /// `bytes` are empty: memory for a whole pack.
    pub fn new(kind: PackKind, sessions: Vec<SessionId>, world: &World, bytes: Vec<u8>) -> Self {
        Self { id: PackId(world.bytes()), kind, sessions, bytes, records: Vec::new() }
    }

    /// Whether a record of `len` bytes would take it beyond `target_bytes`.
    pub fn is_full_for(&self, len: usize, target_bytes: usize) -> bool {
        let more = self.records.len() + 1;
        let total = self.bytes.len() + len + Toc::sealed_len(more) + pack::TRAILER_LEN;
        !self.records.is_empty() && (total > target_bytes || more > limits::PACK_RECORDS)
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub fn push(&mut self, id: RecordId, record: &[u8]) {
        self.records.push(TocRecord {
            id,
            offset: self.bytes.len() as u32,
            len: record.len() as u32,
            short_hash: short_hash(record),
        });
        self.bytes.extend_from_slice(record);
    }

    pub fn seal(mut self, keys: &Keys, world: &World) -> SealedPack {
        let toc = Toc { kind: self.kind, records: self.records };
        let nonces = [world.bytes(), world.bytes()];
        let place = (keys.repo, self.id);
        toc.finish(&mut self.bytes, &keys.structure, place, nonces, |pad| world.random.fill(pad));
        let records = toc.records.iter().map(|r| IndexRecord { id: *r.id.bytes(), len: r.len });
        let index = IndexPack {
            id: self.id,
            kind: self.kind,
            len: self.bytes.len() as u32,
            hash: hash::plain(&self.bytes),
            origin: keys.certificate.key,
            verified: false,
            sessions: self.sessions,
            records: records.collect(),
        };
        SealedPack { index, bytes: self.bytes }
    }
}

/// Seals a chunk as a record.
pub fn chunk_record(
    keys: &Keys,
    world: &World,
    id: ChunkId,
    (name, key): (KeyName, &Key),
    plain: &[u8],
    level: i32,
) -> Result<Vec<u8>> {
    let id = RecordId::Chunk(id);
    let context = part_context(keys.repo, &id, 0, &name);
    let (header, body) = seal_part(key, world, &context, plain, level);
    let mut record = Vec::with_capacity(pack::HEADER_LEN + body.len());
    RecordHeader::chunk(id, name, header).seal_into(&mut record, &keys.structure, keys.repo, world.bytes());
    record.extend_from_slice(&body);
    let again = open_record(keys, &id, &record, |_| Ok(Some(key.clone())))?;
    match again.len() == 1 && keys.ids()?.chunk_id(&again[0]).0 == *id.bytes() {
        true => Ok(record),
        false => Err(Error::Reopen { id }),
    }
}

/// Seals a node as a record: references under the structure key, entries under `key`.
pub fn node_record(
    keys: &Keys,
    world: &World,
    id: RecordId,
    (name, key): (KeyName, &Key),
    parts: &NodeParts,
    level: i32,
) -> Result<Vec<u8>> {
    let contexts = [part_context(keys.repo, &id, 0, &name), part_context(keys.repo, &id, 1, &name)];
    let (refs_header, refs) = seal_part(&keys.structure, world, &contexts[0], &parts.refs, level);
    let (entries_header, entries) = seal_part(key, world, &contexts[1], &parts.entries, level);
    let header = RecordHeader { id, key: name, parts: [refs_header, entries_header] };
    let mut record = Vec::with_capacity(header.record_len());
    header.seal_into(&mut record, &keys.structure, keys.repo, world.bytes());
    record.extend_from_slice(&refs);
    record.extend_from_slice(&entries);
    let mut again = open_record(keys, &id, &record, |_| Ok(Some(key.clone())))?;
    let entries = again.pop().unwrap_or_default();
    let refs = again.pop().unwrap_or_default();
    match keys.ids()?.node_id(&name, &NodeParts { refs, entries }).0 == *id.bytes() {
        true => Ok(record),
        false => Err(Error::Reopen { id }),
    }
}

/// Opens a record's parts: a chunk's content, or a node's references and entries. What `find_key`
/// does not give stays shut and is left out.
pub fn open_record(
    keys: &Keys,
    id: &RecordId,
    record: &[u8],
    find_key: impl FnOnce(&KeyName) -> Result<Option<Key>>,
) -> Result<Vec<Vec<u8>>> {
    let damaged = |source| Error::Object { key: id.to_string(), source };
    let short = || damaged(crate::format::Error::Short { what: "record", at: record.len() });
    let (sealed, mut rest) = record.split_at_checked(pack::HEADER_LEN).ok_or_else(short)?;
    let header = RecordHeader::open(&keys.structure, keys.repo, sealed).map_err(damaged)?;
    if header.id != *id || header.record_len() != record.len() {
        let found = format!("{} of {} bytes", header.id, header.record_len());
        return Err(damaged(crate::format::Error::Invalid { what: "record", field: "header", found }));
    }
    let key = find_key(&header.key)?;
    let sealed_with: Vec<Option<&Key>> = match id {
        RecordId::Chunk(_) => vec![key.as_ref()],
        RecordId::Node(_) => vec![Some(&keys.structure), key.as_ref()],
    };
    let mut opened = Vec::with_capacity(sealed_with.len());
    for (number, key) in sealed_with.into_iter().enumerate() {
        let part = &header.parts[number];
        let (sealed, behind) = rest.split_at_checked(part.stored_len as usize).ok_or_else(short)?;
        rest = behind;
        let Some(key) = key else { continue };
        let context = part_context(keys.repo, id, number as u8, &header.key);
        opened.push(open_part(key, &context, part, sealed).map_err(damaged)?);
    }
    Ok(opened)
}

/// The key that a record's header names, without opening more than the header.
pub fn record_key_name(keys: &Keys, record: &[u8]) -> Option<KeyName> {
    header_of(keys, record).map(|header| header.key)
}

/// The same, if it is the header of this record.
pub fn record_key_of(keys: &Keys, id: &RecordId, record: &[u8]) -> Option<KeyName> {
    let is_its = |header: &RecordHeader| header.id == *id && header.record_len() == record.len();
    header_of(keys, record).filter(is_its).map(|header| header.key)
}

fn header_of(keys: &Keys, record: &[u8]) -> Option<RecordHeader> {
    RecordHeader::open(&keys.structure, keys.repo, record.get(..pack::HEADER_LEN)?).ok()
}

/// The records of a pack whose table is lost, by their headers, as far as these follow each other: id, offset, length.
pub fn records_by_headers(keys: &Keys, pack: &[u8]) -> Vec<(RecordId, u32, u32)> {
    let mut records = Vec::new();
    let mut offset = 0;
    while let Some(header) = pack.get(offset..).and_then(|rest| header_of(keys, rest)) {
        let len = header.record_len();
        records.push((header.id, offset as u32, len as u32));
        offset += len;
    }
    records
}

fn open_part(
    key: &Key,
    context: &[u8],
    part: &PartHeader,
    sealed: &[u8],
) -> Result<Vec<u8>, crate::format::Error> {
    const WHAT: &str = "record";
    let plain = seal::open(key, context, sealed)
        .map_err(|source| crate::format::Error::Crypto { what: WHAT, source })?;
    let raw = match part.compression {
        Compression::None => plain,
        Compression::Zstd => decompress(&plain, part.raw_len as usize).map_err(|error| {
            crate::format::Error::Invalid { what: WHAT, field: "compression", found: error.to_string() }
        })?,
    };
    match raw.len() == part.raw_len as usize {
        true => Ok(raw),
        false => Err(crate::format::Error::Invalid {
            what: WHAT,
            field: "raw length",
            found: raw.len().to_string(),
        }),
    }
}

fn seal_part(key: &Key, world: &World, context: &[u8], plain: &[u8], level: i32) -> (PartHeader, Vec<u8>) {
    let packed = compress(plain, level);
    let (compression, body) = match &packed {
        Some(packed) => (Compression::Zstd, packed.as_slice()),
        None => (Compression::None, plain),
    };
    let sealed = seal::seal(key, world.bytes(), context, body);
    let header = PartHeader { compression, stored_len: sealed.len() as u32, raw_len: plain.len() as u32 };
    (header, sealed)
}

fn decompress(packed: &[u8], raw_len: usize) -> std::io::Result<Vec<u8>> {
    thread_local! {
        static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
    }
    DECOMPRESSOR.with_borrow_mut(|kept| {
        if kept.is_none() {
            *kept = Some(zstd::bulk::Decompressor::new()?);
        }
        kept.as_mut().expect("it was just made").decompress(packed, raw_len)
    })
}

/// None if it would not pay.
fn compress(plain: &[u8], level: i32) -> Option<Vec<u8>> {
    thread_local! {
        static COMPRESSOR: RefCell<Option<(i32, zstd::bulk::Compressor<'static>)>> = const { RefCell::new(None) };
    }
    COMPRESSOR.with_borrow_mut(|kept| {
        let (kept_level, compressor) = match kept {
            Some(kept) => kept,
            None => kept.insert((level, zstd::bulk::Compressor::new(level).ok()?)),
        };
        if *kept_level != level {
            compressor.set_compression_level(level).ok()?;
            *kept_level = level;
        }
        let packed = compressor.compress(plain).ok()?;
        let (of, parts) = WORTH_COMPRESSING;
        (packed.len() * parts <= plain.len() * of && !packed.is_empty()).then_some(packed)
    })
}
