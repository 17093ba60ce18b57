//! Opens a store by its URL, with the settings that are handed in.
//!
//! Nothing is read from the environment here, credentials included: `cli` reads them
//! (`AWS_ACCESS_KEY_ID` and so on) and hands them in, a mover gets them in its task.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::{BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig};
use zeroize::Zeroizing;

use crate::store::Store;
use crate::store::error::{Error, Result, reason};
use crate::store::local;
use crate::store::url::{S3Url, StoreUrl};

/// What is needed beside the URL to open a store.
#[derive(Clone, Debug, Default)]
pub struct StoreSettings {
    /// Whether a missing folder may be made; only `init` does that.
    pub create_folder: bool,
    /// For `s3://`.
    pub s3: S3Settings,
}

/// What is needed beside the URL to open a bucket.
#[derive(Clone, Debug)]
pub struct S3Settings {
    /// The credentials.
    pub keys: Option<S3Keys>,
    /// The region, if the URL has none.
    pub region: Option<String>,
    /// The authorities to trust for https, as PEM, instead of the system's.
    pub authorities_pem: Option<Vec<u8>>,
    /// How long one request is tried again after failures.
    pub retry_timeout: Duration,
    /// How long one attempt may take, body included: 16 MiB at 60 KiB a second.
    pub request_timeout: Duration,
    /// How long connecting may take.
    pub connect_timeout: Duration,
}

impl Default for S3Settings {
    fn default() -> Self {
        Self {
            keys: None,
            region: None,
            authorities_pem: None,
            retry_timeout: Duration::from_secs(60),
            // A dead peer is noticed sooner: unacknowledged data ends a connection after 30 s.
            request_timeout: Duration::from_secs(300),
            connect_timeout: Duration::from_secs(10),
        }
    }
}

/// Credentials for S3.
#[derive(Clone)]
pub struct S3Keys {
    access_key_id: String,
    secret_access_key: Zeroizing<String>,
    session_token: Option<Zeroizing<String>>,
}

impl S3Keys {
    /// Takes the three parts as the cloud gives them.
    pub fn new(
        access_key_id: String,
        secret_access_key: Zeroizing<String>,
        session_token: Option<Zeroizing<String>>,
    ) -> Self {
        Self { access_key_id, secret_access_key, session_token }
    }

    /// The three parts, to be handed to who opens the same bucket; never to print.
    pub fn parts(&self) -> (&str, &Zeroizing<String>, Option<&Zeroizing<String>>) {
        (&self.access_key_id, &self.secret_access_key, self.session_token.as_ref())
    }
}

impl fmt::Debug for S3Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("S3Keys(…)")
    }
}

impl Store {
    /// Opens the store at `url`. A folder has to be there, a bucket is not asked for yet.
    pub fn open(url: &StoreUrl, settings: &StoreSettings) -> Result<Store> {
        match url {
            StoreUrl::Folder(path) => {
                let (inner, path) = local::open(path, settings.create_folder)?;
                Ok(Store::named(inner, &path.display().to_string(), ""))
            }
            StoreUrl::S3(s3) => Ok(Store::named(bucket(s3, &settings.s3)?, &s3.name(), s3.prefix())),
        }
    }
}

fn bucket(url: &S3Url, settings: &S3Settings) -> Result<Arc<dyn ObjectStore>> {
    let invalid = |reason: String| Error::Invalid { url: url.name(), reason };
    let Some(keys) = &settings.keys else {
        return Err(invalid("no credentials are given".into()));
    };
    let given = url.region().or(settings.region.as_deref());
    let region = match (given, url.address()) {
        (Some(region), _) => region,
        // Stores of one's own do not care, but the signature needs one.
        (None, Some(_)) => "us-east-1",
        (None, None) => return Err(invalid("no region is given: add ?region=".into())),
    };
    let mut client = ClientOptions::new()
        .with_allow_http(url.plain_http())
        // In an image without certificates no client could be built, not even for http.
        .with_no_system_certificates(url.plain_http() || settings.authorities_pem.is_some())
        .with_timeout(settings.request_timeout)
        .with_connect_timeout(settings.connect_timeout);
    if let Some(pem) = &settings.authorities_pem {
        let authorities = Certificate::from_pem_bundle(pem).unwrap_or_default();
        if authorities.is_empty() {
            return Err(invalid("the authorities to trust are not certificates in PEM".into()));
        }
        client = authorities.into_iter().fold(client, ClientOptions::with_root_certificate);
    }
    let retry = RetryConfig {
        // The time is the bound; the count is only there so that both exist.
        max_retries: 1000,
        retry_timeout: settings.retry_timeout,
        backoff: BackoffConfig { max_backoff: Duration::from_secs(5), ..Default::default() },
    };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(url.bucket())
        .with_region(region)
        .with_virtual_hosted_style_request(!url.path_style())
        .with_access_key_id(&keys.access_key_id)
        .with_secret_access_key(keys.secret_access_key.as_str())
        // One DELETE for each object: not every store knows the bulk call.
        .with_disable_bulk_delete(true)
        .with_client_options(client)
        .with_retry(retry);
    if let Some(token) = &keys.session_token {
        builder = builder.with_token(token.as_str());
    }
    if let Some(address) = url.address() {
        builder = builder.with_endpoint(address);
    }
    let built = builder.build().map_err(|e| invalid(reason(&e)))?;
    Ok(Arc::new(built))
}
