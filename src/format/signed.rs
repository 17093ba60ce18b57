//! What sessions, commits, entries of the gc log and checkpoints have in common: a body, and behind it the signature of
//! the author whose certificate stands in the body.
//!
//! Spec: chapter 3. Signed is the BLAKE3 of what the object is bound to, and of its body.

use crate::crypto::{hash, sign};
use crate::format::codec::Writer;

/// The message that is signed: of the body, and of the names that it holds for.
pub(super) fn message(bound_to: &[&[u8]], body: impl FnOnce(&mut Writer)) -> [u8; 32] {
    let mut out = Writer::new();
    bound_to.iter().for_each(|name| out.raw(name));
    body(&mut out);
    hash::plain(&out.into_bytes())
}

/// Body and signature, as they are stored before sealing.
pub(super) fn encode(body: impl FnOnce(&mut Writer), signature: &[u8; sign::SIGNATURE_LEN]) -> Vec<u8> {
    let mut out = Writer::new();
    body(&mut out);
    out.raw(signature);
    out.into_bytes()
}
