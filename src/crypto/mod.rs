//! Keys, hashes, seals, wraps and signatures: the only place that touches cryptography.
//!
//! Spec: chapter 3. Every use of a key is separated from every other by one of the
//! contexts in [`context`]; no two uses share one.

pub mod hash;
pub mod kdf;
pub mod seal;
pub mod secret;
pub mod sign;
pub mod wrap;

/// The strings that keep the uses of keys apart. They are format: see chapter 3.
pub mod context {
    pub const OWNER_SIGNING: &str = "kist 1 owner signing key";
    pub const OWNER_RECIPIENT: &str = "kist 1 owner recipient key";
    pub const DOMAIN_ID: &str = "kist 1 domain id";
    pub const DOMAIN: &str = "kist 1 domain";
    pub const RECIPIENT: &str = "kist 1 recipient key";
    pub const ID: &str = "kist 1 id key";
    pub const CHUNKER: &str = "kist 1 chunker key";
    pub const STRUCTURE: &str = "kist 1 structure key";
    pub const META_ROOT: &str = "kist 1 meta root";
    pub const META_SCOPE: &str = "kist 1 meta scope";
    pub const META: &str = "kist 1 meta key";
    pub const CHUNK_ID: &str = "kist 1 chunk id";
    pub const NODE_ID: &str = "kist 1 node id";
    pub const FILE_HASH: &str = "kist 1 file hash";
    pub const SOURCE_ID: &str = "kist 1 source id";
    pub const LINK_GROUP: &str = "kist 1 link group";
    pub const GEAR: &str = "kist 1 gear table";
    pub const NODE_CUT: &str = "kist 1 node cut";
    pub const SLOT: &str = "kist 1 key slot";
    pub const SLOT_INFO: &str = "kist 1 key slot info";
    pub const LANE_WRAP: &[u8] = b"kist 1 lane key";
    pub const SIGN_CONFIG: &[u8] = b"kist 1 sign config";
    pub const SIGN_CERTIFICATE: &[u8] = b"kist 1 sign certificate";
    pub const SIGN_SESSION: &[u8] = b"kist 1 sign session";
    pub const SIGN_INDEX: &[u8] = b"kist 1 sign index";
    pub const SIGN_LOG: &[u8] = b"kist 1 sign log";
    pub const SIGN_CHECKPOINT: &[u8] = b"kist 1 sign checkpoint";
    pub const SIGN_CHECKS: &[u8] = b"kist 1 sign checks";
    pub const SIGN_COMMIT: &[u8] = b"kist 1 sign commit";
}

/// What can go wrong with keys and seals. Says nothing about the bytes involved.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[non_exhaustive]
pub enum Error {
    #[error("the seal does not open: wrong key, or the bytes were changed")]
    Seal,
    #[error("the wrapped key does not open: wrong key, or the bytes were changed")]
    Unwrap,
    #[error("the signature is not valid")]
    Signature,
    #[error("the public key is malformed")]
    PublicKey,
    #[error("the passphrase parameters are outside of what kist allows")]
    Argon2,
}
