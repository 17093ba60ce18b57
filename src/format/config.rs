//! `config`: what a repository is; in clear, signed by the owner, never changed.
//!
//! Spec: chapter 2. Key slots and bundles pin its digest, so a store that swaps it is
//! noticed by everyone who holds a key.

use crate::crypto::secret::Key;
use crate::crypto::{context, hash, sign};
use crate::format::codec::{Reader, Writer};
use crate::format::id::RepoId;
use crate::format::{Error, VERSION, limits};

const WHAT: &str = "config";
const MAGIC: &[u8; 8] = b"KISTCONF";

/// A feature that a reader must know: the store can't create exclusively, one writer only.
pub const FEATURE_SINGLE_WRITER: u64 = 1;
const KNOWN_FEATURES: u64 = FEATURE_SINGLE_WRITER;

/// How files are cut into chunks; the same for the life of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunker {
    pub kind: ChunkerKind,
    pub min_bytes: u32,
    pub avg_bytes: u32,
    pub max_bytes: u32,
    /// Files shorter than this are bundled.
    pub bundle_below_bytes: u32,
}

/// The way of cutting. Number 2 is reserved for a hardened one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkerKind {
    /// FastCDC (2020) with a gear table drawn from the domain's chunker key, normalization 1.
    KeyedFastCdc,
}

impl Chunker {
    pub const DEFAULT: Chunker = Chunker {
        kind: ChunkerKind::KeyedFastCdc,
        min_bytes: 256 * 1024,
        avg_bytes: 1024 * 1024,
        max_bytes: 4 * 1024 * 1024,
        bundle_below_bytes: 128 * 1024,
    };

    fn check(&self) -> Result<(), Error> {
        let sizes = [self.min_bytes, self.avg_bytes, self.max_bytes];
        let ordered = self.min_bytes < self.avg_bytes && self.avg_bytes < self.max_bytes;
        let bounded = self.min_bytes >= 1024
            && self.avg_bytes <= 4 * 1024 * 1024
            && self.max_bytes as usize <= limits::CHUNK_LEN
            && self.bundle_below_bytes <= self.max_bytes;
        if ordered && bounded && sizes.iter().all(|s| s.is_multiple_of(2)) {
            return Ok(());
        }
        Err(Error::Invalid { what: WHAT, field: "chunker sizes", found: format!("{sizes:?}") })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub repo: RepoId,
    pub features: u64,
    pub chunker: Chunker,
    pub owner: [u8; sign::PUBLIC_LEN],
}

impl Config {
    /// Whether the store was found unable to create exclusively.
    pub fn single_writer(&self) -> bool {
        self.features & FEATURE_SINGLE_WRITER != 0
    }

    fn body(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.raw(MAGIC);
        out.u16(VERSION);
        out.raw(&self.repo.0);
        out.u64(self.features);
        out.u8(match self.chunker.kind {
            ChunkerKind::KeyedFastCdc => 1,
        });
        out.u32(self.chunker.min_bytes);
        out.u32(self.chunker.avg_bytes);
        out.u32(self.chunker.max_bytes);
        out.u32(self.chunker.bundle_below_bytes);
        out.raw(&self.owner);
        out.into_bytes()
    }

    /// The object `config`, signed with the owner's seed.
    pub fn encode(&self, owner_seed: &Key) -> Vec<u8> {
        let mut bytes = self.body();
        let signature = sign::sign(owner_seed, context::SIGN_CONFIG, &bytes);
        bytes.extend_from_slice(&signature);
        bytes
    }

    /// Reads and verifies against the owner key that it names itself. That this is the
    /// right owner is known only from a pin: see [`digest`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut input = Reader::new(WHAT, bytes);
        if input.array::<8>().ok().as_ref() != Some(MAGIC) {
            return Err(Error::Magic { what: WHAT });
        }
        let version = input.u16()?;
        if version != VERSION {
            return Err(Error::Version { what: WHAT, found: version, known: VERSION });
        }
        let repo = RepoId::read(&mut input)?;
        let features = input.u64()?;
        if features & !KNOWN_FEATURES != 0 {
            return Err(Error::Features { what: WHAT, unknown: features & !KNOWN_FEATURES });
        }
        let kind = match input.u8()? {
            1 => ChunkerKind::KeyedFastCdc,
            other => return Err(input.invalid("chunker", other)),
        };
        let chunker = Chunker {
            kind,
            min_bytes: input.u32()?,
            avg_bytes: input.u32()?,
            max_bytes: input.u32()?,
            bundle_below_bytes: input.u32()?,
        };
        chunker.check()?;
        let owner = input.array()?;
        let signed = &bytes[..input.at()];
        let signature = input.array()?;
        input.end()?;
        sign::verify(&owner, context::SIGN_CONFIG, signed, &signature)
            .map_err(|source| Error::Crypto { what: WHAT, source })?;
        Ok(Self { repo, features, chunker, owner })
    }
}

/// What slots and bundles pin.
pub fn digest(config: &[u8]) -> [u8; 32] {
    hash::plain(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Config, Vec<u8>) {
        let seed = Key::new([9; 32]);
        let config = Config {
            repo: RepoId([1; 16]),
            features: 0,
            chunker: Chunker::DEFAULT,
            owner: sign::public(&seed),
        };
        let bytes = config.encode(&seed);
        (config, bytes)
    }

    #[test]
    fn any_changed_byte_is_refused() {
        let (config, bytes) = sample();
        assert_eq!(Config::decode(&bytes).unwrap(), config);
        for i in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[i] ^= 1;
            assert!(Config::decode(&bad).is_err(), "byte {i}");
            assert!(Config::decode(&bytes[..i]).is_err(), "cut at {i}");
        }
    }

    #[test]
    fn a_future_version_and_unknown_features_are_named() {
        let (mut config, mut bytes) = sample();
        bytes[8] = 9;
        assert!(matches!(Config::decode(&bytes), Err(Error::Version { found: 9, .. })));
        config.features = 1 << 40;
        let bytes = config.encode(&Key::new([9; 32]));
        assert!(matches!(Config::decode(&bytes), Err(Error::Features { .. })));
    }
}
