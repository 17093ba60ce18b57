//! Micro benches of what every byte of a backup goes through: hash, seal, tree, index.
//!
//! Prints MB/s on one core; `make bench` runs them. Inputs are drawn from fixed seeds, so
//! that two runs measure the same work.

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use kist::archive::chunk::Chunker;
use kist::crypto::secret::Key;
use kist::crypto::{hash, seal, sign};
use kist::format::config;
use kist::format::entry::{Attributes, Content, Entry, Extent, FileTime, Kind, TreePath};
use kist::format::id::{ChunkId, KeyId, PackId, RecordId, RepoId, SessionId};
use kist::format::index::{IndexDelta, IndexPack, IndexRecord};
use kist::format::node::{NODE_AVG_BYTES, NODE_MIN_BYTES, Node, entry_bytes};
use kist::format::pack::PackKind;
use kist::format::refs::ChunkRef;
use kist::repo::Index;
use kist::world::{Time, World, fixed};

/// About the size of a chunk.
const CHUNK_BYTES: usize = 1024 * 1024;
/// What one lane writes between two deltas: 16 packs of 16 MiB.
const PACKS: usize = 16;
const RECORDS: u32 = 512;
const RECORD_BYTES: u32 = 32 * 1024;

type Group<'a> = BenchmarkGroup<'a, WallTime>;

fn group<'a>(criterion: &'a mut Criterion, name: &str, bytes: usize) -> Group<'a> {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::BytesDecimal(bytes as u64));
    group
}

fn chunk(world: &World) -> Vec<u8> {
    let mut bytes = vec![0; CHUNK_BYTES];
    world.random.fill(&mut bytes);
    bytes
}

fn hashing(criterion: &mut Criterion) {
    let world = fixed::world(1, Time(0));
    let (key, plain) = (Key::new(world.bytes()), chunk(&world));
    let mut group = group(criterion, "hash", plain.len());
    group.bench_function("keyed, 1 MiB", |b| b.iter(|| hash::keyed(&key, &[black_box(&plain)])));
    group.bench_function("plain, 1 MiB", |b| b.iter(|| hash::plain(black_box(&plain))));
    group.finish();
}

fn sealing(criterion: &mut Criterion) {
    let world = fixed::world(2, Time(0));
    let (key, plain) = (Key::new(world.bytes()), chunk(&world));
    let nonce = world.bytes();
    let sealed = seal::seal(&key, nonce, b"bench", &plain);
    let mut group = group(criterion, "seal", plain.len());
    let mut out = Vec::with_capacity(sealed.len());
    group.bench_function("seal, 1 MiB", |b| {
        b.iter(|| {
            out.clear();
            seal::seal_into(&mut out, &key, nonce, b"bench", black_box(&plain));
        });
    });
    group.bench_function("open, 1 MiB", |b| b.iter(|| seal::open(&key, b"bench", black_box(&sealed))));
    group.finish();
}

/// A leaf of the average size, of small files as they lie in a source tree.
fn leaf(world: &World) -> Node {
    let mut entries = Vec::new();
    let mut bytes = 0;
    while bytes < NODE_MIN_BYTES + NODE_AVG_BYTES {
        let entry = file(world, entries.len() as u32);
        bytes += entry_bytes(&entry);
        entries.push(entry);
    }
    Node::Leaf(entries)
}

fn file(world: &World, number: u32) -> Entry {
    let path = format!("srv/project/module-{:03}/file-{number:05}.txt", number / 20);
    let len = 4000 + number;
    let chunk = ChunkRef { id: ChunkId(world.bytes()), len: CHUNK_BYTES as u32 };
    let extents = vec![Extent::Data { chunk, offset: 0, len }];
    let time = FileTime { secs: 1_700_000_000 + i64::from(number), nanos: 123_456_789 };
    Entry {
        path: TreePath::from_slashes(path.as_bytes()).expect("a short path without dots"),
        attributes: Attributes {
            mode: 0o644,
            uid: 1000,
            gid: 1000,
            mtime: time,
            ctime: time,
            ..Attributes::default()
        },
        kind: Kind::File { size: len.into(), content: Content::Extents(extents), hash: Some(world.bytes()) },
    }
}

fn nodes(criterion: &mut Criterion) {
    let node = leaf(&fixed::world(3, Time(0)));
    let parts = node.encode();
    assert_eq!(Node::decode(&parts).as_ref(), Ok(&node));
    let mut group = group(criterion, "node", parts.refs.len() + parts.entries.len());
    group.bench_function("encode", |b| b.iter(|| black_box(&node).encode()));
    group.bench_function("decode", |b| b.iter(|| Node::decode(black_box(&parts))));
    group.finish();
}

fn delta(world: &World) -> IndexDelta {
    let record = |_| IndexRecord { id: world.bytes(), len: RECORD_BYTES };
    let pack = |_| IndexPack {
        id: PackId(world.bytes()),
        kind: PackKind::Data,
        len: RECORDS * RECORD_BYTES,
        hash: world.bytes(),
        origin: KeyId(world.bytes()),
        verified: false,
        sessions: vec![SessionId::new(0, world.bytes())],
        records: (0..RECORDS).map(record).collect(),
    };
    IndexDelta { packs: (0..PACKS).map(pack).collect() }
}

fn indexes(criterion: &mut Criterion) {
    let world = fixed::world(4, Time(0));
    let (lane, repo, name) = (Key::new(world.bytes()), RepoId(world.bytes()), "index/bench/0-0");
    let public = sign::public(&lane);
    let delta = delta(&world);
    let bytes = delta.encode(&lane, repo, name);
    assert_eq!(IndexDelta::decode(&bytes, &public, repo, name).as_ref(), Ok(&delta));
    let mut group = group(criterion, "index delta", bytes.len());
    group.bench_function("encode and sign", |b| b.iter(|| black_box(&delta).encode(&lane, repo, name)));
    group.bench_function("verify and decode", |b| {
        b.iter(|| IndexDelta::decode(black_box(&bytes), &public, repo, name));
    });
    group.finish();
}

/// Cuts of 32 MiB with the sizes that a repository has by default.
fn chunking(criterion: &mut Criterion) {
    let world = fixed::world(5, Time(0));
    let gear = std::array::from_fn(|_| u64::from_le_bytes(world.bytes()));
    let chunker = Chunker::with_table(&config::Chunker::DEFAULT, gear);
    let mut bytes = vec![0; 32 * CHUNK_BYTES];
    world.random.fill(&mut bytes);
    let mut group = group(criterion, "chunker", bytes.len());
    group.bench_function("keyed FastCDC, 32 MiB", |b| {
        b.iter(|| {
            let mut rest = black_box(bytes.as_slice());
            let mut cuts = 0;
            while !rest.is_empty() {
                rest = &rest[chunker.first_cut(rest)..];
                cuts += 1;
            }
            cuts
        });
    });
    group.finish();
}

/// Lookups in an index of a million records, half of them hits.
fn lookups(criterion: &mut Criterion) {
    const WANTED: usize = 1000;
    let world = fixed::world(6, Time(0));
    let mut index = Index::default();
    let mut ids = Vec::new();
    for _ in 0..1_000_000 / (PACKS * RECORDS as usize) + 1 {
        for pack in delta(&world).packs {
            ids.push(pack.kind.record(pack.records[0].id));
            index.add(&pack, Some(SessionId::new(0, world.bytes())), true);
        }
    }
    ids.truncate(WANTED / 2);
    ids.extend((0..WANTED / 2).map(|_| RecordId::Chunk(ChunkId(world.bytes()))));
    let mut group = criterion.benchmark_group("index of a million");
    group.throughput(Throughput::Elements(WANTED as u64));
    group.bench_function("lookup", |b| {
        b.iter(|| ids.iter().filter(|id| index.may_refer_to(black_box(id))).count());
    });
    group.finish();
}

criterion_group!(engine, hashing, sealing, chunking, nodes, indexes, lookups);
criterion_main!(engine);
