//! Use cases, one file each, to be read from top to bottom.

pub mod backup;
mod error;
pub mod find;
pub mod list;
pub mod record;
pub mod restore;

pub use error::{Error, Result};
