//! Runs kist and the reader of `format-spec/reader`, and looks at how they end.
#![allow(dead_code, reason = "not every test that includes this file uses all of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kist::format::keys::KeyFile;
use kist::repo::{self, Repository, Unlock};
use kist::store::{Store, StoreSettings, StoreUrl};
use kist::world::{Time, fixed};
use sha2::{Digest, Sha256};

const READER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/format-spec/reader");

/// How a program ended.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Run {
    /// What was printed with `--json`.
    pub fn objects(&self) -> Vec<serde_json::Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

pub fn ended(command: &mut Command) -> Run {
    let output = command.stdin(Stdio::null()).output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let run =
        Run { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) };
    assert!(!run.err.contains("panicked") && !run.err.contains("Traceback"), "{run:?}");
    run
}

/// Kist with nothing of this machine's: neither its settings nor what it has seen.
pub fn kist(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kist"));
    command.env_clear().env("HOME", home).env("TZ", "UTC");
    command
}

/// A repository of a folder, opened with a key file by kist's library, at a time of its own.
pub async fn opened(repo: &Path, key_file: &Path) -> Repository {
    opened_at(repo, key_file, 0).await
}

/// The same so many hours later; nothing that is drawn then was drawn before.
pub async fn opened_at(repo: &Path, key_file: &Path, hour: u64) -> Repository {
    let url = StoreUrl::parse(repo.to_str().unwrap()).unwrap();
    let store = Store::open(&url, &StoreSettings::default()).unwrap();
    let unlock = Unlock::KeyFile(KeyFile::parse(&fs::read_to_string(key_file).unwrap()).unwrap());
    let time = Time(1_800_000_000_000_000_000 + hour as i64 * 3_600_000_000_000);
    let world = fixed::world(1 + hour, time);
    repo::open(store, &world, &unlock, None).await.unwrap()
}

/// A program of the reader, run by the Python that `install.sh reader` prepared for these requirements.
pub fn reader(program: &str) -> Command {
    let requirements = fs::read(Path::new(READER).join("requirements.txt")).unwrap();
    let hash: String = Sha256::digest(&requirements)[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let cache = std::env::var_os("KIST_CACHE").map(PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var_os("HOME").expect("HOME or KIST_CACHE is set");
        Path::new(&home).join(".cache/kist-lab")
    });
    let python = cache.join(format!("reader-{hash}/bin/python"));
    assert!(python.exists(), "{python:?} is missing: run tests/tools/install.sh reader");
    let mut command = Command::new(python);
    command.arg(Path::new(READER).join(program)).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}
