//! Wrapping a key to a recipient's public key: HPKE with X-Wing (ML-KEM-768 and X25519).
//!
//! Spec: chapter 3. Suite: X-Wing, TurboSHAKE128, ChaCha20-Poly1305, base mode. A wrap is
//! `encapsulated key (1120) ‖ sealed key (32 + 16)`.

use std::convert::Infallible;

use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};

use crate::crypto::Error;
use crate::crypto::secret::Key;
use crate::world::Random;

type Suite = hpke::kem::XWing;
type Kdf = hpke::kdf::KdfTurboShake128;
type Aead = hpke::aead::ChaCha20Poly1305;

pub const PUBLIC_LEN: usize = 1216;
const ENCAPPED_LEN: usize = 1120;
/// Length of a wrapped key, in bytes.
pub const WRAP_LEN: usize = ENCAPPED_LEN + 32 + 16;

/// The public key of a recipient's seed.
pub fn public(seed: &Key) -> Vec<u8> {
    Suite::sk_to_pk(&private(seed)).to_bytes().to_vec()
}

/// Wraps `key` to `recipient`, bound to `info`.
pub fn wrap(recipient: &[u8], info: &[u8], key: &Key, random: &dyn Random) -> Result<Vec<u8>, Error> {
    let recipient = <Suite as Kem>::PublicKey::from_bytes(recipient).map_err(|_| Error::PublicKey)?;
    let (encapped, sealed) = hpke::single_shot_seal_with_rng::<Aead, Kdf, Suite>(
        &OpModeS::Base,
        &recipient,
        info,
        key.expose(),
        b"",
        &mut Drawn(random),
    )
    .map_err(|_| Error::PublicKey)?;
    let mut out = encapped.to_bytes().to_vec();
    out.extend_from_slice(&sealed);
    Ok(out)
}

/// Opens a wrap with the recipient's seed and the same `info`.
pub fn unwrap(seed: &Key, info: &[u8], wrapped: &[u8]) -> Result<Key, Error> {
    if wrapped.len() != WRAP_LEN {
        return Err(Error::Unwrap);
    }
    let (encapped, sealed) = wrapped.split_at(ENCAPPED_LEN);
    let encapped = <Suite as Kem>::EncappedKey::from_bytes(encapped).map_err(|_| Error::Unwrap)?;
    let plain = zeroize::Zeroizing::new(
        hpke::single_shot_open::<Aead, Kdf, Suite>(
            &OpModeR::Base,
            &private(seed),
            &encapped,
            info,
            sealed,
            b"",
        )
        .map_err(|_| Error::Unwrap)?,
    );
    Ok(Key::new(plain.as_slice().try_into().map_err(|_| Error::Unwrap)?))
}

fn private(seed: &Key) -> <Suite as Kem>::PrivateKey {
    <Suite as Kem>::PrivateKey::from_bytes(seed.expose()).expect("an X-Wing private key is any 32 bytes")
}

/// Hands the world's randomness to the library.
struct Drawn<'a>(&'a dyn Random);

impl TryRng for Drawn<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(out);
        Ok(())
    }
}

impl TryCryptoRng for Drawn<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{Time, fixed};

    #[test]
    fn a_wrapped_key_opens_for_its_recipient_and_info_only() {
        let world = fixed::world(1, Time(0));
        let (seed, other) = (Key::new(world.bytes()), Key::new(world.bytes()));
        let key = Key::new(world.bytes());
        let wrapped = wrap(&public(&seed), b"info", &key, world.random.as_ref()).unwrap();
        assert_eq!(wrapped.len(), WRAP_LEN);
        assert_eq!(unwrap(&seed, b"info", &wrapped), Ok(key));
        assert_eq!(unwrap(&seed, b"other", &wrapped), Err(Error::Unwrap));
        assert_eq!(unwrap(&other, b"info", &wrapped), Err(Error::Unwrap));
        assert_eq!(unwrap(&seed, b"info", &wrapped[1..]), Err(Error::Unwrap));
    }
}
