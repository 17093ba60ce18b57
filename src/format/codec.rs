//! The binary encoding: little-endian integers, LEB128 varints, length-prefixed bytes.
//!
//! Spec: chapter 1. [`Reader`] is strict: varints must be as short as they can be, and
//! [`Reader::end`] refuses what is left over.

use crate::format::Error;

/// Appends values to a buffer.
#[derive(Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub fn u16(&mut self, value: u16) {
        self.raw(&value.to_le_bytes());
    }

    pub fn u32(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }

    pub fn i64(&mut self, value: i64) {
        self.raw(&value.to_le_bytes());
    }

    /// LEB128: seven bits a byte, low bits first.
    pub fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value as u8) | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// A signed number, zigzag: 0, -1, 1, -2, … become 0, 1, 2, 3, …
    pub fn signed(&mut self, value: i64) {
        self.varint(((value << 1) ^ (value >> 63)) as u64);
    }

    /// A varint of the length, then the bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.raw(bytes);
    }
}

/// Takes values off a slice; `what` names it in errors.
pub struct Reader<'a> {
    what: &'static str,
    all: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(what: &'static str, all: &'a [u8]) -> Self {
        Self { what, all, at: 0 }
    }

    pub fn what(&self) -> &'static str {
        self.what
    }

    /// Bytes not yet taken.
    pub fn left(&self) -> usize {
        self.all.len() - self.at
    }

    /// Bytes taken so far.
    pub fn at(&self) -> usize {
        self.at
    }

    pub fn invalid(&self, field: &'static str, found: impl std::fmt::Display) -> Error {
        Error::Invalid { what: self.what, field, found: found.to_string() }
    }

    pub fn too_much(&self, field: &'static str, found: u64, most: usize) -> Error {
        Error::TooMuch { what: self.what, field, found, most: most as u64 }
    }

    pub fn raw(&mut self, len: usize) -> Result<&'a [u8], Error> {
        if self.left() < len {
            return Err(Error::Short { what: self.what, at: self.all.len() });
        }
        let taken = &self.all[self.at..self.at + len];
        self.at += len;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        Ok(self.raw(N)?.try_into().expect("raw gives as many bytes as asked"))
    }

    pub fn u8(&mut self) -> Result<u8, Error> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u16(&mut self) -> Result<u16, Error> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64, Error> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// A byte that must be 0 or 1.
    pub fn flag(&mut self, field: &'static str) -> Result<bool, Error> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.invalid(field, other)),
        }
    }

    pub fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(self.invalid("varint", "beyond 64 bits"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(self.invalid("varint", "longer than it must be"));
                }
                return Ok(value);
            }
        }
        Err(self.invalid("varint", "beyond 64 bits"))
    }

    pub fn signed(&mut self) -> Result<i64, Error> {
        let value = self.varint()?;
        Ok(((value >> 1) as i64) ^ -((value & 1) as i64))
    }

    /// A varint that counts things of at least `each` bytes: held to `most` and to what can still follow.
    pub fn count(&mut self, field: &'static str, most: usize, each: usize) -> Result<usize, Error> {
        let found = self.varint()?;
        if found > most as u64 {
            return Err(self.too_much(field, found, most));
        }
        let found = found as usize;
        if found.saturating_mul(each) > self.left() {
            return Err(Error::Short { what: self.what, at: self.all.len() });
        }
        Ok(found)
    }

    /// Length-prefixed bytes of at most `most`.
    pub fn bytes(&mut self, field: &'static str, most: usize) -> Result<&'a [u8], Error> {
        let len = self.count(field, most, 1)?;
        self.raw(len)
    }

    /// The rest must be zeros (padding).
    pub fn zeros(&mut self) -> Result<(), Error> {
        let rest = self.raw(self.left())?;
        match rest.iter().any(|&b| b != 0) {
            true => Err(self.invalid("padding", "not zero")),
            false => Ok(()),
        }
    }

    /// Nothing may be left.
    pub fn end(&self) -> Result<(), Error> {
        match self.left() {
            0 => Ok(()),
            left => Err(Error::LeftOver { what: self.what, left }),
        }
    }
}

/// What `len` bytes are padded to, so that sizes tell little: a multiple of 1/32 of the
/// next power of two, of at least 512 bytes and at most 64 KiB.
pub const fn padded_len(len: usize) -> usize {
    let granule = match len.next_power_of_two() / 32 {
        ..512 => 512,
        65537.. => 64 * 1024,
        between => between,
    };
    match len.div_ceil(granule) {
        0 => granule,
        granules => granules * granule,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_come_back() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut out = Writer::new();
            out.varint(value);
            let bytes = out.into_bytes();
            let mut input = Reader::new("test", &bytes);
            assert_eq!(input.varint().unwrap(), value);
            input.end().unwrap();
        }
        for value in [0, -1, 1, i64::MIN, i64::MAX] {
            let mut out = Writer::new();
            out.signed(value);
            let bytes = out.into_bytes();
            assert_eq!(Reader::new("test", &bytes).signed().unwrap(), value);
        }
    }

    #[test]
    fn a_varint_that_could_be_shorter_is_refused() {
        assert!(Reader::new("test", &[0x80, 0x00]).varint().is_err());
        assert!(Reader::new("test", &[0xff; 10]).varint().is_err());
        assert!(Reader::new("test", &[0x80; 11]).varint().is_err());
    }

    #[test]
    fn a_count_beyond_what_can_follow_is_refused() {
        let mut out = Writer::new();
        out.varint(1000);
        let bytes = out.into_bytes();
        assert!(matches!(Reader::new("test", &bytes).count("things", 2000, 4), Err(Error::Short { .. })));
        assert!(matches!(Reader::new("test", &bytes).count("things", 999, 0), Err(Error::TooMuch { .. })));
    }

    #[test]
    fn padding_costs_at_most_a_sixteenth_beyond_small_sizes() {
        for len in [0, 1, 511, 512, 513, 20_000, 1 << 20, (1 << 24) + 1] {
            let padded = padded_len(len);
            assert!(padded >= len && padded >= 512);
            assert!(padded - len <= (len / 16).max(512), "{len} became {padded}");
        }
    }
}
