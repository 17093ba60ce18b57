//! The binary, from outside: what it says and with which code it ends, when all is well and when it is not.
//! Needs root: full disks are mounted, and one test runs as somebody else.

mod choosing;
#[path = "../support/compare.rs"]
mod compare;
mod copying;
mod forgetting;
mod full;
mod json;
mod keys;
mod killed;
mod kist;
mod polite;
mod refused;
mod repairing;
mod unreadable;
