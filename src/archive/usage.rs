//! How much of its bundle chunks a tree uses, and which of them are worth cutting again.
//!
//! A file that is unchanged keeps its place in a chunk, and the last small one keeps the whole chunk. So what a
//! tree makes little use of is listed, and the next backup reads the files in it again and bundles them anew: then
//! nothing in the tree refers to the old chunk any more. Memory is one small row for each chunk.

use std::collections::HashMap;

use crate::format::entry::{Content, Extent, Kind};
use crate::format::id::ChunkPrefix;
use crate::format::limits;

/// Bytes of bundle chunks that a tree uses.
#[derive(Default)]
pub struct Usage(HashMap<ChunkPrefix, Row>);

/// One part in so many of what a tree refers to may be unused.
const UNUSED_PART: u64 = 6;
/// One part in so many of what a tree refers to is cut again by the next backup though it is half full.
const CUT_PART: u64 = 16;

#[derive(Clone, Copy)]
struct Row {
    len: u32,
    used: u32,
}

impl Row {
    fn wasted(self) -> u32 {
        self.len.saturating_sub(self.used)
    }

    /// How much of it is used: from 0 to the 32 bit's end.
    fn share(self) -> u64 {
        (u64::from(self.used) << 32) / u64::from(self.len.max(1))
    }
}

impl Usage {
    /// Counts what a file uses. One with several names is to be counted once.
    pub fn add(&mut self, file: &Kind) {
        for extent in bundled_extents(file) {
            if let Extent::Data { chunk, len, .. } = extent {
                let row = self.0.entry(chunk.id.prefix()).or_insert(Row { len: chunk.len, used: 0 });
                row.used = row.used.saturating_add(*len);
            }
        }
    }

    /// The chunks of which less than half is used, and others with little use, the least first, until of all that
    /// the tree refers to no more than [`UNUSED_PART`] is unused: of these no more at once than [`CUT_PART`].
    /// Files that change here and there empty all bundles of one day alike: without the others all of them would
    /// be cut on the day on which they are half empty.
    pub fn sparse(self) -> Vec<ChunkPrefix> {
        let mut rows: Vec<_> = self.0.into_iter().collect();
        rows.sort_unstable_by_key(|(chunk, row)| (row.share(), *chunk));
        let bytes: u64 = rows.iter().map(|(_, row)| u64::from(row.len)).sum();
        let mut wasted: u64 = rows.iter().map(|(_, row)| u64::from(row.wasted())).sum();
        let mut cut = 0;
        let is_sparse = |(_, row): &(ChunkPrefix, Row)| {
            let is_next = wasted * UNUSED_PART > bytes - cut && cut * CUT_PART < bytes;
            cut += u64::from(row.len);
            wasted -= u64::from(row.wasted());
            is_next || row.wasted() > row.used
        };
        let mut sparse: Vec<_> = rows.into_iter().take_while(is_sparse).collect();
        sparse.sort_unstable_by_key(|(chunk, row)| (std::cmp::Reverse(row.wasted()), *chunk));
        sparse.into_iter().take(limits::SPARSE_CHUNKS).map(|(chunk, _)| chunk).collect()
    }
}

/// The extents of a file that lies in bundles. A large file is cut where its content says: to cut it again
/// changes nothing.
pub fn bundled_extents(file: &Kind) -> &[Extent] {
    match file {
        Kind::File { content: Content::Extents(extents), hash: Some(_), .. } => extents,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::id::ChunkId;
    use crate::format::refs::ChunkRef;

    fn file(uses: &[(u8, u32)], hash: Option<[u8; 32]>) -> Kind {
        let extent = |(chunk, len): &(u8, u32)| {
            let chunk = ChunkRef { id: ChunkId([*chunk; 32]), len: 100 };
            Extent::Data { chunk, offset: 0, len: *len }
        };
        let extents: Vec<_> = uses.iter().map(extent).collect();
        Kind::File { size: extents.iter().map(Extent::len).sum(), content: Content::Extents(extents), hash }
    }

    fn sparse(files: &[Kind]) -> Vec<u8> {
        let mut usage = Usage::default();
        files.iter().for_each(|file| usage.add(file));
        usage.sparse().into_iter().map(|chunk| chunk.0[0]).collect()
    }

    #[test]
    fn chunks_of_which_less_than_half_is_used_are_listed_and_most_waste_comes_first() {
        let some = [(1, 20), (2, 49), (3, 50), (4, 10), (1, 20), (5, 49), (5, 1)];
        let full = (10..30).map(|chunk| (chunk, 100));
        assert_eq!(listed_of(some.into_iter().chain(full)), [4, 1, 2]);
        assert_eq!(sparse(&[file(&[(7, 30), (8, 90)], Some([0; 32]))]), [7]);
    }

    /// A tree of so many chunks; what each of these uses of its 100 bytes, and then: which of them are listed.
    fn listed_of(used: impl Iterator<Item = (u8, u32)>) -> Vec<u8> {
        let files: Vec<_> = used.map(|used| file(&[used], Some([0; 32]))).collect();
        sparse(&files)
    }

    #[test]
    fn chunks_with_little_use_are_listed_as_far_as_it_takes_to_have_a_sixth_unused_at_most() {
        let full = |from: u8, to: u8| (from..to).map(|chunk| (chunk, 100));
        assert_eq!(listed_of([(1, 60), (2, 51)].into_iter().chain(full(3, 7))), [] as [u8; 0]);
        assert_eq!(listed_of([(1, 60), (2, 51)].into_iter().chain(full(3, 6))), [2]);
    }

    #[test]
    fn no_more_than_a_sixteenth_is_listed_at_once_but_for_what_is_half_empty() {
        let alike = |from: u8, to: u8| (from..to).map(|chunk| (chunk, 80 + u32::from(chunk) / 64));
        assert_eq!(listed_of(alike(0, 160)), (0..10).collect::<Vec<_>>());
        assert_eq!(
            listed_of(alike(20, 160).chain((0..20).map(|chunk| (chunk, 40)))),
            (0..20).collect::<Vec<_>>()
        );
    }

    #[test]
    fn large_files_do_not_count() {
        assert!(sparse(&[file(&[(1, 20)], None)]).is_empty());
    }

    #[test]
    fn no_more_are_listed_than_a_summary_may_have() {
        let mut usage = Usage::default();
        for number in 0..2000u32 {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&number.to_be_bytes());
            let chunk = ChunkRef { id: ChunkId(id), len: 10_000 };
            let extents = vec![Extent::Data { chunk, offset: 0, len: 1 + number }];
            usage.add(&Kind::File { size: 1, content: Content::Extents(extents), hash: Some([0; 32]) });
        }
        let sparse = usage.sparse();
        let number = |chunk: &ChunkPrefix| u32::from_be_bytes(*chunk.0.first_chunk().unwrap());
        assert_eq!(sparse.iter().map(number).collect::<Vec<_>>(), (0..1024).collect::<Vec<_>>());
    }
}
