//! Tests on real clusters, brought up on this machine (`README.md` beside this file).
//!
//! `cluster` is the harness, shared with the `lab` command and the demo; `harness` tests it. `scenarios` is what
//! kist does on it. A machine that can't run it is a failure that names what is missing, never a skip.

#[allow(dead_code, reason = "the lab command uses parts of the harness that the tests do not")]
mod cluster;
mod database;
mod equal;
mod files;
mod harness;
#[allow(dead_code, reason = "the demo uses parts that the tests do not")]
mod kist;
mod leftovers;
mod objects;
mod scenarios;
mod shop;
mod stage;
