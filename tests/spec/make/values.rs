//! Numbers, padding, derivations, ids, the gear table and cuts.

use kist::crypto::hash;
use kist::format::entry::{Attributes, Entry, Kind, TreePath};
use kist::format::id::hex;
use kist::format::node::{NODE_MAX_BYTES, NODE_MIN_BYTES, Node};
use serde_json::{Value, json};

use crate::check::join_node;
use crate::make::{Group, bytes};
use crate::material::{Material, source};
use crate::vector::{Encoded, Vector};

pub fn all(m: &Material) -> Vec<Vector> {
    let mut out = numbers();
    out.extend(derivations(m));
    out.extend(cuts(m));
    out
}

fn numbers() -> Vec<Vector> {
    let mut g = Group::new("varint", "varint");
    for (name, encoded) in [
        ("zero", vec![0]),
        ("127", vec![0x7f]),
        ("128", vec![0x80, 1]),
        ("300", vec![0xac, 2]),
        ("u32-max", vec![0xff, 0xff, 0xff, 0xff, 0x0f]),
        ("u64-max", [vec![0xff; 9], vec![1]].concat()),
    ] {
        g.ok(name, "a number", Value::Null, bytes(encoded));
    }
    let mut bad = |name, class, what, encoded| g.bad(name, class, what, Value::Null, bytes(encoded));
    bad("too-long", "invalid", "0 in two bytes", vec![0x80, 0]);
    bad("too-long-in-the-end", "invalid", "128 in three bytes", vec![0x80, 0x81, 0]);
    bad("beyond-64-bits", "invalid", "2^64", [vec![0x80; 9], vec![2]].concat());
    bad("eleven-bytes", "invalid", "an eleventh byte", [vec![0xff; 9], vec![0x81, 1]].concat());
    bad("cut", "short", "ends before its last byte", vec![0x80]);
    bad("empty", "short", "no bytes", vec![]);
    bad("left-over", "left-over", "a byte behind it", vec![1, 1]);

    let mut s = Group::new("signed", "signed");
    for (name, encoded) in [
        ("zero", vec![0]),
        ("minus-one", vec![1]),
        ("one", vec![2]),
        ("minus-64", vec![0x7f]),
        ("64", vec![0x80, 1]),
        ("i64-min", [vec![0xff; 9], vec![1]].concat()),
        ("i64-max", [vec![0xfe], vec![0xff; 8], vec![1]].concat()),
    ] {
        s.ok(name, "a signed number", Value::Null, bytes(encoded));
    }
    s.bad("too-long", "invalid", "0 in two bytes", Value::Null, bytes(vec![0x80, 0]));

    let mut p = Group::new("padding", "padded");
    let mut lengths = vec![0, 1, 511, 512, 513, 16_384, 16_385, 20_000, 65_536, 65_537];
    lengths.extend([1 << 20, (1 << 20) + 1, (1 << 21) + 1, (1 << 22) + 1, 16 << 20, (16 << 20) + 1]);
    p.ok("sizes", "what lengths are padded to", json!({"lengths": lengths}), Encoded::None);
    [g.out, s.out, p.out].concat()
}

fn derivations(m: &Material) -> Vec<Vector> {
    let mut keys = Group::new("derive", "derive");
    let given = json!({
        "root": hex(m.root.expose()),
        "domain": "00".repeat(16),
        "domain_name": "shop",
        "key_id": m.writer.to_string(),
        "source": m.source.to_string(),
        "unlock": hex(m.lane_key.expose()),
        "slot_id": "5a".repeat(16),
    });
    keys.ok("keys", "every derived key, from the root and names", given, Encoded::None);

    let folder = Entry { path: TreePath::root(), attributes: Attributes::default(), kind: Kind::Folder };
    let mut ids = Group::new("derive", "ids");
    let given = json!({
        "id_key": hex(m.id_key.expose()),
        "key_id": m.writer.to_string(),
        "content": hex(b"kist"),
        "path": "etc/hosts",
        "source": source(),
        "node": hex(&join_node(&Node::Leaf(vec![folder]).encode())),
    });
    ids.ok("ids", "ids of a chunk, a file, a link group, a source of files and a node", given, Encoded::None);
    let given = json!({
        "id_key": hex(m.id_key.expose()),
        "key_id": "00".repeat(16),
        "content": "",
        "path": "",
        "source": {"type": "cluster", "cluster": "0d9f6b1a-1f9e-4c1b-8f77-4a3c7f9f2d11", "object": "shop"},
        "node": hex(&join_node(&Node::Leaf(vec![]).encode())),
    });
    ids.ok("ids-of-nothing", "the same of empty things, and of a source in a cluster", given, Encoded::None);

    let mut gear = Group::new("derive", "gear");
    let given = json!({"chunker_key": hex(m.chunker.expose())});
    gear.ok("gear", "words of the gear table, and BLAKE3 of all of it", given, Encoded::None);
    [keys.out, ids.out, gear.out].concat()
}

fn cuts(m: &Material) -> Vec<Vector> {
    let mut g = Group::new("cut", "cuts");
    let given = |sizes: [u32; 3], corpus: u32, zeros: [u32; 2]| {
        json!({
            "chunker_key": hex(m.chunker.expose()),
            "min_bytes": sizes[0],
            "avg_bytes": sizes[1],
            "max_bytes": sizes[2],
            "seed": 7,
            "corpus_bytes": corpus,
            "zeros_from": zeros[0],
            "zeros_to": zeros[1],
        })
    };
    let usual = [256 << 10, 1 << 20, 4 << 20];
    let what = "lengths of the chunks of call 0 of the seed, a range of it zeros";
    g.ok("usual-sizes", what, given(usual, (16 << 20) + 1, [3 << 20, 9 << 20]), Encoded::None);
    g.ok("small-sizes", what, given([1024, 4096, 16_384], 256 << 10, [1000, 50_001]), Encoded::None);
    g.ok("uneven-average", what, given([2048, 6002, 30_000], 200_001, [0, 0]), Encoded::None);
    g.ok("shorter-than-the-smallest", what, given(usual, 1000, [0, 0]), Encoded::None);

    let mut n = Group::new("cut", "node-cuts");
    let mut paths: Vec<Value> = (0..48).map(|i| json!([i % 3, format!("srv/f{i}"), 6000, 40_000])).collect();
    paths.push(json!([0, "srv", 300_000, NODE_MIN_BYTES - 1]));
    paths.push(json!([0, "srv", 300_000, NODE_MIN_BYTES]));
    paths.push(json!([0, "srv", 1, NODE_MAX_BYTES - 1]));
    paths.push(json!([0, "srv", 1, NODE_MAX_BYTES]));
    paths.push(json!([1, "", 49_152, 20_000]));
    let id = |i: u32| hex(&hash::plain(&i.to_le_bytes()));
    let mut extents: Vec<Value> = (0..1500).step_by(100).map(|i| json!([0, id(i), 100])).collect();
    let first = first_extent_cut(m);
    extents.extend([json!([0, id(first), 63]), json!([0, id(first), 64]), json!([1, id(first), 64])]);
    extents.extend([json!([0, id(0), 4095]), json!([0, id(0), 4096])]);
    let given = json!({"chunker_key": hex(m.chunker.expose()), "paths": paths, "extents": extents});
    let what = "whether a node ends behind [level, path, bytes of the item, bytes of the node], \
                and behind [level, id, items]";
    n.ok("nodes", what, given, Encoded::None);
    [g.out, n.out].concat()
}

/// The first of the ids above behind which an extent node ends.
fn first_extent_cut(m: &Material) -> u32 {
    let key = hash::derive(kist::crypto::context::NODE_CUT, &m.chunker, b"");
    let cut = kist::format::node::NodeCut::new(key);
    let ends = |i: &u32| cut.ends_extent_node(0, &hash::plain(&i.to_le_bytes()), 64);
    (0..100_000).find(ends).expect("one in 512 ends a node")
}
