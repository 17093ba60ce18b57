//! What the real S3 client makes of a server's refusals: every class of error, and no
//! secret in any of them.

use std::error::Error as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kist::store::{Class, Error, NetworkSettings, S3Keys, S3Settings, Store, StoreSettings, StoreUrl};
use tokio::net::TcpListener;
use zeroize::Zeroizing;

use crate::fake_s3;

fn store(endpoint: &str, retry: Duration, request: Duration) -> Store {
    let secret = Zeroizing::new("planted-secret".to_owned());
    let token = Zeroizing::new("planted-token".to_owned());
    let s3 = S3Settings {
        keys: Some(S3Keys::new("planted-id".into(), secret, Some(token))),
        ..S3Settings::default()
    };
    let network = NetworkSettings { retry_timeout: retry, request_timeout: request, ..Default::default() };
    let settings = StoreSettings { s3, network, ..Default::default() };
    assert!(!format!("{settings:?}").contains("planted"));
    let url = StoreUrl::parse(&format!("s3://bucket/repo?endpoint={endpoint}")).unwrap();
    let store = Store::open(&url, &settings).unwrap();
    assert!(!format!("{store:?} {store}").contains("planted"));
    store
}

async fn impatient(endpoint: &str) -> Store {
    store(endpoint, Duration::ZERO, Duration::from_secs(10))
}

/// The message with all its sources.
fn whole(error: &Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut next = error.source();
    while let Some(source) = next {
        text += &format!(" {source} {source:?}");
        next = source.source();
    }
    text
}

#[tokio::test]
async fn refusals_keep_their_meaning_through_the_client() {
    let error = |code: &str| -> &'static str {
        let more = "<AWSAccessKeyId>planted-id</AWSAccessKeyId>";
        format!("<Error><Code>{code}</Code><Message>because</Message>{more}</Error>").leak()
    };
    for (status, code, get, put, list) in [
        (404, "NoSuchBucket", Class::Usage, Class::Usage, Class::Usage),
        (403, "AccessDenied", Class::Denied, Class::Denied, Class::Denied),
        (401, "", Class::Denied, Class::Denied, Class::Denied),
        (403, "QuotaExceeded", Class::Full, Class::Full, Class::Full),
        (507, "", Class::Full, Class::Full, Class::Full),
        (503, "SlowDown", Class::Transient, Class::Transient, Class::Transient),
        (500, "InternalError", Class::Transient, Class::Transient, Class::Transient),
        (501, "NotImplemented", Class::Usage, Class::Usage, Class::Usage),
        (400, "InvalidArgument", Class::Other, Class::Other, Class::Other),
    ] {
        let store = impatient(&fake_s3::start(status, error(code)).await).await;
        let got = store.get("config").await.unwrap_err();
        let was_put = store.put("packs/aa/b", Bytes::from_static(b"x")).await.unwrap_err();
        let listed = store.list("commits").await.unwrap_err();
        let found = (got.class(), was_put.class(), listed.class());
        assert_eq!(found, (get, put, list), "{status} {code}");
        for error in [got, was_put, listed] {
            let text = whole(&error);
            assert!(text.contains("s3://bucket/repo"), "{text}");
            assert!(text.contains(&status.to_string()) && text.contains(code), "{text}");
            assert!(!text.contains("planted"), "{text}");
        }
    }
}

#[tokio::test]
async fn a_missing_object_is_missing_with_and_without_a_body() {
    let body = "<Error><Code>NoSuchKey</Code></Error>";
    let store = impatient(&fake_s3::start(404, body).await).await;
    assert_eq!(store.get("config").await.unwrap_err().class(), Class::Missing);
    assert_eq!(store.size("config").await.unwrap_err().class(), Class::Missing);
    store.delete("config").await.unwrap();
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_transient_after_the_timeout() {
    // Accepts by the backlog, and never says anything.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let store = store(&endpoint, Duration::ZERO, Duration::from_millis(200));
    let error = store.put("packs/aa/b", Bytes::from_static(b"x")).await.unwrap_err();
    assert_eq!(error.class(), Class::Transient, "{}", whole(&error));
    assert!(!whole(&error).contains("planted"));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_transient_and_retries_end() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let store = store(&endpoint, Duration::from_millis(500), Duration::from_secs(10));
    let start = Instant::now();
    let error = store.get("config").await.unwrap_err();
    assert_eq!(error.class(), Class::Transient, "{}", whole(&error));
    let took = start.elapsed();
    assert!(took > Duration::from_millis(400), "it tries again: {took:?}");
    assert!(took < Duration::from_secs(30), "but not for ever: {took:?}");
}

#[tokio::test]
async fn a_store_is_not_opened_without_credentials_or_region() {
    let url = StoreUrl::parse("s3://bucket?region=eu-west-1").unwrap();
    let error = Store::open(&url, &StoreSettings::default()).unwrap_err();
    assert_eq!(error.to_string(), "open s3://bucket: no credentials are given");
    let mut settings = StoreSettings::default();
    let secret = Zeroizing::new("secret".to_owned());
    settings.s3.keys = Some(S3Keys::new("id".into(), secret, None));
    let url = StoreUrl::parse("s3://bucket").unwrap();
    let error = Store::open(&url, &settings).unwrap_err();
    assert_eq!(error.to_string(), "open s3://bucket: no region is given: add ?region=");
    settings.s3.region = Some("eu-west-1".into());
    Store::open(&url, &settings).unwrap();
}
