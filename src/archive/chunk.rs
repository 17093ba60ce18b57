//! Cutting bytes into chunks by content: FastCDC with the domain's secret gear table.
//!
//! Spec: chapter 6. The same bytes after the same cut give the same chunks in one domain, and
//! others in the next. Pure; the caller feeds it.

use fastcdc::v2020::{Normalization, cut_gear, select_masks};

use crate::format::config;
use crate::repo::Ids;

/// Finds where chunks end.
pub struct Chunker {
    min: usize,
    avg: usize,
    max: usize,
    masks: (u64, u64),
    gear: [u64; 256],
    gear_shifted: [u64; 256],
}

impl Chunker {
    pub fn new(config: &config::Chunker, ids: &Ids) -> Self {
        Self::with_table(config, ids.gear_table())
    }

    /// With a given table; for tests and benches.
    pub fn with_table(config: &config::Chunker, gear: [u64; 256]) -> Self {
        let avg = config.avg_bytes as usize;
        Self {
            min: config.min_bytes as usize,
            avg,
            max: config.max_bytes as usize,
            masks: select_masks(avg, Normalization::Level1),
            gear,
            gear_shifted: gear.map(|word| word << 1),
        }
    }

    /// No chunk is longer; with so many bytes at hand a cut is final.
    pub fn max_bytes(&self) -> usize {
        self.max
    }

    /// Length of the first chunk of `bytes`. They must be at least [`Self::max_bytes`], or end there.
    pub fn first_cut(&self, bytes: &[u8]) -> usize {
        let (strict, loose) = self.masks;
        let (_, len) = cut_gear(
            bytes,
            self.min,
            self.avg,
            self.max,
            strict,
            loose,
            strict << 1,
            loose << 1,
            &self.gear,
            &self.gear_shifted,
        );
        len
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::world::{Time, fixed};

    fn chunker(seed: u64) -> Chunker {
        let world = fixed::world(seed, Time(0));
        let gear = std::array::from_fn(|_| u64::from_le_bytes(world.bytes()));
        let config = config::Chunker {
            min_bytes: 1024,
            avg_bytes: 4096,
            max_bytes: 16384,
            ..config::Chunker::DEFAULT
        };
        Chunker::with_table(&config, gear)
    }

    fn cuts(chunker: &Chunker, mut bytes: &[u8]) -> Vec<usize> {
        let mut lens = Vec::new();
        while !bytes.is_empty() {
            let len = chunker.first_cut(bytes);
            lens.push(len);
            bytes = &bytes[len..];
        }
        lens
    }

    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        fixed::world(seed, Time(0)).random.fill(&mut out);
        out
    }

    #[test]
    fn another_key_cuts_elsewhere() {
        let bytes = noise(1, 1 << 20);
        assert_ne!(cuts(&chunker(1), &bytes), cuts(&chunker(2), &bytes));
        assert_eq!(cuts(&chunker(1), &bytes), cuts(&chunker(1), &bytes));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn chunks_keep_to_their_bounds_and_cuts_come_back_behind_a_change(
            seed: u64, at in 0usize..200_000, inserted in 1usize..3000
        ) {
            let chunker = chunker(seed);
            let before = noise(seed, 400_000);
            let lens = cuts(&chunker, &before);
            prop_assert_eq!(lens.iter().sum::<usize>(), before.len());
            prop_assert!(lens.iter().all(|&len| len <= 16384));
            prop_assert!(lens[..lens.len() - 1].iter().all(|&len| len >= 1024));
            let mut after = before.clone();
            after.splice(at..at, noise(seed ^ 1, inserted));
            let ends = |lens: &[usize]| {
                let mut left = 0;
                lens.iter().rev().map(|len| { left += len; left }).collect::<std::collections::HashSet<_>>()
            };
            let (old, new) = (ends(&lens), ends(&cuts(&chunker, &after)));
            prop_assert!(old.intersection(&new).count() > 20);
        }

        #[test]
        fn a_cut_does_not_depend_on_bytes_beyond_the_longest_chunk(seed: u64) {
            let chunker = chunker(seed);
            let bytes = noise(seed, 100_000);
            prop_assert_eq!(chunker.first_cut(&bytes), chunker.first_cut(&bytes[..chunker.max_bytes()]));
        }
    }
}
