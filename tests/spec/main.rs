//! The format's spec, held against the code: every vector in both directions, every table
//! of constants, every file of the fuzz corpora, random values of every codec, and what decoders take in memory.
//!
//! `KIST_VECTORS=write` writes vectors and corpus seeds that are missing; it never changes one.

mod check;
mod corpus;
#[path = "../../fuzz/decoders.rs"]
mod decoders;
mod make;
mod material;
mod memory;
mod props;
mod reader;
mod seeds;
mod shapes;
mod tables;
mod vector;
mod vectors;
