//! kist: backup and disaster recovery for Kubernetes, as a library.
//!
//! Layers, from the ground up; a file imports only from lower layers, and modules of one
//! layer are strangers (`tests/tidy` keeps it so):
//!
//! | layer | modules | what they do |
//! | --- | --- | --- |
//! | 0 | [`crypto`], [`pace`], [`progress`], [`world`] | hash, seal, wrap; rates; counters; clock and randomness |
//! | 1 | [`format`] | bytes to types and back; file n is chapter n of `format-spec/` |
//! | 2 | [`store`], [`wire`], [`policy`] | objects in a bucket or folder; the link to a mover; pure decisions |
//! | 3 | [`repo`] | a repository: open, keys, write, read, index, check |
//! | 4 | [`archive`], [`catalog`], [`cluster`] | files to trees and back; the local SQLite index; Kubernetes |
//! | 5 | [`job`] | one file for each use case |
//! | 6 | [`cli`] | arguments in, text or JSON out, exit codes |
//!
//! The library does not print, and reads no environment, home, clock or randomness: they
//! are handed in ([`world::World`]). Only [`cli`] touches the terminal.

// Beyond Cargo.toml's lints: the library prints nothing, takes nothing from outside
// (clippy.toml) and does not panic on what it is given. `cli` allows itself the first two.
#![cfg_attr(
    not(test),
    deny(
        clippy::disallowed_methods,
        clippy::exit,
        clippy::print_stderr,
        clippy::print_stdout,
        clippy::unwrap_used
    )
)]

pub mod archive;
pub mod catalog;
pub mod cli;
pub mod cluster;
pub mod crypto;
pub mod format;
pub mod job;
pub mod pace;
pub mod policy;
pub mod progress;
pub mod repo;
pub mod store;
pub mod wire;
pub mod world;
