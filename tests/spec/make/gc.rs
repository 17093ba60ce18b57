//! What forgets and deletes: entries of the gc log, ends of repacks, checkpoints and their parts.

mod checks;
mod state;

use kist::crypto::secret::Key;
use kist::crypto::{hash, sign};
use kist::format::checkpoint::Checkpoint;
use kist::format::commit::Repack;
use kist::format::id::{DomainId, KeyId, PackId, SessionId, hex};
use kist::format::index::{IndexDelta, IndexPack, IndexRecord};
use kist::format::keys::{Certificate, Role};
use kist::format::log::{Action, Entry, Hold, Scope, Verified};
use kist::format::object;
use kist::format::pack::PackKind;
use serde_json::{Value, json};

use crate::make::{Group, bytes, cut, flipped, place, sealed, sealed_unpadded, with};
use crate::material::{Material, NOW, draw};
use crate::vector::Vector;

pub fn all(m: &Material) -> Vec<Vector> {
    let authors = Authors::new(m);
    let mut out = repacks(m, &authors);
    out.extend(entries(m, &authors));
    out.extend(wrong_entries(m, &authors));
    out.extend(entry_bodies(m, &authors));
    out.extend(damaged(m, &authors));
    out.extend(wrong_damaged(m, &authors));
    out.extend(checkpoints(m, &authors));
    out.extend(checkpoint_bodies(m, &authors));
    out.extend(checks::all(m, &authors));
    out.extend(state::all(m));
    out.extend(index_parts(m));
    out
}

/// Who writes into the log, beside the writer, who may not.
struct Authors {
    maintainer: (Certificate, Key),
    reader: (Certificate, Key),
    owner: (Certificate, Key),
    writer: (Certificate, Key),
}

impl Authors {
    fn new(m: &Material) -> Self {
        let world = draw("gc/authors");
        let issue = |role, key, seed: Key, name: &str| {
            let names = (role, key, DomainId([0; 16]), 0);
            (Certificate::issue(&m.owner_seed, m.repo, names, sign::public(&seed), name), seed)
        };
        Self {
            maintainer: issue(Role::Maintainer, KeyId(world.bytes()), Key::new(world.bytes()), "gc"),
            reader: issue(Role::Reader, KeyId(world.bytes()), Key::new(world.bytes()), "drill"),
            owner: issue(Role::Owner, KeyId([0; 16]), m.owner_seed.clone(), "owner"),
            writer: (m.certificate.clone(), m.writer_seed.clone()),
        }
    }
}

type Author = (Certificate, Key);

fn signed(m: &Material, slot: u64, previous: [u8; 32], action: Action, author: &Author) -> Entry {
    Entry::sign((previous, NOW, action), (author.0.clone(), &author.1), m.repo, slot)
}

fn sealed_entry(m: &Material, name: &str, slot: u64, entry: &Entry) -> Vec<u8> {
    sealed(m, &format!("log/{name}"), &object::log_key(slot), entry.encode())
}

fn packs(all: &[u8]) -> Vec<PackId> {
    all.iter().map(|byte| PackId([*byte; 16])).collect()
}

fn verified(all: &[u8]) -> Vec<Verified> {
    all.iter().map(|byte| Verified { pack: PackId([*byte; 16]), digest: [byte + 10; 32] }).collect()
}

fn sessions(all: &[u8]) -> Vec<SessionId> {
    all.iter().map(|byte| SessionId::new(0, [*byte; 12])).collect()
}

/// What vectors of a slot of the log give.
fn given(m: &Material, slot: u64) -> Value {
    json!({
        "structure": hex(m.structure.expose()),
        "repository": m.repo.to_string(),
        "owner": hex(&m.owner),
        "slot": slot,
    })
}

fn repacks(m: &Material, authors: &Authors) -> Vec<Vector> {
    let mut g = Group::new("commit", "commit");
    let given = with(&with(&place(m), "owner", hex(&m.owner)), "meta_key", hex(m.meta_key.expose()));
    let key = object::commit_key(m.session);
    let repack = |(certificate, seed): &Author| Repack::new(certificate.clone(), seed, m.repo, m.session);
    let seal = |name: &str, plain: Vec<u8>| bytes(sealed(m, &format!("commit/{name}"), &key, plain));
    let ok = repack(&authors.maintainer);
    g.ok("repack", "the end of a session that copied records", given.clone(), seal("repack", ok.encode()));
    let mut bad = |name: &str, class, what, plain| g.bad(name, class, what, given.clone(), seal(name, plain));
    let of_writer = repack(&authors.writer).encode();
    bad("repack-of-a-writer", "invalid", "a writer can't end a repack", of_writer);
    let mut changed = ok.clone();
    changed.signature[0] ^= 1;
    bad("repack-signature-flipped", "crypto", "a bit of the signature", changed.encode());
    let other = Repack::new(authors.maintainer.0.clone(), &authors.maintainer.1, m.repo, SessionId([0; 16]));
    bad("repack-of-another-session", "crypto", "signed for another session", other.encode());
    bad("repack-left-over", "invalid", "a 1 behind the signature", [&ok.encode()[..], &[1]].concat());
    g.out
}

/// One of each kind, each in slot 2 behind an observation in slot 1; the sweep in slot 3.
fn entries(m: &Material, authors: &Authors) -> Vec<Vector> {
    let mut g = Group::new("log", "log");
    let first = signed(m, 1, [0; 32], Action::Observe { sessions: sessions(&[1, 2]) }, &authors.maintainer);
    let first = sealed_entry(m, "observe", 1, &first);
    let previous = hash::plain(&first);
    g.ok("observe", "the first entry of a log: two commits are there", given(m, 1), bytes(first));
    let mut second = |name: &str, what: &str, author: &Author, action: Action| {
        let entry = sealed_entry(m, name, 2, &signed(m, 2, previous, action, author));
        let digest = hash::plain(&entry);
        g.ok(name, what, given(m, 2), bytes(entry));
        digest
    };
    let maintainer = &authors.maintainer;
    let condemned =
        second("condemn", "three packs", maintainer, Action::Condemn { packs: packs(&[1, 2, 3]) });
    second("observe-nothing", "nothing new", maintainer, Action::Observe { sessions: vec![] });
    second("forget", "a snapshot", maintainer, Action::Forget { sessions: sessions(&[1]) });
    second("forget-by-the-owner", "a snapshot", &authors.owner, Action::Forget { sessions: sessions(&[1]) });
    second("recall", "two snapshots", maintainer, Action::Recall { sessions: sessions(&[1, 2]) });
    let mut hold = |name, what, scope, note: String| {
        second(name, what, maintainer, Action::Hold(Hold { id: [9; 16], scope, note }));
    };
    hold("hold-all", "all, without a note", Scope::All, String::new());
    hold("hold-source", "a source, with the longest note", Scope::Source(m.source.0), "ä".repeat(128));
    hold("hold-snapshot", "a snapshot", Scope::Snapshot(m.session), "case 17".into());
    let holds = vec![[9; 16], [10; 16]];
    second("lift", "two holds", maintainer, Action::Lift { holds });
    second("verify", "two packs, by a reader", &authors.reader, Action::Verify { packs: verified(&[4, 5]) });
    let revoke = Action::Revoke { key: m.writer, serial: 3 };
    second("revoke", "serials up to 3 of a writer, by the owner", &authors.owner, revoke);
    second(
        "renew",
        "what is before may not hold together, by the owner",
        &authors.owner,
        Action::Renew { epoch: 7 },
    );
    let mut sweep = |name: &str, what: &str, swept: &[u8]| {
        let action = Action::Sweep { condemned: 2, packs: packs(swept) };
        let entry = sealed_entry(m, name, 3, &signed(m, 3, condemned, action, maintainer));
        g.ok(name, what, given(m, 3), bytes(entry));
    };
    sweep("sweep", "two of the packs that slot 2 has condemned", &[1, 3]);
    sweep("sweep-nothing", "none of the packs that slot 2 has condemned", &[]);
    g.out
}

/// Entries of wrong authors, places and signatures.
fn wrong_entries(m: &Material, authors: &Authors) -> Vec<Vector> {
    let mut g = Group::new("log", "log");
    let forget = || Action::Forget { sessions: sessions(&[1]) };
    let entry = |action, author| signed(m, 2, [1; 32], action, author);
    let mut bad = |name: &str, class, what, entry: &Entry| {
        g.bad(name, class, what, given(m, 2), bytes(sealed_entry(m, name, 2, entry)));
    };
    bad("forget-by-a-writer", "invalid", "a writer forgets nothing", &entry(forget(), &authors.writer));
    bad("forget-by-a-reader", "invalid", "a reader forgets nothing", &entry(forget(), &authors.reader));
    let verify = Action::Verify { packs: verified(&[4]) };
    let what = "a maintainer can open no record";
    bad("verify-by-a-maintainer", "invalid", what, &entry(verify, &authors.maintainer));
    let revoke = Action::Revoke { key: m.writer, serial: 0 };
    bad("revoke-by-a-maintainer", "invalid", "only the owner revokes", &entry(revoke, &authors.maintainer));
    let what = "only the owner begins anew";
    bad("renew-by-a-maintainer", "invalid", what, &entry(Action::Renew { epoch: 7 }, &authors.maintainer));
    let good = entry(forget(), &authors.maintainer);
    let other = signed(m, 3, [1; 32], forget(), &authors.maintainer);
    bad("signature-of-another-slot", "crypto", "signed for slot 3", &other);
    let mixed = (authors.maintainer.0.clone(), m.lane_seed.clone());
    bad("signature-of-another-key", "crypto", "signed by a lane", &entry(forget(), &mixed));
    let mut changed = good.clone();
    changed.signature[63] ^= 1;
    bad("signature-flipped", "crypto", "a bit of the signature", &changed);
    let mut changed = good.clone();
    changed.previous = [2; 32];
    bad("previous-changed", "crypto", "another entry before it, not signed", &changed);
    let mut changed = good.clone();
    changed.certificate.name.push('x');
    bad("certificate-forged", "crypto", "another name in it", &changed);
    let good = sealed_entry(m, "good", 2, &good);
    let what = "under the key of slot 3";
    g.bad("of-another-place", "crypto", what, given(m, 3), bytes(good.clone()));
    let other = with(&given(m, 2), "owner", hex(&sign::public(&m.lane_seed)));
    g.bad("of-another-owner", "crypto", "certified by another owner", other, bytes(good.clone()));
    let middle = flipped(&good, 100);
    g.bad("flipped", "crypto", "a bit is changed", given(m, 2), middle);
    g.bad("cut", "crypto", "the last byte is missing", given(m, 2), cut(&good, 1));
    g.bad("empty-object", "crypto", "no bytes", given(m, 2), bytes(vec![]));
    g.out
}

/// Packs that are not what was written, in slot 2.
fn damaged(m: &Material, authors: &Authors) -> Vec<Vector> {
    let mut g = Group::new("log", "log");
    let mut ok = |name: &str, what, author, all: &[u8]| {
        let entry = signed(m, 2, [1; 32], Action::Damaged { packs: packs(all) }, author);
        g.ok(name, what, given(m, 2), bytes(sealed_entry(m, name, 2, &entry)));
    };
    ok("damaged", "two packs, by a maintainer", &authors.maintainer, &[4, 6]);
    ok("damaged-nothing", "no pack", &authors.maintainer, &[]);
    ok("damaged-by-the-owner", "a pack", &authors.owner, &[4]);
    g.out
}

fn wrong_damaged(m: &Material, authors: &Authors) -> Vec<Vector> {
    let mut g = Group::new("log", "log");
    let key = object::log_key(2);
    let entry = |author| signed(m, 2, [1; 32], Action::Damaged { packs: packs(&[4]) }, author).encode();
    let mut bad = |name: &str, class, what, plain: Vec<u8>| {
        g.bad(name, class, what, given(m, 2), bytes(sealed(m, &format!("log/{name}"), &key, plain)));
    };
    let what = "a reader says what is sound, a maintainer what is not";
    bad("damaged-by-a-reader", "invalid", what, entry(&authors.reader));
    bad("damaged-by-a-writer", "invalid", "a writer says nothing of packs", entry(&authors.writer));
    // Behind digest, time and kind: the count; the certificate begins behind one pack.
    let good = entry(&authors.maintainer);
    let body = |count: &[u8], packs: &[[u8; 16]], tail: &[u8]| {
        [&good[..41], count, packs.as_flattened(), tail].concat()
    };
    let two = |first, second| body(&[2], &[[first; 16], [second; 16]], &good[41 + 1 + 16..]);
    bad("damaged-not-ascending", "invalid", "two packs in another order", two(2, 1));
    bad("damaged-twice", "invalid", "a pack twice", two(1, 1));
    bad("damaged-too-many", "too-much", "1,048,577 packs", body(&[0x81, 0x80, 0x40], &[], &[]));
    let many = body(&[0x80, 0x80, 0x40], &[], &[]);
    bad("damaged-beyond-the-end", "short", "1,048,576 that can't follow", many);
    g.out
}

/// Entries that open, with contents that do not decode.
fn entry_bodies(m: &Material, authors: &Authors) -> Vec<Vector> {
    let mut g = Group::new("log", "log");
    let key = object::log_key(2);
    let mut bad = |name: &str, class, what, plain: &[u8]| {
        let encoded = sealed(m, &format!("log/{name}"), &key, plain.to_vec());
        g.bad(name, class, what, given(m, 2), bytes(encoded));
    };
    let good = signed(m, 2, [1; 32], Action::Forget { sessions: sessions(&[1]) }, &authors.maintainer);
    let good = good.encode();
    // Behind 40 bytes of digest and time: the kind; then the ids, and behind these the certificate.
    let (head, tail) = (&good[..40], &good[41 + 1 + 16..]);
    let body = |body: &[u8]| [head, body, tail].concat();
    let ids = |kind: u8, all: &[u8]| {
        let ids: Vec<u8> = all.iter().flat_map(|byte| [*byte; 16]).collect();
        body(&[&[kind, all.len() as u8][..], &ids].concat())
    };
    bad("kind-0", "invalid", "a kind that there is not", &ids(0, &[1]));
    bad("kind-12", "invalid", "a kind that there is not", &ids(12, &[1]));
    bad("packs-not-ascending", "invalid", "two packs in another order", &ids(1, &[2, 1]));
    bad("sessions-not-ascending", "invalid", "two sessions in another order", &ids(4, &[2, 1]));
    bad("session-twice", "invalid", "a session twice", &ids(4, &[1, 1]));
    bad("holds-not-ascending", "invalid", "two holds in another order", &ids(7, &[2, 1]));
    bad("ids-too-many", "too-much", "1,048,577 ids", &[head, &[4, 0x81, 0x80, 0x40]].concat());
    bad(
        "ids-beyond-the-end",
        "short",
        "1,048,576 that can't follow",
        &[head, &[4, 0x80, 0x80, 0x40]].concat(),
    );
    bad("count-too-long", "invalid", "one id, its count in two bytes", &{
        body(&[&[4, 0x81, 0][..], &[1; 16]].concat())
    });
    let verified = |all: &[u8]| {
        let packs: Vec<u8> =
            all.iter().flat_map(|byte| [[*byte; 16].as_slice(), &[1; 32]].concat()).collect();
        body(&[&[8, all.len() as u8][..], &packs].concat())
    };
    bad(
        "verified-not-ascending",
        "invalid",
        "two packs that were read, in another order",
        &verified(&[2, 1]),
    );
    bad("verified-twice", "invalid", "a pack that was read, twice", &verified(&[1, 1]));
    let many = [head, &[8, 0x81, 0x80, 0x10]].concat();
    bad("verified-too-many", "too-much", "262,145 packs that were read", &many);
    let many = [head, &[8, 0x80, 0x80, 0x10]].concat();
    bad("verified-beyond-the-end", "short", "262,144 that can't follow", &many);
    let hold =
        |scope: u8, id: u8, note: &[u8]| body(&[&[6][..], &[9; 16], &[scope], &[id; 16], note].concat());
    bad("hold-scope-3", "invalid", "a scope that there is not", &hold(3, 0, &[0]));
    bad("hold-all-with-an-id", "invalid", "all of what?", &hold(0, 1, &[0]));
    bad("note-not-utf8", "invalid", "a note that is not UTF-8", &hold(1, 1, &[1, 0xff]));
    bad("note-too-long", "too-much", "a note of 257 bytes", &hold(1, 1, &[0x81, 2]));
    bad("role-5", "invalid", "an author of a role that there is not", &{
        [head, &[4, 0, 5], &good[41 + 1 + 16 + 1..]].concat()
    });
    bad("padding-not-zero", "invalid", "a 1 behind the signature", &[&good[..], &[0, 1]].concat());
    let note = [head, &[6], &[9; 16], &[0], &[0; 16], &[0x80, 2], &[b'x'; 255]].concat();
    let note = bytes(sealed_unpadded(m, "log/note-beyond-the-end", &key, &note));
    g.bad("note-beyond-the-end", "short", "256 bytes that can't follow", given(m, 2), note);
    let short = sealed_unpadded(m, "log/cut-inside", &key, &good[..good.len() - 1]);
    g.bad("cut-inside", "short", "the signature's last byte is missing", given(m, 2), bytes(short));
    g.out
}

fn checkpoint(m: &Material, (certificate, seed): &Author) -> Checkpoint {
    let mut checkpoint = Checkpoint {
        entry: [1; 32],
        time: NOW,
        epoch: 1,
        name: [2; 16],
        state: vec![[3; 32]],
        index: vec![[4; 32], [5; 32]],
        certificate: certificate.clone(),
        signature: [0; sign::SIGNATURE_LEN],
    };
    checkpoint.sign(seed, m.repo, 3);
    checkpoint
}

fn sealed_checkpoint(m: &Material, name: &str, checkpoint: &Checkpoint) -> Vec<u8> {
    sealed(m, &format!("checkpoint/{name}"), &object::checkpoint_key(3), checkpoint.encode())
}

fn checkpoints(m: &Material, authors: &Authors) -> Vec<Vector> {
    let mut g = Group::new("checkpoint", "checkpoint");
    let ok = checkpoint(m, &authors.maintainer);
    let good = sealed_checkpoint(m, "ok", &ok);
    let what = "of the sweep in slot 3: a state of one part, an index of two";
    g.ok("ok", what, given(m, 3), bytes(good.clone()));
    let mut empty = Checkpoint { index: vec![], certificate: authors.owner.0.clone(), ..ok.clone() };
    empty.sign(&authors.owner.1, m.repo, 3);
    let empty = bytes(sealed_checkpoint(m, "no-index", &empty));
    g.ok("no-index", "of an index without packs, by the owner", given(m, 3), empty);

    let mut bad = |name: &str, class, what, checkpoint: &Checkpoint| {
        g.bad(name, class, what, given(m, 3), bytes(sealed_checkpoint(m, name, checkpoint)));
    };
    bad("of-a-writer", "invalid", "a writer publishes nothing", &checkpoint(m, &authors.writer));
    bad("of-a-reader", "invalid", "a reader publishes nothing", &checkpoint(m, &authors.reader));
    let mut changed = ok.clone();
    changed.sign(&authors.maintainer.1, m.repo, 2);
    bad("signature-of-another-slot", "crypto", "signed for slot 2", &changed);
    let mut changed = ok.clone();
    changed.sign(&m.lane_seed, m.repo, 3);
    bad("signature-of-another-key", "crypto", "signed by a lane", &changed);
    let mut changed = ok.clone();
    changed.signature[0] ^= 1;
    bad("signature-flipped", "crypto", "a bit of the signature", &changed);
    let mut changed = ok.clone();
    changed.epoch += 1;
    bad("epoch-changed", "crypto", "a later epoch, not signed", &changed);
    let mut changed = ok.clone();
    changed.index.swap(0, 1);
    bad("parts-swapped", "crypto", "two parts in another order, not signed", &changed);
    g.bad("of-another-place", "crypto", "under the key of slot 4", given(m, 4), bytes(good.clone()));
    let other = with(&given(m, 3), "owner", hex(&sign::public(&m.lane_seed)));
    g.bad("of-another-owner", "crypto", "certified by another owner", other, bytes(good.clone()));
    g.bad("flipped", "crypto", "a bit is changed", given(m, 3), flipped(&good, 100));
    g.bad("empty-object", "crypto", "no bytes", given(m, 3), bytes(vec![]));
    g.out
}

/// Checkpoints that open, with contents that do not decode.
fn checkpoint_bodies(m: &Material, authors: &Authors) -> Vec<Vector> {
    let mut g = Group::new("checkpoint", "checkpoint");
    let key = object::checkpoint_key(3);
    let mut bad = |name: &str, class, what, plain: &[u8]| {
        let encoded = sealed(m, &format!("checkpoint/{name}"), &key, plain.to_vec());
        g.bad(name, class, what, given(m, 3), bytes(encoded));
    };
    let good = checkpoint(m, &authors.maintainer).encode();
    let parts = |count: &[u8]| [&good[..60], count].concat();
    bad("state-parts-too-many", "too-much", "65,537 parts", &parts(&[0x81, 0x80, 0x04]));
    bad("state-parts-beyond-the-end", "short", "65,536 that can't follow", &parts(&[0x80, 0x80, 0x04]));
    let parts = |count: &[u8]| [&good[..60 + 33], count].concat();
    bad("index-parts-too-many", "too-much", "65,537 parts", &parts(&[0x81, 0x80, 0x04]));
    bad("index-parts-beyond-the-end", "short", "65,536 that can't follow", &parts(&[0x80, 0x80, 0x04]));
    bad("padding-not-zero", "invalid", "a 1 behind the signature", &[&good[..], &[1]].concat());
    let short = sealed_unpadded(m, "checkpoint/cut-inside", &key, &good[..good.len() - 1]);
    g.bad("cut-inside", "short", "the signature's last byte is missing", given(m, 3), bytes(short));
    g.out
}

/// What vectors of a part of a generation give.
fn part_given(m: &Material, part: u64) -> Value {
    json!({
        "structure": hex(m.structure.expose()),
        "repository": m.repo.to_string(),
        "slot": 3,
        "name": hex(&[2; 16]),
        "part": part,
    })
}

fn index_parts(m: &Material) -> Vec<Vector> {
    let mut g = Group::new("index-part", "index-part");
    let key = object::generation_key(3, [2; 16], 1);
    let record = |byte: u8| IndexRecord { id: [byte; 32], len: 200 };
    let copied = IndexPack {
        id: PackId([1; 16]),
        kind: PackKind::Data,
        len: 1024,
        hash: [2; 32],
        origin: m.writer,
        verified: true,
        sessions: vec![SessionId::new(0, [1; 12]), m.session],
        records: vec![record(3), record(4)],
    };
    let body = IndexDelta { packs: vec![copied] }.body();
    let good = sealed(m, "index-part/ok", &key, body.clone());
    let what = "a pack of records that two sessions have sealed and a reader has verified";
    g.ok("ok", what, part_given(m, 1), bytes(good.clone()));
    let empty = sealed(m, "index-part/empty", &key, IndexDelta::default().body());
    g.ok("empty", "a part without packs", part_given(m, 1), bytes(empty));
    g.bad("of-another-place", "crypto", "under the key of part 2", part_given(m, 2), bytes(good));
    let signed = IndexDelta::default().encode(&m.lane_seed, m.repo, &key);
    let signed = bytes(sealed(m, "index-part/signature", &key, signed));
    g.bad("signature", "invalid", "a signature behind it, as in a delta", part_given(m, 1), signed);
    let cut = bytes(sealed_unpadded(m, "index-part/cut-inside", &key, &body[..body.len() - 1]));
    g.bad("cut-inside", "short", "the last byte is missing", part_given(m, 1), cut);
    g.out
}
