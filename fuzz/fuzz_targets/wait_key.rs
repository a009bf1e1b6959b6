#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dalsegno_durable::foreign::read("wait_key", bytes));
