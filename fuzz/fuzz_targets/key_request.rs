//! Fuzzes `decoders::key_request`.
#![no_main]
#[path = "../decoders.rs"]
mod decoders;
libfuzzer_sys::fuzz_target!(|data: &[u8]| decoders::key_request(data));
