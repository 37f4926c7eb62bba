//! libFuzzer's way into the targets: FUZZ_TARGET names one.
#![no_main]

mod targets;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<targets::Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let found = targets::ALL.into_iter().find(|(known, _)| *known == name);
    found.expect("FUZZ_TARGET names a target").1
});

fuzz_target!(|bytes: &[u8]| (*TARGET)(bytes));
