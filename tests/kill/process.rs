//! One run of the binary, which may be killed in the midst.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Between two looks whether it has ended.
const LOOK_RETRY: Duration = Duration::from_millis(3);
/// No run takes so long.
const DEADLINE: Duration = Duration::from_secs(180);

/// How a run ended. No code: it was killed.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Run {
    pub fn is_killed(&self) -> bool {
        self.code.is_none()
    }

    /// Whether others have moved on so fast that this one gave up; it says so, and does no harm.
    pub fn gave_up(&self) -> bool {
        let excuses = ["was fenced while it ran", "changes faster than it can be read"];
        self.code == Some(1)
            && excuses.iter().any(|excuse| self.err.contains(excuse) || self.out.contains(excuse))
    }
}

/// What the binary needs to know; one for each who works.
pub struct Kist {
    pub repo: String,
    pub key: PathBuf,
    pub home: TempDir,
    pub access: (&'static str, &'static str),
}

/// A process that goes with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Kist {
    fn command(&self, args: &[&str], paths: &[&Path]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kist"));
        command.arg("--json").args(args).args(paths).env_clear().current_dir("/").stdin(Stdio::null());
        command.env("KIST_REPO", &self.repo).env("HOME", self.home.path()).env("TZ", "UTC");
        command.env("AWS_ACCESS_KEY_ID", self.access.0).env("AWS_SECRET_ACCESS_KEY", self.access.1);
        command
    }

    /// Runs to its end, or to the moment at which it is killed.
    pub fn run(&self, args: &[&str], paths: &[&Path], killed_after: Option<Duration>) -> Run {
        let mut command = self.command(args, paths);
        command.env("KIST_KEY_FILE", &self.key);
        Self::wait(command, args, killed_after)
    }

    /// The same without a key, to make a repository.
    pub fn run_without_key(&self, args: &[&str], paths: &[&Path]) -> Run {
        Self::wait(self.command(args, paths), args, None)
    }

    fn wait(mut command: Command, args: &[&str], killed_after: Option<Duration>) -> Run {
        let said = tempfile::tempdir().unwrap();
        let file = |name: &str| std::fs::File::create(said.path().join(name)).unwrap();
        command.stdout(file("out")).stderr(file("err"));
        let mut running = Running(command.spawn().unwrap());
        let since = Instant::now();
        let code = loop {
            if let Some(status) = running.0.try_wait().unwrap() {
                break status.code();
            }
            if killed_after.is_some_and(|after| since.elapsed() >= after) {
                running.0.kill().unwrap();
                break running.0.wait().unwrap().code();
            }
            assert!(since.elapsed() < DEADLINE, "{args:?} does not end");
            std::thread::sleep(LOOK_RETRY);
        };
        let text = |name: &str| std::fs::read_to_string(said.path().join(name)).unwrap();
        let run = Run { code, out: text("out"), err: text("err") };
        assert!(!run.err.contains("panicked"), "{args:?}: {run:?}");
        run
    }

    /// Runs to a good end.
    pub fn fine(&self, args: &[&str], paths: &[&Path]) -> Run {
        let run = self.run(args, paths, None);
        assert_eq!(run.code, Some(0), "{args:?}: {run:?}");
        run
    }
}
