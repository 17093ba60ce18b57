//! What decoders take in memory, held against the length of their input: whoever holds the store chooses what is
//! decoded, and must not bring a reader down with it.
//!
//! Counted is the most that is held at a time by decoding, and by encoding again what was accepted (the targets of
//! `fuzz/decoders.rs`). The numbers are those of format-spec/README.md, *Duties of every decoder*.

use std::collections::BTreeSet;

use allocation_counter::measure;
use kist::format::checkpoint::{Fact, Row, State};
use kist::format::codec::Writer;
use kist::format::entry::{Attributes, Content, Entry, Extent, Kind, TreePath};
use kist::format::frame::{Frame, opening};
use kist::format::id::{ChunkId, KeyId, NodeId, PackId, SessionId, SourceId};
use kist::format::limits;
use kist::format::log::{Hold, Scope};
use kist::format::node::{ExtentChild, Node};
use kist::format::relay::{Answer, Listed};
use kist::world::Time;

use crate::check::join_node;
use crate::corpus::{files, mutated};
use crate::decoders::TARGETS;
use crate::make;
use crate::material::draw;
use crate::seeds::{seed, seeds};
use crate::tables::all_limits;
use crate::vector::Outcome;

/// Bytes that may be held for each byte of the input, …
const MULTIPLE: u64 = 64;
/// … and whatever the input is.
const FIXED: u64 = 256 * 1024;
/// … and beside that of a node: all its paths in full, which share their starts in the input.
const PATHS: u64 = 2 * limits::NODE_PART_LEN as u64;

/// Panics if the target takes more than its input allows. Gives how much it took.
fn held_to_limit(target: &str, decode: fn(&[u8]), bytes: &[u8], what: &str) -> u64 {
    let most = measure(|| decode(bytes)).bytes_max;
    let more = match target {
        "node" => PATHS,
        "record" => raw_lengths(bytes),
        _ => 0,
    };
    let allowed = FIXED + more + MULTIPLE * bytes.len() as u64;
    assert!(most <= allowed, "{target}, {what}: {} bytes took {most}, {allowed} are allowed", bytes.len());
    most
}

/// What the header of a record says that its parts are once they are decompressed (chapter 4).
fn raw_lengths(record: &[u8]) -> u64 {
    let lengths =
        [71, 80].map(|at| record.get(at..at + 4).map_or([0; 4], |len| len.try_into().expect("4 bytes")));
    lengths.iter().map(|len| u64::from(u32::from_le_bytes(*len))).sum()
}

#[test]
fn no_decoder_takes_more_memory_than_a_multiple_of_its_input() {
    seed();
    for (name, decode) in TARGETS {
        for (file, bytes) in files(name) {
            held_to_limit(name, *decode, &bytes, &file);
            let world = draw(&file);
            for round in 0..10 {
                let changed = mutated(&bytes, world.bytes());
                held_to_limit(name, *decode, &changed, &format!("{file}, round {round}"));
            }
        }
    }
}

/// Each vector that is accepted, with each of its bytes taken for the start of a length or count, and that set to each
/// of the limits in turn: a decoder that trusts one takes memory for it.
#[test]
fn no_decoder_takes_more_memory_for_a_length_that_is_as_large_as_its_limit() {
    let limits: BTreeSet<u64> = all_limits().into_values().filter(|&limit| limit >= WORTH_TRYING).collect();
    let vectors = make::all().into_iter().filter(|vector| matches!(vector.outcome, Outcome::Fields(_)));
    let seeds: BTreeSet<_> = vectors.flat_map(|vector| seeds(&vector)).collect();
    for (name, decode) in TARGETS {
        for (_, bytes) in seeds.iter().filter(|(target, _)| target == name) {
            for at in 0..bytes.len().min(HEAD) {
                for limit in &limits {
                    for (len, field) in lengths(*limit) {
                        let behind = &bytes[bytes.len().min(at + len)..];
                        let changed = [&bytes[..at], &field, behind].concat();
                        held_to_limit(name, *decode, &changed, &format!("{limit} at byte {at}"));
                    }
                }
            }
        }
    }
}

/// Lesser limits come to less than what any input may take.
const WORTH_TRYING: u64 = 8192;
/// Where a long seed has its lengths.
const HEAD: usize = 160;

/// How a length is written, and how many bytes of a vector it stands for.
fn lengths(limit: u64) -> [(usize, Vec<u8>); 2] {
    let mut varint = Writer::new();
    varint.varint(limit);
    [(4, (limit as u32).to_le_bytes().to_vec()), (1, varint.into_bytes())]
}

/// For each sort of list, as many of its smallest things as make some hundred KiB: where a byte becomes most memory.
#[test]
fn no_decoder_takes_more_memory_than_a_multiple_of_a_long_list_of_the_smallest_things() {
    for (target, what, bytes) in long_lists() {
        let (_, decode) = TARGETS.iter().find(|(name, _)| *name == target).expect("a target's name");
        let most = held_to_limit(target, *decode, &bytes, what);
        println!("{target}, {what}: {} times its {} bytes", most / bytes.len() as u64, bytes.len());
        assert!(most >= bytes.len() as u64, "{target}, {what}: took {most} bytes, so it was not decoded");
    }
}

type List = (&'static str, &'static str, Vec<u8>);

fn long_lists() -> Vec<List> {
    let mut out = vec![];
    out.extend(states());
    out.extend(nodes());
    out.extend(objects());
    out.extend(links());
    out.extend(texts());
    out
}

/// Things that are all of the same bytes, behind a head and their count.
fn list(head: &[u8], count: usize, thing: &[u8], tail: &[u8]) -> Vec<u8> {
    let mut out = Writer::new();
    out.raw(head);
    out.varint(count as u64);
    (0..count).for_each(|_| out.raw(thing));
    out.raw(tail);
    out.into_bytes()
}

/// An id of its own for each number, ascending.
fn id(number: u32) -> [u8; 16] {
    (u128::from(number)).to_be_bytes()
}

fn states() -> Vec<List> {
    const MANY: u32 = 20_000;
    let row = Row {
        digest: [1; 32],
        key: KeyId([2; 16]),
        serial: 0,
        sequence: 1,
        time: Time(0),
        source: SourceId([3; 16]),
        class: vec![],
        complete: true,
        held: false,
    };
    let hold = |number| Hold { id: id(number), scope: Scope::All, note: String::new() };
    let all = |fill: &dyn Fn(&mut State, u32)| {
        let mut state = State::default();
        (0..MANY).for_each(|number| fill(&mut state, number));
        state.encode()
    };
    let fill_rows = |state: &mut State, number| {
        state.rows.insert(SessionId(id(number)), row.clone());
    };
    let fill_facts = |state: &mut State, number| {
        state.facts.insert(SessionId(id(number)), Fact::default());
    };
    let fill_remembered = |state: &mut State, number| {
        state.remembered.insert(KeyId(id(number)), vec![(1, [1; 32])]);
    };
    let fill_holds = |state: &mut State, number| {
        state.holds.insert(id(number), hold(number));
    };
    let fill_revoked = |state: &mut State, number| {
        state.revoked.insert(KeyId(id(number)), 1);
    };
    vec![
        ("state", "swept packs", all(&|state, number| state.swept.push(PackId(id(number))))),
        ("state", "damaged packs", all(&|state, number| state.damaged.push(PackId(id(number))))),
        ("state", "rows", all(&fill_rows)),
        ("state", "facts", all(&fill_facts)),
        ("state", "keys that remember one commit", all(&fill_remembered)),
        ("state", "holds", all(&fill_holds)),
        ("state", "revocations", all(&fill_revoked)),
        ("state", "keys to be deleted", all(&|state, number| state.pending.push(format!("{number:05}")))),
    ]
}

fn nodes() -> Vec<List> {
    let entry = |name: String, kind: Kind| {
        let path = TreePath::root().join(name.as_bytes()).expect("a short name");
        Entry { path, attributes: Attributes::default(), kind }
    };
    let leaf = |entries: Vec<Entry>| join_node(&Node::Leaf(entries).encode());
    let fifos = (0..20_000).map(|number| entry(format!("{number:05}"), Kind::Fifo)).collect();
    let hole = |_| Extent::Hole { len: 1 };
    let file = |number| {
        let content = Content::Extents(vec![Extent::Hole { len: 1 }]);
        entry(format!("{number:05}"), Kind::File { size: 1, content, hash: None })
    };
    let xattr = |number: usize| (format!("{number:04}").into_bytes(), vec![]);
    let xattrs = (0..limits::XATTRS).map(xattr).collect();
    let attributes = Attributes { xattrs, ..Attributes::default() };
    let with_attributes =
        |number: u32| Entry { attributes: attributes.clone(), ..entry(format!("{number:05}"), Kind::Fifo) };
    let folder = vec![b'a'; limits::NAME_LEN];
    let deep = (0..15).fold(TreePath::root(), |path, _| path.join(&folder).expect("a path within its limit"));
    let deep_entry = |number: u32| {
        let path = deep.join(format!("{number:05}").as_bytes()).expect("a path within its limit");
        Entry { path, ..entry(String::from("x"), Kind::Fifo) }
    };
    let child =
        |number: u32| ExtentChild { len: 1, node: NodeId(std::array::from_fn(|at| id(number)[at % 16])) };
    let children = Node::ExtentInner { level: 1, children: (0..5000).map(child).collect() };
    vec![
        ("node", "fifos", leaf(fifos)),
        ("node", "files of one hole", leaf((0..20_000).map(file).collect())),
        ("node", "extended attributes without values", leaf((0..20).map(with_attributes).collect())),
        ("node", "long paths that share their start", leaf((0..1000).map(deep_entry).collect())),
        ("node", "holes", join_node(&Node::ExtentLeaf((0..100_000).map(hole).collect()).encode())),
        ("node", "children", join_node(&children.encode())),
    ]
}

fn objects() -> Vec<List> {
    // role, key id, domain, serial, public key, an empty name, signature; then the object's own signature.
    let certificate = [&[2][..], &[0; 16], &[0; 16], &[0; 4], &[0; 32], &[0], &[0; 64]].concat();
    let signed = [&certificate[..], &[0; 64]].concat();
    let mut ids = Writer::new();
    ids.raw(&[0; 40]);
    ids.u8(7);
    ids.varint(20_000);
    (0..20_000).for_each(|number| ids.raw(&id(number)));
    ids.raw(&signed);
    let parts = |count| list(&[0; 60], count, &[0; 32], &[]);
    let checkpoint = [&parts(10_000)[..], &list(&[], 10_000, &[0; 32], &signed)].concat();
    let mut checks = Writer::new();
    checks.raw(&[0; 8]);
    for _ in 0..2 {
        checks.varint(limits::CHECK_RANGES as u64);
        for number in 0..limits::CHECK_RANGES as u32 {
            checks.u32(2 * number);
            checks.u32(2 * number);
            checks.raw(&[0; 16]);
        }
    }
    checks.raw(&signed);
    let checks = checks.into_bytes();
    let root = [&[1][..], &[0; 48]].concat();
    let commit = [&[1][..], &[0; 107]].concat();
    let pack = [&[0; 16][..], &[1], &[0; 4 + 32 + 16], &[0, 0, 0]].concat();
    let head = [&[1][..], &pack[..16 + 1], &(64_u32 << 20).to_le_bytes(), &pack[21..71]].concat();
    let mut records = Writer::new();
    records.raw(&head);
    records.varint(20_000);
    for _ in 0..20_000 {
        records.raw(&[1; 32]);
        records.u32(1);
    }
    vec![
        ("log", "ids", ids.into_bytes()),
        ("checkpoint", "parts", checkpoint),
        ("checks", "ranges", checks),
        ("commit", "roots", list(&commit, 20_000, &root, &[&[0][..], &signed].concat())),
        ("session", "lanes", list(&[&[0; 8][..], &certificate].concat(), 10_000, &[0; 33], &[0; 64])),
        ("index", "packs", list(&[], limits::INDEX_PACKS, &pack, &[])),
        ("index", "records", records.into_bytes()),
        ("toc", "records", toc()),
    ]
}

fn toc() -> Vec<u8> {
    let mut out = Writer::new();
    out.u8(1);
    out.varint(500);
    for number in 0..500 {
        out.u8(1);
        out.raw(&ChunkId([1; 32]).0);
        out.u32(number * 126);
        out.u32(126);
        out.raw(&[0; 16]);
    }
    out.into_bytes()
}

fn links() -> Vec<List> {
    let listed = |_| Listed::new("a".into(), 0, 0).expect("a short key");
    let page = Answer::Listing { next: 0, objects: (0..limits::RELAY_PAGE).map(listed).collect() };
    let mut stream = opening().to_vec();
    (0..20_000).for_each(|_| Frame::Heartbeat.encode(&mut stream));
    vec![("relay_answer", "objects", page.encode().to_vec()), ("link", "heartbeats", stream)]
}

/// JSON of which each item is as short as can be.
fn texts() -> Vec<List> {
    let items = |item: &str| vec![item; 20_000].join(",");
    let summary = |fields: &str| {
        format!(r#"{{"version":1,"kist":"","source":{{"type":"files","host":"","paths":[]}},{fields}}}"#)
    };
    let tags = summary(&format!(r#""tags":[{}]"#, items(r#""""#)));
    let missing = summary(&format!(r#""missing":[{}]"#, items(r#"{"what":"","why":""}"#)));
    vec![("summary", "tags", tags.into_bytes()), ("summary", "what is missing", missing.into_bytes())]
}
