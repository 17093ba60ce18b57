//! Slots: of each role, and what is wrong with their headers, infos and secrets.

use kist::crypto::kdf::Params;
use kist::crypto::secret::{Key, Passphrase};
use kist::crypto::{context, hash, kdf, seal, sign};
use kist::format::config;
use kist::format::id::{KeyId, SlotId, hex};
use kist::format::keys::{
    Bundle, Certificate, Domain, IdKeys, Lock, OwnerSecrets, ReaderSecrets, Role, RoleSecrets, Secrets, Slot,
    SlotInfo, Trust, WriterSecrets,
};
use serde_json::{Value, json};

use crate::make::keys::sample;
use crate::make::{Group, bytes, cut, flipped, with};
use crate::material::{Material, NOW, draw};
use crate::vector::{Encoded, Vector};

const ID: SlotId = SlotId([0x5a; 16]);
const HEADER: &[u8] = b"KISTSLOT\x01\0\x02";

pub fn all(m: &Material) -> Vec<Vector> {
    [roles(m), headers(m), infos(m), contents(m)].concat()
}

fn ids(m: &Material) -> IdKeys {
    IdKeys { id: m.id_key.clone(), chunker: m.chunker.clone() }
}

/// What an owner's slot is sealed with, and what it holds.
fn owner(m: &Material, unlock: Key) -> (SlotInfo, Secrets) {
    let info = SlotInfo {
        role: Role::Owner,
        key: KeyId::OWNER,
        serial: 0,
        domain: Domain::default_one(),
        name: "owner".into(),
        created: NOW,
        trust: Trust::Own,
        unlock,
    };
    let holds =
        RoleSecrets::Owner(Box::new(OwnerSecrets { root: m.root.clone(), epochs: vec![], like: None }));
    (info, Secrets { config_digest: config::digest(&sample(m).encode(&m.owner_seed)), holds })
}

/// The same of another role. But for the certificate the keys are those of the default domain, whose name
/// is not the domain's that is given.
fn bundle(m: &Material, role: Role, domain: &Domain, unlock: Key) -> (SlotInfo, Secrets) {
    let (info, secrets) = owner(m, unlock);
    let of = (role, m.writer, domain.id(), 3);
    let certificate = Certificate::issue(&m.owner_seed, m.repo, of, sign::public(&m.writer_seed), "shop");
    let signing = m.writer_seed.clone();
    let bundle = Bundle { certificate, domain: domain.clone(), signing, structure: m.structure.clone() };
    let trust = if role == Role::Writer { Trust::Shared } else { Trust::Own };
    let holds = match role {
        Role::Writer => RoleSecrets::Writer(Box::new(WriterSecrets {
            bundle,
            ids: ids(m),
            meta_scope: m.meta_scope.clone(),
            trust,
            recipients: vec![m.recipient.clone()],
        })),
        Role::Reader => RoleSecrets::Reader(Box::new(ReaderSecrets {
            bundle,
            ids: ids(m),
            meta_root: m.meta_root.clone(),
            seeds: vec![m.recipient_seed.clone(), m.lane_key.clone()],
        })),
        Role::Maintainer | Role::Owner => RoleSecrets::Maintainer(Box::new(bundle)),
    };
    let (key, domain, name) = (m.writer, domain.clone(), "shop".into());
    let info = SlotInfo { role, key, serial: 3, domain, name, trust, ..info };
    (info, Secrets { holds, ..secrets })
}

/// A slot under a key file, and what a reader of it is given.
fn sealed(m: &Material, name: &str, make: impl Fn(Key) -> (SlotInfo, Secrets)) -> (Value, Vec<u8>) {
    let world = draw(&format!("slot/{name}"));
    let unlock = Key::new(world.bytes());
    let (info, secrets) = make(unlock.clone());
    let nonces = [world.bytes(), world.bytes()];
    let slot = Slot::seal(Lock::KeyFile, (m.repo, ID), &m.info_key, &info, &secrets, nonces);
    (given(m, &unlock), slot.encode())
}

fn given(m: &Material, unlock: &Key) -> Value {
    json!({
        "repository": m.repo.to_string(),
        "slot_id": ID.to_string(),
        "unlock": hex(unlock.expose()),
        "info_key": hex(m.info_key.expose()),
    })
}

fn roles(m: &Material) -> Vec<Vector> {
    let mut g = Group::new("slot", "slot");
    let mut ok = |name: &str, what: &str, make: &dyn Fn(Key) -> (SlotInfo, Secrets)| {
        let (given, slot) = sealed(m, name, make);
        g.ok(name, what, given, bytes(slot));
    };
    let (default, shop) = (Domain::default_one(), Domain::named(&m.root, "shop").expect("a name"));
    ok("owner-key-file", "an owner's, under a key file", &|unlock| owner(m, unlock));
    ok("owner-of-epochs-and-like", "an owner's, with two later epochs and keys taken over", &|unlock| {
        let (info, secrets) = owner(m, unlock);
        let epochs = vec![m.lane_key.clone(), m.lane_seed.clone()];
        let holds = OwnerSecrets { root: m.root.clone(), epochs, like: Some(ids(m)) };
        (info, Secrets { holds: RoleSecrets::Owner(Box::new(holds)), ..secrets })
    });
    ok("writer", "a writer's, of the default domain", &|unlock| bundle(m, Role::Writer, &default, unlock));
    ok("writer-of-a-domain", "a writer's, of a domain with a name", &|unlock| {
        bundle(m, Role::Writer, &shop, unlock)
    });
    ok("maintainer", "a maintainer's", &|unlock| bundle(m, Role::Maintainer, &default, unlock));
    ok("reader", "a reader's, of two epochs", &|unlock| bundle(m, Role::Reader, &shop, unlock));
    g.out
}

fn headers(m: &Material) -> Vec<Vector> {
    let mut g = Group::new("slot", "slot");
    let world = draw("slot/owner-passphrase");
    let salt = world.bytes();
    let lock = Lock::Passphrase { params: Params::CHEAP, salt };
    let unlock = kdf::passphrase_key(&Passphrase::new(b"a slow green lorry".to_vec()), &salt, Params::CHEAP);
    let (info, secrets) = owner(m, unlock.expect("cheap parameters are allowed"));
    let nonces = [world.bytes(), world.bytes()];
    let passphrase = Slot::seal(lock, (m.repo, ID), &m.info_key, &info, &secrets, nonces).encode();
    let mut place = given(m, &info.unlock);
    place.as_object_mut().expect("made so").remove("unlock");
    let given = with(&place, "passphrase", "a slow green lorry");
    g.ok("owner-passphrase", "an owner's slot, under a passphrase", given.clone(), bytes(passphrase.clone()));
    let line = with(&place, "passphrase", "a slow green lorry\n");
    let what = "a line end behind the passphrase is not part of it";
    g.ok("owner-passphrase-line-end", what, line, bytes(passphrase.clone()));

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
    bad("version-0", "version", "of the version before the first", flipped(&passphrase, 8));
    bad("version-2", "version", "of a later version", {
        let mut out = passphrase.clone();
        out[8] = 2;
        bytes(out)
    });
    bad("lock-unknown", "invalid", "lock 3", {
        let mut out = passphrase.clone();
        out[10] = 3;
        bytes(out)
    });
    bad("header-cut", "short", "ends within the header", bytes(passphrase[..30].to_vec()));
    bad("info-cut", "short", "ends within the info", bytes(passphrase[..39 + 295].to_vec()));
    bad("cut", "invalid", "the last byte is missing", cut(&passphrase, 1));
    bad("secrets-empty", "invalid", "no secrets", bytes(passphrase[..39 + 296 + 40].to_vec()));

    let (given, file) = sealed(m, "writer", |unlock| bundle(m, Role::Writer, &Domain::default_one(), unlock));
    let (_, other) = sealed(m, "reader", |unlock| bundle(m, Role::Reader, &Domain::default_one(), unlock));
    let mut bad = |name, what, given: &Value, encoded| g.bad(name, "crypto", what, given.clone(), encoded);
    let elsewhere = with(&given, "slot_id", "00".repeat(16));
    bad("of-another-place", "under another slot id", &elsewhere, bytes(file.clone()));
    let elsewhere = with(&given, "repository", "00".repeat(16));
    bad("of-another-repository", "in another repository", &elsewhere, bytes(file.clone()));
    let epoch = with(&given, "info_key", hex(m.lane_key.expose()));
    bad("info-of-another-epoch", "the info key is another epoch's", &epoch, bytes(file.clone()));
    bad("info-flipped", "a bit of the info is changed", &given, flipped(&file, 11 + 100));
    bad("tag-flipped", "the last bit is changed", &given, flipped(&file, file.len() - 1));
    let mixed = [&file[..11], &other[11..11 + 296], &file[11 + 296..]].concat();
    bad("info-of-another-slot", "a sound info, but not the one of these secrets", &given, bytes(mixed));
    g.out
}

/// A slot with what may be no info and what may be no secrets.
fn by_hand(m: &Material, name: &str, info: &[u8], secrets: &[u8]) -> (Value, Encoded) {
    let world = draw(&format!("slot/{name}"));
    let unlock = Key::new(world.bytes());
    let sealed = |key: &Key, context: &[&[u8]], plain: &[u8], len: usize| {
        let mut plain = plain.to_vec();
        plain.resize(len, 0);
        seal::seal(key, world.bytes(), &context.concat(), &plain)
    };
    // The unlock key stands in each info.
    let mut info = info.to_vec();
    if let Some(place) = info.get_mut(46..78) {
        place.copy_from_slice(unlock.expose());
    }
    let info = sealed(&m.info_key, &[b"kist slot info", &m.repo.0, &ID.0, HEADER], &info, 256);
    let key = hash::derive(context::SLOT, &unlock, &ID.0);
    let context: [&[u8]; 5] = [b"kist slot", &m.repo.0, &ID.0, HEADER, &info];
    let secrets = sealed(&key, &context, secrets, secrets.len().next_multiple_of(4096));
    (given(m, &unlock), bytes([HEADER, &info, &secrets].concat()))
}

/// An info: role, domain id, trust, what follows the unlock key.
fn info(role: u8, domain: u8, trust: u8, names: &[u8]) -> Vec<u8> {
    let domain = [domain; 16];
    [&[role][..], &[0; 16], &[0; 4], &domain, &[0; 8], &[trust], &[0; 32], names].concat()
}

/// An owner's secrets: pin, role, root, no epochs, not like another.
const OWNER: [u8; 67] = {
    let mut out = [7; 67];
    out[32] = 1;
    (out[65], out[66]) = (0, 0);
    out
};

fn infos(m: &Material) -> Vec<Vector> {
    let mut g = Group::new("slot", "slot");
    let (given, encoded) = by_hand(m, "owner-by-hand", &info(1, 0, 1, &[0, 1, b'x']), &OWNER);
    g.ok("owner-by-hand", "an owner's", given, encoded);
    let mut bad = |name, class, what, info: &[u8]| {
        let (given, encoded) = by_hand(m, name, info, &OWNER);
        g.bad(name, class, what, given, encoded);
    };
    bad("info-padding-not-zero", "invalid", "a 1 behind the name", &info(1, 0, 1, &[0, 1, b'x', 1]));
    bad("info-role-unknown", "invalid", "role 5", &info(5, 0, 1, &[0, 0]));
    bad("info-trust-unknown", "invalid", "trust 3", &info(2, 0, 3, &[0, 0]));
    bad("info-name-not-utf8", "invalid", "a name that is not UTF-8", &info(2, 0, 1, &[0, 1, 0xff]));
    let long = [&[0, 65][..], &[b'x'; 65]].concat();
    bad("info-name-too-long", "too-much", "a name of 65 bytes", &info(2, 0, 1, &long));
    let long = [&[65][..], &[b'x'; 65]].concat();
    bad("info-domain-name-too-long", "too-much", "a domain's name of 65 bytes", &info(2, 9, 1, &long));
    bad("info-domain-nameless", "invalid", "a domain without a name", &info(2, 9, 1, &[0, 0]));
    bad("info-domain-named", "invalid", "a name of the default domain", &info(2, 0, 1, &[1, b'x', 0]));
    bad("info-domain-name-odd", "invalid", "a slash in a domain's name", &info(2, 9, 1, &[1, b'/', 0]));
    let default = [&[7][..], b"default", &[0]].concat();
    bad("info-domain-name-default", "invalid", "a domain with the name `default`", &info(2, 9, 1, &default));
    g.out
}

/// Secrets that open and are not allowed.
fn contents(m: &Material) -> Vec<Vector> {
    let mut g = Group::new("slot", "slot");
    let mut bad = |name, class, what, contents: &[u8]| {
        let (given, encoded) = by_hand(m, name, &info(1, 0, 1, &[0, 0]), contents);
        g.bad(name, class, what, given, encoded);
    };
    let of = |role: u8, rest: &[u8]| [&[7; 32][..], &[role], rest].concat();
    let owner = &OWNER[..];
    bad("padding-not-zero", "invalid", "a 1 behind the secrets", &[owner, &[1]].concat());
    bad("role-unknown", "invalid", "role 5", &of(5, &[]));
    bad("epochs-too-many", "too-much", "64 epochs behind the first", &of(1, &[&[8; 32][..], &[64]].concat()));
    bad("like-flag-2", "invalid", "a flag of 2", &of(1, &[&[8; 32][..], &[0, 2]].concat()));
    let certificate = |role: u8, domain: u8, name: &[u8]| {
        [&[role][..], &[0; 16], &[domain; 16], &[0; 4], &[0; 32], name, &[0; 64]].concat()
    };
    let long = [&[65][..], &[b'x'; 65]].concat();
    bad("name-too-long", "too-much", "a name of 65 bytes", &of(2, &certificate(2, 0, &long)));
    bad("name-not-utf8", "invalid", "a name that is not UTF-8", &of(2, &certificate(2, 0, &[1, 0xff])));
    let x = |role: u8, domain: u8| certificate(role, domain, &[1, b'x']);
    bad("certificate-of-another-role", "invalid", "a reader's in a writer's slot", &of(2, &x(4, 0)));
    bad(
        "domain-named",
        "invalid",
        "a name of the default domain",
        &of(3, &[&x(3, 0)[..], &[1, b'x']].concat()),
    );
    bad("domain-nameless", "invalid", "a domain without a name", &of(3, &[&x(3, 9)[..], &[0]].concat()));
    // Signing, structure, id, chunker, meta scope.
    let writer = |trust: u8, count: u8| [&x(2, 0)[..], &[0], &[9; 160], &[trust, count]].concat();
    bad("trust-unknown", "invalid", "trust 3", &of(2, &writer(3, 0)));
    bad("recipients-too-many", "too-much", "65 recipients", &of(2, &writer(1, 65)));
    bad("recipients-beyond-the-end", "short", "64 recipients that can't follow", &of(2, &writer(1, 64)));
    let reader = |count: u8| of(4, &[&x(4, 0)[..], &[0], &[9; 160], &[count]].concat());
    bad("seeds-too-many", "too-much", "65 seeds", &reader(65));
    g.out
}
