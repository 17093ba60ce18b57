//! Runs the binary as a user does: arguments and environment in, lines of JSON and an exit code out.
//!
//! Invariant: nothing of this machine's own environment reaches it but what is set here, and a failure shows
//! all that it said.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The longest that a command may take; a hanging one must not take the whole run's time.
const LIMIT: Duration = Duration::from_secs(300);
/// Pause between two looks whether a command has ended.
const END_RETRY: Duration = Duration::from_millis(10);

/// The binary with an environment; cheap to clone.
#[derive(Clone)]
pub struct Kist {
    program: PathBuf,
    folder: PathBuf,
    env: Vec<(String, String)>,
}

/// What a command did.
pub struct Outcome {
    shown: String,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Kist {
    /// `home` is where its catalog goes, and the folder that paths in commands start at.
    pub fn new(program: &Path, home: &Path) -> Kist {
        let env = vec![("HOME".to_owned(), home.display().to_string())];
        Kist { program: program.to_owned(), folder: home.to_owned(), env }
    }

    pub fn env(mut self, name: &str, value: impl Into<String>) -> Kist {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// The same in another cluster.
    pub fn at(&self, kubeconfig: &Path) -> Kist {
        self.clone().env("KUBECONFIG", kubeconfig.display().to_string())
    }

    /// Runs a command to its end; words are cut at spaces.
    pub async fn run(&self, words: &str) -> Outcome {
        let running = self.start(words);
        tokio::task::spawn_blocking(|| running.end()).await.expect("the thread that waits does not panic")
    }

    /// The same with `--json`, which must end with this code.
    pub async fn json(&self, words: &str, code: i32) -> Outcome {
        let outcome = self.run(&format!("--json {words}")).await;
        outcome.ended_with(code);
        outcome
    }

    /// Starts a command.
    pub fn start(&self, words: &str) -> Running {
        let mut command = Command::new(&self.program);
        command.args(words.split_whitespace()).env_clear().envs(self.env.iter().cloned());
        command.current_dir(&self.folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("the binary can be started");
        Running { shown: format!("kist {words}"), child, started: Instant::now() }
    }
}

/// A command under way. Dropped, it is killed: a failing test leaves none behind.
pub struct Running {
    shown: String,
    child: Child,
    started: Instant,
}

impl Running {
    /// As `kill -9` does.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// As Ctrl-C does.
    pub fn interrupt(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("the command lives");
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("its state can be asked for").is_some()
    }

    /// Waits for its end, within the limit.
    pub fn end(mut self) -> Outcome {
        let read = |stream: Option<Box<dyn Read + Send>>| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                // What was said before a read fails is shown all the same.
                let _ = stream.map(|mut stream| stream.read_to_end(&mut bytes));
                String::from_utf8_lossy(&bytes).into_owned()
            })
        };
        let stdout = read(self.child.stdout.take().map(|stream| Box::new(stream) as _));
        let stderr = read(self.child.stderr.take().map(|stream| Box::new(stream) as _));
        let deadline = self.started + LIMIT;
        let code = loop {
            if let Some(status) = self.child.try_wait().expect("its state can be asked for") {
                break status.code();
            }
            if Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                break None;
            }
            std::thread::sleep(END_RETRY);
        };
        let text = |thread: std::thread::JoinHandle<String>| thread.join().unwrap_or_default();
        let shown = std::mem::take(&mut self.shown);
        Outcome { shown, code, stdout: text(stdout), stderr: text(stderr), took: self.started.elapsed() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Outcome {
    /// Fails with all that was said if the command ended otherwise.
    pub fn ended_with(&self, code: i32) {
        assert!(self.code == Some(code), "wanted exit code {code}; {}", self.all());
    }

    /// Everything that was said, for a message.
    pub fn all(&self) -> String {
        let Outcome { shown, code, stdout, stderr, took } = self;
        let code = code.map_or("no code (killed, or it took too long)".into(), |code| code.to_string());
        format!("`{shown}` ended with {code} after {took:.1?}\n--- stdout\n{stdout}--- stderr\n{stderr}---")
    }

    /// The lines of stdout as JSON.
    pub fn lines(&self) -> Vec<Value> {
        let line = |line| match serde_json::from_str(line) {
            Ok(value) => value,
            Err(error) => panic!("a line is not JSON ({error}): {line}\n{}", self.all()),
        };
        self.stdout.lines().map(line).collect()
    }

    /// The lines of a type, in order.
    pub fn of_type(&self, kind: &str) -> Vec<Value> {
        self.lines().into_iter().filter(|line| line["type"] == kind).collect()
    }

    /// The last line, which must be of this type.
    pub fn last(&self, kind: &str) -> Value {
        let last = self.lines().pop().unwrap_or_default();
        assert_eq!(last["type"], kind, "the last line is of another type; {}", self.all());
        last
    }

    /// A volume in the last line, by the name of its claim.
    pub fn volume(&self, kind: &str, name: &str) -> Value {
        let last = self.last(kind);
        let volumes = last["volumes"].as_array().cloned().unwrap_or_default();
        let found = volumes.into_iter().find(|volume| volume["name"] == name);
        found.unwrap_or_else(|| panic!("volume {name} is not in the report; {}", self.all()))
    }

    /// Fails unless some line or message has all of these words in it.
    pub fn says(&self, words: &[&str]) {
        let said = |text: &str| words.iter().all(|word| text.contains(word));
        let found = self.stdout.lines().any(said) || self.stderr.lines().any(said);
        assert!(found, "nothing is said with {words:?}; {}", self.all());
    }
}
