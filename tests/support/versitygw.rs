//! A real S3 server for tests: versitygw over a scratch folder.
//!
//! Each bucket is a folder, each object a file in it, so a test can look at what was really
//! stored, or damage it. It keeps bucket policies, object lock without versions, and versions.
#![allow(dead_code, reason = "not every test that includes this file uses all of it")]

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::server::{Program, Server};
use crate::signed::Admin;

const PROGRAM: Program = Program { part: "versitygw", path: "versitygw-v1.8.0", ready: "/" };

/// The credentials of the server's owner.
pub const ACCESS_KEY: &str = "kist-test-access";
pub const SECRET_KEY: &str = "kist-test-secret";

/// A running server.
pub struct Versitygw {
    server: Server,
    scheme: &'static str,
}

impl Versitygw {
    /// Starts a server without buckets, and waits until it answers.
    pub fn start() -> Self {
        Self {
            server: PROGRAM.start(|place, folder, port| command(place, folder, port, &[])),
            scheme: "http",
        }
    }

    /// The same, where buckets can have versions.
    pub fn start_with_versions() -> Self {
        let server = PROGRAM.start(|place, folder, port| {
            let versions = folder.join("versions");
            std::fs::create_dir_all(&versions).expect("the folder for versions");
            let versions = versions.to_str().expect("a scratch folder's name is text");
            command(place, folder, port, &["--versioning-dir", versions])
        });
        Self { server, scheme: "http" }
    }

    /// The same with TLS: certificate and key as PEM files.
    pub fn start_tls(certificate: &Path, key: &Path) -> Self {
        let program = Program { ready: "", ..PROGRAM };
        let server = program.start(|place, folder, port| {
            let plain = command(place, folder, port, &[]);
            let mut command = Command::new(place);
            command.arg("--cert").arg(certificate).arg("--key").arg(key).args(plain.get_args());
            command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
            command
        });
        Self { server, scheme: "https" }
    }

    /// Makes a bucket and gives its folder; its name has three letters or more.
    pub fn bucket(&self, name: &str) -> PathBuf {
        let folder = self.server.folder.path().join("buckets").join(name);
        std::fs::create_dir(&folder).expect("the bucket's folder");
        folder
    }

    /// Removes all objects of a bucket.
    pub fn empty(&self, name: &str) {
        let folder = self.server.folder.path().join("buckets").join(name);
        for entry in std::fs::read_dir(folder).expect("the bucket's folder") {
            std::fs::remove_dir_all(entry.expect("an entry").path()).expect("it can be removed");
        }
    }

    /// Makes a user without any rights.
    pub fn user(&self, access: &str, secret: &str) {
        let mut command = Command::new(PROGRAM.place());
        command.args(["admin", "--access", ACCESS_KEY, "--secret", SECRET_KEY, "--endpoint-url"]);
        command.arg(self.endpoint()).args(["create-user", "--role", "user"]);
        command.args(["--access", access, "--secret", secret]);
        let done = command.output().expect("versitygw can be run");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// The owner, for what kist's store does not do.
    pub fn admin(&self) -> Admin {
        Admin::new(&self.endpoint(), ACCESS_KEY, SECRET_KEY)
    }

    /// The URL for `KIST_REPO` of a bucket or of a part of one (`bucket/prefix`).
    pub fn url(&self, place: &str) -> String {
        format!("s3://{place}?endpoint={}&region=us-east-1", self.endpoint())
    }

    /// The server's port.
    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// The server's address.
    pub fn endpoint(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.server.port)
    }
}

fn command(place: &Path, folder: &Path, port: u16, posix: &[&str]) -> Command {
    for name in ["buckets", "iam"] {
        std::fs::create_dir_all(folder.join(name)).expect("a folder for the server");
    }
    let mut command = Command::new(place);
    command.args(["--port", &format!("127.0.0.1:{port}"), "--iam-dir"]).arg(folder.join("iam"));
    command.arg("posix").args(posix).arg(folder.join("buckets"));
    command.env("ROOT_ACCESS_KEY", ACCESS_KEY).env("ROOT_SECRET_KEY", SECRET_KEY);
    command
}
