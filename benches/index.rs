//! Bench of a large index: building it, looking up what is in it and what is not, and the memory that this takes.
//!
//! `KIST_INDEX_RECORDS` says how many (a million without it), `KIST_INDEX_SCRATCH` in which folder (the current one). In
//! a memory cgroup it shows what an index costs that memory does not hold.

use std::hint::black_box;
use std::time::{Duration, Instant};

use kist::format::id::{ChunkId, KeyId, PackId, RecordId, SessionId};
use kist::format::index::{IndexPack, IndexRecord};
use kist::format::pack::PackKind;
use kist::repo::{Index, IndexBuilder, Scratch};
use kist::world::{Time, fixed};

/// Records of a pack of 16 MiB, in chunks of the average size and in small files.
const RECORDS: u64 = 32;
/// How long each kind of lookup goes on.
const LONG: Duration = Duration::from_secs(5);

/// Ids as a keyed hash gives them, to be had again from a number.
fn id(number: u64) -> [u8; 32] {
    *blake3::hash(&number.to_le_bytes()).as_bytes()
}

fn pack(number: u64, records: u64) -> IndexPack {
    let first = number * RECORDS;
    let numbers = first..(first + RECORDS).min(records);
    let [id_of, hash] = [id(u64::MAX - number), id(number << 32)];
    IndexPack {
        id: PackId(*id_of.first_chunk().expect("16 of 32")),
        kind: PackKind::Data,
        len: 16 << 20,
        hash,
        origin: KeyId([1; 16]),
        verified: false,
        sessions: vec![SessionId::new(0, [2; 12])],
        records: numbers.map(|number| IndexRecord { id: id(number), len: 16 << 10 }).collect(),
    }
}

fn build(records: u64) -> Index {
    let scratch = std::env::var_os("KIST_INDEX_SCRATCH").unwrap_or_else(|| ".".into());
    let scratch = Scratch::new(scratch.into(), fixed::world(1, Time(0)));
    let mut builder = IndexBuilder::new(Some(scratch), false);
    for number in 0..records.div_ceil(RECORDS) {
        builder.add(&pack(number, records), None, true).expect("room for the index");
    }
    builder.finish().expect("room for the index")
}

/// Lookups a second, of numbers as they are drawn.
fn look_up(index: &Index, what: &str, mut number: impl FnMut(u64) -> u64) {
    let (mut done, mut found) = (0u64, 0u64);
    let began = Instant::now();
    while began.elapsed() < LONG {
        for _ in 0..64 {
            let id = RecordId::Chunk(ChunkId(id(number(done))));
            found += u64::from(index.may_refer_to(black_box(&id)));
            done += 1;
        }
    }
    let a_second = done as f64 / began.elapsed().as_secs_f64();
    println!("{what:<24} {a_second:>12.0} a second, {:>5.1} % found", 100.0 * found as f64 / done as f64);
}

/// What the process takes, by a line of its status.
fn memory(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let found = status.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(':'));
    found.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0) / 1024
}

fn main() {
    let records = std::env::var("KIST_INDEX_RECORDS").map_or(1_000_000, |n| n.parse().expect("a number"));
    let began = Instant::now();
    let index = build(records);
    println!(
        "{records} records in {} packs: {:.1} s to build",
        index.packs().len(),
        began.elapsed().as_secs_f64()
    );
    println!("heap {} MiB after, peak with mapped pages {} MiB", memory("RssAnon"), memory("VmHWM"));
    // An odd factor goes through all numbers without an order.
    let drawn = |i: u64| i.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for round in 1..=2 {
        println!("round {round}");
        look_up(&index, "misses", |i| records + drawn(i) % (1 << 60));
        look_up(&index, "hits in any order", |i| drawn(i) % records);
        look_up(&index, "hits as they were written", |i| (records / 3 + i) % records);
    }
    println!("heap {} MiB after", memory("RssAnon"));
}
