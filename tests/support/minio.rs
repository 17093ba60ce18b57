//! A real S3 server for tests: MinIO over a scratch folder. It keeps policies of users, versions and object lock.

use std::process::Command;

use crate::server::{Program, Server};
use crate::signed::Admin;

const PROGRAM: Program =
    Program { part: "minio", path: "minio-v0.0.0-20260212201848-7aac2a2c5b7c", ready: "/minio/health/ready" };

/// The credentials of the server's owner.
pub const ACCESS_KEY: &str = "kist-test-access";
pub const SECRET_KEY: &str = "kist-test-secret";

/// A running server.
pub struct Minio(Server);

impl Minio {
    /// Starts a server without buckets, and waits until it answers.
    pub fn start() -> Self {
        Self(PROGRAM.start(|place, folder, port| {
            let mut command = Command::new(place);
            command.args(["server", "--quiet", "--address", &format!("127.0.0.1:{port}")]);
            command.arg(folder.join("drive")).env("HOME", folder);
            command.env("MINIO_ROOT_USER", ACCESS_KEY).env("MINIO_ROOT_PASSWORD", SECRET_KEY);
            command.env("MINIO_BROWSER", "off");
            command
        }))
    }

    /// The owner, for what kist's store does not do.
    pub fn admin(&self) -> Admin {
        Admin::new(&self.0.endpoint(), ACCESS_KEY, SECRET_KEY)
    }

    /// The server's address.
    pub fn endpoint(&self) -> String {
        self.0.endpoint()
    }

    /// The URL for `KIST_REPO` of a bucket or of a part of one (`bucket/prefix`).
    pub fn url(&self, place: &str) -> String {
        format!("s3://{place}?endpoint={}", self.0.endpoint())
    }
}
