//! `config`, slots and key files.

use kist::crypto::kdf::Params;
use kist::crypto::secret::{Key, Passphrase};
use kist::crypto::{context, hash, kdf, seal, sign};
use kist::format::config::{self, Chunker, Config};
use kist::format::id::{KeyId, hex};
use kist::format::keys::{KeyFile, Lock, RoleSecrets, Secrets, Slot, WriterSecrets};
use serde_json::json;

use crate::make::{Group, bytes, cut, flipped, with};
use crate::material::{Material, draw};
use crate::vector::{Encoded, Vector};

pub fn all(m: &Material) -> Vec<Vector> {
    [configs(m), slots(m), slot_contents(m), key_files(m)].concat()
}

fn sample(m: &Material) -> Config {
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
    bad("version-1", "version", "of a later version", signed(8, &[1, 0]));
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

fn writer(m: &Material) -> RoleSecrets {
    RoleSecrets::Writer(Box::new(WriterSecrets {
        certificate: m.certificate.clone(),
        signing: m.writer_seed.clone(),
        id: m.id_key.clone(),
        chunker: m.chunker.clone(),
        structure: m.structure.clone(),
        meta_scope: m.meta_scope.clone(),
        recipients: vec![m.recipient.clone()],
    }))
}

fn pin(m: &Material) -> [u8; 32] {
    config::digest(&sample(m).encode(&m.owner_seed))
}

fn slots(m: &Material) -> Vec<Vector> {
    let mut g = Group::new("slot", "slot");
    let owner = Secrets { config_digest: pin(m), holds: RoleSecrets::Owner { root: m.root.clone() } };
    let world = draw("slot/owner-passphrase");
    let (id, salt) = (KeyId(world.bytes()), world.bytes());
    let lock = Lock::Passphrase { params: Params::CHEAP, salt };
    let unlock = kdf::passphrase_key(&Passphrase::new(b"a slow green lorry".to_vec()), &salt, Params::CHEAP);
    let unlock = unlock.expect("cheap parameters are allowed");
    let passphrase = Slot::seal(lock, &unlock, m.repo, id, &owner, world.bytes()).encode();
    let place = json!({"repository": m.repo.to_string(), "key_id": id.to_string()});
    let given = with(&place, "passphrase", "a slow green lorry");
    g.ok("owner-passphrase", "an owner's slot, under a passphrase", given.clone(), bytes(passphrase.clone()));
    let line = with(&place, "passphrase", "a slow green lorry\n");
    let what = "a line end behind the passphrase is not part of it";
    g.ok("owner-passphrase-line-end", what, line, bytes(passphrase.clone()));

    let world = draw("slot/writer-key-file");
    let unlock = Key::new(world.bytes());
    let writer = Secrets { config_digest: pin(m), holds: writer(m) };
    let file = Slot::seal(Lock::KeyFile, &unlock, m.repo, m.writer, &writer, world.bytes()).encode();
    let file_given = json!({
        "repository": m.repo.to_string(),
        "key_id": m.writer.to_string(),
        "unlock": hex(unlock.expose()),
    });
    g.ok("writer-key-file", "a writer's slot, under a key file", file_given.clone(), bytes(file.clone()));

    let wrong = with(&place, "passphrase", "a slow green lorry ");
    g.bad("passphrase-wrong", "crypto", "another passphrase", wrong, bytes(passphrase.clone()));
    let mut bad = |name, class, what, encoded| g.bad(name, class, what, given.clone(), encoded);
    bad("memory-changed", "crypto", "asks for 65 KiB, not 64", flipped(&passphrase, 11));
    let huge = |at: usize, value: u32| {
        let mut out = passphrase.clone();
        out[at..at + 4].copy_from_slice(&value.to_le_bytes());
        bytes(out)
    };
    bad("memory-too-much", "crypto", "asks for 2 GiB and 1 KiB", huge(11, 2 * 1024 * 1024 + 1));
    bad("passes-too-many", "crypto", "asks for 65 passes", huge(15, 65));
    bad("lanes-too-many", "crypto", "asks for 17 lanes", huge(19, 17));
    bad("magic-wrong", "magic", "not a slot", flipped(&passphrase, 7));
    bad("version-1", "version", "of a later version", flipped(&passphrase, 8));
    bad("lock-unknown", "invalid", "lock 3", {
        let mut out = passphrase.clone();
        out[10] = 3;
        bytes(out)
    });
    bad("header-cut", "short", "ends within the header", bytes(passphrase[..30].to_vec()));
    bad("cut", "invalid", "the last byte is missing", cut(&passphrase, 1));
    bad("sealed-part-empty", "invalid", "no secrets", bytes(passphrase[..39 + 40].to_vec()));
    let mut file_bad = |name, class, what, given, encoded| g.bad(name, class, what, given, encoded);
    let elsewhere = with(&file_given, "key_id", "00".repeat(16));
    file_bad("of-another-place", "crypto", "under another key id", elsewhere, bytes(file.clone()));
    let other = with(&file_given, "repository", "00".repeat(16));
    file_bad("of-another-repository", "crypto", "in another repository", other, bytes(file.clone()));
    file_bad("tag-flipped", "crypto", "the last bit is changed", file_given, flipped(&file, file.len() - 1));
    g.out
}

/// Slots that open, with contents that are not allowed.
fn slot_contents(m: &Material) -> Vec<Vector> {
    let mut g = Group::new("slot", "slot");
    let world = draw("slot/contents");
    let unlock = Key::new(world.bytes());
    let given = json!({
        "repository": m.repo.to_string(),
        "key_id": m.writer.to_string(),
        "unlock": hex(unlock.expose()),
    });
    let header = b"KISTSLOT\0\0\x02";
    let context = [b"kist slot".as_slice(), &m.repo.0, &m.writer.0, header].concat();
    let key = hash::derive(context::SLOT, &unlock, &m.writer.0);
    let nonce = world.bytes();
    let slot = |contents: &[u8]| {
        let mut plain = contents.to_vec();
        plain.resize(plain.len().next_multiple_of(4096), 0);
        bytes([&header[..], &seal::seal(&key, nonce, &context, &plain)].concat())
    };
    let owner = [&[7; 32][..], &[1], &[8; 32]].concat();
    g.ok("owner-by-hand", "an owner's secrets", given.clone(), slot(&owner));
    let mut bad = |name, class, what, contents: &[u8]| {
        g.bad(name, class, what, given.clone(), slot(contents));
    };
    bad("padding-not-zero", "invalid", "a 1 behind the secrets", &[&owner[..], &[1]].concat());
    bad("role-maintainer", "invalid", "role 3 has no slots yet", &[&[7; 32][..], &[3]].concat());
    bad("role-reader", "invalid", "role 4 has no slots yet", &[&[7; 32][..], &[4]].concat());
    bad("role-unknown", "invalid", "role 5", &[&[7; 32][..], &[5]].concat());
    let certificate = |name: &[u8]| [&[2; 1][..], &[0; 16], &[0; 16], &[0; 32], name, &[0; 64]].concat();
    let long = [&[65][..], &[b'x'; 65]].concat();
    let writer = |name: &[u8]| [&[7; 32][..], &[2], &certificate(name)].concat();
    bad("name-too-long", "too-much", "a name of 65 bytes", &writer(&long));
    bad("name-not-utf8", "invalid", "a name that is not UTF-8", &writer(&[1, 0xff]));
    let recipients = [&writer(&[1, b'x'])[..], &[9; 160], &[65]].concat();
    bad("recipients-too-many", "too-much", "65 recipients", &recipients);
    let short = [&writer(&[1, b'x'])[..], &[9; 160], &[64]].concat();
    bad("recipients-beyond-the-end", "short", "64 recipients that can't follow", &short);
    g.out
}

fn key_files(m: &Material) -> Vec<Vector> {
    let mut g = Group::new("keyfile", "key-file");
    let given = json!({"comment": "kist key of shop: writer"});
    let file = KeyFile { repo: m.repo, slot: m.writer, unlock: Key::new(draw("keyfile/ok").bytes()) };
    let good = file.to_text("kist key of shop: writer").to_string();
    let text = |text: String| Encoded::Text(text);
    g.ok("ok", "a comment and the key", given.clone(), text(good.clone()));
    let mut bad = |name, class, what, changed| g.bad(name, class, what, given.clone(), text(changed));
    let line = good.lines().nth(1).expect("the key's line").to_owned();
    let body = line.strip_prefix("kist-key-0:").expect("the mark");
    let last = if line.ends_with('0') { "1" } else { "0" };
    bad("check-wrong", "invalid", "the last digit is changed", format!("{}{last}", &line[..line.len() - 1]));
    bad("capitals", "invalid", "hex in capitals", format!("kist-key-0:{}", body.to_uppercase()));
    bad("mark-of-another-version", "invalid", "kist-key-1", format!("kist-key-1:{body}"));
    bad("mark-missing", "invalid", "hex only", body.to_owned());
    bad("only-comments", "invalid", "no key in it", "# nothing\n\n# here\n".into());
    bad("empty", "invalid", "no bytes", String::new());
    bad("cut", "short", "the check is missing", line[..line.len() - 8].to_owned());
    bad("odd", "invalid", "half a byte is missing", line[..line.len() - 1].to_owned());
    bad("left-over", "left-over", "a byte behind the check", format!("{line}00"));
    g.out
}
