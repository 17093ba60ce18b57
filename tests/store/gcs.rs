//! Google Cloud Storage's language, as fake-gcs-server speaks it.

use kist::store::{Class, GcsKeys, Store, StoreSettings, StoreUrl, conformance};
use zeroize::Zeroizing;

use crate::fake_gcs::FakeGcs;
use crate::{bucket, fake_s3};

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_google_s_keeps_the_laws() {
    let server = FakeGcs::start().await;
    server.bucket("whole").await;
    conformance::all(&bucket::gcs(&server.url("whole"), "token")).await;
    server.bucket("shared").await;
    let open = |part: &str| bucket::gcs(&server.url(part), "token");
    bucket::a_part_keeps_the_laws_and_sees_nothing_else(&open("shared/one"), &open("shared/one-two")).await;
}

/// The fake says 404 or 500 and no more of a bucket that is missing; this is what Google says.
#[tokio::test]
async fn google_s_refusals_keep_their_meaning() {
    let told = |code: &str| -> &'static str { format!("<Error><Code>{code}</Code></Error>").leak() };
    for (status, code, got, deleted) in [
        (404, "NoSuchBucket", Class::Usage, Class::Usage),
        (403, "AccessDenied", Class::Denied, Class::Retained),
        (403, "RetentionPolicyNotMet", Class::Denied, Class::Retained),
        (401, "AuthenticationRequired", Class::Denied, Class::Denied),
    ] {
        let endpoint = fake_s3::start(status, told(code)).await;
        let store = bucket::gcs(&format!("gs://bucket?endpoint={endpoint}"), "planted-token");
        let error = store.get("config").await.unwrap_err();
        assert_eq!(error.class(), got, "{code}");
        assert!(!format!("{error:?}").contains("planted"));
        assert_eq!(store.delete("config").await.unwrap_err().class(), deleted, "{code}");
    }
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
