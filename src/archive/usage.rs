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

#[derive(Clone, Copy)]
struct Row {
    len: u32,
    used: u32,
}

impl Row {
    fn wasted(self) -> u32 {
        self.len.saturating_sub(self.used)
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

    /// The chunks of which less than half is used: those with the most waste, that first.
    pub fn sparse(self) -> Vec<ChunkPrefix> {
        let is_sparse = |row: &Row| row.wasted() > row.used;
        let mut rows: Vec<_> = self.0.into_iter().filter(|(_, row)| is_sparse(row)).collect();
        rows.sort_unstable_by_key(|(chunk, row)| (std::cmp::Reverse(row.wasted()), *chunk));
        rows.into_iter().take(limits::SPARSE_CHUNKS).map(|(chunk, _)| chunk).collect()
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
        let files = [(1, 20), (2, 49), (3, 50), (4, 10), (1, 20), (5, 49), (5, 1)];
        let files = files.map(|used| file(&[used], Some([0; 32])));
        assert_eq!(sparse(&files), [4, 1, 2]);
        assert_eq!(sparse(&[file(&[(7, 30), (8, 90)], Some([0; 32]))]), [7]);
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
