//! Fuzzes `decoders::hook`.
#![no_main]
#[path = "../decoders.rs"]
mod decoders;
libfuzzer_sys::fuzz_target!(|data: &[u8]| decoders::hook(data));
