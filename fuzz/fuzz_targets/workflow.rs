#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(
    // A panic of the template engine is caught; the hook of the fuzzer would end everything before that.
    init: drop(std::panic::take_hook()),
    |bytes: &[u8]| dalsegno_adapters::foreign::read("workflow", bytes)
);
