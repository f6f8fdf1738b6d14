//! libFuzzer on the target of this name.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| weft_fuzz::control::kube_list(data));
