//! Descriptors that the service manager passes to this process.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use weft_dataplane::sys::passed;

/// Those with these names, in the order of their numbers. Must be called before this process opens
/// anything; the second time there are none.
pub fn take_passed(names: Vec<String>) -> BTreeMap<String, OwnedFd> {
    let descriptors = passed::take(names.len());
    names.into_iter().zip(descriptors).collect()
}
