//! BLAKE3 in its three modes: plain (pack hashes), keyed (ids) and key derivation.
//!
//! Spec: chapter 3.

use crate::crypto::secret::Key;

/// BLAKE3 of `bytes`.
pub fn plain(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

/// Keyed BLAKE3 of the parts laid end to end. Callers make the parts unambiguous.
pub fn keyed(key: &Key, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_keyed(key.expose());
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

/// A key derived from `parent` for `context` and `input`. Nothing follows `input`, so it may have any length.
pub fn derive(context: &'static str, parent: &Key, input: &[u8]) -> Key {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(parent.expose()).update(input);
    Key::new(*hasher.finalize().as_bytes())
}

/// `N` words drawn from `parent` for `context`: the keyed gear table.
pub fn derive_words<const N: usize>(context: &'static str, parent: &Key) -> [u64; N] {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(parent.expose());
    let mut xof = hasher.finalize_xof();
    std::array::from_fn(|_| {
        let mut word = [0; 8];
        xof.fill(&mut word);
        u64::from_le_bytes(word)
    })
}

/// A running plain BLAKE3, for bytes that come in pieces.
#[derive(Clone, Default)]
pub struct Running(blake3::Hasher);

impl Running {
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn finish(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_and_inputs_give_different_keys() {
        let parent = Key::new([1; 32]);
        let a = derive("kist test a", &parent, b"1");
        assert_ne!(a, derive("kist test b", &parent, b"1"));
        assert_ne!(a, derive("kist test a", &parent, b"2"));
        assert_eq!(a, derive("kist test a", &parent, b"1"));
    }
}
