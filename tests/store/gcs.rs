//! Google Cloud Storage's language, as fake-gcs-server speaks it.

use kist::store::{GcsKeys, Store, StoreSettings, StoreUrl, conformance};
use zeroize::Zeroizing;

use crate::bucket;
use crate::fake_gcs::FakeGcs;

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_google_s_keeps_the_laws() {
    let server = FakeGcs::start();
    server.bucket("whole").await;
    conformance::all(&bucket::gcs(&server.url("whole"), "token")).await;
    server.bucket("shared").await;
    let open = |part: &str| bucket::gcs(&server.url(part), "token");
    bucket::a_part_keeps_the_laws_and_sees_nothing_else(&open("shared/one"), &open("shared/one-two")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bucket_of_google_s_is_named() {
    let server = FakeGcs::start();
    bucket::a_missing_bucket_is_named(&bucket::gcs(&server.url("nowhere/repo"), "token")).await;
}

#[test]
fn without_credentials_or_with_others_than_a_service_account_s_no_bucket_is_opened() {
    let url = StoreUrl::parse("gs://bucket").unwrap();
    let error = Store::open(&url, &StoreSettings::default()).unwrap_err();
    assert_eq!(error.to_string(), "open gs://bucket: no credentials are given");
    for json in ["planted", "{}", r#"{"type": "authorized_user", "private_key": "planted"}"#] {
        let mut settings = StoreSettings::default();
        settings.gcs.keys = Some(GcsKeys::ServiceAccount(Zeroizing::new(json.into())));
        let error = Store::open(&url, &settings).unwrap_err();
        assert!(error.to_string().ends_with("not a service account's key in JSON"), "{error}");
        assert!(!format!("{error:?} {settings:?}").contains("planted"));
    }
}
