//! A real S3 server for tests: versitygw over a scratch folder, on a loopback port.
//!
//! Included with `#[path]` by the test binaries that need it. Each bucket is a folder,
//! each object a file in it, so a test can look at what was really stored, or damage it.
//! The server ends when the value is dropped, also when a test panics.

#![allow(dead_code, reason = "each test binary uses another part of it")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const VERSION: &str = "v1.8.0";
const READY_WITHIN: Duration = Duration::from_secs(20);
/// Pause between two looks whether it answers.
const READY_RETRY: Duration = Duration::from_millis(10);

/// The credentials of the server's owner.
pub const ACCESS_KEY: &str = "kist-test-access";
pub const SECRET_KEY: &str = "kist-test-secret";

/// A running server.
pub struct Versitygw {
    server: Child,
    port: u16,
    scheme: &'static str,
    folder: tempfile::TempDir,
}

impl Versitygw {
    /// Starts a server without buckets, and waits until it answers.
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// The same with TLS: certificate and key as PEM files.
    pub fn start_tls(certificate: &Path, key: &Path) -> Self {
        Self::start_with(Some((certificate, key)))
    }

    fn start_with(tls: Option<(&Path, &Path)>) -> Self {
        let binary = binary();
        assert!(
            binary.is_file(),
            "{} is missing: run make test or tests/tools/install.sh versitygw",
            binary.display()
        );
        let folder = tempfile::tempdir().expect("a scratch folder");
        std::fs::create_dir(folder.path().join("buckets")).expect("the buckets' folder");
        // Another process may take the port between our letting it go and the server's start.
        for _ in 0..5 {
            if let Some((server, port)) = spawn(&binary, folder.path(), tls) {
                let scheme = if tls.is_some() { "https" } else { "http" };
                return Self { server, port, scheme, folder };
            }
        }
        let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        panic!("versitygw does not start:\n{log}");
    }

    /// Makes a bucket and gives its folder; its name has three letters or more.
    pub fn bucket(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join("buckets").join(name);
        std::fs::create_dir(&folder).expect("the bucket's folder");
        folder
    }

    /// The URL for `KIST_REPO` of a bucket or of a part of one (`bucket/prefix`).
    pub fn url(&self, place: &str) -> String {
        format!("s3://{place}?endpoint={}&region=us-east-1", self.endpoint())
    }

    /// The server's address.
    pub fn endpoint(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port)
    }
}

impl Drop for Versitygw {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn binary() -> PathBuf {
    let cache = std::env::var_os("KIST_CACHE").map(PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var_os("HOME").expect("HOME or KIST_CACHE is set");
        PathBuf::from(home).join(".cache/kist-lab")
    });
    cache.join("bin").join(format!("versitygw-{VERSION}"))
}

/// Starts the server on a free port; nothing if it ended before it answered.
fn spawn(binary: &Path, folder: &Path, tls: Option<(&Path, &Path)>) -> Option<(Child, u16)> {
    let free = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let port = free.local_addr().expect("its number").port();
    drop(free);
    let log = std::fs::File::create(folder.join("log")).expect("the log");
    let mut command = Command::new(binary);
    command.args(["--port", &format!("127.0.0.1:{port}")]);
    if let Some((certificate, key)) = tls {
        command.arg("--cert").arg(certificate).arg("--key").arg(key);
    }
    let mut server = command
        .arg("posix")
        .arg(folder.join("buckets"))
        .env("ROOT_ACCESS_KEY", ACCESS_KEY)
        .env("ROOT_SECRET_KEY", SECRET_KEY)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("the log"))
        .stderr(log)
        .spawn()
        .expect("versitygw can be run");
    let deadline = Instant::now() + READY_WITHIN;
    while Instant::now() < deadline {
        if server.try_wait().expect("the server's state").is_some() {
            return None;
        }
        if answers(port, tls.is_some()) {
            return Some((server, port));
        }
        std::thread::sleep(READY_RETRY);
    }
    let _ = server.kill();
    let _ = server.wait();
    let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    panic!("versitygw does not answer within {READY_WITHIN:?}:\n{log}");
}

fn answers(port: u16, tls: bool) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
        return false;
    };
    if tls {
        // It listens; more can't be asked without a TLS client.
        return true;
    }
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    let asked = stream.write_all(b"GET / HTTP/1.0\r\n\r\n");
    let mut answer = [0; 5];
    asked.and_then(|()| stream.read_exact(&mut answer)).is_ok() && answer == *b"HTTP/"
}
