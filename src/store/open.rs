//! Opens a store by its URL, with the settings that are handed in.
//!
//! Nothing is read from the environment here. Where a cloud's client would look around for
//! credentials by itself (a home folder, a metadata server), it is given none to look for:
//! without credentials a bucket is not opened.

use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, Checksum};
use object_store::azure::{MicrosoftAzureBuilder, split_sas};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig};
use serde::Deserialize;

use crate::store::Store;
use crate::store::conditional::Conditional;
use crate::store::error::{Error, Result, reason};
use crate::store::limit;
use crate::store::local;
use crate::store::settings::{
    AzureKeys, AzureSettings, GcsKeys, GcsSettings, NetworkSettings, S3Settings, StoreSettings,
};
use crate::store::url::{BucketUrl, StoreUrl};

/// Where Google Cloud Storage answers.
const GOOGLE: &str = "https://storage.googleapis.com";

impl Store {
    /// Opens the store at `url`. A folder has to be there, a bucket is not asked for yet.
    pub fn open(url: &StoreUrl, settings: &StoreSettings) -> Result<Store> {
        let store = Self::unlimited(url, settings)?;
        Ok(match settings.upload_limit {
            Some(limit) => {
                let store = store.decorated(|inner| limit::over(inner, limit));
                Store { upload_limit: Some(limit), ..store }
            }
            None => store,
        })
    }

    fn unlimited(url: &StoreUrl, settings: &StoreSettings) -> Result<Store> {
        let network = &settings.network;
        let (inner, url) = match url {
            StoreUrl::Folder(path) => {
                let (inner, path) = local::open(path, settings.create_folder)?;
                return Ok(Store::named(inner, &path.display().to_string(), ""));
            }
            StoreUrl::S3(url) => (s3(url, &settings.s3, network)?, url),
            StoreUrl::Gcs(url) => (gcs(url, &settings.gcs, network)?, url),
            StoreUrl::Azure(url) => (azure(url, &settings.azure, network)?, url),
        };
        let inner = Conditional::over(inner, network.retry_timeout);
        Ok(Store::named(inner, &url.name(), url.prefix()))
    }
}

fn invalid(url: &BucketUrl, reason: &str) -> Error {
    Error::Invalid { url: url.name(), reason: reason.into() }
}

fn failed(url: &BucketUrl) -> impl Fn(object_store::Error) -> Error {
    |error| invalid(url, &reason(&error))
}

fn client(url: &BucketUrl, network: &NetworkSettings) -> Result<ClientOptions> {
    let client = ClientOptions::new()
        .with_allow_http(url.plain_http())
        // In an image without certificates no client could be built, not even for http.
        .with_no_system_certificates(url.plain_http() || network.authorities_pem.is_some())
        .with_timeout(network.request_timeout)
        .with_connect_timeout(network.connect_timeout);
    let Some(pem) = &network.authorities_pem else { return Ok(client) };
    let authorities = Certificate::from_pem_bundle(pem).unwrap_or_default();
    if authorities.is_empty() {
        return Err(invalid(url, "the authorities to trust are not certificates in PEM"));
    }
    Ok(authorities.into_iter().fold(client, ClientOptions::with_root_certificate))
}

fn retry(network: &NetworkSettings) -> RetryConfig {
    RetryConfig {
        // The time is the bound; the count is only there so that both exist.
        max_retries: 1000,
        retry_timeout: network.retry_timeout,
        backoff: BackoffConfig { max_backoff: std::time::Duration::from_secs(5), ..Default::default() },
    }
}

fn no_credentials(url: &BucketUrl) -> Error {
    invalid(url, "no credentials are given")
}

fn s3(url: &BucketUrl, settings: &S3Settings, network: &NetworkSettings) -> Result<Arc<dyn ObjectStore>> {
    let keys = settings.keys.as_ref().ok_or_else(|| no_credentials(url))?;
    let given = url.region().or(settings.region.as_deref());
    let region = match (given, url.address()) {
        (Some(region), _) => region,
        // Stores of one's own do not care, but the signature needs one.
        (None, Some(_)) => "us-east-1",
        (None, None) => return Err(invalid(url, "no region is given: add ?region=")),
    };
    let (id, secret, token) = keys.parts();
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(url.bucket())
        .with_region(region)
        .with_virtual_hosted_style_request(!url.path_style())
        .with_access_key_id(id)
        .with_secret_access_key(secret.as_str())
        // One DELETE for each object: not every store knows the bulk call.
        .with_disable_bulk_delete(true)
        .with_client_options(client(url, network)?)
        .with_retry(retry(network));
    if let Some(token) = token {
        builder = builder.with_token(token.as_str());
    }
    if let Some(address) = url.address() {
        builder = builder.with_endpoint(address);
    }
    if url.checksum() {
        // The signature needs the same hash, so it costs nothing.
        builder = builder.with_checksum_algorithm(Checksum::SHA256);
    }
    Ok(Arc::new(builder.build().map_err(failed(url))?))
}

/// What has to stand in a service account's key; the client's own words for what is wrong could quote it.
#[derive(Deserialize)]
struct ServiceAccount {
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "private_key")]
    _private_key: serde::de::IgnoredAny,
}

fn gcs(url: &BucketUrl, settings: &GcsSettings, network: &NetworkSettings) -> Result<Arc<dyn ObjectStore>> {
    let keys = settings.keys.as_ref().ok_or_else(|| no_credentials(url))?;
    let address = url.address();
    let builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(url.bucket())
        .with_base_url(address.as_deref().unwrap_or(GOOGLE))
        .with_client_options(client(url, network)?)
        .with_retry(retry(network));
    let builder = match keys {
        GcsKeys::Token(token) => builder.with_bearer_token(token.as_str()),
        GcsKeys::ServiceAccount(json) => {
            let account: Option<ServiceAccount> = serde_json::from_str(json).ok();
            if account.is_none_or(|account| account.kind != "service_account") {
                return Err(invalid(url, "the credentials are not a service account's key in JSON"));
            }
            builder.with_service_account_key(json.as_str())
        }
    };
    Ok(Arc::new(builder.build().map_err(failed(url))?))
}

fn azure(
    url: &BucketUrl,
    settings: &AzureSettings,
    network: &NetworkSettings,
) -> Result<Arc<dyn ObjectStore>> {
    let account = url.account().or(settings.account.as_deref());
    let account = account.ok_or_else(|| invalid(url, "no storage account is given: add ?account="))?;
    let keys = settings.keys.as_ref().ok_or_else(|| no_credentials(url))?;
    let mut builder = MicrosoftAzureBuilder::new()
        .with_container_name(url.bucket())
        .with_account(account)
        .with_client_options(client(url, network)?)
        .with_retry(retry(network));
    if let Some(address) = url.account_address(account) {
        builder = builder.with_endpoint(address);
    }
    let builder = match keys {
        AzureKeys::Account(key) => builder.with_access_key(key.as_str()),
        AzureKeys::Sas(signature) => {
            let unsound = |_| invalid(url, "the shared access signature is not one");
            builder.with_sas_authorization(split_sas(signature).map_err(unsound)?)
        }
    };
    Ok(Arc::new(builder.build().map_err(failed(url))?))
}
