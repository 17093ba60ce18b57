//! A real S3 server.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use kist::store::{NetworkSettings, S3Keys, S3Settings, Store, StoreSettings, StoreUrl, conformance};
use zeroize::Zeroizing;

use crate::bucket;
use crate::versitygw::{ACCESS_KEY, SECRET_KEY, Versitygw};

fn open(url: &str, secret: &str) -> Store {
    bucket::s3(url, ACCESS_KEY, secret, None)
}

fn open_tls(url: &str, network: NetworkSettings) -> kist::store::Result<Store> {
    let keys = S3Keys::new(ACCESS_KEY.into(), Zeroizing::new(SECRET_KEY.into()), None);
    let s3 = S3Settings { keys: Some(keys), region: None };
    Store::open(&StoreUrl::parse(url).unwrap(), &StoreSettings { s3, network, ..Default::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_keeps_the_laws() {
    let server = Versitygw::start();
    server.bucket("whole");
    conformance::all(&open(&server.url("whole"), SECRET_KEY)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_bucket_keeps_the_laws_and_sees_nothing_else() {
    let server = Versitygw::start();
    let folder = server.bucket("shared");
    let part = |name: &str| open(&server.url(name), SECRET_KEY);
    bucket::a_part_keeps_the_laws_and_sees_nothing_else(&part("shared/one"), &part("shared/one-two")).await;
    assert!(folder.join("one/conformance/put/a").is_file());
}

#[tokio::test]
async fn a_wrong_secret_is_denied() {
    let server = Versitygw::start();
    server.bucket("repo");
    bucket::wrong_credentials_are_denied(&open(&server.url("repo"), "planted-wrong-secret")).await;
}

#[tokio::test]
async fn a_missing_bucket_is_named_and_not_taken_for_a_missing_object() {
    let server = Versitygw::start();
    bucket::a_missing_bucket_is_named(&open(&server.url("nowhere/repo"), SECRET_KEY)).await;
}

/// The authority of `tls/` has signed the server's certificate for 127.0.0.1; both are
/// valid for a hundred years, and of no use anywhere else.
#[tokio::test]
async fn only_a_server_of_a_trusted_authority_is_spoken_to() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store/tls");
    let server = Versitygw::start_tls(&folder.join("server.pem"), &folder.join("server.key"));
    server.bucket("repo");
    let trusted = std::fs::read(folder.join("ca.pem")).unwrap();
    let url = server.url("repo");
    let network = NetworkSettings { authorities_pem: Some(trusted), ..bucket::network() };
    let store = open_tls(&url, network).unwrap();
    store.put("config", Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(store.get("config").await.unwrap(), "x");

    let strict = NetworkSettings { retry_timeout: Duration::ZERO, ..Default::default() };
    let error = open_tls(&url, strict).unwrap().get("config").await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("certificate"), "{source}");

    let none = NetworkSettings { authorities_pem: Some(b"no certificate".to_vec()), ..Default::default() };
    let error = open_tls(&url, none).unwrap_err();
    assert!(error.to_string().ends_with("not certificates in PEM"), "{error}");
}

/// kist's image holds nothing but kist. The client would not even start there if it went
/// looking for the system's authorities.
#[test]
fn plain_http_needs_no_authorities_on_the_system() {
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "s3::a_wrong_secret_is_denied"])
        .env("SSL_CERT_FILE", "/nonexistent")
        .env("SSL_CERT_DIR", "/nonexistent")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && text.contains("1 passed"), "{text}");
}
