//! What restored files need, fetched together: batches of pieces, with the next one listed while the last is coming.

use std::collections::HashMap;
use std::sync::Arc;

use crate::archive::cursor::Extents;
use crate::archive::place::{Piece, Place, Placed, Placer, Placing, damage_or};
use crate::archive::target::Target;
use crate::format::entry::{Attributes, Content, Extent, TreePath};
use crate::format::refs::ChunkRef;
use crate::progress::{Progress, Unit};
use crate::repo::{Fetch, Result, TreeReader};

/// A batch ends at so many bytes of chunks, …
const BATCH_BYTES: u64 = 128 * 1024 * 1024;
/// … or pieces of files, …
const BATCH_PIECES: usize = 8 * 1024;
/// … or files of more than one chunk, which stay open until the last of it comes, …
const BATCH_OPEN: usize = 256;
/// … or bytes of extended attributes: a file may have 64 KiB of them.
const BATCH_XATTRS: usize = 16 * 1024 * 1024;

/// Files on their way into a target.
pub struct Filling {
    tree: TreeReader,
    placer: Placer,
    fetch: Fetch<Vec<Piece>, Result<Placed>>,
    batch: Batch,
}

/// What files need, to be fetched together.
#[derive(Default)]
struct Batch {
    pieces: HashMap<ChunkRef, Vec<Piece>>,
    count: usize,
    bytes: u64,
    open: usize,
    xattrs: usize,
}

impl Batch {
    /// Whether a piece of a chunk belongs into the next one. What is fetched in any case may be used once more.
    fn is_full_for(&self, chunk: &ChunkRef) -> bool {
        self.count >= BATCH_PIECES
            || self.open >= BATCH_OPEN
            || self.xattrs >= BATCH_XATTRS
            || (self.bytes >= BATCH_BYTES && !self.pieces.contains_key(chunk))
    }

    fn add(&mut self, chunk: ChunkRef, piece: Piece) {
        self.count += 1;
        let pieces = self.pieces.entry(chunk).or_default();
        if pieces.is_empty() {
            self.bytes += u64::from(chunk.len);
        }
        pieces.push(piece);
    }
}

impl Filling {
    pub fn new(tree: TreeReader, target: Arc<Target>, progress: Arc<dyn Progress>) -> Self {
        let placer = Placer { target, progress };
        let putting = placer.clone();
        let put = move |_, pieces, read| Ok(putting.pieces(pieces, damage_or(read)?));
        Self { fetch: Fetch::new(tree.reader.clone(), put), tree, placer, batch: Batch::default() }
    }

    /// Adds a file, and fetches batches that are full. Gives what has come of files meanwhile. A file that is added in
    /// part, because it is of no use any more or the disk is full, never gets its name.
    pub async fn add(
        &mut self,
        path: TreePath,
        place: Place,
        (attributes, size, content): (Attributes, u64, &Content),
    ) -> Result<Placed> {
        let xattrs: usize = attributes.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        let file = Placing::new(path, place, attributes, size);
        let mut extents = Extents::of(self.tree.clone(), size, content);
        let (mut at, mut first, mut is_open) = (0, None, false);
        let mut placed = Placed::default();
        loop {
            let extent = match damage_or(extents.next().await)? {
                Ok(Some(extent)) => extent,
                Ok(None) => break,
                Err(why) => {
                    file.lose(&why, &mut placed);
                    break;
                }
            };
            match extent {
                Extent::Hole { len } => {
                    file.passed(len);
                    self.placer.progress.advance(Unit::Bytes, len);
                }
                Extent::Data { chunk, offset, len } => {
                    if self.batch.is_full_for(&chunk) {
                        is_open = false;
                        placed.merge(self.fetch_batch().await?);
                        if placed.is_full() || file.is_failed() {
                            break;
                        }
                    }
                    if first.is_none() {
                        self.batch.xattrs += xattrs;
                    }
                    if *first.get_or_insert(chunk) != chunk && !is_open {
                        is_open = true;
                        self.batch.open += 1;
                    }
                    self.batch.add(chunk, Piece { file: file.clone(), at, offset, len });
                }
            }
            at += extent.len();
        }
        self.placer.let_go(file, &mut placed);
        Ok(placed)
    }

    /// Asks for what the batch needs; returns when all requests are under way, or earlier if the rest is of no use.
    async fn fetch_batch(&mut self) -> Result<Placed> {
        let wanted = std::mem::take(&mut self.batch).pieces.into_iter().collect();
        let is_end = |placed: &Result<Placed>| placed.as_ref().map_or(true, Placed::is_full);
        Placed::all(self.fetch.ask(wanted, is_end).await)
    }

    /// Waits until every file that was added is in its place, or is not to be.
    pub async fn settle(&mut self) -> Result<Placed> {
        let mut placed = self.fetch_batch().await?;
        if !placed.is_full() {
            placed.merge(self.rest().await?);
        }
        Ok(placed)
    }

    /// Waits for what is under way.
    pub async fn rest(&mut self) -> Result<Placed> {
        Placed::all(self.fetch.rest().await)
    }

    /// Gives up what is under way: files that are not whole leave nothing behind.
    pub async fn abandon(self) {
        drop(self.batch);
        self.fetch.abandon().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::id::ChunkId;

    #[test]
    fn a_batch_ends_at_what_memory_is_to_hold() {
        let chunk = ChunkRef { id: ChunkId([1; 32]), len: 1 };
        let nearly = || Batch {
            count: BATCH_PIECES - 1,
            bytes: BATCH_BYTES - 1,
            open: BATCH_OPEN - 1,
            xattrs: BATCH_XATTRS - 1,
            ..Default::default()
        };
        assert!(!nearly().is_full_for(&chunk));
        for full in [
            Batch { count: BATCH_PIECES, ..nearly() },
            Batch { bytes: BATCH_BYTES, ..nearly() },
            Batch { open: BATCH_OPEN, ..nearly() },
            Batch { xattrs: BATCH_XATTRS, ..nearly() },
        ] {
            assert!(full.is_full_for(&chunk));
        }
        // It is fetched in any case.
        let known = HashMap::from([(chunk, Vec::new())]);
        assert!(!Batch { bytes: BATCH_BYTES, pieces: known, ..nearly() }.is_full_for(&chunk));
    }
}
