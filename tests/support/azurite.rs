//! A server that speaks Azure's blob storage's language, for tests: Azurite over a scratch folder.

use std::process::Command;

use crate::server::{Program, Server};
use crate::signed;

const PROGRAM: Program = Program {
    part: "azurite",
    path: "azurite-3.37.0/node_modules/azurite/dist/src/blob/main.js",
    ready: "/",
};

/// The account, and its key in base64 ("a key of the tests, and of no use elsewhere").
pub const ACCOUNT: &str = "kisttest";
pub const KEY: &str = "YSBrZXkgb2YgdGhlIHRlc3RzLCBhbmQgb2Ygbm8gdXNlIGVsc2V3aGVyZQ==";

/// A running server.
pub struct Azurite(Server);

impl Azurite {
    /// Starts a server without containers, and waits until it answers.
    pub fn start() -> Self {
        Self(PROGRAM.start(|place, folder, port| {
            let mut command = Command::new("node");
            command.arg(place).args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()]);
            command.arg("--location").arg(folder.join("data"));
            command.args(["--silent", "--skipApiVersionCheck", "--disableTelemetry"]);
            command.env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{KEY}"));
            command
        }))
    }

    /// Makes a container.
    pub async fn container(&self, name: &str) {
        let address = format!("{}/{ACCOUNT}/{name}?restype=container", self.0.endpoint());
        let (status, answer) = signed::azure(ACCOUNT, KEY, "PUT", &address).await;
        assert_eq!(status, 201, "{answer}");
    }

    /// The URL for `KIST_REPO` of a container or of a part of one (`container/prefix`).
    pub fn url(&self, place: &str) -> String {
        format!("az://{place}?account={ACCOUNT}&endpoint={}", self.0.endpoint())
    }
}
