#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dalsegno_adapters::foreign::read("git_patch", bytes));
