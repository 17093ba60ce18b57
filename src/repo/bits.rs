//! A bit for each number: of the records of an index by their ordinals, or of its packs.

#[derive(Default)]
pub struct Bits(Vec<u64>);

impl Bits {
    /// None of so many numbers.
    pub fn new(numbers: usize) -> Self {
        Self(vec![0; numbers.div_ceil(64)])
    }

    #[cfg(test)]
    pub fn all(numbers: usize) -> Self {
        Self(vec![u64::MAX; numbers.div_ceil(64)])
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub fn contains(&self, number: usize) -> bool {
        self.0[number / 64] & (1 << (number % 64)) != 0
    }

    /// Whether it was not there before.
    pub fn insert(&mut self, number: usize) -> bool {
        let is_new = !self.contains(number);
        self.0[number / 64] |= 1 << (number % 64);
        is_new
    }

    pub fn remove(&mut self, number: usize) {
        self.0[number / 64] &= !(1 << (number % 64));
    }
}
