//! States of checkpoints, each in one part of a generation.

use kist::format::checkpoint::{Fact, Observed, REMEMBERED, Row, State};
use kist::format::codec::Writer;
use kist::format::id::{KeyId, SessionId};
use kist::format::log::{Hold, Scope};
use kist::format::{limits, object};
use kist::world::Time;

use crate::make::gc::{packs, part_given, sessions};
use crate::make::{Group, bytes, flipped, sealed, sealed_unpadded};
use crate::material::{Material, NOW};
use crate::vector::Vector;

pub(super) fn all(m: &Material) -> Vec<Vector> {
    [states(m), swept_and_damaged(m), rows_and_facts(m), other_sections(m), pieces(m)].concat()
}

fn key() -> String {
    object::generation_key(3, [2; 16], 0)
}

/// Something of everything.
fn full(m: &Material) -> State {
    let ids = sessions(&[1, 2]);
    let row = Row {
        digest: [1; 32],
        key: m.writer,
        serial: 0,
        sequence: 1,
        time: NOW,
        source: m.source,
        class: vec![],
        complete: true,
        held: false,
    };
    let held = Row {
        digest: [2; 32],
        serial: 1,
        sequence: 2,
        class: vec![7; limits::CLASS_LEN],
        complete: false,
        held: true,
        ..row.clone()
    };
    let observed = |not_before| Some(Observed { not_before: Time(not_before), not_after: NOW });
    let forgotten = Fact { observed: observed(i64::MIN), forgotten: true, ..Fact::default() };
    let lifted = Fact { observed: observed(0), lifted: true, ..Fact::default() };
    let gone = Fact { forgotten: true, gone: true, ..Fact::default() };
    let later = SessionId::new(1, [3; 12]);
    let hold = |byte: u8, scope, note: &str| ([byte; 16], Hold { id: [byte; 16], scope, note: note.into() });
    State {
        swept: packs(&[1, 3]),
        damaged: packs(&[2, 4]),
        rows: [(ids[0], row), (ids[1], held)].into(),
        facts: [(ids[0], forgotten), (ids[1], lifted), (later, gone)].into(),
        remembered: [
            (KeyId([0; 16]), vec![(1, [5; 32])]),
            (m.writer, vec![(1, [1; 32]), (2, [2; 32]), (2, [3; 32])]),
        ]
        .into(),
        holds: [
            hold(8, Scope::All, ""),
            hold(9, Scope::Source(m.source.0), "case 17"),
            hold(10, Scope::Snapshot(ids[0]), "ä"),
        ]
        .into(),
        revoked: [(m.writer, 3)].into(),
        last_observed: Some(NOW),
        pending: vec![object::commit_key(ids[0]), object::pack_key(packs(&[1])[0])],
    }
}

fn states(m: &Material) -> Vec<Vector> {
    let mut g = Group::new("state", "state");
    let one = |state: &State| state.pieces().pop().expect("a state has a piece");
    let good = sealed(m, "state/ok", &key(), one(&full(m)));
    g.ok("ok", "something of everything", part_given(m, 0), bytes(good.clone()));
    let empty = sealed(m, "state/empty", &key(), one(&State::default()));
    g.ok("empty", "nothing of anything", part_given(m, 0), bytes(empty));
    let most = (1..=REMEMBERED as u64).map(|sequence| (sequence, [1; 32])).collect();
    let most = State { remembered: [(m.writer, most)].into(), ..State::default() };
    let most = sealed(m, "state/remembered-most", &key(), one(&most));
    g.ok("remembered-most", "64 commits of one key", part_given(m, 0), bytes(most));
    g.bad("of-another-place", "crypto", "under the key of part 1", part_given(m, 1), bytes(good.clone()));
    g.bad("flipped", "crypto", "a bit is changed", part_given(m, 0), flipped(&good, 100));
    g.bad("empty-object", "crypto", "no bytes", part_given(m, 0), bytes(vec![]));
    g.out
}

/// The sections of a state, in their order; the eighth is a time.
const SECTIONS: [&[u8]; 9] = [&[0], &[0], &[0], &[0], &[0], &[0], &[0], &[0, 0, 0, 0, 0, 0, 0, 0x80], &[0]];

/// A state that is empty but for one section, in its piece.
fn with_section(number: usize, section: &[u8]) -> Vec<u8> {
    let mut sections = SECTIONS;
    sections[number] = section;
    piece(&sections.concat())
}

fn piece(bytes: &[u8]) -> Vec<u8> {
    let mut out = Writer::new();
    out.bytes(bytes);
    out.into_bytes()
}

/// So many things, then their bytes.
fn counted(things: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let things_bytes = things.iter().flat_map(|thing| thing.as_ref().to_vec());
    std::iter::once(things.len() as u8).chain(things_bytes).collect()
}

/// 2^28, and one more.
const MOST: [u8; 5] = [0x80, 0x80, 0x80, 0x80, 0x01];
const BEYOND: [u8; 5] = [0x81, 0x80, 0x80, 0x80, 0x01];

/// Seals bodies that do not decode.
fn bad(m: &Material, g: &mut Group, (name, class): (&str, &str), what: &str, plain: Vec<u8>) {
    let encoded = sealed(m, &format!("state/{name}"), &key(), plain);
    g.bad(name, class, what, part_given(m, 0), bytes(encoded));
}

fn swept_and_damaged(m: &Material) -> Vec<Vector> {
    let mut g = Group::new("state", "state");
    let ids = |all: &[u8]| counted(&all.iter().map(|byte| [*byte; 16]).collect::<Vec<_>>());
    for (number, section) in ["swept", "damaged"].into_iter().enumerate() {
        let mut bad = |name: &str, class, what, packs: &[u8]| {
            let name = format!("{section}-{name}");
            bad(m, &mut g, (&name, class), what, with_section(number, packs));
        };
        bad("not-ascending", "invalid", "two packs in another order", &ids(&[2, 1]));
        bad("twice", "invalid", "a pack twice", &ids(&[1, 1]));
        bad("too-many", "too-much", "2^28 + 1 packs", &BEYOND);
        bad("beyond-the-end", "short", "2^28 packs that can't follow", &MOST);
    }
    g.out
}

fn rows_and_facts(m: &Material) -> Vec<Vector> {
    let mut g = Group::new("state", "state");
    let mut bad = |name, class, what, number, section: &[u8]| {
        bad(m, &mut g, (name, class), what, with_section(number, section));
    };
    let row = |id: u8, class: &[u8], flags: u8| {
        [&[id; 16][..], &[1; 32], &[2; 16], &[0; 4], &[1; 8], &[0; 8], &[3; 16], class, &[flags]].concat()
    };
    let rows = |all: &[Vec<u8>]| counted(all);
    let two = |first, second| rows(&[row(first, &[0], 0), row(second, &[0], 0)]);
    bad("rows-not-ascending", "invalid", "two commits in another order", 2, &two(2, 1));
    bad("row-twice", "invalid", "a commit twice", 2, &two(1, 1));
    bad("row-flags-4", "invalid", "a flag that there is not", 2, &rows(&[row(1, &[0], 4)]));
    let long = [&[65][..], &[7; 65]].concat();
    bad("class-too-long", "too-much", "a retention class of 65 bytes", 2, &rows(&[row(1, &long, 0)]));
    bad("rows-too-many", "too-much", "2^28 + 1 commits", 2, &BEYOND);
    bad("rows-beyond-the-end", "short", "2^28 commits that can't follow", 2, &MOST);
    let fact = |id: u8, flags: u8| [&[id; 16][..], &[flags]].concat();
    let two = |first, second| rows(&[fact(first, 2), fact(second, 2)]);
    bad("facts-not-ascending", "invalid", "two facts in another order", 3, &two(2, 1));
    bad("fact-twice", "invalid", "a fact twice", 3, &two(1, 1));
    bad("fact-flags-16", "invalid", "a flag that there is not", 3, &rows(&[fact(1, 16)]));
    bad("facts-too-many", "too-much", "2^28 + 1 facts", 3, &BEYOND);
    bad("facts-beyond-the-end", "short", "2^28 facts that can't follow", 3, &MOST);
    g.out
}

fn other_sections(m: &Material) -> Vec<Vector> {
    let mut g = Group::new("state", "state");
    let mut bad = |name, class, what, number, section: &[u8]| {
        bad(m, &mut g, (name, class), what, with_section(number, section));
    };
    let commit = |key: u8, sequence: u64, digest: u8| {
        [&[key; 16][..], &sequence.to_le_bytes(), &[digest; 32]].concat()
    };
    let all = |all: &[Vec<u8>]| counted(all);
    let what = "two commits of a key in another order";
    bad("remembered-not-ascending", "invalid", what, 4, &all(&[commit(1, 2, 0), commit(1, 1, 0)]));
    bad("remembered-twice", "invalid", "a commit twice", 4, &all(&[commit(1, 1, 0), commit(1, 1, 0)]));
    let what = "two keys in another order";
    bad("remembered-keys-not-ascending", "invalid", what, 4, &all(&[commit(2, 1, 0), commit(1, 1, 0)]));
    let many: Vec<_> = (0..=REMEMBERED as u64).map(|sequence| commit(1, sequence, 0)).collect();
    bad("remembered-too-many", "invalid", "65 commits of one key", 4, &all(&many));
    bad("remembered-beyond-the-end", "short", "2^28 that can't follow", 4, &MOST);
    let hold = |id: u8, scope: u8, of: u8| [&[id; 16][..], &[scope], &[of; 16], &[0]].concat();
    bad(
        "holds-not-ascending",
        "invalid",
        "two holds in another order",
        5,
        &all(&[hold(2, 0, 0), hold(1, 0, 0)]),
    );
    bad("hold-scope-3", "invalid", "a scope that there is not", 5, &all(&[hold(1, 3, 0)]));
    bad("hold-all-with-an-id", "invalid", "all of what?", 5, &all(&[hold(1, 0, 1)]));
    bad("holds-beyond-the-end", "short", "2^28 that can't follow", 5, &MOST);
    let revoked = |key: u8| [&[key; 16][..], &[0; 4]].concat();
    let what = "two keys in another order";
    bad("revocations-not-ascending", "invalid", what, 6, &all(&[revoked(2), revoked(1)]));
    bad("revocations-beyond-the-end", "short", "2^28 that can't follow", 6, &MOST);
    let pending = |all: &[&str]| counted(&all.iter().map(|key| piece(key.as_bytes())).collect::<Vec<_>>());
    bad("pending-not-ascending", "invalid", "two keys in another order", 8, &pending(&["b", "a"]));
    bad("pending-twice", "invalid", "a key twice", 8, &pending(&["a", "a"]));
    bad("pending-not-utf8", "invalid", "a key that is not UTF-8", 8, &[1, 1, 0xff]);
    bad("pending-too-long", "too-much", "a key of 513 bytes", 8, &pending(&[&"a".repeat(513)]));
    bad("pending-beyond-the-end", "short", "2^28 keys that can't follow", 8, &MOST);
    g.out
}

/// Parts that are no piece of a state, or of more than a state.
fn pieces(m: &Material) -> Vec<Vector> {
    let mut g = Group::new("state", "state");
    let good = SECTIONS.concat();
    let mut bad = |name, class, what, plain| bad(m, &mut g, (name, class), what, plain);
    bad("left-over", "left-over", "a byte behind the state", piece(&[&good[..], &[0]].concat()));
    bad("cut-inside", "short", "the state's last byte is missing", piece(&good[..good.len() - 1]));
    bad("padding-not-zero", "invalid", "a 1 behind the piece", [&piece(&good)[..], &[1]].concat());
    bad("piece-too-long", "too-much", "16 MiB and a byte", vec![0x81, 0x80, 0x80, 0x08]);
    bad("piece-beyond-the-end", "short", "16 MiB that can't follow", vec![0x80, 0x80, 0x80, 0x08]);
    let whole = piece(&good);
    let cut = bytes(sealed_unpadded(m, "state/piece-cut", &key(), &whole[..whole.len() - 1]));
    g.bad("piece-cut", "short", "the piece's last byte is missing", part_given(m, 0), cut);
    g.out
}
