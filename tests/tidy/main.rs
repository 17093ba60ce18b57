//! The project's own rules, held by tests that read the source tree as text.
//!
//! Each rule is a function from a tree to findings, proven twice: it finds what it should
//! in a tree made up for it, and it finds nothing in the project. A finding names the file,
//! the line, what is wrong and what to do.

mod banned;
mod documents;
mod finding;
mod layers;
mod licences;
mod manifest;
mod modules;
mod package;
mod rust;
mod scan;
mod size;
mod tree;
