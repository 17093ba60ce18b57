//! A real S3 server.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use kist::store::{Class, S3Keys, S3Settings, Store, StoreSettings, StoreUrl, conformance};
use zeroize::Zeroizing;

use crate::versitygw::{ACCESS_KEY, SECRET_KEY, Versitygw};

fn open(url: &str, secret: &str) -> Store {
    open_tls(url, secret, None)
}

fn open_tls(url: &str, secret: &str, authorities_pem: Option<Vec<u8>>) -> Store {
    let secret = Zeroizing::new(secret.to_owned());
    let s3 = S3Settings {
        keys: Some(S3Keys::new(ACCESS_KEY.into(), secret, None)),
        retry_timeout: Duration::from_secs(5),
        authorities_pem,
        ..S3Settings::default()
    };
    let settings = StoreSettings { create_folder: false, s3 };
    Store::open(&StoreUrl::parse(url).unwrap(), &settings).unwrap()
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
    let other = open(&server.url("shared/one-two"), SECRET_KEY);
    other.put("stranger", Bytes::from_static(b"x")).await.unwrap();
    let store = open(&server.url("shared/one"), SECRET_KEY);
    conformance::all(&store).await;
    assert!(store.list("").await.unwrap().iter().all(|o| o.key.starts_with("conformance/")));
    assert!(folder.join("one/conformance/put/a").is_file());
    assert_eq!(other.list("").await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_wrong_secret_is_denied() {
    let server = Versitygw::start();
    server.bucket("repo");
    let store = open(&server.url("repo"), "planted-wrong-secret");
    let errors = [
        store.get("config").await.unwrap_err(),
        store.put("packs/aa/b", Bytes::from_static(b"x")).await.unwrap_err(),
        store.create_exclusive("config", Bytes::from_static(b"x")).await.unwrap_err(),
        store.list("").await.unwrap_err(),
        store.probe([0; 16]).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.class(), Class::Denied, "{error:?}");
        assert!(!format!("{error:?}").contains("planted"));
    }
}

#[tokio::test]
async fn a_missing_bucket_is_named_and_not_taken_for_a_missing_object() {
    let server = Versitygw::start();
    let store = open(&server.url("nowhere/repo"), SECRET_KEY);
    let errors = [
        store.get("config").await.unwrap_err(),
        store.put("packs/aa/b", Bytes::from_static(b"x")).await.unwrap_err(),
        store.create_exclusive("config", Bytes::from_static(b"x")).await.unwrap_err(),
        store.list("").await.unwrap_err(),
        store.probe([0; 16]).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.class(), Class::Usage, "{error:?}");
        let text = error.to_string();
        assert!(text.contains("s3://nowhere/repo: the store itself is not there"), "{text}");
    }
}

/// The authority of `tls/` has signed the server's certificate for 127.0.0.1; both are
/// valid for a hundred years, and of no use anywhere else.
#[tokio::test]
async fn only_a_server_of_a_trusted_authority_is_spoken_to() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store/tls");
    let server = Versitygw::start_tls(&folder.join("server.pem"), &folder.join("server.key"));
    server.bucket("repo");
    let trusted = std::fs::read(folder.join("ca.pem")).unwrap();
    let store = open_tls(&server.url("repo"), SECRET_KEY, Some(trusted));
    store.put("config", Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(store.get("config").await.unwrap(), "x");

    let mut settings = StoreSettings::default();
    let secret = Zeroizing::new(SECRET_KEY.to_owned());
    settings.s3.keys = Some(S3Keys::new(ACCESS_KEY.into(), secret, None));
    settings.s3.retry_timeout = Duration::ZERO;
    let url = StoreUrl::parse(&server.url("repo")).unwrap();
    let strict = Store::open(&url, &settings).unwrap();
    let error = strict.get("config").await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("certificate"), "{source}");

    settings.s3.authorities_pem = Some(b"no certificate".to_vec());
    let error = Store::open(&url, &settings).unwrap_err();
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
