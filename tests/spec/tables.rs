//! The tables of the spec, held against the constants of the code.
