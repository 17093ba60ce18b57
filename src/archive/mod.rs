//! Files to trees and back: walking, reading, and writing what a file system holds.

pub mod exclude;
pub mod file;
mod folder;
pub mod problem;
pub mod target;
pub mod walk;
