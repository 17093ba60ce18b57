//! Sessions and commits.

use kist::crypto::secret::Key;
use kist::crypto::{hash, seal, sign};
use kist::format::commit::{Commit, Root, RootKind, summary_context};
use kist::format::id::{DomainId, NodeId, SessionId, SourceId, hex};
use kist::format::keys::{Certificate, Role};
use kist::format::limits;
use kist::format::object;
use kist::format::session::{Lane, Session, wrap_lane};
use kist::format::summary::{Counts, Missing, Summary};
use serde_json::Value;

use crate::make::{Group, bytes, cut, flipped, place, sealed, sealed_unpadded, with};
use crate::material::{Material, NOW, draw, source};
use crate::vector::Vector;

pub fn all(m: &Material) -> Vec<Vector> {
    [sessions(m), session_bodies(m), commits(m), commit_bodies(m)].concat()
}

fn given(m: &Material) -> Value {
    with(&place(m), "owner", hex(&m.owner))
}

fn session(m: &Material) -> Session {
    let world = draw("session/ok");
    let recipients = [m.recipient.clone()];
    let lane = |number: u32, data: &Key, signing: &Key| {
        let place = (m.repo, m.session, number);
        let keys = wrap_lane(place, data, &recipients, world.random.as_ref()).expect("a good recipient");
        Lane { signing: sign::public(signing), keys }
    };
    let lanes = vec![lane(0, &m.lane_key, &m.lane_seed), lane(1, &Key::new([1; 32]), &Key::new([2; 32]))];
    let certificate = m.certificate.clone();
    let mut session = Session { started: NOW, certificate, lanes, signature: [0; 64] };
    session.sign(&m.writer_seed, m.repo, m.session);
    session
}

fn sessions(m: &Material) -> Vec<Vector> {
    let mut g = Group::new("session", "session");
    let given = with(&given(m), "recipient_seed", hex(m.recipient_seed.expose()));
    let key = object::session_key(m.session);
    let ok = session(m);
    let good = sealed(m, "session/ok", &key, ok.encode());
    g.ok("ok", "a session of two lanes with one recipient", given.clone(), bytes(good.clone()));
    let mut none = Session { lanes: vec![], ..ok.clone() };
    none.sign(&m.writer_seed, m.repo, m.session);
    let none = bytes(sealed(m, "session/no-lanes", &key, none.encode()));
    g.ok("no-lanes", "a session of no lanes", given.clone(), none);

    let other = with(&given, "session", SessionId([0; 16]).to_string());
    g.bad("of-another-place", "crypto", "under another session's key", other, bytes(good.clone()));
    let other = with(&given, "owner", hex(&sign::public(&m.lane_seed)));
    g.bad("of-another-owner", "crypto", "certified by another owner", other, bytes(good.clone()));
    let other = with(&given, "recipient_seed", hex(m.lane_seed.expose()));
    g.bad("recipient-unknown", "crypto", "no key for this recipient", other, bytes(good.clone()));
    let mut bad = |name: &str, what, change: &dyn Fn(&mut Session), resign: bool| {
        let mut session = ok.clone();
        change(&mut session);
        if resign {
            session.sign(&m.writer_seed, m.repo, m.session);
        }
        let encoded = sealed(m, &format!("session/{name}"), &key, session.encode());
        g.bad(name, "crypto", what, given.clone(), bytes(encoded));
    };
    bad("signature-flipped", "a bit of the signature", &|s| s.signature[0] ^= 1, false);
    bad("time-changed", "a later time, not signed", &|s| s.started.0 += 1, false);
    bad("lanes-swapped", "each lane has the other's key", &|s| s.lanes.swap(0, 1), true);
    bad("wrap-flipped", "a bit of a wrapped key", &|s| s.lanes[0].keys[0].wrapped[1119] ^= 1, true);
    bad("certificate-forged", "another name in it", &|s| s.certificate.name.push('x'), true);
    bad(
        "certificate-of-another-key",
        "signed by the wrong writer",
        &|s| {
            let names = (Role::Writer, m.writer, DomainId::DEFAULT, 0);
            s.certificate = Certificate::issue(&m.owner_seed, m.repo, names, sign::public(&m.lane_seed), "x");
        },
        true,
    );
    let mut of_role = |name: &str, role: Role, class: Option<&str>, what: &str| {
        let of = (role, m.writer, DomainId::DEFAULT, 3);
        let certificate = Certificate::issue(&m.owner_seed, m.repo, of, sign::public(&m.writer_seed), "x");
        let mut session = Session { certificate, ..ok.clone() };
        session.sign(&m.writer_seed, m.repo, m.session);
        let encoded = bytes(sealed(m, &format!("session/{name}"), &key, session.encode()));
        match class {
            None => g.ok(name, what, given.clone(), encoded),
            Some(class) => g.bad(name, class, what, given.clone(), encoded),
        }
    };
    of_role("of-a-maintainer", Role::Maintainer, None, "a maintainer's, of serial 3: it packs records anew");
    of_role("of-a-reader", Role::Reader, Some("invalid"), "a reader begins no session");
    let flip = flipped(&good, good.len() - 1);
    g.bad("flipped", "crypto", "a bit is changed", given.clone(), flip);
    g.bad("cut", "crypto", "the last byte is missing", given, cut(&good, 1));
    g.out
}

/// Sessions that open, with contents that do not decode.
fn session_bodies(m: &Material) -> Vec<Vector> {
    let mut g = Group::new("session", "session");
    let given = with(&given(m), "recipient_seed", hex(m.recipient_seed.expose()));
    let key = object::session_key(m.session);
    let mut bad = |name: &str, class, what, plain: Vec<u8>| {
        let encoded = sealed(m, &format!("session/{name}"), &key, plain);
        g.bad(name, class, what, given.clone(), bytes(encoded));
    };
    let good = session(m).encode();
    bad("padding-not-zero", "invalid", "a 1 behind the signature", [&good[..], &[0, 1]].concat());
    let change = |at: usize, new: u8| {
        let mut out = good.clone();
        out[at] = new;
        out
    };
    bad("role-unknown", "invalid", "role 5", change(8, 5));
    bad("name-not-utf8", "invalid", "a name that is not UTF-8", change(8 + 70, 0xff));
    let head = &good[..8 + 69 + 1 + 4 + 64];
    let lanes = |tail: &[u8]| [head, tail].concat();
    bad("lanes-too-many", "too-much", "16,385 lanes", lanes(&[0x81, 0x80, 0x01]));
    bad("lanes-beyond-the-end", "short", "16,384 lanes that can't follow", lanes(&[0x80, 0x80, 0x01]));
    let recipients = |count: u8| lanes(&[&[1][..], &[9; 32], &[count]].concat());
    bad("recipients-too-many", "too-much", "65 recipients", recipients(65));
    bad("recipients-beyond-the-end", "short", "64 recipients that can't follow", recipients(64));
    let name = sealed_unpadded(m, "session/cut-inside", &key, &good[..good.len() - 1]);
    g.bad("cut-inside", "short", "the signature's last byte is missing", given, bytes(name));
    g.out
}

fn summary(m: &Material) -> Vec<u8> {
    let counts =
        Counts { entries: 3, files: 1, bytes: 17, read_bytes: 17, new_bytes: 17, stored_bytes: 2048 };
    let summary = Summary {
        version: 1,
        kist: "0.0.1".into(),
        source: source(),
        tags: vec!["nightly".into()],
        parent: None,
        counts,
        missing: vec![Missing { what: "/srv/key".into(), why: "permission denied".into() }],
        more_missing: 0,
        sparse: Default::default(),
        cluster: None,
        copied_from: None,
    };
    let json = serde_json::to_vec(&summary).expect("a summary is JSON");
    seal::seal(&m.meta_key, draw("commit/summary").bytes(), &summary_context(m.repo, m.session), &json)
}

fn commit(m: &Material) -> Commit {
    let mut commit = Commit {
        view: 0,
        head: [0; 32],
        time: NOW,
        source: m.source,
        complete: false,
        sequence: 1,
        previous: [0; 32],
        class: vec![],
        held: false,
        roots: vec![Root { kind: RootKind::Files, source: m.source, node: NodeId([6; 32]) }],
        summary: summary(m),
        certificate: m.certificate.clone(),
        signature: [0; 64],
    };
    commit.sign(&m.writer_seed, m.repo, m.session);
    commit
}

fn commits(m: &Material) -> Vec<Vector> {
    let mut g = Group::new("commit", "commit");
    let given = with(&given(m), "meta_key", hex(m.meta_key.expose()));
    let key = object::commit_key(m.session);
    let ok = commit(m);
    let good = sealed(m, "commit/ok", &key, ok.encode());
    g.ok("ok", "a writer's first commit, of files, incomplete", given.clone(), bytes(good.clone()));
    let mut cluster = Commit { view: 7, head: [5; 32], complete: true, sequence: 2, ..ok.clone() };
    cluster.previous = hash::plain(&good);
    let root = |kind, byte: u8| Root { kind, source: SourceId([byte; 16]), node: NodeId([byte; 32]) };
    cluster.roots = vec![root(RootKind::Manifests, 1), root(RootKind::Volume, 2), root(RootKind::Volume, 3)];
    cluster.sign(&m.writer_seed, m.repo, m.session);
    let cluster = bytes(sealed(m, "commit/cluster", &key, cluster.encode()));
    g.ok("cluster", "a second commit, of manifests and two volumes, complete", given.clone(), cluster);
    let mut held = Commit { class: vec![9; limits::CLASS_LEN], held: true, ..ok.clone() };
    held.sign(&m.writer_seed, m.repo, m.session);
    let held = bytes(sealed(m, "commit/held", &key, held.encode()));
    g.ok("held", "of a retention class of the most bytes, and held from the start", given.clone(), held);
    let fence = bytes(sealed(m, "commit/fence", &key, vec![2]));
    g.ok("fence", "a fence: the session never commits", given.clone(), fence);

    let other = with(&given, "session", SessionId([0; 16]).to_string());
    g.bad("of-another-place", "crypto", "under another session's key", other, bytes(good.clone()));
    let other = with(&given, "owner", hex(&sign::public(&m.lane_seed)));
    g.bad("of-another-owner", "crypto", "certified by another owner", other, bytes(good.clone()));
    let other = with(&given, "meta_key", hex(m.lane_key.expose()));
    g.bad("summary-of-another-key", "crypto", "sealed with another meta key", other, bytes(good.clone()));
    let of = (Role::Maintainer, m.writer, DomainId::DEFAULT, 0);
    let certificate = Certificate::issue(&m.owner_seed, m.repo, of, sign::public(&m.writer_seed), "x");
    let mut other = Commit { certificate, ..ok.clone() };
    other.sign(&m.writer_seed, m.repo, m.session);
    let other = bytes(sealed(m, "commit/of-a-maintainer", &key, other.encode()));
    g.bad("of-a-maintainer", "invalid", "a maintainer adds no snapshot", given.clone(), other);
    let mut bad = |name: &str, what, commit: &Commit| {
        let encoded = sealed(m, &format!("commit/{name}"), &key, commit.encode());
        g.bad(name, "crypto", what, given.clone(), bytes(encoded));
    };
    let mut changed = ok.clone();
    changed.signature[63] ^= 1;
    bad("signature-flipped", "a bit of the signature", &changed);
    let mut changed = ok.clone();
    changed.complete = true;
    bad("complete-changed", "says complete, not signed", &changed);
    let mut changed = ok.clone();
    changed.sign(&m.writer_seed, m.repo, SessionId([0; 16]));
    bad("signature-of-another-session", "signed for another session", &changed);
    let mut changed = ok.clone();
    changed.sign(&m.lane_seed, m.repo, m.session);
    bad("signature-of-another-key", "signed by a lane", &changed);
    g.bad("flipped", "crypto", "a bit is changed", given.clone(), flipped(&good, 77));
    g.bad("empty-object", "crypto", "no bytes", given, bytes(vec![]));
    g.out
}

/// Commits that open, with contents that do not decode.
fn commit_bodies(m: &Material) -> Vec<Vector> {
    let mut g = Group::new("commit", "commit");
    let given = with(&given(m), "meta_key", hex(m.meta_key.expose()));
    let key = object::commit_key(m.session);
    let mut bad = |name: &str, class, what, plain: Vec<u8>| {
        let encoded = sealed(m, &format!("commit/{name}"), &key, plain);
        g.bad(name, class, what, given.clone(), bytes(encoded));
    };
    let good = commit(m).encode();
    let change = |at: usize, new: u8| {
        let mut out = good.clone();
        out[at] = new;
        out
    };
    bad("kind-unknown", "invalid", "neither commit nor fence nor repack", change(0, 4));
    bad("complete-2", "invalid", "a flag of 2", change(65, 2));
    bad("class-too-long", "too-much", "a retention class of 65 bytes", change(106, 65));
    bad("held-2", "invalid", "a flag of 2", change(107, 2));
    bad("root-kind-unknown", "invalid", "root kind 4", change(109, 4));
    bad("padding-not-zero", "invalid", "a 1 behind the signature", [&good[..], &[1]].concat());
    bad("fence-left-over", "invalid", "a fence with something behind it", vec![2, 0, 1]);
    let roots = |count: &[u8]| [&good[..108], count].concat();
    bad("roots-too-many", "too-much", "65,537 roots", roots(&[0x81, 0x80, 0x04]));
    bad("roots-beyond-the-end", "short", "65,536 roots that can't follow", roots(&[0x80, 0x80, 0x04]));
    let summary = |len: &[u8]| [&good[..109 + 49], len].concat();
    bad("summary-too-long", "too-much", "16 MiB and 41 bytes", summary(&[0xa9, 0x80, 0x80, 0x08]));
    bad("summary-beyond-the-end", "short", "16 MiB that can't follow", summary(&[0x80, 0x80, 0x80, 0x08]));
    let class = [&good[..106], &[64], &[7; 63]].concat();
    let class = bytes(sealed_unpadded(m, "commit/class-beyond-the-end", &key, &class));
    g.bad("class-beyond-the-end", "short", "64 bytes that can't follow", given.clone(), class);
    let short = sealed_unpadded(m, "commit/cut-inside", &key, &good[..good.len() - 1]);
    g.bad("cut-inside", "short", "the signature's last byte is missing", given, bytes(short));
    g.out
}
