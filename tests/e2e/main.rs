//! Tests on real clusters.
mod cluster;
mod harness;
