//! A filter: tells of most ids that are not there that they are not, and of the others which rows they may be in.
//!
//! An id is a quotient (as many of its first bits that one or two rows share one) and a remainder (the eight bits behind
//! it). Rows come in the order of their ids, so quotients are written in unary: a 1 for each row, and a 0 behind each
//! quotient's last. The remainders lie in the order of the rows. That is the Elias-Fano form of the first bits of all
//! ids: about ten bits a row, of which an id that is not there finds its own by accident once in 128 times at most. It
//! is made in one pass, while the rows are written, and it says where in the rows to look.

use std::io;
use std::ops::Range;

use memmap2::Advice;

use crate::repo::index::bytes::{Bytes, Out};

/// Rows between two of the places that are held in the heap, about.
const ROWS_A_STEP: usize = 64;
/// Quotients of a step.
const QUOTIENTS: u32 = 64;
const QUOTIENT_BITS: u32 = QUOTIENTS.ilog2();
const REMAINDER_BITS: u32 = u8::BITS;

/// Quotient and remainder of an id, or of what an id begins with, if there are 2^`bits` steps.
fn split(bits: u32, id: &[u8]) -> (usize, u8) {
    let start = u64::from_be_bytes(*id.first_chunk().expect("more than eight bytes of each id are kept"));
    let both = start >> (u64::BITS - bits - QUOTIENT_BITS - REMAINDER_BITS);
    ((both >> REMAINDER_BITS) as usize, both as u8)
}

/// A filter on its way.
pub struct Building {
    bits: u32,
    starts: Vec<u32>,
    unary: Out,
    /// Bits of `unary` that are no whole word yet, and how many.
    word: (u64, u32),
    remainders: Out,
    rows: u32,
    /// Quotients that are closed.
    closed: usize,
}

impl Building {
    /// For at most so many rows.
    pub fn new(rows: usize, unary: Out, remainders: Out) -> Self {
        let bits = (rows / ROWS_A_STEP).max(1).ilog2();
        let mut starts = Vec::with_capacity((1 << bits) + 1);
        starts.push(0);
        Self { bits, starts, unary, word: (0, 0), remainders, rows: 0, closed: 0 }
    }

    /// The next row, by what its id begins with.
    pub fn push(&mut self, id: &[u8]) -> io::Result<()> {
        let (quotient, remainder) = split(self.bits, id);
        self.close(quotient)?;
        self.bit(1)?;
        self.rows += 1;
        self.remainders.write(&[remainder])
    }

    /// Closes all quotients before this one.
    fn close(&mut self, quotient: usize) -> io::Result<()> {
        while self.closed < quotient {
            self.bit(0)?;
            self.closed += 1;
            if self.closed.is_multiple_of(QUOTIENTS as usize) {
                self.starts.push(self.rows);
            }
        }
        Ok(())
    }

    fn bit(&mut self, bit: u64) -> io::Result<()> {
        let (word, count) = &mut self.word;
        *word |= bit << *count;
        *count += 1;
        if *count == u64::BITS {
            self.unary.write(&word.to_le_bytes())?;
            self.word = (0, 0);
        }
        Ok(())
    }

    pub fn finish(mut self) -> io::Result<Filter> {
        self.close((QUOTIENTS as usize) << self.bits)?;
        self.unary.write(&self.word.0.to_le_bytes())?;
        // All of it is wanted before long, so what lies around a page may come along.
        let (unary, remainders) =
            (self.unary.finish(Advice::Normal)?, self.remainders.finish(Advice::Normal)?);
        Ok(Filter { bits: self.bits, starts: self.starts, unary, remainders })
    }
}

#[derive(Default)]
pub struct Filter {
    bits: u32,
    /// How many rows lie before each step, and before the end.
    starts: Vec<u32>,
    unary: Bytes,
    remainders: Bytes,
}

impl Filter {
    /// The rows that may be of this id. Nearly always none if the id is not there, and one if it is.
    pub fn rows(&self, id: &[u8]) -> Range<usize> {
        if self.starts.is_empty() {
            return 0..0;
        }
        let (quotient, remainder) = split(self.bits, id);
        let (step, before) = (quotient / QUOTIENTS as usize, quotient % QUOTIENTS as usize);
        let start = self.starts[step] as usize;
        // Before the step lie all ones and zeros of the steps before it.
        let step_bit = start + step * QUOTIENTS as usize;
        let first_bit = if before == 0 { step_bit } else { self.zero(step_bit, before - 1) + 1 };
        let first = start + first_bit - step_bit - before;
        let rows = &self.remainders[first..first + self.zero(first_bit, 0) - first_bit];
        let begin = rows.partition_point(|row| *row < remainder);
        let count = rows[begin..].partition_point(|row| *row == remainder);
        first + begin..first + begin + count
    }

    /// The place of a zero of `unary`: the one behind so many others, at `from` or behind it.
    fn zero(&self, from: usize, mut others: usize) -> usize {
        let words: &[[u8; 8]] = self.unary.as_chunks().0;
        let mut word = from / u64::BITS as usize;
        let mut zeros = !u64::from_le_bytes(words[word]) & (u64::MAX << (from % u64::BITS as usize));
        while zeros.count_ones() as usize <= others {
            others -= zeros.count_ones() as usize;
            word += 1;
            zeros = !u64::from_le_bytes(words[word]);
        }
        for _ in 0..others {
            zeros &= zeros - 1;
        }
        word * u64::BITS as usize + zeros.trailing_zeros() as usize
    }

    /// Bytes, all in all.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.starts.len() * 4 + self.unary.len() + self.remainders.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::world::{Time, fixed};

    type Id = [u8; 20];

    fn built(ids: &[Id], counted: usize) -> Filter {
        assert!(ids.is_sorted());
        let mut building = Building::new(counted, Out::new(None), Out::new(None));
        ids.iter().for_each(|id| building.push(id).unwrap());
        building.finish().unwrap()
    }

    /// Ids that differ in few bits, at any place, so that quotients and remainders are shared, and steps are full and
    /// empty.
    fn id() -> impl Strategy<Value = Id> {
        (0u64..40, 0u32..6, any::<u8>()).prop_map(|(start, shift, end)| {
            let mut id = [0; 20];
            id[..8].copy_from_slice(&(start << (10 * shift)).to_be_bytes());
            id[19] = end;
            id
        })
    }

    proptest! {
        #[test]
        fn each_row_is_among_those_of_its_id_and_no_row_with_other_first_bits_is(
            mut ids in vec(id(), 0..300), more in 0usize..5000, other in id(),
        ) {
            ids.sort_unstable();
            let filter = built(&ids, ids.len() + more);
            for (row, id) in ids.iter().enumerate() {
                prop_assert!(filter.rows(id).contains(&row));
            }
            for id in ids.iter().chain([&other]) {
                let same = |row: &Id| split(filter.bits, row) == split(filter.bits, id);
                let first = ids.iter().position(same).unwrap_or(0);
                let count = ids.iter().filter(|row| same(row)).count();
                let found = filter.rows(id);
                prop_assert_eq!(found.len(), count);
                prop_assert!(count == 0 || found.start == first);
            }
        }
    }

    #[test]
    fn of_none_and_of_one_row_everything_is_known() {
        let none = built(&[], 0);
        let one = built(&[[7; 20]], 1);
        for byte in 0..=255 {
            let found = [&none, &Filter::default(), &one].map(|filter| filter.rows(&[byte; 20]).len());
            assert_eq!(found, [0, 0, usize::from(byte == 7)]);
        }
    }

    /// What is promised of the filter, at the numbers of rows at which steps are fullest and emptiest.
    #[test]
    fn of_ids_that_are_not_there_one_in_a_hundred_finds_a_row_and_a_row_takes_11_bits() {
        let world = fixed::world(1, Time(0));
        for count in [65_536, 98_304, 131_071] {
            let mut ids: Vec<Id> = (0..count).map(|_| world.bytes()).collect();
            ids.sort_unstable();
            let filter = built(&ids, count);
            let found = (0..100_000).filter(|_| !filter.rows(&world.bytes::<20>()).is_empty()).count();
            assert!(found > 100 && found < 1000, "{found} of 100,000 at {count} rows");
            let bits = filter.len() * 8 * 10 / count;
            assert!(bits < 110, "{bits} tenths of a bit at {count} rows");
        }
    }
}
