//! Which chunk of the source is which in the copy: what is known is not read again. Bounded.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::format::refs::ChunkRef;

/// Chunks of a generation. There are two of them: together some 20 MiB.
const GENERATION: usize = 64 * 1024;

/// Pairs of chunks; the older ones are forgotten.
#[derive(Default)]
pub struct Known(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashMap<ChunkRef, ChunkRef>,
    old: HashMap<ChunkRef, ChunkRef>,
}

impl Known {
    /// The copy of a chunk. One that is said to have another length is another one, and has to be read.
    pub fn get(&self, chunk: ChunkRef) -> Option<ChunkRef> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(copy) = all.young.get(&chunk) {
            return Some(*copy);
        }
        let copy = all.old.get(&chunk).copied()?;
        all.insert(chunk, copy);
        Some(copy)
    }

    /// Takes in that `copy` is what `chunk` became.
    pub fn insert(&self, chunk: ChunkRef, copy: ChunkRef) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(chunk, copy);
    }
}

impl Generations {
    fn insert(&mut self, chunk: ChunkRef, copy: ChunkRef) {
        self.young.insert(chunk, copy);
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::id::ChunkId;

    fn chunk(number: usize) -> ChunkRef {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_le_bytes());
        ChunkRef { id: ChunkId(id), len: 100 }
    }

    #[test]
    fn a_chunk_of_another_length_is_another_one() {
        let known = Known::default();
        known.insert(chunk(1), chunk(2));
        assert_eq!(known.get(chunk(1)), Some(chunk(2)));
        assert_eq!(known.get(ChunkRef { len: 101, ..chunk(1) }), None);
        assert_eq!(known.get(chunk(2)), None);
    }

    #[test]
    fn what_is_used_stays_and_memory_does_not_grow() {
        let known = Known::default();
        known.insert(chunk(0), chunk(1));
        for number in 1..5 * GENERATION {
            known.insert(chunk(number), chunk(number + 1));
            if number % 1000 == 0 {
                assert_eq!(known.get(chunk(0)), Some(chunk(1)), "after {number}");
            }
        }
        assert_eq!(known.get(chunk(1)), None);
        let all = known.0.lock().unwrap();
        assert!(all.young.len() + all.old.len() <= 2 * GENERATION);
    }
}
