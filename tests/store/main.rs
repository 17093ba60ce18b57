//! The store layer on real backends: memory, folders, a full disk, real servers of three languages, and
//! a server that answers what it is told to, buckets that keep what is deleted; and a store that is reached through another process.

mod append_only;
mod azure;
#[path = "../support/azurite.rs"]
mod azurite;
mod bucket;
mod copying;
#[path = "../support/fake_gcs.rs"]
mod fake_gcs;
mod fake_s3;
mod folder;
#[path = "../support/front.rs"]
mod front;
mod gcs;
mod kept;
mod minio;
mod relay;
mod replies;
mod runs;
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
