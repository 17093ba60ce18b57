//! Files to trees and back: cut, deduplicate, describe; plan, fetch, write.

pub mod chunk;
pub mod cursor;
pub mod tree;
