//! Numbers, nodes, derivations, ids and cuts.

use fastcdc::v2020::MASKS;
use kist::archive::chunk::Chunker;
use kist::crypto::secret::Key;
use kist::crypto::{context, hash, sign, wrap};
use kist::format::Error;
use kist::format::codec::{Reader, Writer, padded_len};
use kist::format::config::{self, ChunkerKind};
use kist::format::entry::TreePath;
use kist::format::id::{SourceId, hex, unhex};
use kist::format::keys::KeyName;
use kist::format::node::{Node, NodeCut, NodeParts, node_id};
use kist::format::summary::Source;
use serde_json::{Value, json};

use crate::check::Checked;
use crate::material::{half, stream};
use crate::shapes;
use crate::vector::{Encoded, Vector};

pub fn varint(vector: &Vector) -> Result<Checked, Error> {
    let mut input = Reader::new("vector", vector.bytes());
    let value = input.varint()?;
    input.end()?;
    let mut out = Writer::new();
    out.varint(value);
    Ok(Checked { fields: json!({"value": value}), encoded: Encoded::Bytes(out.into_bytes()) })
}

pub fn signed(vector: &Vector) -> Result<Checked, Error> {
    let mut input = Reader::new("vector", vector.bytes());
    let value = input.signed()?;
    input.end()?;
    let mut out = Writer::new();
    out.signed(value);
    Ok(Checked { fields: json!({"value": value}), encoded: Encoded::Bytes(out.into_bytes()) })
}

/// A computation has no bytes.
fn computed(fields: Value) -> Checked {
    Checked { fields, encoded: Encoded::None }
}

fn list<'a>(vector: &'a Vector, field: &str) -> &'a [Value] {
    let found = vector.given.get(field).and_then(Value::as_array);
    found.unwrap_or_else(|| panic!("{}: given.{field} must be a list", vector.name))
}

pub fn padded(vector: &Vector) -> Checked {
    let padded = |len: &Value| padded_len(len.as_u64().expect("a length") as usize);
    computed(json!({"padded": list(vector, "lengths").iter().map(padded).collect::<Vec<_>>()}))
}

/// A node's bytes in a vector: u32 length of the references ‖ references ‖ entries.
pub fn node(vector: &Vector) -> Result<Checked, Error> {
    let node = Node::decode(&split_node(vector.bytes()))?;
    let encoded = Encoded::Bytes(join_node(&node.encode()));
    Ok(Checked { fields: shapes::node(&node), encoded })
}

pub fn join_node(parts: &NodeParts) -> Vec<u8> {
    [&(parts.refs.len() as u32).to_le_bytes()[..], &parts.refs, &parts.entries].concat()
}

fn split_node(bytes: &[u8]) -> NodeParts {
    let (len, rest) = bytes.split_first_chunk().expect("the length of the references");
    let (refs, entries) = rest.split_at(u32::from_le_bytes(*len) as usize);
    NodeParts { refs: refs.to_vec(), entries: entries.to_vec() }
}

pub fn derive(vector: &Vector) -> Checked {
    let root = Key::new(vector.hex("root"));
    let (domain, scope): ([u8; 16], [u8; 16]) = (vector.hex("domain"), vector.hex("key_id"));
    let (source, unlock): ([u8; 16], Key) = (vector.hex("source"), Key::new(vector.hex("unlock")));
    let slot: [u8; 16] = vector.hex("slot_id");
    let signing = hash::derive(context::OWNER_SIGNING, &root, b"");
    let secret = hash::derive(context::OWNER_RECIPIENT, &root, b"");
    let recipient = hash::derive(context::RECIPIENT, &secret, &domain);
    let name = vector.text("domain_name").as_bytes();
    let domain_key = hash::derive(context::DOMAIN, &root, &domain);
    let id = hash::derive(context::ID, &domain_key, b"");
    let chunker = hash::derive(context::CHUNKER, &domain_key, b"");
    let meta_root = hash::derive(context::META_ROOT, &domain_key, b"");
    let meta_scope = hash::derive(context::META_SCOPE, &meta_root, &scope);
    let show = |key: &Key| hex(key.expose());
    let from = |context, key: &Key, input: &[u8]| show(&hash::derive(context, key, input));
    computed(json!({
        "owner_signing_seed": show(&signing),
        "owner_signing_public": hex(&sign::public(&signing)),
        "recipient_secret": show(&secret),
        "recipient_seed": show(&recipient),
        "recipient_public": hex(&wrap::public(&recipient)),
        "recipient_id": hex(&half(hash::plain(&wrap::public(&recipient)))),
        "named_domain_id": hex(&half(*hash::derive(context::DOMAIN_ID, &root, name).expose())),
        "domain_key": show(&domain_key),
        "id_key": show(&id),
        "chunker_key": show(&chunker),
        "structure_key": from(context::STRUCTURE, &domain_key, b""),
        "meta_root": show(&meta_root),
        "meta_scope": show(&meta_scope),
        "meta_key": from(context::META, &meta_scope, &source),
        "chunk_id_key": from(context::CHUNK_ID, &id, b""),
        "node_id_key": from(context::NODE_ID, &id, b""),
        "file_hash_key": from(context::FILE_HASH, &id, b""),
        "source_id_key": from(context::SOURCE_ID, &id, b""),
        "link_group_key": from(context::LINK_GROUP, &id, b""),
        "node_cut_key": from(context::NODE_CUT, &chunker, b""),
        "slot_key": from(context::SLOT, &unlock, &slot),
        "slot_info_key": from(context::SLOT_INFO, &secret, b""),
    }))
}

pub fn ids(vector: &Vector) -> Checked {
    let id = Key::new(vector.hex("id_key"));
    let key = |context| hash::derive(context, &id, b"");
    let content = unhex(vector.text("content")).expect("hex");
    let path = TreePath::from_slashes(vector.text("path").as_bytes()).expect("a path");
    let source: Source = serde_json::from_value(vector.given["source"].clone()).expect("a source");
    let source_id = SourceId(half(hash::keyed(&key(context::SOURCE_ID), &[&source.canonical()])));
    let parts = split_node(&unhex(vector.text("node")).expect("hex"));
    let scope = kist::format::id::KeyId(vector.hex("key_id"));
    let meta = KeyName::Meta { scope, source: source_id };
    computed(json!({
        "chunk_id": hex(&hash::keyed(&key(context::CHUNK_ID), &[&content])),
        "file_hash": hex(&hash::keyed(&key(context::FILE_HASH), &[&content])),
        "link_group": hex(&half(hash::keyed(&key(context::LINK_GROUP), &[path.sort_key()]))),
        "source_canonical": hex(&source.canonical()),
        "source_id": source_id.to_string(),
        "key_name": hex(&meta.to_bytes()),
        "node_id": node_id(&key(context::NODE_ID), &meta, &parts).to_string(),
    }))
}

fn gear_table(vector: &Vector) -> [u64; 256] {
    hash::derive_words(context::GEAR, &Key::new(vector.hex("chunker_key")))
}

pub fn gear(vector: &Vector) -> Checked {
    let table = gear_table(vector);
    let bytes: Vec<u8> = table.iter().flat_map(|word| word.to_le_bytes()).collect();
    computed(json!({
        "first": table[..4].iter().map(|word| format!("{word:016x}")).collect::<Vec<_>>(),
        "last": format!("{:016x}", table[255]),
        "blake3": hex(&hash::plain(&bytes)),
    }))
}

/// The keyed FastCDC of chapter 6, on a corpus that the vector describes.
pub fn cuts(vector: &Vector) -> Checked {
    let gear = gear_table(vector);
    let size = |field| vector.number(field) as u32;
    let sizes = config::Chunker {
        kind: ChunkerKind::KeyedFastCdc,
        min_bytes: size("min_bytes"),
        avg_bytes: size("avg_bytes"),
        max_bytes: size("max_bytes"),
        bundle_below_bytes: 0,
    };
    let chunker = Chunker::with_table(&sizes, gear);
    let mut data = stream(vector.number("seed"), size("corpus_bytes") as usize);
    data[size("zeros_from") as usize..size("zeros_to") as usize].fill(0);
    let mut rest = data.as_slice();
    let mut lengths = Vec::new();
    while !rest.is_empty() {
        let cut = first_cut(&sizes, &gear, rest);
        assert_eq!(chunker.first_cut(rest), cut, "{}: the code cuts elsewhere", vector.name);
        lengths.push(cut);
        rest = &rest[cut..];
    }
    computed(json!({"lengths": lengths}))
}

/// The cut as chapter 6 describes it, byte by byte.
fn first_cut(sizes: &config::Chunker, gear: &[u64; 256], bytes: &[u8]) -> usize {
    let [min, avg, max] = [sizes.min_bytes, sizes.avg_bytes, sizes.max_bytes].map(|size| size as usize);
    let bits = f64::from(sizes.avg_bytes).log2().round() as usize;
    let (strict, loose) = (MASKS[bits + 1], MASKS[bits - 1]);
    let n = bytes.len().min(max);
    let mut hash = 0u64;
    for i in min..(n - n % 2).max(min) {
        hash = (hash << 1).wrapping_add(gear[usize::from(bytes[i])]);
        let mask = if i < avg.min(n) { strict } else { loose };
        if hash & mask == 0 {
            return i;
        }
    }
    n
}

pub fn node_cuts(vector: &Vector) -> Checked {
    let cut_key = hash::derive(context::NODE_CUT, &Key::new(vector.hex("chunker_key")), b"");
    let cut = NodeCut::new(cut_key);
    let path_ends = |case: &Value| {
        let number = |at: usize| case[at].as_u64().expect("a number") as usize;
        let path = TreePath::from_slashes(case[1].as_str().expect("a path").as_bytes()).expect("a path");
        cut.ends_path_node(number(0) as u8, &path, number(2), number(3))
    };
    let extent_ends = |case: &Value| {
        let id = unhex(case[1].as_str().expect("an id")).expect("hex").try_into().expect("32 bytes");
        let number = |at: usize| case[at].as_u64().expect("a number") as usize;
        cut.ends_extent_node(number(0) as u8, &id, number(2))
    };
    computed(json!({
        "paths": list(vector, "paths").iter().map(path_ends).collect::<Vec<_>>(),
        "extents": list(vector, "extents").iter().map(extent_ends).collect::<Vec<_>>(),
    }))
}
