//! Shared by the fuzz targets and, on stable, by tests/spec: what must hold of any bytes.
//!
//! Each function takes bytes that anyone could have written. It must not panic, and what it
//! accepts must encode to the same bytes again. Where a seal or a signature stands before the
//! decoder, the bytes are sealed or signed here, so that the decoder itself is reached.

#![allow(dead_code, unused_imports, reason = "a fuzz target uses one of these, the tests use the table")]

mod cluster;
mod links;

use std::sync::{Arc, LazyLock};

use kist::crypto::secret::Key;
use kist::crypto::{context, hash, seal, sign};
use kist::format::checkpoint::{Checkpoint, State};
use kist::format::checks::Checks;
use kist::format::codec::{Reader, Writer};
use kist::format::commit::{Commit, Resolution, fence};
use kist::format::config::{Chunker, Config};
use kist::format::entry::escape;
use kist::format::id::{KeyId, PackId, RecordId, RepoId, SlotId, SourceId};
use kist::format::index::IndexDelta;
use kist::format::keys::{
    Certificate, Domain, INFO_LEN, KeyFile, KeyName, Lock, OwnerSecrets, Role, RoleSecrets, Secrets, Slot,
    SlotInfo, Trust,
};
use kist::format::log::Entry;
use kist::format::node::{Node, NodeParts, decode_refs};
use kist::format::object;
use kist::format::pack::{RecordHeader, TRAILER_LEN, Toc, part_context};
use kist::format::session::Session;
use kist::format::summary::Summary;
use kist::format::task::{Failure, Progress, Report, Task};
use kist::repo::{Keys, MoverKeys, Repository, open_record};
use kist::store::{Store, StoreUrl};
use kist::world::{Time, fixed};

pub use cluster::{hook, manifests, owed};
pub use links::{frame, key_request, link, message, relay_answer, relay_request, wire};

/// What must hold of any bytes; panics if it does not.
type Target = fn(&[u8]);

/// Every target, by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("checkpoint", checkpoint),
    ("checks", checks),
    ("codec", codec),
    ("commit", commit),
    ("config", config),
    ("frame", frame),
    ("hook", hook),
    ("index", index),
    ("key_file", key_file),
    ("key_request", key_request),
    ("kit", kit),
    ("link", link),
    ("log", log),
    ("manifests", manifests),
    ("message", message),
    ("node", node),
    ("owed", owed),
    ("record", record),
    ("record_header", record_header),
    ("relay_answer", relay_answer),
    ("relay_request", relay_request),
    ("session", session),
    ("slot", slot),
    ("slot_contents", slot_contents),
    ("slot_info", slot_info),
    ("state", state),
    ("store_key", store_key),
    ("store_url", store_url),
    ("summary", summary),
    ("task", task),
    ("toc", toc),
    ("wire", wire),
];

const REPO: RepoId = RepoId([1; 16]);
const PACK: PackId = PackId([2; 16]);
const SLOT_ID: SlotId = SlotId([3; 16]);
const NONCE: [u8; seal::NONCE_LEN] = [4; seal::NONCE_LEN];
const INDEX_KEY: &str = "index/00000000000000000000000000000000/0-0";

fn key(byte: u8) -> Key {
    Key::new([byte; 32])
}

/// Bytes, then nothing but zeros.
fn is_padded(whole: &[u8], content: &[u8]) -> bool {
    whole.strip_prefix(content).is_some_and(|rest| rest.iter().all(|&b| b == 0))
}

/// The first byte says what the rest is read as.
pub fn codec(bytes: &[u8]) {
    let Some((how, rest)) = bytes.split_first() else { return };
    let mut input = Reader::new("fuzz", rest);
    let mut out = Writer::new();
    let read = match how % 4 {
        0 => input.varint().map(|value| out.varint(value)),
        1 => input.signed().map(|value| out.signed(value)),
        2 => input.bytes("bytes", 100).map(|value| out.bytes(value)),
        _ => input.flag("flag").map(|value| out.u8(value.into())),
    };
    if read.is_ok() {
        assert_eq!(out.into_bytes(), rest[..input.at()]);
    }
}

/// The bytes before the signature; the owner's key is put into its place, so that it can be signed.
pub fn config(bytes: &[u8]) {
    assert!(Config::decode(bytes).is_err() || bytes.len() == 147);
    let owner = key(5);
    let mut body = bytes.to_vec();
    if let Some(place) = body.get_mut(51..83) {
        place.copy_from_slice(&sign::public(&owner));
    }
    let signature = sign::sign(&owner, context::SIGN_CONFIG, &body);
    body.extend_from_slice(&signature);
    if let Ok(config) = Config::decode(&body) {
        assert_eq!(config.encode(&owner), body);
    }
}

pub fn slot(bytes: &[u8]) {
    if let Ok(slot) = Slot::decode(bytes) {
        assert_eq!(slot.encode(), bytes);
        assert!(slot.open(&key(6), REPO, SLOT_ID).is_err());
        assert!(slot.open_info(&key(6), REPO, SLOT_ID).is_err());
    }
}

const SLOT_HEADER: &[u8] = b"KISTSLOT\x01\0\x02";

/// A slot with what may be no info, and what may be no secrets.
fn sealed_slot(info: &[u8], secrets: &[u8]) -> Vec<u8> {
    let padded = |plain: &[u8], len: usize| {
        let mut out = plain.to_vec();
        out.resize(len, 0);
        out
    };
    let context = [b"kist slot info".as_slice(), &REPO.0, &SLOT_ID.0, SLOT_HEADER].concat();
    let info = seal::seal(&key(9), NONCE, &context, &padded(info, INFO_LEN));
    let context = [b"kist slot".as_slice(), &REPO.0, &SLOT_ID.0, SLOT_HEADER, &info].concat();
    let padded = padded(secrets, secrets.len().next_multiple_of(4096).max(4096));
    let secrets = seal::seal(&hash::derive(context::SLOT, &key(6), &SLOT_ID.0), NONCE, &context, &padded);
    [SLOT_HEADER, &info, &secrets].concat()
}

/// The info that a slot with these secrets gets here.
fn any_info() -> SlotInfo {
    SlotInfo {
        role: Role::Owner,
        key: KeyId::OWNER,
        serial: 0,
        domain: Domain::default_one(),
        name: String::new(),
        created: Time(0),
        trust: Trust::Own,
        unlock: key(6),
    }
}

/// Whether two slots are the same, their tags set aside. The same nonces give the same stream, so equal
/// plaintext is equal ciphertext.
fn is_same_plaintext(one: &[u8], other: &[u8]) -> bool {
    let info = SLOT_HEADER.len()..SLOT_HEADER.len() + seal::NONCE_LEN + INFO_LEN;
    let secrets = info.end + seal::TAG_LEN..one.len().min(other.len()) - seal::TAG_LEN;
    one[info.clone()] == other[info] && one[secrets.clone()] == other[secrets]
}

/// The secrets in a slot, padding included.
pub fn slot_contents(bytes: &[u8]) {
    // As `any_info` is encoded: owner, zeros, trust own, the unlock key.
    let info = [&[1][..], &[0; 44], &[1], &[6; 32]].concat();
    let whole = sealed_slot(&info, bytes);
    let Ok(slot) = Slot::decode(&whole) else { return };
    let Ok(secrets) = slot.open(&key(6), REPO, SLOT_ID) else { return };
    let again = Slot::seal(Lock::KeyFile, (REPO, SLOT_ID), &key(9), &any_info(), &secrets, [NONCE; 2]);
    assert!(is_same_plaintext(&again.encode(), &whole));
}

fn owner_secrets() -> Secrets {
    let owner = OwnerSecrets { root: key(5), epochs: vec![], like: None };
    Secrets { config_digest: [0; 32], holds: RoleSecrets::Owner(Box::new(owner)) }
}

/// The info of a slot, padding included.
pub fn slot_info(bytes: &[u8]) {
    if bytes.len() > INFO_LEN {
        return;
    }
    let whole = sealed_slot(bytes, &[]);
    let slot = Slot::decode(&whole).expect("it was made so");
    let Ok(info) = slot.open_info(&key(9), REPO, SLOT_ID) else { return };
    let again = Slot::seal(Lock::KeyFile, (REPO, SLOT_ID), &key(9), &info, &owner_secrets(), [NONCE; 2]);
    let info = SLOT_HEADER.len()..SLOT_HEADER.len() + INFO_LEN + seal::OVERHEAD;
    assert_eq!(again.encode()[info.clone()], whole[info]);
}

/// A kit as it was typed.
pub fn kit(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(file) = KeyFile::from_kit(text) {
        assert_eq!(KeyFile::from_kit(&file.to_kit()).as_ref(), Ok(&file));
    }
}

pub fn key_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(file) = KeyFile::parse(text) {
        let again = file.to_text("comment");
        assert_eq!(KeyFile::parse(&again).as_ref(), Ok(&file));
        let line = again.lines().nth(1).expect("a comment and a line");
        assert!(text.lines().any(|found| found.trim() == line));
    }
}

pub fn session(bytes: &[u8]) {
    if let Ok(session) = Session::decode(bytes) {
        assert!(is_padded(bytes, &session.encode()));
    }
}

pub fn commit(bytes: &[u8]) {
    match Resolution::decode(bytes) {
        Ok(Resolution::Commit(commit)) => assert!(is_padded(bytes, &Commit::encode(&commit))),
        Ok(Resolution::Fence) => assert!(is_padded(bytes, &fence())),
        Ok(Resolution::Repack(repack)) => assert!(is_padded(bytes, &repack.encode())),
        Err(_) => {}
    }
}

pub fn summary(bytes: &[u8]) {
    if let Ok(summary) = serde_json::from_slice::<Summary>(bytes) {
        let again = serde_json::to_vec(&summary).expect("a summary is JSON");
        assert_eq!(serde_json::from_slice::<Summary>(&again).expect("what was written"), summary);
    }
}

/// An entry of the gc log.
pub fn log(bytes: &[u8]) {
    if let Ok(entry) = Entry::decode(bytes) {
        assert!(is_padded(bytes, &entry.encode()));
    }
}

pub fn checkpoint(bytes: &[u8]) {
    if let Ok(checkpoint) = Checkpoint::decode(bytes) {
        assert!(is_padded(bytes, &checkpoint.encode()));
    }
}

/// What checks have read.
pub fn checks(bytes: &[u8]) {
    if let Ok(checks) = Checks::decode(bytes) {
        assert!(is_padded(bytes, &checks.encode()));
    }
}

/// The state of a checkpoint, its pieces put together; or one piece.
pub fn state(bytes: &[u8]) {
    if let Ok(piece) = State::piece(bytes) {
        let mut again = Writer::new();
        again.bytes(piece);
        assert!(is_padded(bytes, &again.into_bytes()));
    }
    if let Ok(state) = State::decode(bytes) {
        assert_eq!(state.encode(), bytes);
        let pieces = state.pieces();
        let pieces = pieces.iter().map(|piece| State::piece(piece).expect("what was written"));
        assert_eq!(pieces.collect::<Vec<_>>().concat(), bytes);
    }
}

/// What job and mover tell each other in JSON.
pub fn task(bytes: &[u8]) {
    if let Ok(task) = Task::decode(bytes) {
        let again = task.encode();
        let back = Task::decode(&again).expect("what was written");
        assert!(back.config == task.config && back.direct == task.direct);
        assert!(back.keys == task.keys && back.work == task.work);
    }
    if let Ok(report) = Report::decode(bytes) {
        assert_eq!(Report::decode(&report.encode()).expect("what was written"), report);
    }
    if let Ok(failure) = Failure::decode(bytes) {
        assert_eq!(Failure::decode(&failure.encode()).expect("what was written"), failure);
    }
    if let Ok(progress) = Progress::decode(bytes) {
        assert_eq!(Progress::decode(&progress.encode()).expect("what was written"), progress);
    }
}

/// The packs of a delta, before the signature; or of a part of a generation.
pub fn index(bytes: &[u8]) {
    if let Ok(part) = IndexDelta::decode_part(bytes) {
        assert!(is_padded(bytes, &part.body()));
    }
    let lane = key(7);
    let message = [&REPO.0[..], INDEX_KEY.as_bytes(), &[0], &hash::plain(bytes)].concat();
    let signature = sign::sign(&lane, context::SIGN_INDEX, &message);
    let signed = [bytes, &signature].concat();
    if let Ok(delta) = IndexDelta::decode(&signed, &sign::public(&lane), REPO, INDEX_KEY) {
        assert_eq!(delta.encode(&lane, REPO, INDEX_KEY), signed);
    }
}

/// The plaintext of a record's header.
pub fn record_header(bytes: &[u8]) {
    let bound_to = [b"kist record header".as_slice(), &REPO.0].concat();
    let sealed = seal::seal(&key(8), NONCE, &bound_to, bytes);
    if let Ok(header) = RecordHeader::open(&key(8), REPO, &sealed) {
        let mut again = Vec::new();
        header.seal_into(&mut again, &key(8), REPO, NONCE);
        assert_eq!(again, sealed);
        assert!(header.record_len() <= 2 * (16 << 20));
    }
}

/// A reader's keys; all that matters of them is the structure key.
static KEYS: LazyLock<Arc<Keys>> = LazyLock::new(|| {
    let owner = key(5);
    let config = Config { repo: REPO, features: 0, chunker: Chunker::DEFAULT, owner: sign::public(&owner) };
    let names = (Role::Reader, KeyId([6; 16]), Domain::default_one().id(), 0);
    let keys = MoverKeys {
        certificate: Certificate::issue(&owner, REPO, names, sign::public(&key(7)), ""),
        structure: key(8),
        id: key(9),
        chunker: key(10),
        meta: (KeyName::Meta { scope: KeyId([6; 16]), source: SourceId([7; 16]) }, key(11)),
    };
    Repository::at_mover(Store::memory(), config, keys, None, fixed::world(1, Time(0))).keys
});

/// A record: the plaintext of its header, then what is sealed in its parts, compressed or not.
pub fn record(bytes: &[u8]) {
    let Some((header, mut rest)) = bytes.split_at_checked(84) else { return };
    let bound_to = [b"kist record header".as_slice(), &REPO.0].concat();
    let mut record = seal::seal(&key(8), NONCE, &bound_to, header);
    let Ok(header) = RecordHeader::open(&key(8), REPO, &record) else { return };
    for (number, part) in header.parts.iter().enumerate().filter(|(_, part)| part.stored_len > 0) {
        let (plain, behind) = rest.split_at((part.stored_len as usize - seal::OVERHEAD).min(rest.len()));
        rest = behind;
        let is_refs = number == 0 && matches!(header.id, RecordId::Node(_));
        let context = part_context(REPO, &header.id, number as u8, &header.key);
        let sealed = seal::seal(&key(if is_refs { 8 } else { 12 }), NONCE, &context, plain);
        record.extend_from_slice(&sealed);
    }
    if let Ok(parts) = open_record(&KEYS, &header.id, &record, |_| Ok(Some(key(12)))) {
        let lens: Vec<usize> = header.parts.iter().map(|part| part.raw_len as usize).collect();
        assert!(parts.iter().map(Vec::len).eq(lens[..parts.len()].iter().copied()));
    }
}

/// The plaintext of a table of contents, behind 64 KiB of pack.
pub fn toc(bytes: &[u8]) {
    let about = |what: &[u8]| [what, &REPO.0, &PACK.0].concat();
    let toc = seal::seal(&key(8), NONCE, &about(b"kist pack toc"), bytes);
    let len = (toc.len() as u32).to_le_bytes();
    let trailer = seal::seal(&key(8), NONCE, &about(b"kist pack trailer"), &len);
    let pack = [&[0; 65_536][..], &toc, &trailer].concat();
    if let Ok(found) = Toc::open(&key(8), REPO, PACK, &pack) {
        let mut again = Vec::new();
        found.finish(&mut again, &key(8), (REPO, PACK), [NONCE; 2], |fill| fill.fill(0));
        assert_eq!(again[again.len() - toc.len() - TRAILER_LEN..], pack[65_536..]);
    }
}

/// A node: u32 length of the references ‖ references ‖ entries.
pub fn node(bytes: &[u8]) {
    let Some((len, rest)) = bytes.split_first_chunk() else { return };
    let Some((refs, entries)) = rest.split_at_checked(u32::from_le_bytes(*len) as usize) else { return };
    let _ = decode_refs(refs);
    let parts = NodeParts { refs: refs.to_vec(), entries: entries.to_vec() };
    let Ok(node) = Node::decode(&parts) else { return };
    assert_eq!(node.encode(), parts);
    if let Node::Leaf(entries) = &node {
        for entry in entries {
            let shown = entry.path.to_string();
            assert!(shown.starts_with('/') && !shown.contains(char::is_control));
            assert!(entry.path.components().all(|name| !matches!(name, b"" | b"." | b"..")));
            assert!(
                entry.path.is_root() || entry.path.is_within(&entry.path.parent().expect("not the root"))
            );
            let _ = escape(entry.path.name());
        }
    }
}

/// A key in a listing of the store.
pub fn store_key(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(session) = object::parse_session(object::SESSIONS, text) {
        assert_eq!(object::session_key(session), text);
    }
    if let Some(session) = object::parse_session(object::COMMITS, text) {
        assert_eq!(object::commit_key(session), text);
    }
    if let Some((session, lane)) = object::parse_index(text) {
        assert!(text.starts_with(object::index_key(session, lane, 0).trim_end_matches('0')));
    }
    let is_slot = |folder, key: fn(u64) -> String| {
        object::parse_slot(folder, text).is_none_or(|slot| key(slot) == text)
    };
    assert!(is_slot(object::GC_LOG, object::log_key));
    assert!(is_slot(object::CHECKPOINTS, object::checkpoint_key));
    assert!(is_slot(object::CHECKS, object::checks_key));
}

pub fn store_url(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(url) = StoreUrl::parse(text) {
        let again = StoreUrl::parse(&url.to_string());
        assert_eq!(again.expect("a URL as it is shown can be parsed"), url, "{text:?}");
    }
}
