//! A server that speaks Google Cloud Storage's language, for tests: fake-gcs-server, in memory.
//!
//! Of Google's XML API, which kist's client speaks, it knows reads, lists (in one page) and deletes, but no
//! puts: a front turns these into uploads of the JSON API, with the same condition. It asks nobody who he is.

use std::process::Command;

use crate::front::{self, Head, Way};
use crate::server::{Program, Server};
use crate::signed;

const PROGRAM: Program =
    Program { part: "fake-gcs", path: "fake-gcs-server-v1.56.1", ready: "/_internal/healthcheck" };

/// A running server.
pub struct FakeGcs {
    server: Server,
    front: String,
}

impl FakeGcs {
    /// Starts a server without buckets, and waits until it answers.
    pub async fn start() -> Self {
        let server = PROGRAM.start(|place, _, port| {
            let mut command = Command::new(place);
            command.args(["-scheme", "http", "-host", "127.0.0.1", "-port", &port.to_string()]);
            command.args(["-backend", "memory", "-public-host", &format!("127.0.0.1:{port}")]);
            command.args(["-log-level", "warn"]);
            command
        });
        let host = format!("127.0.0.1:{}", server.port);
        let front = front::start(server.port, move |head| translated(head, &host)).await;
        Self { server, front }
    }

    /// Makes a bucket.
    pub async fn bucket(&self, name: &str) {
        let headers = [("content-type", "application/json")];
        let address = format!("{}/storage/v1/b?project=test", self.server.endpoint());
        let (status, answer) =
            signed::plain("POST", &address, &headers, &format!(r#"{{"name": "{name}"}}"#)).await;
        assert_eq!(status, 200, "{answer}");
    }

    /// The URL for `KIST_REPO` of a bucket or of a part of one (`bucket/prefix`).
    pub fn url(&self, place: &str) -> String {
        format!("gs://{place}?endpoint=http://{}", self.front)
    }
}

/// A put of the XML API as an upload of the JSON API; all else as it is, but for the server's own name.
fn translated(mut head: Head, host: &str) -> Way {
    head.set("host", host);
    if head.method != "PUT" {
        return Way::On(head, "");
    }
    let (bucket, key) = head.target[1..].split_once('/').expect("bucket and key");
    let condition = match head.header("x-goog-if-generation-match") {
        Some(generation) => format!("&ifGenerationMatch={generation}"),
        None => String::new(),
    };
    // The key is one escaped segment already.
    head.target = format!("/upload/storage/v1/b/{bucket}/o?uploadType=media&name={key}{condition}");
    head.method = "POST".into();
    // The client wants one, and makes nothing of it.
    Way::On(head, "etag: \"none\"\r\n")
}
