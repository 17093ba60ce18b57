//! Fuzzes `decoders::slot_contents`.
#![no_main]
#[path = "../decoders.rs"]
mod decoders;
libfuzzer_sys::fuzz_target!(|data: &[u8]| decoders::slot_contents(data));
