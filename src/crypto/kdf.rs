//! From a passphrase to a key: Argon2id.
//!
//! Spec: chapter 3. The parameters stand in the slot, so they come from outside: they are
//! held to [`Params::LIMITS`] before any memory is taken.

use argon2::{Algorithm, Argon2, Version};

use crate::crypto::Error;
use crate::crypto::secret::{Key, Passphrase};

/// The cost of one try at a passphrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    pub memory_kib: u32,
    pub passes: u32,
    pub lanes: u32,
}

impl Params {
    /// RFC 9106, second recommended option: 64 MiB, fits a pod of 256 MiB.
    pub const DEFAULT: Params = Params { memory_kib: 64 * 1024, passes: 3, lanes: 4 };
    /// As cheap as kist accepts: for tests.
    pub const CHEAP: Params = Params { memory_kib: 64, passes: 1, lanes: 1 };
    /// No slot may ask for more than this.
    pub const LIMITS: Params = Params { memory_kib: 2 * 1024 * 1024, passes: 64, lanes: 16 };

    fn allowed(self) -> bool {
        let most = Self::LIMITS;
        self.memory_kib <= most.memory_kib && self.passes <= most.passes && self.lanes <= most.lanes
    }
}

/// The key that `passphrase` gives under `salt` and `params`.
pub fn passphrase_key(passphrase: &Passphrase, salt: &[u8; 16], params: Params) -> Result<Key, Error> {
    if !params.allowed() {
        return Err(Error::Argon2);
    }
    let inner = argon2::Params::new(params.memory_kib, params.passes, params.lanes, Some(32))
        .map_err(|_| Error::Argon2)?;
    let mut out = zeroize::Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, inner)
        .hash_password_into(passphrase.expose(), salt, out.as_mut_slice())
        .map_err(|_| Error::Argon2)?;
    Ok(Key::new(*out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_beyond_the_limits_are_refused_before_memory_is_taken() {
        let huge = Params { memory_kib: u32::MAX, passes: 1, lanes: 1 };
        let got = passphrase_key(&Passphrase::new(b"x".to_vec()), &[0; 16], huge);
        assert_eq!(got, Err(Error::Argon2));
    }

    #[test]
    fn what_a_slot_may_ask_for_is_2_gib_64_passes_and_16_lanes() {
        let most = Params { memory_kib: 2_097_152, passes: 64, lanes: 16 };
        assert!(most.allowed());
        assert!(!Params { memory_kib: 2_097_153, ..most }.allowed());
        assert!(!Params { passes: 65, ..most }.allowed());
        assert!(!Params { lanes: 17, ..most }.allowed());
    }

    #[test]
    fn passphrase_and_salt_decide_the_key() {
        let key = |pass: &[u8], salt| {
            passphrase_key(&Passphrase::new(pass.to_vec()), &[salt; 16], Params::CHEAP).unwrap()
        };
        assert_eq!(key(b"a", 1), key(b"a", 1));
        assert_ne!(key(b"a", 1), key(b"b", 1));
        assert_ne!(key(b"a", 1), key(b"a", 2));
    }
}
