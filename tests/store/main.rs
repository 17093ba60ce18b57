//! The store layer on real backends: memory, folders, a full disk, a real S3 server, and
//! a server that answers what it is told to; and a store that is reached through another process.

mod fake_s3;
mod folder;
mod relay;
mod replies;
mod s3;
mod source;
#[path = "../support/versitygw.rs"]
mod versitygw;

use kist::store::{Store, conformance};

#[tokio::test(flavor = "multi_thread")]
async fn memory_keeps_the_laws() {
    conformance::all(&Store::memory()).await;
}
