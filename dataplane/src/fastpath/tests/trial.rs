//! What the programs are tried with before they are attached.

use super::*;

/// Three protocols with each ECN field inside and outside, but for marks that a packet cannot carry.
const TAKEN: u64 = 3 * (4 * 4 - 1);

/// The kernel takes off the headers of a bare packet in another way where there is a checksum.
#[test]
fn a_kernel_is_tried_with_outer_checksums_and_without() {
    isolated(|| {
        for wire in [Wire::Vxlan, Wire::Ip] {
            let table = table(wire, Admission::Strict);
            let mut fast_path = alone(&table);
            let settings = fast_path.config.settings(table.overlay()).unwrap();
            crate::fastpath::trial::try_all(&mut fast_path, &settings).unwrap();
            assert_eq!(counted(&fast_path, "OUT_PACKETS"), 3 * 4 + 1, "{wire:?}");
            assert_eq!(counted(&fast_path, "IN_PACKETS"), 2 * TAKEN, "{wire:?}");
            assert_eq!(counted(&fast_path, "DROP_WRITE_FAILED"), 0, "{wire:?}");
        }
    });
}
