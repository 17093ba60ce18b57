//! Keys, hashes, seals.
