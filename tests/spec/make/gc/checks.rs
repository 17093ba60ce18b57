//! What checks have read: ranges of the ids of packs.

use kist::crypto::sign;
use kist::format::checks::{Checks, Range};
use kist::format::object;
use kist::world::Time;
use serde_json::{Value, json};

use super::{Author, Authors};
use crate::make::{Group, bytes, flipped, sealed, sealed_unpadded, with};
use crate::material::{Material, NOW};
use crate::vector::Vector;
use kist::format::id::hex;

pub fn all(m: &Material, authors: &Authors) -> Vec<Vector> {
    let mut out = states(m, authors);
    out.extend(bodies(m, authors));
    out
}

fn given(m: &Material, number: u64) -> Value {
    json!({
        "structure": hex(m.structure.expose()),
        "repository": m.repo.to_string(),
        "owner": hex(&m.owner),
        "number": number,
    })
}

fn range(first: u32, last: u32, since: i64) -> Range {
    Range { first, last, since: Time(since), upto: Time(since + 1) }
}

fn state(m: &Material, (certificate, seed): &Author, hashed: Vec<Range>, opened: Vec<Range>) -> Checks {
    let (certificate, signature) = (certificate.clone(), [0; sign::SIGNATURE_LEN]);
    let mut checks = Checks { time: NOW, hashed, opened, certificate, signature };
    checks.sign(seed, m.repo, 2);
    checks
}

fn sound(m: &Material, author: &Author) -> Checks {
    let hashed = vec![range(0, 99, 5), range(100, 199, 6), range(0xffff_0000, u32::MAX, 6)];
    state(m, author, hashed, vec![range(100, 149, 6)])
}

fn sealed_state(m: &Material, name: &str, checks: &Checks) -> Vec<u8> {
    sealed(m, &format!("checks/{name}"), &object::checks_key(2), checks.encode())
}

fn states(m: &Material, authors: &Authors) -> Vec<Vector> {
    let mut g = Group::new("checks", "checks");
    let ok = sound(m, &authors.reader);
    let good = sealed_state(m, "ok", &ok);
    g.ok("ok", "three ranges hashed, one opened, by a reader", given(m, 2), bytes(good.clone()));
    let nothing = state(m, &authors.maintainer, vec![], vec![]);
    let nothing = bytes(sealed_state(m, "nothing", &nothing));
    g.ok("nothing", "nothing was read, by a maintainer", given(m, 2), nothing);
    let mut bad = |name: &str, class, what, checks: &Checks| {
        g.bad(name, class, what, given(m, 2), bytes(sealed_state(m, name, checks)));
    };
    bad("of-a-writer", "invalid", "a writer says not what was read", &sound(m, &authors.writer));
    let mut changed = ok.clone();
    changed.sign(&authors.reader.1, m.repo, 1);
    bad("signature-of-another-number", "crypto", "signed as the first one", &changed);
    let mut changed = ok.clone();
    changed.signature[0] ^= 1;
    bad("signature-flipped", "crypto", "a bit of the signature", &changed);
    let mut changed = ok.clone();
    changed.hashed[0].since = Time(6);
    bad("time-changed", "crypto", "a later time, not signed", &changed);
    let ranges = |ranges: &[Range]| state(m, &authors.reader, ranges.to_vec(), vec![]);
    bad("range-backwards", "invalid", "a range that ends before it begins", &ranges(&[range(9, 8, 5)]));
    let overlap = [range(0, 9, 5), range(9, 12, 6)];
    bad("ranges-overlap", "invalid", "two ranges that share a place", &ranges(&overlap));
    let order = [range(10, 19, 5), range(0, 5, 6)];
    bad("ranges-not-ascending", "invalid", "two ranges in another order", &ranges(&order));
    let joined = [range(0, 9, 5), range(10, 12, 5)];
    bad("ranges-not-joined", "invalid", "two ranges that could be one", &ranges(&joined));
    g.bad("of-another-place", "crypto", "under the key of the third one", given(m, 3), bytes(good.clone()));
    let other = with(&given(m, 2), "owner", hex(&sign::public(&m.lane_seed)));
    g.bad("of-another-owner", "crypto", "certified by another owner", other, bytes(good.clone()));
    g.bad("flipped", "crypto", "a bit is changed", given(m, 2), flipped(&good, 100));
    g.bad("empty-object", "crypto", "no bytes", given(m, 2), bytes(vec![]));
    g.out
}

/// What opens, with contents that do not decode.
fn bodies(m: &Material, authors: &Authors) -> Vec<Vector> {
    let mut g = Group::new("checks", "checks");
    let key = object::checks_key(2);
    let mut bad = |name: &str, class, what, plain: &[u8]| {
        let encoded = sealed(m, &format!("checks/{name}"), &key, plain.to_vec());
        g.bad(name, class, what, given(m, 2), bytes(encoded));
    };
    let good = sound(m, &authors.reader).encode();
    let ranges = |count: &[u8]| [&good[..8], count].concat();
    bad("ranges-too-many", "too-much", "4,097 ranges", &ranges(&[0x81, 0x20]));
    bad("ranges-beyond-the-end", "short", "4,096 that can't follow", &ranges(&[0x80, 0x20]));
    bad("padding-not-zero", "invalid", "a 1 behind the signature", &[&good[..], &[1]].concat());
    let short = sealed_unpadded(m, "checks/cut-inside", &key, &good[..good.len() - 1]);
    g.bad("cut-inside", "short", "the signature's last byte is missing", given(m, 2), bytes(short));
    g.out
}
