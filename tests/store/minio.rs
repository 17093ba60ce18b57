//! MinIO.

use kist::store::conformance;

use crate::bucket;
use crate::server_minio::{ACCESS_KEY, Minio, SECRET_KEY};

#[tokio::test(flavor = "multi_thread")]
async fn minio_keeps_the_laws() {
    let server = Minio::start();
    server.bucket("whole", &[]).await;
    conformance::all(&bucket::s3(&server.url("whole"), ACCESS_KEY, SECRET_KEY, None)).await;
    server.bucket("shared", &[]).await;
    let open = |part: &str| bucket::s3(&server.url(part), ACCESS_KEY, SECRET_KEY, None);
    bucket::a_part_keeps_the_laws_and_sees_nothing_else(&open("shared/one"), &open("shared/one-two")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn minio_s_refusals_keep_their_meaning() {
    let server = Minio::start();
    server.bucket("repo", &[]).await;
    let wrong = bucket::s3(&server.url("repo"), ACCESS_KEY, "planted-wrong-secret", None);
    bucket::wrong_credentials_are_denied(&wrong).await;
    let missing = bucket::s3(&server.url("nowhere/repo"), ACCESS_KEY, SECRET_KEY, None);
    bucket::a_missing_bucket_is_named(&missing).await;
}
