//! A real S3 server for tests: MinIO over a scratch folder. It keeps policies of users, versions and object lock.

use std::process::Command;

use crate::server::{Program, Server};
use crate::signed::Admin;

/// Asked for its cluster, it says 503 until buckets and users are loaded; `ready` says nothing of these.
const PROGRAM: Program = Program {
    part: "minio",
    path: "minio-v0.0.0-20260212201848-7aac2a2c5b7c",
    ready: "/minio/health/cluster",
};

/// The credentials of the server's owner.
pub const ACCESS_KEY: &str = "kist-test-access";
pub const SECRET_KEY: &str = "kist-test-secret";

/// A running server.
pub struct Minio(Server);

impl Minio {
    /// Starts a server without buckets, and waits until it serves.
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

    /// Makes a bucket; `headers` say more of it.
    pub async fn bucket(&self, name: &str, headers: &[(&str, &str)]) {
        self.admin().done("PUT", &format!("/{name}"), headers, "").await;
    }

    /// The URL for `KIST_REPO` of a bucket or of a part of one (`bucket/prefix`).
    pub fn url(&self, place: &str) -> String {
        format!("s3://{place}?endpoint={}", self.0.endpoint())
    }
}
