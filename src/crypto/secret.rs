//! Secret bytes: wiped when dropped, never shown.

use zeroize::{Zeroize, ZeroizeOnDrop};

/// A 32-byte symmetric key or seed. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Key([u8; 32]);

impl Key {
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes themselves, to use or to seal; never to print.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(secret)")
    }
}

/// A passphrase as typed or read from a file, without a trailing line end.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Passphrase(Vec<u8>);

impl Passphrase {
    pub fn new(mut bytes: Vec<u8>) -> Self {
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        Self(bytes)
    }

    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", Key::new([7; 32])), "Key(secret)");
        assert_eq!(format!("{:?}", Passphrase::new(b"hunter2".to_vec())), "Passphrase(secret)");
    }

    #[test]
    fn passphrase_loses_one_line_end() {
        assert_eq!(Passphrase::new(b"a b\r\n".to_vec()).expose(), b"a b");
        assert_eq!(Passphrase::new(b"a b\n\n".to_vec()).expose(), b"a b\n");
    }

    #[test]
    fn a_line_end_alone_is_no_passphrase() {
        assert!(Passphrase::new(b"\n".to_vec()).is_empty());
        assert!(!Passphrase::new(b" ".to_vec()).is_empty());
    }
}
