//! Which chunk of the source is which in the copy: what is known is not read again. Bounded.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::format::id::ChunkId;

/// Chunks of a generation. There are two of them: together some 15 MiB.
const GENERATION: usize = 64 * 1024;

/// Pairs of chunks; the older ones are forgotten.
#[derive(Default)]
pub struct Known(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashMap<ChunkId, Twin>,
    old: HashMap<ChunkId, Twin>,
}

#[derive(Clone, Copy)]
struct Twin {
    id: ChunkId,
    /// How long the chunk is at least.
    len: u32,
}

impl Known {
    /// The copy of a chunk that reaches up to `end`. A chunk that is not known to reach so far has to be
    /// read, because an extent may claim more of it than there is.
    pub fn get(&self, id: ChunkId, end: u32) -> Option<ChunkId> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = all.young.get(&id).or_else(|| all.old.get(&id)).copied()?;
        if !all.young.contains_key(&id) {
            all.insert(id, found);
        }
        (found.len >= end).then_some(found.id)
    }

    /// Takes in that `copy` is what `id` became, and is at least `len` long.
    pub fn insert(&self, id: ChunkId, copy: ChunkId, len: u32) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = all.young.get(&id).or_else(|| all.old.get(&id)).filter(|before| before.id == copy);
        let len = before.map_or(len, |before| before.len.max(len));
        all.insert(id, Twin { id: copy, len });
    }
}

impl Generations {
    fn insert(&mut self, id: ChunkId, copy: Twin) {
        self.young.insert(id, copy);
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> ChunkId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_le_bytes());
        ChunkId(id)
    }

    #[test]
    fn a_chunk_is_known_as_far_as_it_was_seen() {
        let known = Known::default();
        known.insert(id(1), id(2), 100);
        known.insert(id(1), id(2), 50);
        assert_eq!(known.get(id(1), 100), Some(id(2)));
        assert_eq!(known.get(id(1), 101), None);
        assert_eq!(known.get(id(2), 0), None);
    }

    #[test]
    fn what_is_used_stays_and_memory_does_not_grow() {
        let known = Known::default();
        known.insert(id(0), id(1), 1);
        for number in 1..5 * GENERATION {
            known.insert(id(number), id(number + 1), 1);
            if number % 1000 == 0 {
                assert_eq!(known.get(id(0), 1), Some(id(1)), "after {number}");
            }
        }
        assert_eq!(known.get(id(1), 1), None);
        let all = known.0.lock().unwrap();
        assert!(all.young.len() + all.old.len() <= 2 * GENERATION);
    }
}
