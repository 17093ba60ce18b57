//! A real S3 server.

use std::time::Duration;

use bytes::Bytes;
use kist::store::{Class, S3Keys, S3Settings, Store, StoreSettings, StoreUrl, conformance};
use zeroize::Zeroizing;

use crate::versitygw::{ACCESS_KEY, SECRET_KEY, Versitygw};

fn open(url: &str, secret: &str) -> Store {
    let secret = Zeroizing::new(secret.to_owned());
    let s3 = S3Settings {
        keys: Some(S3Keys::new(ACCESS_KEY.into(), secret, None)),
        retry_timeout: Duration::from_secs(5),
        ..S3Settings::default()
    };
    let settings = StoreSettings {
        create_folder: false,
        s3,
    };
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
    other
        .put("stranger", Bytes::from_static(b"x"))
        .await
        .unwrap();
    let store = open(&server.url("shared/one"), SECRET_KEY);
    conformance::all(&store).await;
    assert!(
        store
            .list("")
            .await
            .unwrap()
            .iter()
            .all(|o| o.key.starts_with("conformance/"))
    );
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
        store
            .put("packs/aa/b", Bytes::from_static(b"x"))
            .await
            .unwrap_err(),
        store
            .create_exclusive("config", Bytes::from_static(b"x"))
            .await
            .unwrap_err(),
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
        store
            .put("packs/aa/b", Bytes::from_static(b"x"))
            .await
            .unwrap_err(),
        store
            .create_exclusive("config", Bytes::from_static(b"x"))
            .await
            .unwrap_err(),
        store.list("").await.unwrap_err(),
        store.probe([0; 16]).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.class(), Class::Usage, "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains("s3://nowhere/repo: the store itself is not there"),
            "{text}"
        );
    }
}
