#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dalsegno_store::foreign::read("manifest", bytes));
