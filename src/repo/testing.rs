//! A repository for tests of what nobody outside can see.

use crate::crypto::kdf::Params;
use crate::format::config::{Chunker, ChunkerKind};
use crate::repo::{Degrade, Init, Repository, init};
use crate::store::Store;
use crate::world::{Time, fixed};

const CHUNKER: Chunker = Chunker {
    kind: ChunkerKind::KeyedFastCdc,
    min_bytes: 1024,
    avg_bytes: 4096,
    max_bytes: 16 * 1024,
    bundle_below_bytes: 2048,
};

/// When it is made.
pub const NOW: Time = Time(1_800_000_000_000_000_000);

/// An empty one in memory, with the owner's key.
pub async fn repository() -> Repository {
    seeded(1).await
}

/// The same; what it draws is from the seed.
pub async fn seeded(seed: u64) -> Repository {
    let how = Init {
        passphrase: None,
        cost: Params::CHEAP,
        chunker: CHUNKER,
        degrade: Degrade::Refuse,
        like: None,
    };
    let world = fixed::world(seed, NOW);
    init(Store::memory(), &world, how).await.unwrap().0
}
