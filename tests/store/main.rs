//! The store layer on real backends: memory, folders, a full disk, real servers of three languages, and
//! a server that answers what it is told to; and a store that is reached through another process.

mod azure;
#[path = "../support/azurite.rs"]
mod azurite;
mod bucket;
#[path = "../support/fake_gcs.rs"]
mod fake_gcs;
mod fake_s3;
mod folder;
mod gcs;
mod minio;
mod relay;
mod replies;
mod s3;
#[path = "../support/server.rs"]
mod server;
#[path = "../support/minio.rs"]
mod server_minio;
#[path = "../support/signed.rs"]
mod signed;
mod source;
#[path = "../support/versitygw.rs"]
mod versitygw;

use kist::store::{Store, conformance};

#[tokio::test(flavor = "multi_thread")]
async fn memory_keeps_the_laws() {
    conformance::all(&Store::memory()).await;
}
