//! A server that speaks Google Cloud Storage's language, for tests: fake-gcs-server, in memory.
//! It asks nobody who he is.

use std::process::Command;

use crate::server::{Program, Server};
use crate::signed;

const PROGRAM: Program =
    Program { part: "fake-gcs", path: "fake-gcs-server-v1.56.1", ready: "/_internal/healthcheck" };

/// A running server.
pub struct FakeGcs(Server);

impl FakeGcs {
    /// Starts a server without buckets, and waits until it answers.
    pub fn start() -> Self {
        Self(PROGRAM.start(|place, _, port| {
            let mut command = Command::new(place);
            command.args(["-scheme", "http", "-host", "127.0.0.1", "-port", &port.to_string()]);
            command.args(["-backend", "memory", "-public-host", &format!("127.0.0.1:{port}")]);
            command.args(["-log-level", "warn"]);
            command
        }))
    }

    /// Makes a bucket.
    pub async fn bucket(&self, name: &str) {
        let headers = [("content-type", "application/json")];
        let address = format!("{}/storage/v1/b?project=test", self.0.endpoint());
        let (status, answer) =
            signed::plain("POST", &address, &headers, &format!(r#"{{"name": "{name}"}}"#)).await;
        assert_eq!(status, 200, "{answer}");
    }

    /// The URL for `KIST_REPO` of a bucket or of a part of one (`bucket/prefix`).
    pub fn url(&self, place: &str) -> String {
        format!("gs://{place}?endpoint={}", self.0.endpoint())
    }
}
