//! `config`, key files and kits.

use kist::crypto::secret::Key;
use kist::crypto::{context, sign};
use kist::format::config::{self, Chunker, Config};
use kist::format::id::{SlotId, hex};
use kist::format::keys::KeyFile;
use serde_json::json;

use crate::make::{Group, bytes, cut, flipped};
use crate::material::{Material, draw};
use crate::vector::{Encoded, Vector};

const SLOT: SlotId = SlotId([0x5a; 16]);

pub fn all(m: &Material) -> Vec<Vector> {
    [configs(m), key_files(m), kits(m)].concat()
}

pub fn sample(m: &Material) -> Config {
    Config { repo: m.repo, features: 0, chunker: Chunker::DEFAULT, owner: m.owner }
}

fn configs(m: &Material) -> Vec<Vector> {
    let mut g = Group::new("config", "config");
    let given = json!({"owner_seed": hex(m.owner_seed.expose())});
    let good = sample(m).encode(&m.owner_seed);
    g.ok("ok", "a config as init writes it", given.clone(), bytes(good.clone()));
    let single = Config { features: config::FEATURE_SINGLE_WRITER, ..sample(m) };
    let what = "a repository in a store that can't create exclusively";
    g.ok("single-writer", what, given.clone(), bytes(single.encode(&m.owner_seed)));

    let mut bad = |name, class, what, encoded| g.bad(name, class, what, given.clone(), encoded);
    bad("signature-flipped", "crypto", "a bit of the signature is changed", flipped(&good, 100));
    bad("repository-flipped", "crypto", "a bit of the signed bytes is changed", flipped(&good, 12));
    bad("owner-flipped", "crypto", "the key that it names is not the one that signed", flipped(&good, 51));
    bad("magic-wrong", "magic", "not a config", flipped(&good, 0));
    bad("empty", "magic", "no bytes", bytes(vec![]));
    bad("cut", "short", "the last byte is missing", cut(&good, 1));
    bad("left-over", "left-over", "a byte behind the signature", bytes([&good[..], &[0]].concat()));
    let signed = |at: usize, new: &[u8]| {
        let mut body = good[..83].to_vec();
        body[at..at + new.len()].copy_from_slice(new);
        let signature = sign::sign(&m.owner_seed, context::SIGN_CONFIG, &body);
        bytes([&body[..], &signature].concat())
    };
    bad("version-0", "version", "of the version before the first", signed(8, &[0, 0]));
    bad("version-2", "version", "of a later version", signed(8, &[2, 0]));
    bad("feature-unknown", "features", "needs feature bit 1", signed(26, &[2]));
    bad("chunker-reserved", "invalid", "chunker 2 is reserved", signed(34, &[2]));
    bad("chunk-size-odd", "invalid", "the smallest chunk is odd", signed(35, &[1]));
    let sizes = |all: [u32; 4]| signed(35, &all.map(u32::to_le_bytes).concat());
    bad("chunk-sizes-equal", "invalid", "smallest = average", sizes([4096, 4096, 8192, 0]));
    bad("chunk-too-small", "invalid", "smallest below 1,024", sizes([1022, 4096, 8192, 0]));
    bad(
        "chunk-average-too-large",
        "invalid",
        "average beyond 4 MiB",
        sizes([4096, (4 << 20) + 2, 16 << 20, 0]),
    );
    bad("chunk-too-large", "invalid", "largest beyond 16 MiB", sizes([4096, 8192, (16 << 20) + 2, 0]));
    bad(
        "bundle-too-large",
        "invalid",
        "bundle below beyond the largest",
        sizes([4096, 8192, 16_384, 16_385]),
    );
    g.out
}

fn key_files(m: &Material) -> Vec<Vector> {
    let mut g = Group::new("keyfile", "key-file");
    let given = json!({"comment": "kist key of shop: writer"});
    let file = KeyFile { repo: m.repo, slot: SLOT, unlock: Key::new(draw("keyfile/ok").bytes()) };
    let good = file.to_text("kist key of shop: writer").to_string();
    let text = |text: String| Encoded::Text(text);
    g.ok("ok", "a comment and the key", given.clone(), text(good.clone()));
    let mut bad = |name, class, what, changed| g.bad(name, class, what, given.clone(), text(changed));
    let line = good.lines().nth(1).expect("the key's line").to_owned();
    let body = line.strip_prefix("kist-key-1:").expect("the mark");
    let last = if line.ends_with('0') { "1" } else { "0" };
    bad("check-wrong", "invalid", "the last digit is changed", format!("{}{last}", &line[..line.len() - 1]));
    bad("capitals", "invalid", "hex in capitals", format!("kist-key-1:{}", body.to_uppercase()));
    bad("mark-of-another-version", "invalid", "kist-key-2", format!("kist-key-2:{body}"));
    bad("mark-missing", "invalid", "hex only", body.to_owned());
    bad("only-comments", "invalid", "no key in it", "# nothing\n\n# here\n".into());
    bad("empty", "invalid", "no bytes", String::new());
    bad("cut", "short", "the check is missing", line[..line.len() - 8].to_owned());
    bad("odd", "invalid", "half a byte is missing", line[..line.len() - 1].to_owned());
    bad("left-over", "left-over", "a byte behind the check", format!("{line}00"));
    g.out
}

fn kits(m: &Material) -> Vec<Vector> {
    let mut g = Group::new("kit", "kit");
    let file = KeyFile { repo: m.repo, slot: SLOT, unlock: Key::new(draw("keyfile/ok").bytes()) };
    let good = file.to_kit().to_string();
    let none = || json!({});
    g.ok("ok", "the key file of keyfile/ok", none(), Encoded::Text(good.clone()));
    let lines: Vec<String> = good.lines().map(str::to_owned).collect();
    let mut bad = |name, what, at: usize, line: String| {
        let mut lines = lines.clone();
        lines[at] = line;
        g.bad(name, "invalid", what, none(), Encoded::Text(lines.join("\n")));
    };
    let last = if lines[2].ends_with('0') { "1" } else { "0" };
    bad("sign-changed", "the last sign of line 3 is another", 2, format!("{}{last}", &lines[2][..21]));
    bad("line-swapped", "line 5 has what line 6 has", 4, format!("5{}", &lines[5][1..]));
    bad("line-missing", "no line 8", 7, String::new());
    bad("line-twice", "line 2 is there twice", 2, lines[1].clone());
    bad("line-short", "line 3 lacks its last sign", 2, lines[2][..21].to_owned());
    bad("line-long", "line 3 has a sign more", 2, format!("{}0", lines[2]));
    bad("sign-unknown", "a U in line 3", 2, format!("{}U", &lines[2][..21]));
    g.out
}
