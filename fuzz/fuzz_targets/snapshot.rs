//! Any bytes as a snapshot file: every reader comes to an end without a panic. Seeds: the files of tests/golden, unpacked.
#![no_main]

use etcdguardian::restore::observe;
use etcdguardian::snapshot::{self, contents::Contents};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let proof = snapshot::prove(bytes);
    let hash = snapshot::hash_kv(bytes, None, None);
    // What was proved can be read.
    if proof.ok() {
        assert!(hash.is_ok());
        assert_eq!(proof.hash_kv, hash.ok());
    }
    let _ = Contents::of(bytes, b"", None, 2);
    let _ = observe::source(bytes);
});
