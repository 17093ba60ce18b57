//! How each repository was made. Run in every test, so that what reads the old ones is tried on new ones too.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use kist::format::log::Entry;
use kist::format::object;
use kist::repo;

use crate::clusters::clusters;
use crate::compare::paths;
use crate::frozen::Frozen;
use crate::programs::{self, Run, ended, opened};
use crate::trees::{awkward, mutate, pseudo_random};

const PASSPHRASE: &str = "a slow green lorry";

/// By its name.
pub type Story = (&'static str, fn() -> Frozen);

pub const STORIES: [Story; 4] =
    [("files", files), ("kept", kept), ("copied", copied), ("clusters", clusters)];

impl Frozen {
    /// Kist with one of the keys.
    pub fn kist(&self, key: &str, args: &[&str]) -> Command {
        let mut command = programs::kist(self.dir.path());
        command.args(args).env("KIST_REPO", self.path("repo"));
        let unlock = if key == "passphrase" { "KIST_PASSPHRASE_FILE" } else { "KIST_KEY_FILE" };
        command.env(unlock, self.key(key));
        command
    }

    /// Runs what has to go well.
    pub fn does(&self, key: &str, args: &[&str]) -> Run {
        let run = ended(&mut self.kist(key, args));
        assert_eq!(run.code, 0, "{args:?}: {run:?}");
        run
    }

    pub fn init(&self, more: &[&str]) {
        let owner = self.key("owner.key");
        let args = [&["init", "--new-key-file", owner.to_str().unwrap()], more].concat();
        let made = ended(self.kist("owner.key", &args).env_remove("KIST_KEY_FILE"));
        assert_eq!(made.code, 0, "{made:?}");
    }

    /// A key of a role; its file is named for both.
    pub fn add(&self, role: &str, name: &str, more: &[&str]) -> String {
        let file = format!("{role}-{name}.key");
        let out = self.key(&file);
        let args = ["key", "add", "--role", role, "--name", name, "--out", out.to_str().unwrap()];
        self.does("owner.key", &[more, &args].concat());
        file
    }

    /// Backs up, and keeps what the snapshot has to give back. Gives its name.
    fn backup(&self, key: &str, source: &Path, domain: &str) -> String {
        let snapshot = self.backup_only(key, source);
        self.expect(&snapshot, domain, source);
        snapshot
    }

    pub fn backup_only(&self, key: &str, source: &Path) -> String {
        let args = ["--no-catalog", "--json", "backup", "files", source.to_str().unwrap()];
        let last = self.does(key, &args).objects().pop().expect("a backup prints its snapshot");
        last["snapshot"].as_str().unwrap().to_owned()
    }

    pub fn source(&self, name: &str) -> PathBuf {
        let source = self.path(name);
        fs::create_dir(&source).unwrap();
        source
    }

    fn objects(&self, folder: &str) -> Vec<PathBuf> {
        let folder = self.path("repo").join(folder);
        let all = paths(&folder).into_iter().map(|path| folder.join(path));
        all.filter(|path| path.is_file()).collect()
    }
}

/// Files of every kind, holes, odd names, and what a week makes of them; never pruned. Opened by a key file, a passphrase
/// and a page.
fn files() -> Frozen {
    let frozen = Frozen::new();
    frozen.init(&[]);
    fs::write(frozen.key("passphrase"), PASSPHRASE).unwrap();
    let passphrase = frozen.key("passphrase");
    let second = ["key", "add", "--role", "owner", "--name", "second", "--new-passphrase-file"];
    frozen.does("owner.key", &[&second[..], &[passphrase.to_str().unwrap()]].concat());
    frozen.does("owner.key", &["key", "recovery", "--out", frozen.key("kit").to_str().unwrap()]);
    let source = frozen.source("source");
    awkward(&source);
    for number in 0..1200 {
        let folder = source.join(format!("many {}", number % 7));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{number}")), pseudo_random(number % 200, number as u64)).unwrap();
    }
    full_of_holes(&source.join("holes"), 3000);
    frozen.backup("owner.key", &source, "");
    for seed in [3, 4] {
        mutate(&source, seed);
        frozen.backup("owner.key", &source, "");
    }
    frozen
}

/// So many extents that they are a tree.
fn full_of_holes(path: &Path, pieces: u64) {
    let file = File::create_new(path).unwrap();
    for piece in 0..pieces {
        file.write_all_at(b"a piece", piece * 12_288).unwrap();
    }
}

pub fn write(source: &Path, names: std::ops::Range<u64>, seed: u64) {
    for name in names {
        let content = pseudo_random(60_000, 100 * seed + name);
        fs::write(source.join(format!("file {name}")), content).unwrap();
    }
}

/// Everything that a log can say: held, forgotten, recalled, pruned twice, packed anew, verified, revoked, damaged, and
/// begun anew. Two writers, one of which was taken over by a thief, a domain, a session that was fenced, two epochs of the
/// owner's key.
fn kept() -> Frozen {
    let frozen = Frozen::new();
    frozen.init(&[]);
    let shop = frozen.add("writer", "shop", &[]);
    let bank = frozen.add("writer", "bank", &[]);
    let maintainer = frozen.add("maintainer", "nightly", &[]);
    let reader = frozen.add("reader", "drill", &[]);
    let lab = frozen.add("writer", "lab", &["--domain", "lab"]);
    let source = frozen.source("source");
    write(&source, 0..8, 1);
    let first = frozen.backup_only(&shop, &source);
    frozen.backup(&bank, &source, "");
    write(&source, 0..5, 2);
    frozen.backup(&shop, &source, "");
    frozen.backup(&lab, &source, "lab");
    frozen.does(&reader, &["check", "--read-data"]);
    let held =
        frozen.does(&maintainer, &["--json", "hold", "add", "--everything", "--note", "a week"]).objects();
    frozen.does(&maintainer, &["hold", "lift", held[0]["id"].as_str().unwrap()]);
    frozen.does(&maintainer, &["hold", "add", &frozen.expected()[0].snapshot, "--note", "a year"]);
    leave_a_session(&frozen, &bank);
    frozen.does(&maintainer, &["forget", &first]);
    frozen.does(&maintainer, &["prune", "--min-used", "95", "--silence", "1s"]);
    frozen.does("owner.key", &["key", "rotate", "--owner"]);
    let rotated = frozen.key("writer-shop-2.key");
    frozen.does("owner.key", &["key", "rotate", "shop", "--out", rotated.to_str().unwrap()]);
    frozen.does("owner.key", &["key", "remove", "bank"]);
    for key in [&shop, &bank] {
        fs::remove_file(frozen.key(key)).unwrap();
    }
    write(&source, 4..7, 3);
    let passing = frozen.backup_only("writer-shop-2.key", &source);
    write(&source, 6..9, 4);
    frozen.backup("writer-shop-2.key", &source, "");
    frozen.does(&maintainer, &["forget", &passing]);
    frozen.does(&maintainer, &["recall", &passing]);
    frozen.does(&maintainer, &["forget", &passing]);
    frozen.does(&maintainer, &["prune", "--min-used", "0", "--silence", "1s"]);
    harm(&frozen);
    frozen.does("owner.key", &["repair", "--older-than", "0d", "--silence", "1s"]);
    write(&source, 2..4, 5);
    frozen.backup("writer-shop-2.key", &source, "");
    assert_eq!(said(&frozen).len(), 11, "all that an entry can say: {:?}", said(&frozen));
    frozen
}

/// The kinds of the entries of the log that can be read.
#[tokio::main]
async fn said(frozen: &Frozen) -> BTreeSet<String> {
    let owner = opened(&frozen.path("repo"), &frozen.key("owner.key")).await;
    let (keys, mut said) = (&owner.keys, BTreeSet::new());
    for found in owner.store.list(object::GC_LOG).await.unwrap() {
        let sealed = owner.store.get(&found.key).await.unwrap();
        let plain = object::open_object("entry", &keys.structure, owner.config.repo, &found.key, &sealed);
        if let Ok(plain) = plain {
            let action = format!("{:?}", Entry::decode(&plain).unwrap().action);
            said.insert(action.split([' ', '(']).next().unwrap().to_owned());
        }
    }
    said
}

/// A session as it lies there when its writer is killed.
#[tokio::main]
async fn leave_a_session(frozen: &Frozen, key: &str) {
    repo::begin(&opened(&frozen.path("repo"), &frozen.key(key)).await, 1).await.unwrap();
}

/// The table of a pack, and an entry of the log.
fn harm(frozen: &Frozen) {
    let packs = frozen.objects("packs");
    let pack = packs.iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    flip_end(pack);
    let slot = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().parse::<u64>().unwrap();
    let newest = frozen.objects("gc").into_iter().max_by_key(slot).unwrap();
    flip_end(&newest);
}

fn flip_end(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
}

/// Copied from a repository that it was made like, then backed up into by one of that one's sources.
fn copied() -> Frozen {
    let (first, second) = (Frozen::new(), Frozen::new());
    first.init(&[]);
    let source = first.source("source");
    write(&source, 0..4, 1);
    let snapshots = [1, 2].map(|seed| {
        write(&source, 3..5, 10 * seed);
        first.backup("owner.key", &source, "")
    });
    let (url, key) = (first.path("repo"), first.key("owner.key"));
    let [url, key] = [&url, &key].map(|path| path.to_str().unwrap());
    second.init(&["--like", url, "--like-key-file", key]);
    let args = ["--json", "copy", "--all", "--from-repo", url, "--from-key-file", key];
    let copies = second.does("owner.key", &args).objects();
    for (snapshot, expected) in snapshots.iter().zip(first.expected()) {
        let is_of = |object: &&serde_json::Value| object["snapshot"] == snapshot.as_str();
        let copy = copies.iter().find(is_of).unwrap()["copy"].as_str().unwrap();
        second.expect_text(&format!("{copy}\n\n{}\n{}", expected.source, expected.listing));
    }
    write(&source, 4..6, 30);
    second.backup("owner.key", &source, "");
    second
}
