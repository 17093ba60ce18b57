//! Sealing: XChaCha20-Poly1305 with random nonces and bound context.
//!
//! Spec: chapter 3. A sealed box is `nonce (24) ‖ ciphertext ‖ tag (16)`. Random 24-byte
//! nonces may be drawn about 2^80 times under one key before they become likely to repeat.
//! XChaCha20-Poly1305 is ChaCha20-Poly1305 under a subkey that HChaCha20 makes of the key and the nonce's first
//! 16 bytes; aws-lc's is more than twice as fast as the `chacha20poly1305` crate, which the tests hold it against.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use chacha20::R20;
use zeroize::Zeroize;

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
    let (cipher, nonce) = cipher(key, nonce);
    let tag = cipher
        .seal_in_place_separate_tag(nonce, Aad::from(context), &mut out[start..])
        .expect("plaintexts are far below the cipher's limit of 256 GiB");
    out.extend_from_slice(tag.as_ref());
}

/// Seals `plain`, bound to `context`.
pub fn seal(key: &Key, nonce: [u8; NONCE_LEN], context: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    seal_into(&mut out, key, nonce, context, plain);
    out
}

/// Opens a box that was sealed with the same key and context.
pub fn open(key: &Key, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Error> {
    let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(Error::Seal)?;
    let (body, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(Error::Seal)?;
    let (cipher, nonce) = cipher(key, *nonce);
    let mut plain = body.to_vec();
    match cipher.open_in_place_separate_tag(nonce, Aad::from(context), tag, &mut plain) {
        Ok(_) => Ok(plain),
        Err(_) => Err(Error::Seal),
    }
}

/// What ChaCha20-Poly1305 takes for a key and a nonce of XChaCha20-Poly1305.
fn cipher(key: &Key, nonce: [u8; NONCE_LEN]) -> (LessSafeKey, Nonce) {
    let (first, last) = nonce.split_first_chunk::<16>().expect("24 bytes are more than 16");
    let mut subkey = chacha20::hchacha::<R20>(&(*key.expose()).into(), &(*first).into());
    let cipher = UnboundKey::new(&CHACHA20_POLY1305, &subkey).expect("the subkey is of 32 bytes");
    subkey.zeroize();
    let mut short = [0; 12];
    short[4..].copy_from_slice(last);
    (LessSafeKey::new(cipher), Nonce::assume_unique_for_key(short))
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

    #[test]
    fn is_the_xchacha20_poly1305_of_the_reference() {
        use chacha20poly1305::aead::{Aead, Payload};
        use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
        let world = crate::world::fixed::world(3, crate::world::Time(0));
        for len in [0, 1, 15, 16, 17, 63, 64, 65, 1000, 65_537] {
            let (key, nonce): ([u8; 32], [u8; NONCE_LEN]) = (world.bytes(), world.bytes());
            let mut plain = vec![0; len];
            world.random.fill(&mut plain);
            let payload = Payload { msg: &plain, aad: b"here" };
            let reference = XChaCha20Poly1305::new(&key.into()).encrypt(&nonce.into(), payload).unwrap();
            let sealed = seal(&Key::new(key), nonce, b"here", &plain);
            assert_eq!(sealed, [&nonce[..], &reference[..]].concat(), "{len} bytes");
        }
    }
}
