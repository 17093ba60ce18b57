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

/// An empty one in memory, with the owner's key.
pub async fn repository() -> Repository {
    let how = Init {
        passphrase: None,
        cost: Params::CHEAP,
        chunker: CHUNKER,
        degrade: Degrade::Refuse,
        like: None,
    };
    let world = fixed::world(1, Time(1_800_000_000_000_000_000));
    init(Store::memory(), &world, how).await.unwrap().0
}
