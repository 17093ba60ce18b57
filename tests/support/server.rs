//! A server program for a test: on a loopback port, over a scratch folder, gone when dropped.
//!
//! Programs come out of the cache that tests/tools/install.sh fills; one that is missing ends the
//! test. The server ends with the value, also when a test panics.
#![allow(dead_code, reason = "not every test that includes this file uses all of it")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const READY_WITHIN: Duration = Duration::from_secs(60);
/// Pause between two looks whether it answers.
const READY_RETRY: Duration = Duration::from_millis(10);

/// A running server.
pub struct Server {
    child: Child,
    pub port: u16,
    pub folder: tempfile::TempDir,
}

/// What a server is started from.
pub struct Program {
    /// The part of install.sh that makes it.
    pub part: &'static str,
    /// Its path in the cache's bin/.
    pub path: &'static str,
    /// What is asked for until the answer is not 503.
    pub ready: &'static str,
}

impl Program {
    /// Where it lies.
    pub fn place(&self) -> PathBuf {
        let cache = std::env::var_os("KIST_CACHE").map(PathBuf::from).unwrap_or_else(|| {
            let home = std::env::var_os("HOME").expect("HOME or KIST_CACHE is set");
            PathBuf::from(home).join(".cache/kist-lab")
        });
        let place = cache.join("bin").join(self.path);
        let (at, part) = (place.display(), self.part);
        assert!(place.exists(), "{at} is missing: run make test or tests/tools/install.sh {part}");
        place
    }

    /// Starts it and waits until it answers; `command` gets its place, a scratch folder and the port.
    pub fn start(&self, command: impl Fn(&Path, &Path, u16) -> Command) -> Server {
        let place = self.place();
        let folder = tempfile::tempdir().expect("a scratch folder");
        // Another process may take the port between our letting it go and the server's start.
        for _ in 0..5 {
            let free = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
            let port = free.local_addr().expect("its number").port();
            drop(free);
            if let Some(child) = self.spawn(command(&place, folder.path(), port), folder.path(), port) {
                return Server { child, port, folder };
            }
        }
        panic!("{} does not start:\n{}", self.part, log(folder.path()));
    }

    /// Nothing if it ended before it answered.
    fn spawn(&self, mut command: Command, folder: &Path, port: u16) -> Option<Child> {
        let file = std::fs::File::create(folder.join("log")).expect("the log");
        command.current_dir(folder).stdin(Stdio::null());
        command.stdout(file.try_clone().expect("the log")).stderr(file);
        let mut child = command.spawn().expect("the program can be run");
        let deadline = Instant::now() + READY_WITHIN;
        while Instant::now() < deadline {
            if child.try_wait().expect("the server's state").is_some() {
                return None;
            }
            if answers(port, self.ready) {
                return Some(child);
            }
            std::thread::sleep(READY_RETRY);
        }
        let _ = child.kill();
        let _ = child.wait();
        panic!("{} does not answer within {READY_WITHIN:?}:\n{}", self.part, log(folder));
    }
}

impl Server {
    /// The server's address.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("log")).unwrap_or_default()
}

fn answers(port: u16, path: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
        return false;
    };
    if path.is_empty() {
        // It listens; more can't be asked without a TLS client.
        return true;
    }
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    let asked = stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n").as_bytes());
    let mut answer = [0; 12];
    asked.and_then(|()| stream.read_exact(&mut answer)).is_ok()
        && answer.starts_with(b"HTTP/")
        && !answer.ends_with(b"503")
}
