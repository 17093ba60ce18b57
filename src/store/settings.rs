//! What is needed beside the URL to open a store: credentials, whom to trust, how long to wait.
//!
//! Nothing is read from the environment here: `cli` reads it and hands it in, a mover gets it
//! in its task. Invariant: no `Debug` output shows a credential.

use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

use zeroize::Zeroizing;

/// What is needed beside the URL to open a store.
#[derive(Clone, Debug, Default)]
pub struct StoreSettings {
    /// Whether a missing folder may be made; only `init` does that.
    pub create_folder: bool,
    /// Bytes that may be uploaded in a second, if that is limited.
    pub upload_limit: Option<NonZeroU64>,
    /// For `s3://`.
    pub s3: S3Settings,
    /// For `gs://`.
    pub gcs: GcsSettings,
    /// For `az://`.
    pub azure: AzureSettings,
    /// For every kind of bucket.
    pub network: NetworkSettings,
}

/// What is needed beside the URL to open a bucket of S3.
#[derive(Clone, Debug, Default)]
pub struct S3Settings {
    /// The credentials.
    pub keys: Option<S3Keys>,
    /// The region, if the URL has none.
    pub region: Option<String>,
}

/// What is needed beside the URL to open a bucket of Google Cloud Storage.
#[derive(Clone, Debug, Default)]
pub struct GcsSettings {
    /// The credentials.
    pub keys: Option<GcsKeys>,
}

/// What is needed beside the URL to open a container of Azure.
#[derive(Clone, Debug, Default)]
pub struct AzureSettings {
    /// The storage account, if the URL has none.
    pub account: Option<String>,
    /// The credentials.
    pub keys: Option<AzureKeys>,
}

/// Whom to trust and how long to wait.
#[derive(Clone, Debug)]
pub struct NetworkSettings {
    /// The authorities to trust for https, as PEM, instead of the system's.
    pub authorities_pem: Option<Vec<u8>>,
    /// How long one request is tried again after failures.
    pub retry_timeout: Duration,
    /// How long one attempt may take, body included: 16 MiB at 60 KiB a second.
    pub request_timeout: Duration,
    /// How long connecting may take.
    pub connect_timeout: Duration,
}

impl Default for NetworkSettings {
    fn default() -> Self {
        Self {
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

/// Credentials for Google Cloud Storage.
#[derive(Clone)]
pub enum GcsKeys {
    /// A service account's key, as the JSON that Google gives out.
    ServiceAccount(Zeroizing<String>),
    /// An access token; it lasts an hour as a rule.
    Token(Zeroizing<String>),
}

impl fmt::Debug for GcsKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GcsKeys(…)")
    }
}

/// Credentials for Azure.
#[derive(Clone)]
pub enum AzureKeys {
    /// One of the storage account's two keys: it may do everything.
    Account(Zeroizing<String>),
    /// A shared access signature, which may be narrower.
    Sas(Zeroizing<String>),
}

impl fmt::Debug for AzureKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AzureKeys(…)")
    }
}
