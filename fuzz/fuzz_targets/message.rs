//! Fuzzes `decoders::message`.
#![no_main]
#[path = "../decoders.rs"]
mod decoders;
libfuzzer_sys::fuzz_target!(|data: &[u8]| decoders::message(data));
