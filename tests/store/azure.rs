//! Azure's language, as Azurite speaks it.

use kist::store::{AzureKeys, Store, StoreSettings, StoreUrl, conformance};
use zeroize::Zeroizing;

use crate::azurite::{Azurite, KEY};
use crate::bucket;

#[tokio::test(flavor = "multi_thread")]
async fn a_container_keeps_the_laws() {
    let server = Azurite::start();
    server.container("whole").await;
    conformance::all(&bucket::azure(&server.url("whole"), KEY)).await;
    server.container("shared").await;
    let open = |part: &str| bucket::azure(&server.url(part), KEY);
    bucket::a_part_keeps_the_laws_and_sees_nothing_else(&open("shared/one"), &open("shared/one-two")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_s_refusals_keep_their_meaning() {
    let server = Azurite::start();
    server.container("repo").await;
    // "planted" in base64 with a space behind.
    bucket::wrong_credentials_are_denied(&bucket::azure(&server.url("repo"), "cGxhbnRlZCA=")).await;
    bucket::a_missing_bucket_is_named(&bucket::azure(&server.url("nowhere/repo"), KEY)).await;
}

#[test]
fn without_an_account_or_credentials_no_container_is_opened() {
    let open = |text: &str, settings: &StoreSettings| {
        Store::open(&StoreUrl::parse(text).unwrap(), settings).unwrap_err().to_string()
    };
    let mut settings = StoreSettings::default();
    let error = open("az://boxes", &settings);
    assert_eq!(error, "open az://boxes: no storage account is given: add ?account=");
    let error = open("az://boxes?account=acc", &settings);
    assert_eq!(error, "open az://boxes: no credentials are given");
    settings.azure.account = Some("acc".into());
    for keys in [AzureKeys::Account, AzureKeys::Sas] {
        settings.azure.keys = Some(keys(Zeroizing::new("planted!".into())));
        let error = open("az://boxes", &settings);
        assert!(!format!("{error} {settings:?}").contains("planted"), "{error}");
    }
}
