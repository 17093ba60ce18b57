//! Files to trees and back: walk, cut, describe; decide, fetch, write.

pub mod assemble;
pub mod backup;
pub mod bundle;
pub mod chunk;
pub mod compare;
pub mod copy;
pub mod cursor;
pub mod delete;
pub mod documents;
pub mod exclude;
pub mod file;
mod filling;
mod folder;
pub mod large;
mod place;
pub mod plan;
pub mod pool;
pub mod problem;
mod report;
pub mod restore;
mod small;
pub mod target;
pub mod tree;
mod usage;
pub mod walk;
pub mod witness;
