//! Runs of the real program against a bucket, each with credentials of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kist::store::Store;

use crate::bucket;

/// What opens a bucket.
#[derive(Clone)]
pub struct Credentials {
    pub id: String,
    pub secret: String,
    pub token: Option<String>,
}

impl Credentials {
    pub fn new(id: &str, secret: &str) -> Self {
        Self { id: id.into(), secret: secret.into(), token: None }
    }

    pub fn store(&self, url: &str) -> Store {
        bucket::s3(url, &self.id, &self.secret, self.token.as_deref())
    }
}

/// A repository with an owner and a writer, and something to back up.
pub struct Runs {
    dir: tempfile::TempDir,
}

impl Runs {
    /// Makes the repository with the bucket owner's credentials, and a key for a writer.
    pub fn init(url: &str, owner: &Credentials) -> Self {
        let runs = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(runs.source()).unwrap();
        runs.change("first");
        let (owner_key, writer_key) = (runs.path("owner.key"), runs.path("writer.key"));
        runs.run(url, owner, "owner.key", &["init", "--new-key-file", owner_key.to_str().unwrap()]);
        let add = ["key", "add", "--role", "writer", "--name", "shop", "--out", writer_key.to_str().unwrap()];
        runs.run(url, owner, "owner.key", &add);
        runs
    }

    /// Makes another file of some size.
    pub fn change(&self, name: &str) {
        fs::write(self.source().join(name), format!("the content of {name}\n").repeat(10_000)).unwrap();
    }

    /// Backs up as the writer.
    pub fn backup(&self, url: &str, writer: &Credentials) {
        let source = self.source();
        self.run(url, writer, "writer.key", &["backup", "files", source.to_str().unwrap()]);
    }

    /// Restores as the owner, and compares.
    pub fn restore(&self, url: &str, owner: &Credentials) {
        let target = tempfile::tempdir_in(self.dir.path()).unwrap();
        let from = format!("latest:{}", self.source().display());
        self.run(url, owner, "owner.key", &["restore", "files", &from, target.path().to_str().unwrap()]);
        let names = |folder: &Path| -> Vec<_> {
            let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(target.path()), names(&self.source()));
        for name in names(target.path()) {
            let (found, meant) = (target.path().join(&name), self.source().join(&name));
            assert!(fs::read(found).unwrap() == fs::read(meant).unwrap(), "{name:?}");
        }
    }

    fn source(&self) -> PathBuf {
        self.path("source")
    }

    /// A place in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, url: &str, credentials: &Credentials, key: &str, args: &[&str]) {
        self.fine(&mut self.command(url, credentials, key, args));
    }

    /// What a run is, before it begins.
    pub fn command(&self, url: &str, credentials: &Credentials, key: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kist"));
        command.args(args).env_clear().env("HOME", self.dir.path()).env("KIST_REPO", url);
        command.env("AWS_ACCESS_KEY_ID", &credentials.id).env("AWS_SECRET_ACCESS_KEY", &credentials.secret);
        command.envs(credentials.token.as_ref().map(|token| ("AWS_SESSION_TOKEN", token)));
        if args[0] != "init" {
            command.env("KIST_KEY_FILE", self.path(key));
        }
        command
    }

    /// Runs to a good end.
    pub fn fine(&self, command: &mut Command) {
        let done = command.output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert_eq!(done.status.code(), Some(0), "{command:?}\n{out}{err}");
    }
}
