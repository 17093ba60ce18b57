//! Fuzzes `decoders::relay_answer`.
#![no_main]
#[path = "../decoders.rs"]
mod decoders;
libfuzzer_sys::fuzz_target!(|data: &[u8]| decoders::relay_answer(data));
