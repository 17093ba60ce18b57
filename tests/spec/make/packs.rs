//! Record headers, packs and index deltas.

use kist::crypto::secret::Key;
use kist::crypto::{context, hash, seal, sign};
use kist::format::codec::{Writer, padded_len};
use kist::format::entry::{Attributes, Content, Entry, Extent, Kind, TreePath};
use kist::format::id::{ChunkId, NodeId, PackId, RecordId, hex};
use kist::format::index::{IndexDelta, IndexPack, IndexRecord};
use kist::format::keys::KeyName;
use kist::format::node::{Node, node_id};
use kist::format::object;
use kist::format::pack::{
    Compression, PackKind, PartHeader, RecordHeader, TRAILER_LEN, Toc, TocRecord, part_context, short_hash,
};
use kist::format::refs::ChunkRef;
use kist::world::World;
use serde_json::{Value, json};

use crate::make::{Group, bytes, cut, flipped, place, sealed, sealed_unpadded, with};
use crate::material::{Material, draw};
use crate::vector::Vector;

pub fn all(m: &Material) -> Vec<Vector> {
    [headers(m), packs(m), tables(m), deltas(m), delta_bodies(m)].concat()
}

fn keys(m: &Material) -> Value {
    json!({
        "structure": hex(m.structure.expose()),
        "repository": m.repo.to_string(),
        "pack": m.pack.to_string(),
        "lane_key": hex(m.lane_key.expose()),
        "meta_scope": hex(m.meta_scope.expose()),
        "chunk_id_key": hex(m.chunk_id_key().expose()),
        "node_id_key": hex(m.node_id_key().expose()),
    })
}

fn headers(m: &Material) -> Vec<Vector> {
    let mut g = Group::new("record-header", "record-header");
    let given = json!({"structure": hex(m.structure.expose()), "repository": m.repo.to_string()});
    let world = draw("record-header");
    let context = [b"kist record header".as_slice(), &m.repo.0].concat();
    let nonce: [u8; 24] = world.bytes();
    let seal = |plain: Vec<u8>| bytes(seal::seal(&m.structure, nonce, &context, &plain));
    let part = |compression: u8, stored: u32, raw: u32| -> [u8; 9] {
        let bytes = [&[compression][..], &stored.to_le_bytes(), &raw.to_le_bytes()].concat();
        bytes.try_into().expect("9 bytes")
    };
    let none = part(0, 0, 0);
    let raw = part(0, 1040, 1000);
    let plain = |kind: u8, name: [u8; 33], parts: [[u8; 9]; 2]| {
        [&[kind][..], &[4; 32], &name, &parts.concat()].concat()
    };
    let (data, meta) = (m.data().to_bytes(), m.meta.to_bytes());
    let chunk = |parts| seal(plain(1, data, parts));
    g.ok("chunk", "a chunk, not compressed", given.clone(), chunk([raw, none]));
    g.ok("chunk-zstd", "a chunk, compressed", given.clone(), chunk([part(1, 500, 1000), none]));
    let what = "a chunk of the largest length";
    g.ok("chunk-largest", what, given.clone(), chunk([part(1, 41, 16 << 20), none]));
    let node = seal(plain(2, meta, [raw, part(1, 1039, 1000)]));
    g.ok("node", "a node, the entries compressed", given.clone(), node);

    let mut bad = |name, class, what, encoded| g.bad(name, class, what, given.clone(), encoded);
    let over = |limit: u32| part(1, 500, limit + 1);
    bad("chunk-too-long", "too-much", "raw length beyond 16 MiB", chunk([over(16 << 20), none]));
    let long = seal(plain(2, meta, [over(4 << 20), raw]));
    bad("node-part-too-long", "too-much", "raw length beyond 4 MiB", long);
    bad("chunk-with-two-parts", "invalid", "a chunk has one", chunk([raw, raw]));
    let crossed = seal(plain(1, meta, [raw, none]));
    bad("chunk-with-meta-key", "invalid", "chunks are sealed with data keys", crossed);
    let crossed = seal(plain(2, data, [raw, part(1, 1039, 1000)]));
    bad("node-with-data-key", "invalid", "entries are sealed with meta keys", crossed);
    bad("chunk-without-part", "invalid", "a chunk has one", chunk([none, none]));
    bad("node-with-one-part", "invalid", "a node has two", seal(plain(2, meta, [raw, none])));
    bad("node-without-first-part", "invalid", "a node has two", seal(plain(2, meta, [none, raw])));
    bad("stored-length-wrong", "invalid", "stored is not raw + 40", chunk([part(0, 1041, 1000), none]));
    bad("zstd-not-shorter", "invalid", "compressed is as long as raw", chunk([part(1, 1040, 1000), none]));
    bad("zstd-empty", "invalid", "a box of nothing", chunk([part(1, 40, 1000), none]));
    bad("compression-unknown", "invalid", "compression 2", chunk([part(2, 500, 1000), none]));
    bad("record-kind-unknown", "invalid", "kind 3", seal(plain(3, data, [raw, none])));
    let mut name = data;
    name[0] = 3;
    bad("key-name-unknown", "invalid", "key name 3", seal(plain(1, name, [raw, none])));
    let mut name = data;
    name[32] = 1;
    bad("key-name-not-zero", "invalid", "a 1 behind the lane", seal(plain(1, name, [raw, none])));
    let good = plain(1, data, [raw, none]);
    bad("cut", "short", "the last byte is missing inside", seal(good[..83].to_vec()));
    bad("left-over", "left-over", "a byte behind it inside", seal([&good[..], &[0]].concat()));
    bad("of-another-use", "crypto", "sealed as a trailer", {
        let other = [b"kist pack trailer".as_slice(), &m.repo.0].concat();
        bytes(seal::seal(&m.structure, nonce, &other, &good))
    });
    g.out
}

/// A zstd frame of one block: a byte, repeated; written by hand, so that it is the same for ever.
fn zstd_run(byte: u8, times: u8) -> Vec<u8> {
    let block = (u32::from(times) << 3 | 1 << 1 | 1).to_le_bytes();
    [&[0x28, 0xb5, 0x2f, 0xfd, 0x20, times][..], &block[..3], &[byte]].concat()
}

/// Appends a record; `packed` has, for each part, its key, what is sealed, and the raw length if compressed.
fn add_record(
    pack: &mut Vec<u8>,
    (m, world): (&Material, &World),
    (id, name): (RecordId, KeyName),
    packed: &[(&Key, &[u8], Option<u32>)],
) -> TocRecord {
    let header_of = |(_, plain, raw): &(&Key, &[u8], Option<u32>)| PartHeader {
        compression: if raw.is_some() { Compression::Zstd } else { Compression::None },
        stored_len: (plain.len() + seal::OVERHEAD) as u32,
        raw_len: raw.unwrap_or(plain.len() as u32),
    };
    let mut header = RecordHeader::chunk(id, name, header_of(&packed[0]));
    if let Some(second) = packed.get(1) {
        header.parts[1] = header_of(second);
    }
    let offset = pack.len();
    header.seal_into(pack, &m.structure, m.repo, world.bytes());
    for (number, (key, plain, _)) in packed.iter().enumerate() {
        let context = part_context(m.repo, &id, number as u8, &name);
        seal::seal_into(pack, key, world.bytes(), &context, plain);
    }
    let record = &pack[offset..];
    TocRecord { id, offset: offset as u32, len: record.len() as u32, short_hash: short_hash(record) }
}

fn chunk_id(m: &Material, plain: &[u8]) -> RecordId {
    RecordId::Chunk(ChunkId(hash::keyed(&m.chunk_id_key(), &[plain])))
}

/// A pack of two chunks, one of them compressed.
fn data_pack(m: &Material) -> (Vec<u8>, Toc) {
    let world = draw("pack/ok");
    let mut pack = Vec::new();
    let (first, run) = (b"what is in a file".as_slice(), [b'a'; 200]);
    let mut add = |id, part| add_record(&mut pack, (m, &world), (id, m.data()), &[part]);
    let records = vec![
        add(chunk_id(m, first), (&m.lane_key, first, None)),
        add(chunk_id(m, &run), (&m.lane_key, &zstd_run(b'a', 200), Some(200))),
    ];
    let toc = Toc { kind: PackKind::Data, records };
    finish(m, &world, &mut pack, &toc);
    (pack, toc)
}

fn finish(m: &Material, world: &World, pack: &mut Vec<u8>, toc: &Toc) {
    let nonces = [world.bytes(), world.bytes()];
    toc.finish(pack, &m.structure, (m.repo, m.pack), nonces, |fill| world.random.fill(fill));
}

fn node_pack(m: &Material) -> Vec<u8> {
    let world = draw("pack/nodes-ok");
    let RecordId::Chunk(chunk) = chunk_id(m, b"what is in a file") else { unreachable!() };
    let chunk = ChunkRef { id: chunk, len: 17 };
    let file = Kind::File {
        size: 17,
        content: Content::Extents(vec![Extent::Data { chunk, offset: 0, len: 17 }]),
        hash: Some([5; 32]),
    };
    let path = TreePath::from_slashes(b"etc/motd").expect("a path");
    let attributes = Attributes { mode: 0o644, ..Attributes::default() };
    let parts = Node::Leaf(vec![Entry { path, attributes, kind: file }]).encode();
    let id = RecordId::Node(node_id(&m.node_id_key(), &m.meta, &parts));
    let mut pack = Vec::new();
    let packed = [(&m.structure, &parts.refs[..], None), (&m.meta_key, &parts.entries[..], None)];
    let record = add_record(&mut pack, (m, &world), (id, m.meta), &packed);
    finish(m, &world, &mut pack, &Toc { kind: PackKind::Nodes, records: vec![record] });
    pack
}

fn packs(m: &Material) -> Vec<Vector> {
    let mut g = Group::new("pack", "pack");
    let given = keys(m);
    let (good, toc) = data_pack(m);
    g.ok("ok", "a data pack of two chunks, the second compressed", given.clone(), bytes(good.clone()));
    g.ok("nodes-ok", "a node pack of one node", given.clone(), bytes(node_pack(m)));
    let elsewhere = with(&given, "pack", PackId([0; 16]).to_string());
    g.bad("of-another-name", "crypto", "under another pack id", elsewhere, bytes(good.clone()));
    let mut bad = |name, class, what, encoded| g.bad(name, class, what, given.clone(), encoded);
    let trailer = good.len() - TRAILER_LEN;
    bad("trailer-cut", "crypto", "the last byte is missing", cut(&good, 1));
    bad("trailer-missing", "crypto", "ends with the table", cut(&good, TRAILER_LEN));
    bad("trailer-flipped", "crypto", "a bit of the trailer is changed", flipped(&good, trailer + 30));
    bad("toc-flipped", "crypto", "a bit of the table is changed", flipped(&good, trailer - 1));
    bad("shorter-than-a-trailer", "short", "43 bytes", bytes(good[good.len() - 43..].to_vec()));
    bad("empty", "short", "no bytes", bytes(vec![]));
    let second = toc.records[1].offset as usize;
    bad("header-flipped", "invalid", "a bit of a header: the short hash differs", flipped(&good, second));
    bad("part-flipped", "invalid", "a bit of a part: the short hash differs", flipped(&good, second - 1));
    let world = draw("pack/defects");
    let pack_of = |id, part| {
        let mut pack = Vec::new();
        let record = add_record(&mut pack, (m, &world), (id, m.data()), &[part]);
        finish(m, &world, &mut pack, &Toc { kind: PackKind::Data, records: vec![record] });
        bytes(pack)
    };
    let id = chunk_id(m, b"something else");
    let what = "a chunk whose plaintext has another id";
    bad("id-of-another-chunk", "invalid", what, pack_of(id, (&m.lane_key, b"text", None)));
    let what = "a chunk sealed with a key that it does not name";
    bad("key-of-another-lane", "crypto", what, {
        pack_of(chunk_id(m, b"text"), (&m.lane_seed, b"text", None))
    });
    let run = zstd_run(b'a', 200);
    let what = "decompresses to more than the header says";
    bad("zstd-too-long", "invalid", what, pack_of(id, (&m.lane_key, &run, Some(199))));
    let what = "decompresses to less than the header says";
    bad("zstd-too-short", "invalid", what, pack_of(id, (&m.lane_key, &run, Some(201))));
    let what = "not a zstd frame";
    bad("zstd-damaged", "invalid", what, pack_of(id, (&m.lane_key, &[1; 10], Some(200))));
    g.out
}

/// Packs of zeros with a table that opens, and is not allowed.
fn tables(m: &Material) -> Vec<Vector> {
    let mut g = Group::new("pack", "pack");
    let world = draw("pack/tables");
    let given = keys(m);
    let about = |what: &[u8]| [what, &m.repo.0, &m.pack.0].concat();
    let pack = |plain: &[u8], toc_len: Option<u32>| {
        let toc = seal::seal(&m.structure, world.bytes(), &about(b"kist pack toc"), plain);
        let len = toc_len.unwrap_or(toc.len() as u32).to_le_bytes();
        let trailer = seal::seal(&m.structure, world.bytes(), &about(b"kist pack trailer"), &len);
        let rest = toc.len() + trailer.len();
        [vec![0; padded_len(rest + 600) - rest], toc, trailer].concat()
    };
    let record = |kind: u8, offset: u32, len: u32| {
        [&[kind][..], &[4; 32], &offset.to_le_bytes(), &len.to_le_bytes(), &[0; 16]].concat()
    };
    let table =
        |kind: u8, records: &[Vec<u8>]| [&[kind, records.len() as u8][..], &records.concat()].concat();
    let good = table(1, &[record(1, 0, 200), record(1, 200, 200)]);
    let mut bad = |name, class, what, plain: &[u8]| {
        g.bad(name, class, what, given.clone(), bytes(pack(plain, None)));
    };
    bad(
        "toc-gap",
        "invalid",
        "a byte between two records",
        &table(1, &[record(1, 0, 200), record(1, 201, 200)]),
    );
    bad("toc-overlap", "invalid", "records overlap", &table(1, &[record(1, 0, 200), record(1, 199, 200)]));
    bad("toc-first-not-at-0", "invalid", "the first record at 1", &table(1, &[record(1, 1, 200)]));
    bad(
        "toc-mixed",
        "invalid",
        "a node in a data pack",
        &table(1, &[record(1, 0, 200), record(2, 200, 200)]),
    );
    bad("toc-kind-unknown", "invalid", "pack kind 3", &table(3, &[record(1, 0, 200)]));
    bad("toc-record-kind-unknown", "invalid", "record kind 3", &table(1, &[record(3, 0, 200)]));
    bad("toc-record-too-short", "invalid", "a record that is all header", &table(1, &[record(1, 0, 124)]));
    bad("toc-beyond-the-end", "invalid", "a record beyond the table", &table(1, &[record(1, 0, 5000)]));
    let huge = table(1, &[record(1, 0, u32::MAX), record(1, u32::MAX, 200)]);
    bad("toc-offset-overflow", "invalid", "lengths beyond 32 bits", &huge);
    bad("toc-cut", "short", "the last byte is missing inside", &good[..good.len() - 1]);
    bad("toc-left-over", "left-over", "a byte behind the table inside", &[&good[..], &[0]].concat());
    bad(
        "toc-count-beyond-the-end",
        "short",
        "three records, one there",
        &[&[1, 3][..], &record(1, 0, 200)].concat(),
    );
    let mut many = Writer::new();
    many.u8(1);
    many.varint(256 * 1024 + 1);
    bad("toc-records-too-many", "too-much", "262,145 records", &many.into_bytes());
    let too_long = bytes(pack(&good, Some(1 << 20)));
    g.bad("trailer-beyond-the-pack", "short", "a table longer than the pack", given.clone(), too_long);
    g.bad(
        "trailer-length-wrong",
        "crypto",
        "a table cut by its trailer",
        given,
        bytes(pack(&good, Some(100))),
    );
    g.out
}

fn delta_given(m: &Material) -> Value {
    let given = with(&place(m), "lane_seed", hex(m.lane_seed.expose()));
    with(&with(&given, "lane", 0), "number", 3)
}

fn delta(m: &Material) -> IndexDelta {
    let (pack, toc) = data_pack(m);
    let record = |r: &TocRecord| IndexRecord { id: *r.id.bytes(), len: r.len };
    let data = IndexPack {
        id: m.pack,
        kind: PackKind::Data,
        len: pack.len() as u32,
        hash: hash::plain(&pack),
        origin: m.writer,
        verified: false,
        sessions: vec![m.session],
        records: toc.records.iter().map(record).collect(),
    };
    let node = IndexRecord { id: [6; 32], len: 700 };
    let nodes = IndexPack {
        id: PackId([7; 16]),
        kind: PackKind::Nodes,
        len: 1024,
        hash: [8; 32],
        origin: m.writer,
        verified: false,
        sessions: vec![],
        records: vec![node],
    };
    IndexDelta { packs: vec![data, nodes] }
}

fn deltas(m: &Material) -> Vec<Vector> {
    let mut g = Group::new("index", "index");
    let given = delta_given(m);
    let key = object::index_key(m.session, 0, 3);
    let plain = delta(m).encode(&m.lane_seed, m.repo, &key);
    let good = sealed(m, "index/ok", &key, plain.clone());
    g.ok("ok", "a delta of a data pack and a node pack", given.clone(), bytes(good.clone()));
    let empty = IndexDelta::default().encode(&m.lane_seed, m.repo, &key);
    g.ok("empty", "a delta of no packs", given.clone(), bytes(sealed(m, "index/empty", &key, empty)));
    let other = with(&given, "number", 4);
    g.bad("of-another-place", "crypto", "under another number", other, bytes(good.clone()));
    let other = with(&given, "lane_seed", hex(m.writer_seed.expose()));
    g.bad("of-another-lane", "crypto", "signed by another key", other, bytes(good.clone()));
    let mut bad = |name, class, what, encoded| g.bad(name, class, what, given.clone(), encoded);
    bad("flipped", "crypto", "a bit is changed", flipped(&good, 100));
    bad("cut", "crypto", "the last byte is missing", cut(&good, 1));
    bad("empty-object", "crypto", "no bytes", bytes(vec![]));
    let mut signature = plain.clone();
    *signature.last_mut().expect("a signature") ^= 1;
    bad(
        "signature-flipped",
        "crypto",
        "a bit of the signature",
        bytes(sealed(m, "index/s", &key, signature)),
    );
    let moved = delta(m).encode(&m.lane_seed, m.repo, &object::index_key(m.session, 0, 4));
    let what = "the signature is of another number, the seal of this one";
    bad("signature-of-another-place", "crypto", what, bytes(sealed(m, "index/m", &key, moved)));
    let padded = [&plain[..], &[0; 10], &[1]].concat();
    bad("padding-not-zero", "invalid", "a 1 behind the signature", bytes(sealed(m, "index/p", &key, padded)));
    let short = sealed_unpadded(m, "index/c", &key, &plain[..plain.len() - 1]);
    bad("cut-inside", "short", "the signature's last byte is missing", bytes(short));
    g.out
}

/// Deltas that open and are signed, with contents that are not allowed.
fn delta_bodies(m: &Material) -> Vec<Vector> {
    let mut g = Group::new("index", "index");
    let given = delta_given(m);
    let key = object::index_key(m.session, 0, 3);
    let delta = |name: &str, body: &[u8]| {
        let message = [&m.repo.0[..], key.as_bytes(), &[0], &hash::plain(body)].concat();
        let signature = sign::sign(&m.lane_seed, context::SIGN_INDEX, &message);
        bytes(sealed(m, name, &key, [body, &signature].concat()))
    };
    let head =
        |kind: u8, len: u32| [&[1][..], &[2; 16], &[kind], &len.to_le_bytes(), &[3; 32], &[5; 16]].concat();
    let pack = |kind: u8, len: u32, records: &[Vec<u8>]| {
        [head(kind, len), vec![0, 0, records.len() as u8], records.concat()].concat()
    };
    let record = |len: u32| [&[4; 32][..], &len.to_le_bytes()].concat();
    let mut bad = |name: &str, class, what, body: &[u8]| {
        g.bad(name, class, what, given.clone(), delta(&format!("index/{name}"), body));
    };
    bad("beyond-the-pack", "invalid", "a byte beyond the end", &pack(1, 1024, &[record(200), record(825)]));
    let what = "lengths whose sum is beyond 32 bits";
    bad("lengths-overflow", "invalid", what, &pack(1, 1024, &[record(200), record(u32::MAX - 199)]));
    bad("pack-too-long", "too-much", "a pack beyond 64 MiB", &pack(1, (64 << 20) + 1, &[]));
    bad("pack-kind-unknown", "invalid", "pack kind 0", &pack(0, 1024, &[]));
    bad("packs-too-many", "too-much", "4,097 packs", &[0x81, 0x20]);
    bad("packs-beyond-the-end", "short", "4,096 packs that can't follow", &[0x80, 0x20]);
    let mut many = pack(1, 1024, &[]);
    many.pop();
    many.extend([0x81, 0x80, 0x10]);
    bad("records-too-many", "too-much", "262,145 records", &many);
    let sessions =
        |count: &[u8], ids: &[[u8; 16]]| [&head(1, 1024)[..], &[0], count, &ids.concat(), &[0]].concat();
    bad("verified-2", "invalid", "a flag of 2", &[&head(1, 1024)[..], &[2, 0, 0]].concat());
    bad(
        "sessions-not-ascending",
        "invalid",
        "sessions in another order",
        &sessions(&[2], &[[7; 16], [6; 16]]),
    );
    bad("session-twice", "invalid", "a session twice", &sessions(&[2], &[[7; 16], [7; 16]]));
    bad("sessions-too-many", "too-much", "4,097 sessions", &sessions(&[0x81, 0x20], &[]));
    bad("sessions-beyond-the-end", "short", "4,096 that can't follow", &sessions(&[0x80, 0x20], &[]));
    bad("count-too-long", "invalid", "0 packs, in two bytes", &[0x80, 0]);
    g.out
}
