//! Packs and record headers; every record is opened, decompressed, and its id computed.

use kist::crypto::secret::Key;
use kist::crypto::{hash, seal};
use kist::format::Error;
use kist::format::id::{ChunkId, PackId, RecordId, RepoId, hex};
use kist::format::keys::KeyName;
use kist::format::node::{Node, NodeParts, node_id};
use kist::format::pack::{
    Compression, HEADER_LEN, PartHeader, RecordHeader, TRAILER_LEN, Toc, TocRecord, part_context, short_hash,
};
use serde_json::{Value, json};

use crate::check::Checked;
use crate::check::objects::meta_key;
use crate::shapes;
use crate::vector::{Encoded, Vector};

pub fn header(vector: &Vector) -> Result<Checked, Error> {
    let (structure, repo) = (Key::new(vector.hex("structure")), RepoId(vector.hex("repository")));
    let header = RecordHeader::open(&structure, repo, vector.bytes())?;
    let mut encoded = Vec::new();
    header.seal_into(&mut encoded, &structure, repo, nonce(vector.bytes()));
    Ok(Checked { fields: header_fields(&header), encoded: Encoded::Bytes(encoded) })
}

fn header_fields(header: &RecordHeader) -> Value {
    json!({
        "id": shapes::record_id(&header.id),
        "key": shapes::key_name(&header.key),
        "parts": header.parts.iter().map(shapes::part).collect::<Vec<_>>(),
        "record_len": header.record_len(),
    })
}

pub fn pack(vector: &Vector) -> Result<Checked, Error> {
    let (structure, repo) = (Key::new(vector.hex("structure")), RepoId(vector.hex("repository")));
    let id = PackId(vector.hex("pack"));
    let pack = vector.bytes();
    let toc = Toc::open(&structure, repo, id, pack)?;
    let mut records = Vec::new();
    let mut encoded = Vec::new();
    for record in &toc.records {
        let bytes = &pack[record.offset as usize..][..record.len as usize];
        if short_hash(bytes) != record.short_hash {
            return Err(invalid("short hash"));
        }
        records.push(open_record(vector, (&structure, repo), record, bytes, &mut encoded)?);
    }
    let rest = pack.len() - Toc::sealed_len(toc.records.len()) - TRAILER_LEN;
    let padding = &pack[encoded.len()..rest];
    let nonces = [nonce(&pack[rest..]), nonce(&pack[pack.len() - TRAILER_LEN..])];
    let fields = json!({
        "kind": shapes::pack_kind(toc.kind),
        "records": records,
        "padding": hex(padding),
        "hash": hex(&hash::plain(pack)),
    });
    toc.finish(&mut encoded, &structure, (repo, id), nonces, |fill| fill.copy_from_slice(padding));
    Ok(Checked { fields, encoded: Encoded::Bytes(encoded) })
}

fn open_record(
    vector: &Vector,
    (structure, repo): (&Key, RepoId),
    record: &TocRecord,
    bytes: &[u8],
    encoded: &mut Vec<u8>,
) -> Result<Value, Error> {
    let header = RecordHeader::open(structure, repo, &bytes[..HEADER_LEN])?;
    header.seal_into(encoded, structure, repo, nonce(bytes));
    let mut at = HEADER_LEN;
    let mut parts = Vec::new();
    for (number, part) in header.parts.iter().enumerate().filter(|(_, part)| part.stored_len > 0) {
        let sealed = &bytes[at..at + part.stored_len as usize];
        at += sealed.len();
        let key = match (&header.key, &header.id, number) {
            (_, RecordId::Node(_), 0) => structure.clone(),
            (KeyName::Data { .. }, ..) => Key::new(vector.hex("lane_key")),
            (name, ..) => meta_key(&Key::new(vector.hex("meta_scope")), name),
        };
        let context = part_context(repo, &header.id, number as u8, &header.key);
        let packed = seal::open(&key, &context, sealed)
            .map_err(|source| Error::Crypto { what: "record part", source })?;
        seal::seal_into(encoded, &key, nonce(sealed), &context, &packed);
        parts.push(unpack(part, packed)?);
    }
    if header.id != record.id || at != bytes.len() {
        return Err(invalid("record"));
    }
    let mut fields = header_fields(&header);
    fields["offset"] = json!(record.offset);
    fields["short_hash"] = json!(hex(&record.short_hash));
    let id = match parts.as_slice() {
        [chunk] => {
            fields["plain"] = json!(hex(chunk));
            RecordId::Chunk(ChunkId(hash::keyed(&Key::new(vector.hex("chunk_id_key")), &[chunk])))
        }
        [refs, entries] => {
            let parts = NodeParts { refs: refs.clone(), entries: entries.clone() };
            fields["node"] = shapes::node(&Node::decode(&parts)?);
            RecordId::Node(node_id(&Key::new(vector.hex("node_id_key")), &header.key, &parts))
        }
        other => panic!("{} parts", other.len()),
    };
    if id != header.id {
        return Err(invalid("id"));
    }
    Ok(fields)
}

fn unpack(part: &PartHeader, packed: Vec<u8>) -> Result<Vec<u8>, Error> {
    let raw = match part.compression {
        Compression::None => packed,
        Compression::Zstd => {
            zstd::bulk::decompress(&packed, part.raw_len as usize).map_err(|_| invalid("compressed"))?
        }
    };
    match raw.len() == part.raw_len as usize {
        true => Ok(raw),
        false => Err(invalid("raw length")),
    }
}

/// What a reader refuses beyond what the decoders see.
fn invalid(field: &'static str) -> Error {
    Error::Invalid { what: "vector", field, found: "not what the header says".into() }
}

fn nonce(sealed: &[u8]) -> [u8; seal::NONCE_LEN] {
    *sealed.first_chunk().expect("what opened has a nonce")
}
