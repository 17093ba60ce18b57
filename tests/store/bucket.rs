//! What every kind of bucket does, whoever serves it: opened as the command line opens it.

use std::error::Error as _;
use std::time::Duration;

use bytes::Bytes;
use kist::store::{
    AzureKeys, AzureSettings, Class, Error, GcsKeys, GcsSettings, NetworkSettings, S3Keys, S3Settings, Store,
    StoreSettings, StoreUrl, conformance,
};
use zeroize::Zeroizing;

/// Settings that give up soon.
pub fn network() -> NetworkSettings {
    NetworkSettings { retry_timeout: Duration::from_secs(5), ..Default::default() }
}

pub fn s3(url: &str, id: &str, secret: &str, token: Option<&str>) -> Store {
    let hidden = |text: &str| Zeroizing::new(text.to_owned());
    let keys = Some(S3Keys::new(id.into(), hidden(secret), token.map(hidden)));
    open(url, StoreSettings { s3: S3Settings { keys, region: None }, ..Default::default() })
}

pub fn gcs(url: &str, token: &str) -> Store {
    let keys = Some(GcsKeys::Token(Zeroizing::new(token.to_owned())));
    open(url, StoreSettings { gcs: GcsSettings { keys }, ..Default::default() })
}

pub fn azure(url: &str, key: &str) -> Store {
    let keys = Some(AzureKeys::Account(Zeroizing::new(key.to_owned())));
    open(url, StoreSettings { azure: AzureSettings { account: None, keys }, ..Default::default() })
}

fn open(url: &str, settings: StoreSettings) -> Store {
    let settings = StoreSettings { network: network(), ..settings };
    Store::open(&StoreUrl::parse(url).unwrap(), &settings).unwrap()
}

/// A part of a bucket keeps the laws, and neither sees nor touches the part beside it.
pub async fn a_part_keeps_the_laws_and_sees_nothing_else(part: &Store, beside: &Store) {
    beside.put("stranger", Bytes::from_static(b"x")).await.unwrap();
    conformance::all(part).await;
    assert!(part.list("").await.unwrap().iter().all(|o| o.key.starts_with("conformance/")));
    assert_eq!(beside.list("").await.unwrap().len(), 1);
}

/// Each way in ends with an error; the caller says which.
async fn errors(store: &Store) -> [Error; 5] {
    [
        store.get("config").await.unwrap_err(),
        store.put("packs/aa/b", Bytes::from_static(b"x")).await.unwrap_err(),
        store.create_exclusive("config", Bytes::from_static(b"x")).await.unwrap_err(),
        store.list("").await.unwrap_err(),
        store.probe([0; 16]).await.unwrap_err(),
    ]
}

/// Wrong credentials, "planted" in them, are denied and not shown; and a delete is not "retained".
pub async fn wrong_credentials_are_denied(store: &Store) {
    let deleted = store.delete("config").await.unwrap_err();
    for error in errors(store).await.into_iter().chain([deleted]) {
        assert_eq!(error.class(), Class::Denied, "{error:?}");
        assert!(!format!("{error:?}").contains("planted"));
    }
}

/// A bucket that is missing is named, and not taken for a missing object.
pub async fn a_missing_bucket_is_named(store: &Store) {
    for error in errors(store).await {
        assert_eq!(error.class(), Class::Usage, "{error:?} {:?}", error.source());
        let text = error.to_string();
        assert!(text.contains(&format!("{store}: the store itself is not there")), "{text}");
    }
}
