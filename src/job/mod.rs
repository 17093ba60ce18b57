//! Use cases, one file each, to be read from top to bottom.

pub mod backup;
pub mod cluster_backup;
pub mod cluster_restore;
pub mod copy;
mod error;
pub mod find;
pub mod forget;
mod group;
pub mod hold;
pub mod list;
mod live;
pub mod mover;
pub mod record;
pub mod repair;
pub mod restore;
mod volume;

pub use error::{Error, Result};

/// How long an interrupted run may take to put away what it has.
const PUT_AWAY: std::time::Duration = std::time::Duration::from_secs(3);
