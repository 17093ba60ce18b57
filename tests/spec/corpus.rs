//! The fuzz corpora, run as ordinary tests: they need no nightly and no cargo-fuzz.
//!
//! `fuzz/decoders.rs` is the same file that the fuzz targets use. Seeds are made from the
//! vectors (`KIST_VECTORS=write`); what a fuzzer found later lies beside them.

use std::io::Write;
use std::path::{Path, PathBuf};

use kist::crypto::seal;
use kist::crypto::secret::Key;
use kist::format::checkpoint::State;
use kist::format::frame::opening;
use kist::format::id::{RepoId, SessionId, hex};
use kist::format::object;

use crate::check::{part_key, slot_plain};
use crate::decoders::TARGETS;
use crate::make;
use crate::material::draw;
use crate::vector::{Encoded, Vector};

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The files of a target's corpus, by name.
pub fn files(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = fuzz().join("corpus").join(target);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let read = |file: std::io::Result<std::fs::DirEntry>| {
        let file = file.expect("a file's entry");
        let bytes = std::fs::read(file.path()).expect("a readable file");
        (file.file_name().to_string_lossy().into_owned(), bytes)
    };
    let mut files: Vec<_> = files.map(read).collect();
    files.sort();
    files
}

/// Writes a file that is not there; never changes one.
pub fn write_new(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder");
    match std::fs::OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(bytes).expect("a written file"),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(e) => panic!("{}: {e}", path.display()),
    }
}

#[test]
fn every_corpus_file_passes_its_decoder() {
    seed();
    for (name, decode) in TARGETS {
        let files = files(name);
        assert!(!files.is_empty(), "{name}: its corpus is empty");
        for (file, bytes) in files {
            let passed = std::panic::catch_unwind(|| decode(&bytes));
            assert!(passed.is_ok(), "{name}/{file}");
        }
    }
}

/// A little of what the fuzzer does, the same in each run.
#[test]
fn every_corpus_file_passes_its_decoder_with_bytes_changed_cut_and_doubled() {
    seed();
    for (name, decode) in TARGETS {
        for (file, bytes) in files(name) {
            let world = draw(&file);
            for round in 0..40 {
                let changed = mutated(&bytes, world.bytes());
                let passed = std::panic::catch_unwind(|| decode(&changed));
                assert!(passed.is_ok(), "{name}/{file}: round {round}: {}", hex(&changed));
            }
        }
    }
}

/// One to three small changes: a byte, a bit, a cut, a stretch again, a large number.
pub fn mutated(bytes: &[u8], random: [u8; 16]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for change in random[..15].chunks(5).take(1 + usize::from(random[15] % 3)) {
        let at = u16::from_le_bytes([change[0], change[1]]) as usize % (out.len() + 1);
        match (change[2] % 5, out.get_mut(at)) {
            (0, Some(byte)) => *byte = change[3],
            (1, Some(byte)) => *byte ^= 1 << (change[3] % 8),
            (2, _) => out.truncate(at),
            (3, _) => {
                let again = out[at..out.len().min(at + usize::from(change[3]))].to_vec();
                out.splice(at..at, again);
            }
            (_, _) => drop(out.splice(at..at, [0xff; 9].into_iter().take(usize::from(change[3] % 10)))),
        }
    }
    out
}

#[test]
fn every_decoder_has_a_fuzz_target_and_a_corpus_and_nothing_else_has() {
    seed();
    let names = |folder: &str| {
        let entries = std::fs::read_dir(fuzz().join(folder)).expect("a folder");
        let stem = |e: std::io::Result<std::fs::DirEntry>| {
            let path = e.expect("an entry").path();
            path.file_stem().expect("a name").to_string_lossy().into_owned()
        };
        let mut names: Vec<String> = entries.map(stem).collect();
        names.sort();
        names
    };
    let targets: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names("fuzz_targets"), targets);
    assert_eq!(names("corpus"), targets);
    let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).expect("fuzz/Cargo.toml");
    for name in targets {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in fuzz/Cargo.toml");
        let target =
            std::fs::read_to_string(fuzz().join(format!("fuzz_targets/{name}.rs"))).expect("a target");
        assert!(target.contains(&format!("decoders::{name}(data)")), "{name}: calls another decoder");
    }
}

/// With `KIST_VECTORS=write`: writes the seeds that are not there, once.
pub fn seed() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        if std::env::var_os("KIST_VECTORS").is_none_or(|value| value != "write") {
            return;
        }
        let urls = ["/srv/kist", "file:///srv/kist", "s3://bucket/a/b?endpoint=http://[::1]:9000&region=x"];
        for (number, url) in urls.iter().enumerate() {
            write_new(&fuzz().join(format!("corpus/store_url/seed-{number}")), url.as_bytes());
        }
        for vector in make::all() {
            for (target, bytes) in seeds(&vector) {
                let name = vector.name.replace('/', "-");
                write_new(&fuzz().join("corpus").join(target).join(name), &bytes);
            }
        }
    });
}

/// What a vector is to the fuzz targets: without its seal, without its padding, without its signature.
fn seeds(v: &Vector) -> Vec<(&'static str, Vec<u8>)> {
    let bytes = match &v.encoded {
        Encoded::None => return vec![],
        Encoded::Text(text) => {
            let target = if v.form == "kit" { "kit" } else { "key_file" };
            return vec![(target, text.clone().into_bytes())];
        }
        Encoded::Bytes(bytes) => bytes.clone(),
    };
    let open = |key: String| {
        let (structure, repo) = (Key::new(v.hex("structure")), RepoId(v.hex("repository")));
        let mut plain = object::open_object("seed", &structure, repo, &key, &bytes).ok()?;
        plain.truncate(plain.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1));
        Some(plain)
    };
    let session = || SessionId(v.hex("session"));
    let seed = match v.form.as_str() {
        "varint" => Some(("codec", [&[0], &bytes[..]].concat())),
        "signed" => Some(("codec", [&[1], &bytes[..]].concat())),
        "config" => Some(("config", bytes[..bytes.len().min(83)].to_vec())),
        "slot" => {
            let [info, secrets] = slot_plain(v);
            let info = info.map(|plain| ("slot_info", plain));
            let secrets = secrets.map(|plain| ("slot_contents", plain));
            return info.into_iter().chain(secrets).chain([("slot", bytes)]).collect();
        }
        "record-header" => opened(v, b"kist record header", &[], &bytes).map(|p| ("record_header", p)),
        "pack" => toc_plain(v, &bytes).map(|plain| ("toc", plain)),
        "index" => open(object::index_key(session(), v.number("lane") as u32, v.number("number") as u32))
            .map(|plain| ("index", plain[..plain.len().saturating_sub(64)].to_vec())),
        "node" => Some(("node", bytes)),
        "session" => open(object::session_key(session())).map(|plain| ("session", plain)),
        "commit" => {
            let plain = open(object::commit_key(session()));
            let summary = v.name.ends_with("/ok").then(|| crate::check::check(v).ok()).flatten();
            let summary = summary.map(|c| ("summary", c.fields["summary"].to_string().into_bytes()));
            return plain.map(|plain| ("commit", plain)).into_iter().chain(summary).collect();
        }
        "log" => open(object::log_key(v.number("slot"))).map(|plain| ("log", plain)),
        "checkpoint" => open(object::checkpoint_key(v.number("slot"))).map(|plain| ("checkpoint", plain)),
        "checks" => open(object::checks_key(v.number("number"))).map(|plain| ("checks", plain)),
        "state" => open(part_key(v)).map(|plain| match State::piece(&plain) {
            Ok(state) => ("state", state.to_vec()),
            Err(_) => ("state", plain),
        }),
        "index-part" => open(part_key(v)).map(|plain| ("index", plain)),
        "opening" => Some(("link", bytes)),
        "frame" => return vec![("link", [&opening()[..], &bytes].concat()), ("frame", bytes)],
        "message" => return vec![("link", as_stream(&bytes)), ("message", bytes)],
        "relay-request" => Some(("relay_request", bytes)),
        "relay-answer" => Some(("relay_answer", bytes)),
        other => panic!("{other} has bytes but no fuzz target"),
    };
    seed.into_iter().collect()
}

/// An opening, and a message that fits one frame in its frame.
fn as_stream(message: &[u8]) -> Vec<u8> {
    let head = [&[2][..], &1_u64.to_le_bytes(), &(message.len() as u16).to_le_bytes()].concat();
    [&opening()[..], &head, message].concat()
}

fn opened(v: &Vector, what: &[u8], more: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let repo: [u8; 16] = v.hex("repository");
    seal::open(&Key::new(v.hex("structure")), &[what, &repo, more].concat(), sealed).ok()
}

fn toc_plain(v: &Vector, pack: &[u8]) -> Option<Vec<u8>> {
    let id: [u8; 16] = v.hex("pack");
    let (rest, trailer) = pack.split_last_chunk::<44>()?;
    let len = opened(v, b"kist pack trailer", &id, trailer)?;
    let len = u32::from_le_bytes(*len.first_chunk()?) as usize;
    opened(v, b"kist pack toc", &id, &rest[rest.len().checked_sub(len)?..])
}
