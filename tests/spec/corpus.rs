//! The fuzz corpora, run as ordinary tests: they need no nightly and no cargo-fuzz.
//!
//! `fuzz/decoders.rs` is the same file that the fuzz targets use. Seeds are made from the
//! vectors (`KIST_VECTORS=write`); what a fuzzer found later lies beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use kist::format::id::hex;

use crate::decoders::TARGETS;
use crate::make;
use crate::material::draw;
use crate::seeds::{seed, seeds};
use crate::vector::{Encoded, Outcome};

pub fn fuzz() -> PathBuf {
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

/// What a defect of the seal or of the signature over it keeps from the decoder behind it has no place in a corpus.
#[test]
fn every_vector_is_in_the_corpus_of_its_target_but_for_what_no_key_opens() {
    seed();
    let corpora: BTreeMap<&str, BTreeSet<Vec<u8>>> = TARGETS
        .iter()
        .map(|(name, _)| (*name, files(name).into_iter().map(|(_, bytes)| bytes).collect()))
        .collect();
    for vector in make::all() {
        let seeds = seeds(&vector);
        let is_shut =
            matches!(&vector.outcome, Outcome::Error(class) if class == "crypto" || class == "short");
        let is_computed = matches!(vector.encoded, Encoded::None);
        assert!(!seeds.is_empty() || is_shut || is_computed, "{}: no target runs it", vector.name);
        for (target, bytes) in seeds {
            assert!(corpora[target].contains(&bytes), "{}: not in the corpus of {target}", vector.name);
        }
    }
}

/// Decoders without a target of their own, and why.
const OTHERWISE: [(&str, &str); 5] = [
    ("$name::parse", "ids in hex: store_key"),
    ("Secrets::decode", "in a slot: slot_contents"),
    ("Schedule::parse", "what the user types"),
    ("Which::parse", "what the user types"),
    ("OwnPod::parse", "what the pod's own template says"),
];

/// Functions of the library that take foreign bytes or texts apart, as they are called. What `cli` reads is the user's.
fn decoders() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for text in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let mut of = String::new();
        for line in text.lines() {
            if line == "}" {
                of.clear();
            }
            let line = line.trim_start();
            if let Some(name) = line.strip_prefix("impl").and_then(|rest| rest.strip_suffix(" {")) {
                let name = name.rsplit(' ').next().expect("a type");
                of = format!("{}::", name.split('<').next().expect("a name"));
            }
            let Some((_, function)) = line.split_once("fn ").filter(|_| line.starts_with("pub")) else {
                continue;
            };
            let name = function.split(['(', '<']).next().expect("a name");
            if ["decode", "parse", "from_kit", "take_opening", "open_record"]
                .iter()
                .any(|p| name.starts_with(p))
            {
                found.insert(format!("{of}{name}"));
            }
        }
    }
    found
}

fn sources(folder: &Path) -> Vec<String> {
    let paths = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut texts = vec![];
    for path in paths.filter(|path| !path.ends_with("src/cli")) {
        match path.is_dir() {
            true => texts.extend(sources(&path)),
            false => texts.push(std::fs::read_to_string(&path).expect("a source")),
        }
    }
    texts
}

#[test]
fn every_decoder_of_the_library_is_called_by_a_fuzz_target() {
    let targets =
        ["decoders.rs", "cluster.rs", "links.rs"].map(|file| std::fs::read_to_string(fuzz().join(file)));
    let targets = targets.map(|text| text.expect("a file of targets")).concat();
    let otherwise: BTreeSet<String> = OTHERWISE.iter().map(|(name, _)| name.to_string()).collect();
    let decoders = decoders();
    assert!(decoders.len() > 30, "{decoders:?}");
    let uncalled: BTreeSet<String> =
        decoders.into_iter().filter(|name| !targets.contains(&format!("{name}("))).collect();
    assert_eq!(
        uncalled, otherwise,
        "a decoder needs a target, or a line in OTHERWISE; a line there a decoder"
    );
}

#[test]
fn every_target_has_a_file_and_a_corpus_and_nothing_else_has() {
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
