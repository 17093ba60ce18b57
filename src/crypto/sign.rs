//! Signatures: Ed25519, verified strictly.
//!
//! Spec: chapter 3. What is signed is always `context ‖ message`, with one of the
//! `SIGN_*` contexts, so that no signature can stand for another.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::crypto::Error;
use crate::crypto::secret::Key;

pub const PUBLIC_LEN: usize = 32;
pub const SIGNATURE_LEN: usize = 64;

/// The public key of a signing seed.
pub fn public(seed: &Key) -> [u8; PUBLIC_LEN] {
    SigningKey::from_bytes(seed.expose()).verifying_key().to_bytes()
}

pub fn sign(seed: &Key, context: &[u8], message: &[u8]) -> [u8; SIGNATURE_LEN] {
    SigningKey::from_bytes(seed.expose()).sign(&[context, message].concat()).to_bytes()
}

pub fn verify(
    public: &[u8; PUBLIC_LEN],
    context: &[u8],
    message: &[u8],
    signature: &[u8; SIGNATURE_LEN],
) -> Result<(), Error> {
    VerifyingKey::from_bytes(public)
        .map_err(|_| Error::PublicKey)?
        .verify_strict(&[context, message].concat(), &Signature::from_bytes(signature))
        .map_err(|_| Error::Signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_context_message_and_key_only() {
        let seed = Key::new([5; 32]);
        let good = sign(&seed, b"context", b"message");
        assert_eq!(verify(&public(&seed), b"context", b"message", &good), Ok(()));
        assert!(verify(&public(&seed), b"contex", b"message", &good).is_err());
        assert!(verify(&public(&seed), b"context", b"massage", &good).is_err());
        assert!(verify(&public(&Key::new([6; 32])), b"context", b"message", &good).is_err());
    }
}
