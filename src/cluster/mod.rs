//! The cluster's side: what is there, pods that reach its volumes, objects put back in order.
//!
//! Speaks to the API server and to nothing else: it knows neither repository nor archive, `job` joins
//! them. Invariant: whatever is made in a cluster carries [`MANAGED_BY`] and its run's label, and is
//! found again by them alone.

pub mod access;
mod client;
pub mod discover;
mod error;
pub mod event;
pub mod exec;
pub mod hook;
pub mod identity;
pub mod install;
mod kind;
pub mod lease;
pub mod manifest;
pub mod mover;
mod plain;
mod request;
pub mod restore;
pub mod sweep;
pub mod volume;
mod watch;

pub use client::{Access, Cluster};
pub use error::{Class, Error, Result};

/// Label of everything that kist makes in a cluster; its value is [`KIST`].
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
pub const KIST: &str = "kist";
/// Label with the run that a thing was made for.
pub const RUN: &str = "kist.dev/run";
