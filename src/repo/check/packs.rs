//! Reading packs: every byte against the hash and the table of contents, each record opened as far as the key can.
//!
//! Packs stream: a few are in flight, and each is looked at on a thread of its own. They come back in the order in
//! which they were asked for, so that a check that is interrupted knows how far it came.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use crate::crypto::hash;
use crate::format::id::{KeyId, NodeId, PackId, RecordId};
use crate::format::index::{IndexPack, IndexRecord};
use crate::format::keys::KeyName;
use crate::format::log::Verified;
use crate::format::node::{Node, NodeParts};
use crate::format::object;
use crate::format::pack::{Toc, TocRecord, short_hash};
use crate::repo::check::damage::Damage;
use crate::repo::check::finding::Finding;
use crate::repo::index::{PackInfo, records_of};
use crate::repo::pack_builder::record_key_name;
use crate::repo::{Error, Place, Reader, Result, on_cpu};
use crate::store::Class as StoreClass;

/// A pack that may be asked for, as the index names it: once, if nobody has lied.
#[derive(Clone)]
pub struct Named {
    pub id: PackId,
    pub namings: Vec<PackInfo>,
}

/// What came of reading one.
#[derive(Default)]
pub struct Read {
    pub bytes: u64,
    pub records: u64,
    pub findings: Vec<Finding>,
    pub damage: Damage,
    /// Its table can't be read, or it is named falsely too: which records are sound has to be asked of the index.
    pub is_doubtful: bool,
    /// All of it was opened and is what it should be, and nobody has said so yet.
    pub verified: Option<Verified>,
}

/// Reads a pack and looks at all of it.
pub async fn read(reader: Arc<Reader>, named: Named) -> Result<Read> {
    let key = object::pack_key(named.id);
    let bytes = match reader.repo().store.get(&key).await {
        Ok(bytes) => bytes,
        Err(error) if error.class() == StoreClass::Missing => {
            return Ok(Read::unreadable(named.id, Finding::PackMissing { key }));
        }
        Err(error) if error.is_damage() => {
            return Ok(Read::unreadable(named.id, Finding::Object { key, source: error.into() }));
        }
        Err(error) => return Err(error.into()),
    };
    on_cpu(move || look(&reader, &named, key, &bytes)).await?
}

impl Read {
    fn unreadable(id: PackId, finding: Finding) -> Self {
        let damage = Damage { found: [id].into(), packs: [id].into(), ..Default::default() };
        Self { findings: vec![finding], damage, ..Default::default() }
    }
}

/// Looks at all of a pack, and says whether it is what the index says.
fn look(reader: &Reader, named: &Named, key: String, bytes: &[u8]) -> Result<Read> {
    let mut read = compare(reader, named, key, bytes)?;
    // A sound pack that is named falsely too is sound.
    if read.findings.iter().any(|finding| !matches!(finding, Finding::PackNamed { .. })) {
        read.damage.found.insert(named.id);
    }
    Ok(read)
}

/// Holds the bytes of a pack against all that is said of it.
fn compare(reader: &Reader, named: &Named, key: String, bytes: &[u8]) -> Result<Read> {
    let mut read = Read { bytes: bytes.len() as u64, ..Default::default() };
    let found = hash::plain(bytes);
    let keys = &reader.repo().keys;
    let toc = Toc::open(&keys.structure, keys.repo, named.id, bytes).ok();
    let is_whole = |info: &PackInfo| bytes.len() as u64 == u64::from(info.len) && info.hash == found;
    // Of two that are right about the bytes the pack itself tells which is right about the rest.
    let truth = toc.as_ref().map(|toc| by_itself(reader, named, toc, (bytes, found))).transpose()?;
    let is_true = |info: &PackInfo| {
        let says = |truth: &IndexPack| match info.origin {
            // The owner seals nodes with the keys of their writers, too, and nobody else can say that he has.
            KeyId::OWNER => IndexPack { origin: KeyId::OWNER, ..truth.clone() }.naming() == info.naming,
            _ => truth.naming() == info.naming,
        };
        is_whole(info) && truth.as_ref().is_none_or(says)
    };
    let (true_ones, false_ones): (Vec<&PackInfo>, Vec<&PackInfo>) =
        named.namings.iter().partition(|info| is_true(info));
    let true_one = true_ones.first();
    let is_any_whole = named.namings.iter().any(is_whole);
    let mut origins = BTreeSet::new();
    for info in &false_ones {
        let (key, len) = (key.clone(), bytes.len() as u64);
        read.findings.extend(match true_one {
            // Another length was told when packs were listed; and of one key one lie says enough.
            Some(_) if len != u64::from(info.len) || !origins.insert(info.origin) => None,
            Some(_) => Some(Finding::PackNamed { key, origin: info.origin.to_string() }),
            None if is_any_whole => None,
            None if len != u64::from(info.len) => {
                Some(Finding::PackLength { key, expected: info.len.into(), found: len })
            }
            None => Some(Finding::PackHash { key }),
        });
    }
    if toc.is_none() || (true_one.is_none() && is_any_whole) {
        read.findings.push(Finding::PackTable { key: key.clone() });
    }
    // What is said falsely of where records lie is damage too, if they lie nowhere else.
    read.is_doubtful = toc.is_none() || !false_ones.is_empty();
    let Some(toc) = toc else { return Ok(read) };
    records(reader, named.id, &toc, (bytes, is_any_whole), &key, &mut read)?;
    if let (Some(info), Some(truth)) = (true_one, truth)
        && keys.can_read_data()
        && read.damage.is_none()
    {
        let truth = IndexPack { origin: info.origin, ..truth };
        read.verified = (!info.verified).then(|| Verified { pack: info.id, digest: truth.digest() });
    }
    Ok(read)
}

/// Looks at each record of a pack.
fn records(
    reader: &Reader,
    pack: PackId,
    toc: &Toc,
    (bytes, is_whole): (&[u8], bool),
    key: &str,
    read: &mut Read,
) -> Result<()> {
    for record in &toc.records {
        let place = Place { pack, offset: record.offset, len: record.len };
        let sealed = record.of(bytes);
        let is_sound = match reader.repo().keys.can_read_data() {
            true => {
                read.records += 1;
                opens(reader, &record.id, &place, sealed)?
            }
            false => is_whole || short_hash(sealed) == record.short_hash,
        };
        if !is_sound {
            read.damage.records.insert((pack, record.id));
            read.findings.push(Finding::Record { key: key.to_owned(), id: record.id });
        }
    }
    Ok(())
}

/// What is to be said of a pack, by its table and by the headers of its records: also whose it is, and which sessions' keys
/// open it. A naming that leaves one of these out would have it deleted.
fn by_itself(
    reader: &Reader,
    named: &Named,
    toc: &Toc,
    (bytes, hash): (&[u8], [u8; 32]),
) -> Result<IndexPack> {
    let (mut sessions, mut origins) = (BTreeSet::new(), BTreeSet::new());
    for record in &toc.records {
        let sealed = record.of(bytes);
        match record_key_name(&reader.repo().keys, sealed) {
            Some(KeyName::Data { session, .. }) => drop(sessions.insert(session)),
            Some(KeyName::Meta { scope, .. }) => drop(origins.insert(scope)),
            None => {}
        }
    }
    for session in &sessions {
        origins.extend(reader.origin_of(*session)?);
    }
    let record = |record: &TocRecord| IndexRecord { id: *record.id.bytes(), len: record.len };
    Ok(IndexPack {
        id: named.id,
        kind: toc.kind,
        len: bytes.len() as u32,
        hash,
        // None where its sessions can't be read: then it is as it is said.
        origin: origins.pop_first().unwrap_or(named.namings[0].origin),
        verified: false,
        sessions: sessions.into_iter().collect(),
        records: toc.records.iter().map(record).collect(),
    })
}

/// Whether a record opens and is what its id says; for who can read. An error if the store does not give its key.
pub fn opens(reader: &Reader, id: &RecordId, place: &Place, sealed: &[u8]) -> Result<bool> {
    match id {
        RecordId::Chunk(id) => match reader.open_chunk(*id, place, sealed) {
            Err(error) if error.is_inconclusive() => Err(error),
            opened => Ok(opened.is_ok()),
        },
        RecordId::Node(id) => Ok(node_opens(reader, *id, sealed)),
    }
}

fn node_opens(reader: &Reader, id: NodeId, sealed: &[u8]) -> bool {
    match reader.open_node(id, sealed) {
        Ok((refs, Some((_, entries)))) => Node::decode(&NodeParts { refs, entries }).is_ok(),
        _ => false,
    }
}

/// Which of the records that the index has in these packs are not there. Where a table can't be read, whoever can't open
/// contents can't tell of chunks, and takes them for lost.
pub async fn doubtful(reader: &Arc<Reader>, mut packs: BTreeSet<PackId>, damage: &mut Damage) -> Result<()> {
    while !packs.is_empty() {
        for (pack, records) in records_of(reader.repo(), &mut packs).await? {
            let bytes = match reader.repo().store.get(&object::pack_key(pack)).await.map_err(Error::from) {
                Err(error) if error.is_inconclusive() => return Err(error),
                bytes => bytes.unwrap_or_default(),
            };
            let reader = reader.clone();
            damage.records.extend(on_cpu(move || not_there(&reader, pack, records, &bytes)).await??);
        }
    }
    Ok(())
}

fn not_there(
    reader: &Reader,
    pack: PackId,
    records: Vec<(RecordId, Place)>,
    bytes: &[u8],
) -> Result<Vec<(PackId, RecordId)>> {
    let keys = &reader.repo().keys;
    let toc = Toc::open(&keys.structure, keys.repo, pack, bytes).ok();
    let in_table: Option<HashSet<(RecordId, u32, u32)>> =
        toc.map(|toc| toc.records.iter().map(|record| (record.id, record.offset, record.len)).collect());
    let (mut there, mut lost) = (HashSet::new(), Vec::new());
    for (id, place) in records {
        let is_there = match &in_table {
            // What is in it was looked at with the pack.
            Some(table) => table.contains(&(id, place.offset, place.len)),
            None => match place.of(bytes) {
                Some(sealed) => opens(reader, &id, &place, sealed)?,
                None => false,
            },
        };
        match is_there {
            true => drop(there.insert(id)),
            false => lost.push((pack, id)),
        }
    }
    // Where the pack is named in more than one way, one of them is true.
    lost.retain(|(_, id)| !there.contains(id));
    Ok(lost)
}
