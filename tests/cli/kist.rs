//! Runs the binary in a scratch place with an environment of its own. No output may hold a secret: that is
//! looked at in every run.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

pub const PASSPHRASE: &str = "a passphrase that nobody may see";
const NOBODY: u32 = 65534;

/// A scratch place with a repository in it.
pub struct Kist {
    pub dir: TempDir,
    pub repo: PathBuf,
    program: PathBuf,
    unlock: (&'static str, PathBuf),
    as_nobody: bool,
    secrets: Vec<String>,
}

/// How a run ended.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Kist {
    /// A repository with a key file as the owner's: no time is spent on a passphrase.
    pub fn new() -> Self {
        let mut kist = Self::without_repository();
        kist.init();
        kist
    }

    pub fn without_repository() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let repo = dir.path().join("repo");
        let program = PathBuf::from(env!("CARGO_BIN_EXE_kist"));
        let unlock = ("KIST_KEY_FILE", dir.path().join("owner.key"));
        Self { dir, repo, program, unlock, as_nobody: false, secrets: vec![PASSPHRASE.into()] }
    }

    /// Everything is done as somebody who is not root.
    pub fn as_nobody() -> Self {
        let mut kist = Self::without_repository();
        fs::set_permissions(kist.dir.path(), Permissions::from_mode(0o755)).unwrap();
        kist.program = kist.path("program");
        fs::copy(env!("CARGO_BIN_EXE_kist"), &kist.program).unwrap();
        chown(kist.dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        kist.as_nobody = true;
        kist.init();
        kist
    }

    /// Makes the repository, with a key file.
    pub fn init(&mut self) {
        let key = self.path("owner.key");
        let mut made = self.command(&["init", "--new-key-file", key.to_str().unwrap()], &[]);
        let made = self.run(made.env_remove("KIST_KEY_FILE"));
        assert_eq!(made.code, 0, "{made:?}");
        self.knows(&key);
    }

    /// From now on this key file is the one in use, and must not be shown.
    pub fn use_key(&mut self, key: &Path) {
        self.knows(key);
        self.unlock = ("KIST_KEY_FILE", key.to_owned());
    }

    /// From now on what this key file has in it must not be shown.
    pub fn knows(&mut self, key: &Path) {
        let text = fs::read_to_string(key).unwrap();
        let secret = text.lines().find_map(|line| line.strip_prefix("kist-key-1:")).unwrap();
        // The unlock key stands behind two ids, which may be seen.
        self.secrets.push(secret[64..].to_owned());
    }

    /// From now on a passphrase is used; it is written to a file.
    pub fn use_passphrase(&mut self, passphrase: &str) {
        let file = self.path("passphrase");
        fs::write(&file, passphrase).unwrap();
        self.unlock = ("KIST_PASSPHRASE_FILE", file);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The command for arguments and paths.
    pub fn command(&self, args: &[&str], paths: &[&Path]) -> Command {
        let mut command = Command::new(&self.program);
        let (variable, value) = &self.unlock;
        command.args(args).args(paths).env_clear().current_dir("/").stdin(Stdio::null());
        command.env("KIST_REPO", &self.repo).env("HOME", self.path("home")).env("TZ", "UTC");
        command.env(variable, value);
        if self.as_nobody {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    pub fn run(&self, command: &mut Command) -> Run {
        let output = command.output().unwrap();
        self.ended(output)
    }

    /// What a process has said, once it has been looked through.
    pub fn ended(&self, output: Output) -> Run {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap_or(-1);
        let run = Run { code, out: text(output.stdout), err: text(output.stderr) };
        for secret in &self.secrets {
            assert!(!run.out.contains(secret) && !run.err.contains(secret), "a secret is shown");
        }
        assert!(!run.err.contains("panicked"), "{run:?}");
        run
    }

    /// Runs to an end with `code`.
    pub fn ends(&self, code: i32, args: &[&str], paths: &[&Path]) -> Run {
        let run = self.run(&mut self.command(args, paths));
        assert_eq!(run.code, code, "{args:?}: {run:?}");
        run
    }

    /// Runs to a good end.
    pub fn fine(&self, args: &[&str], paths: &[&Path]) -> Run {
        self.ends(0, args, paths)
    }

    /// Runs to an end with `code` and gives the objects that were printed.
    pub fn json(&self, code: i32, args: &[&str], paths: &[&Path]) -> Vec<Value> {
        self.ends(code, &[&["--json"], args].concat(), paths).objects()
    }

    /// Backs up and gives the snapshot's name.
    pub fn backup(&self, path: &Path) -> String {
        let objects = self.json(0, &["backup", "files"], &[path]);
        objects.last().unwrap()["snapshot"].as_str().unwrap().to_owned()
    }

    /// Restores a snapshot of `source` and compares.
    pub fn restores(&self, snapshot: &str, source: &Path) {
        let target = tempfile::tempdir_in(self.dir.path()).unwrap();
        let what = format!("{snapshot}:{}", source.display());
        self.fine(&["restore", "files", &what], &[target.path()]);
        let differences = crate::compare::differences(source, target.path());
        assert!(differences.is_empty(), "{differences:?}");
    }
}

impl Run {
    pub fn objects(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A folder with some files; `seed` is in their content.
pub fn grow(folder: &Path, seed: u64) {
    fs::create_dir_all(folder.join("inner")).unwrap();
    fs::write(folder.join("small"), format!("small {seed}")).unwrap();
    fs::write(folder.join("inner/large"), noise(300_000, seed)).unwrap();
    fs::write(folder.join("inner").join(name_of(seed)), "").unwrap();
}

fn name_of(seed: u64) -> OsString {
    format!("file {seed}").into()
}

/// Bytes that don't compress, from a seed.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}
