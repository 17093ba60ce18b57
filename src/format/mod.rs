//! Bytes to types and back: no I/O, no clock, no randomness (nonces are handed in).
//!
//! The files follow the chapters of `format-spec/`. Decoders are total, strict and
//! canonical: every length is held to a limit before memory is taken, nothing may be left
//! over, and what decodes encodes to the same bytes again.

pub mod checkpoint; // chapter 11
pub mod checks; // chapter 12
pub mod codec; // chapter 1
pub mod commit; // chapter 7
pub mod config; // chapter 2
pub mod entry; // chapter 6
pub mod frame; // chapter 10
pub mod id; // chapter 1
pub mod index; // chapter 5
pub mod keys; // chapter 3
pub mod limits; // chapter 1
pub mod log; // chapter 11
pub mod node; // chapter 6
pub mod object; // chapter 2
pub mod pack; // chapter 4
pub mod refs; // chapter 6
pub mod relay; // chapter 10
pub mod session; // chapter 7
mod signed; // chapter 3
pub mod summary; // chapter 7
pub mod task; // chapter 10

/// Why bytes are not what they should be.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    #[error("{what}: ends early, at byte {at}")]
    Short { what: &'static str, at: usize },
    #[error("{what}: {left} bytes left over behind its end")]
    LeftOver { what: &'static str, left: usize },
    #[error("{what}: {field} is {found}, at most {most} are allowed")]
    TooMuch { what: &'static str, field: &'static str, found: u64, most: u64 },
    #[error("{what}: {field} is not valid ({found})")]
    Invalid { what: &'static str, field: &'static str, found: String },
    #[error("{what}: has version {found}, this kist reads version {known}")]
    Version { what: &'static str, found: u16, known: u16 },
    #[error("{what}: needs features that this kist does not know ({unknown:#x})")]
    Features { what: &'static str, unknown: u64 },
    #[error("{what}: not a kist file")]
    Magic { what: &'static str },
    #[error("{what}")]
    Crypto {
        what: &'static str,
        #[source]
        source: crate::crypto::Error,
    },
}

/// The format version that this code writes and reads.
pub const VERSION: u16 = 1;
/// That of the link between a job and its movers, which is no part of a repository: both ends have the same one.
pub const LINK_VERSION: u16 = 0;
