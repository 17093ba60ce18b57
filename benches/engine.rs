//! Micro benches of what every byte of a backup goes through: chunker, hash, compress, seal, tree, index.
//!
//! Prints MB/s on one core; `make bench` runs them. Inputs are drawn from fixed seeds, so
//! that two runs measure the same work.

use std::hint::black_box;
use std::sync::Arc;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use kist::archive::chunk::Chunker;
use kist::archive::cursor::Difference;
use kist::archive::tree::{NodeSink, TreeBuilder};
use kist::crypto::secret::Key;
use kist::crypto::{hash, seal, sign};
use kist::format::config;
use kist::format::entry::{Attributes, Content, Entry, Extent, FileTime, Kind, TreePath};
use kist::format::id::{ChunkId, KeyId, NodeId, PackId, RecordId, RepoId, SessionId};
use kist::format::index::{IndexDelta, IndexPack, IndexRecord};
use kist::format::keys::KeyName;
use kist::format::node::{NODE_AVG_BYTES, NODE_MIN_BYTES, Node, entry_bytes};
use kist::format::pack::PackKind;
use kist::format::refs::ChunkRef;
use kist::repo::{
    self, Begun, Degrade, Index, IndexBuilder, Init, Reader, Repository, TreeReader, Writer, WriterSettings,
};
use kist::store::Store;
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

/// Text as in logs and sources, about 4 to 1.
fn text(world: &World) -> Vec<u8> {
    let words: Vec<String> =
        (0..4000).map(|_| format!("{:x} ", u32::from_le_bytes(world.bytes()) >> 8)).collect();
    let mut out = Vec::with_capacity(CHUNK_BYTES + 16);
    while out.len() < CHUNK_BYTES {
        let at = usize::from(u16::from_le_bytes(world.bytes()));
        out.extend_from_slice(words[at * at % words.len()].as_bytes());
    }
    out.truncate(CHUNK_BYTES);
    out
}

/// At the levels that a writer chooses between, and what opening a record again has to undo.
fn compressing(criterion: &mut Criterion) {
    let plain = text(&fixed::world(7, Time(0)));
    let settings = WriterSettings::default();
    let mut group = group(criterion, "zstd", plain.len());
    for (name, level) in [("hurried", settings.hurried_level), ("usual", settings.compression_level)] {
        let mut compressor = zstd::bulk::Compressor::new(level).expect("a level of zstd");
        group.bench_function(format!("compress 1 MiB, {name} level {level}"), |b| {
            b.iter(|| compressor.compress(black_box(&plain)));
        });
    }
    let packed = zstd::bulk::compress(&plain, settings.compression_level).expect("memory");
    let mut decompressor = zstd::bulk::Decompressor::new().expect("memory");
    group.bench_function("decompress 1 MiB", |b| {
        b.iter(|| decompressor.decompress(black_box(&packed), plain.len()));
    });
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
    let mut builder = IndexBuilder::new(None, false);
    let mut ids = Vec::new();
    for _ in 0..1_000_000 / (PACKS * RECORDS as usize) + 1 {
        for pack in delta(&world).packs {
            ids.push(pack.kind.record(pack.records[0].id));
            builder.add(&pack, Some(SessionId::new(0, world.bytes())), true).expect("memory");
        }
    }
    let index = builder.finish().expect("memory");
    ids.truncate(WANTED / 2);
    ids.extend((0..WANTED / 2).map(|_| RecordId::Chunk(ChunkId(world.bytes()))));
    let mut group = criterion.benchmark_group("index of a million");
    group.throughput(Throughput::Elements(WANTED as u64));
    group.bench_function("lookup", |b| {
        b.iter(|| ids.iter().filter(|id| index.may_refer_to(black_box(id))).count());
    });
    group.finish();
}

/// Two trees of so many entries, in a repository in memory; one of a hundred entries differs, all in one place.
async fn two_trees(entries: u32) -> (Repository, KeyName, [NodeId; 2]) {
    let world = fixed::world(8, Time(0));
    let init = Init {
        passphrase: None,
        cost: kist::crypto::kdf::Params::CHEAP,
        chunker: config::Chunker::DEFAULT,
        degrade: Degrade::Refuse,
        like: None,
    };
    let (repo, _) = repo::init(Store::memory(), &world, init).await.expect("a store in memory");
    let Begun { session, lanes, .. } = repo::begin(&repo, 1).await.expect("a store in memory");
    let index = Arc::new(Index::load_to_add(&repo, session).await.expect("an empty index"));
    let lane = lanes.into_iter().next().expect("one was asked for");
    let writer = Writer::new(&repo, index, lane, WriterSettings::default());
    let ids = repo.keys.ids().expect("the owner's").clone();
    let meta = repo.keys.own_meta_key(kist::format::id::SourceId([7; 16])).expect("the owner's");
    let name = meta.0;
    let save = move || {
        let (world, cut) = (fixed::world(9, Time(0)), ids.node_cut());
        let sink = NodeSink { writer: &writer, meta: &meta, cut: &cut };
        let mut all: Vec<Entry> = (0..entries).map(|number| file(&world, number)).collect();
        all.sort_by(|a, b| a.path.cmp(&b.path));
        let build = |all: &[Entry]| {
            let mut tree = TreeBuilder::new();
            all.iter().for_each(|entry| tree.push(&sink, entry.clone()).expect("a store in memory"));
            tree.finish(&sink).expect("a store in memory")
        };
        let before = build(&all);
        let changed = all.len() / 100;
        all.iter_mut().take(changed).for_each(|entry| entry.attributes.mtime.secs += 1);
        let roots = [before, build(&all)];
        (writer, roots)
    };
    let (writer, roots) = tokio::task::spawn_blocking(save).await.expect("nothing panics");
    writer.finish().await.expect("a store in memory");
    (repo, name, roots)
}

/// What a catalog takes in after a backup: two trees of 100,000 entries that differ in a hundredth.
fn differences(criterion: &mut Criterion) {
    const ENTRIES: u32 = 100_000;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    let (repo, meta, [before, after]) = runtime.block_on(two_trees(ENTRIES));
    let index = Arc::new(runtime.block_on(Index::load(&repo)).expect("it was just written"));
    let mut group = criterion.benchmark_group("trees of 100,000 entries");
    group.throughput(Throughput::Elements(u64::from(ENTRIES)));
    group.bench_function("difference of a hundredth", |b| {
        b.iter(|| {
            runtime.block_on(async {
                let reader = Arc::new(Reader::new(&repo, index.clone()));
                let tree = |root| TreeReader { reader: reader.clone(), root, meta };
                let mut difference = Difference::new(Some(tree(before)), tree(after));
                let mut changes = 0;
                while difference.next().await.expect("whole trees").is_some() {
                    changes += 1;
                }
                assert_eq!(changes, ENTRIES / 100);
            });
        });
    });
    group.finish();
}

criterion_group!(engine, chunking, hashing, compressing, sealing, nodes, differences, indexes, lookups);
criterion_main!(engine);
