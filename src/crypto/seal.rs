//! Sealing: XChaCha20-Poly1305 with random nonces and bound context.
//!
//! Spec: chapter 3. A sealed box is `nonce (24) ‖ ciphertext ‖ tag (16)`. Random 24-byte
//! nonces may be drawn about 2^80 times under one key before they become likely to repeat.

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};

use crate::crypto::Error;
use crate::crypto::secret::Key;

/// Length of the nonce that stands before the ciphertext, in bytes.
pub const NONCE_LEN: usize = 24;
/// Length of the tag that stands behind the ciphertext, in bytes.
pub const TAG_LEN: usize = 16;
/// By how much a sealed box is longer than what is in it, in bytes.
pub const OVERHEAD: usize = NONCE_LEN + TAG_LEN;

/// Seals `plain`, bound to `context`, and appends the box to `out`.
pub fn seal_into(out: &mut Vec<u8>, key: &Key, nonce: [u8; NONCE_LEN], context: &[u8], plain: &[u8]) {
    out.reserve(plain.len() + OVERHEAD);
    out.extend_from_slice(&nonce);
    let start = out.len();
    out.extend_from_slice(plain);
    let tag = cipher(key)
        .encrypt_inout_detached(&XNonce::from(nonce), context, (&mut out[start..]).into())
        .expect("plaintexts are far below the cipher's limit of 256 GiB");
    out.extend_from_slice(&tag);
}

/// Seals `plain`, bound to `context`.
pub fn seal(key: &Key, nonce: [u8; NONCE_LEN], context: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    seal_into(&mut out, key, nonce, context, plain);
    out
}

/// Opens a box that was sealed with the same key and context.
pub fn open(key: &Key, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Error> {
    if sealed.len() < OVERHEAD {
        return Err(Error::Seal);
    }
    let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(Error::Seal)?;
    let (body, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(Error::Seal)?;
    let mut plain = body.to_vec();
    cipher(key)
        .decrypt_inout_detached(
            &XNonce::from(*nonce),
            context,
            plain.as_mut_slice().into(),
            &chacha20poly1305::Tag::from(*tag),
        )
        .map_err(|_| Error::Seal)?;
    Ok(plain)
}

fn cipher(key: &Key) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&chacha20poly1305::Key::from(*key.expose()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_with_the_same_key_context_and_bytes() {
        let key = Key::new([1; 32]);
        let sealed = seal(&key, [2; 24], b"here", b"text");
        assert_eq!(open(&key, b"here", &sealed).unwrap(), b"text");
        assert_eq!(open(&key, b"there", &sealed), Err(Error::Seal));
        assert_eq!(open(&Key::new([3; 32]), b"here", &sealed), Err(Error::Seal));
        for i in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[i] ^= 1;
            assert_eq!(open(&key, b"here", &bad), Err(Error::Seal), "byte {i}");
            assert_eq!(open(&key, b"here", &sealed[..i]), Err(Error::Seal), "cut at {i}");
        }
    }
}
