//! What is kept of a repository: one archive with its objects, its keys, and what was backed up.
//!
//! `repo/` is the store, `keys/` has the key files by their names, a passphrase and a kit; `expected/` the listing of each
//! snapshot's source, in the order of their times.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::listing;

/// A repository that was unpacked, or just made.
pub struct Frozen {
    pub dir: TempDir,
}

/// A snapshot that has to come back.
pub struct Expected {
    pub snapshot: String,
    /// The domain that it is of; empty for the default one.
    pub domain: String,
    /// What was backed up.
    pub source: String,
    pub listing: String,
}

impl Frozen {
    pub fn new() -> Self {
        let frozen = Self { dir: tempfile::tempdir().unwrap() };
        for folder in ["keys", "expected"] {
            fs::create_dir(frozen.path(folder)).unwrap();
        }
        frozen
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn key(&self, name: &str) -> PathBuf {
        self.path("keys").join(name)
    }

    /// Keeps what was backed up just now.
    pub fn expect(&self, snapshot: &str, domain: &str, source: &Path) {
        self.expect_as(snapshot, domain, &source.display().to_string(), source);
    }

    /// The same of a folder that is known as `source`.
    pub fn expect_as(&self, snapshot: &str, domain: &str, source: &str, folder: &Path) {
        self.expect_text(&format!("{snapshot}\n{domain}\n{source}\n{}", listing::of(folder)));
    }

    pub fn expect_text(&self, text: &str) {
        let number = fs::read_dir(self.path("expected")).unwrap().count();
        fs::write(self.path("expected").join(format!("{number:02}")), text).unwrap();
    }

    /// Oldest first.
    pub fn expected(&self) -> Vec<Expected> {
        let mut files: Vec<_> =
            fs::read_dir(self.path("expected")).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        files.iter().map(|file| Expected::parse(&fs::read_to_string(file).unwrap())).collect()
    }

    pub fn unpack(archive: &Path) -> Self {
        let frozen = Self { dir: tempfile::tempdir().unwrap() };
        tar(&["-xf", archive.to_str().unwrap(), "-C", frozen.dir.path().to_str().unwrap()]);
        frozen
    }

    /// With nothing of the machine or the day on which it is made.
    pub fn pack(&self, archive: &Path) {
        let whose = ["--owner=0", "--group=0", "--numeric-owner", "--sort=name", "--mtime=@0"];
        let from = ["-C", self.dir.path().to_str().unwrap(), "repo", "keys", "expected"];
        tar(&[&["-cf", archive.to_str().unwrap()], &whose[..], &from].concat());
    }
}

impl Expected {
    fn parse(text: &str) -> Self {
        let mut lines = text.splitn(4, '\n').map(str::to_owned);
        let mut next = || lines.next().expect("four parts");
        Self { snapshot: next(), domain: next(), source: next(), listing: next() }
    }
}

fn tar(args: &[&str]) {
    let status = Command::new("tar").args(args).status().unwrap();
    assert!(status.success(), "tar {args:?}");
}
