//! A repository that kist makes, and the reader with the packages that its requirements name.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::programs::{self, Run, ended, reader};

/// A scratch place with a repository, its owner's key file, and a folder to back up.
pub struct Scene {
    pub dir: TempDir,
    pub repo: PathBuf,
    pub source: PathBuf,
    unlock: PathBuf,
}

impl Scene {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (repo, source) = (dir.path().join("repo"), dir.path().join("source"));
        let unlock = dir.path().join("owner.key");
        fs::create_dir(&source).unwrap();
        let scene = Self { dir, repo, source, unlock };
        let made =
            ended(scene.kist(&["init", "--new-key-file"]).arg(&scene.unlock).env_remove("KIST_KEY_FILE"));
        assert_eq!(made.code, 0, "{made:?}");
        scene
    }

    pub fn kist(&self, args: &[&str]) -> Command {
        let mut command = programs::kist(self.dir.path());
        command.args(args);
        command.env("KIST_REPO", &self.repo).env("KIST_KEY_FILE", &self.unlock);
        command
    }

    /// Runs what has to go well.
    pub fn does(&self, args: &[&str]) -> Run {
        let run = ended(&mut self.kist(args));
        assert_eq!(run.code, 0, "{args:?}: {run:?}");
        run
    }

    /// A new key file of a role, in the default domain.
    pub fn key_of(&self, role: &str) -> String {
        let file = self.dir.path().join(format!("{role}.key")).to_str().unwrap().to_owned();
        self.does(&["key", "add", "--role", role, "--name", role, "--out", &file]);
        file
    }

    /// Backs the folder up and gives the snapshot's name.
    pub fn backup(&self) -> String {
        self.backup_as(self.unlock.to_str().unwrap())
    }

    pub fn backup_as(&self, key: &str) -> String {
        let source = self.source.to_str().unwrap();
        let run = self.does(&["--no-catalog", "--json", "--key-file", key, "backup", "files", source]);
        let last = run.out.lines().last().expect("a backup prints its snapshot");
        let last: serde_json::Value = serde_json::from_str(last).unwrap();
        last["snapshot"].as_str().unwrap().to_owned()
    }

    /// Has the reader restore into a new folder; gives how that ended and where the source's copy is.
    pub fn restore(&self, args: &[&str]) -> (Run, TempDir, PathBuf) {
        self.restore_by(reader("restore.py"), args)
    }

    fn restore_by(&self, mut command: Command, args: &[&str]) -> (Run, TempDir, PathBuf) {
        let target = tempfile::tempdir_in(self.dir.path()).unwrap();
        command.arg(&self.repo).arg(target.path()).args(args);
        if !["--passphrase-file", "--key-file", "--kit"].iter().any(|key| args.contains(key)) {
            command.arg("--key-file").arg(&self.unlock);
        }
        let run = ended(&mut command);
        let copy = target.path().join(self.source.strip_prefix("/").unwrap());
        (run, target, copy)
    }

    /// Restores a snapshot with the reader, and gives the objects of the repository that it has opened.
    pub fn opened_by_restore(&self, snapshot: &str) -> BTreeSet<PathBuf> {
        let hooks = tempfile::tempdir_in(self.dir.path()).unwrap();
        let list = hooks.path().join("opened");
        let hook = "import os, sys\nlist = open(os.environ['OPENED'], 'w')\n\
            sys.addaudithook(lambda event, args: event == 'open' and print(args[0], file=list, flush=True))\n";
        fs::write(hooks.path().join("sitecustomize.py"), hook).unwrap();
        let mut command = reader("restore.py");
        command.env("PYTHONPATH", hooks.path()).env("OPENED", &list);
        let (run, _target, _) = self.restore_by(command, &["--snapshot", snapshot]);
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{run:?}");
        let opened = fs::read_to_string(&list).unwrap();
        opened
            .lines()
            .filter_map(|path| Path::new(path).strip_prefix(&self.repo).ok())
            .map(Into::into)
            .collect()
    }

    /// Restores a snapshot with the reader, and compares it in everything with the folder as it is now.
    pub fn comes_back(&self, snapshot: &str) {
        let (run, _target, copy) = self.restore(&["--snapshot", snapshot]);
        assert_eq!(run.code, 0, "{run:?}");
        assert_eq!(crate::compare::differences(&self.source, &copy), Vec::<String>::new());
    }
}
