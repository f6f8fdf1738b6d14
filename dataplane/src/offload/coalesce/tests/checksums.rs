//! What becomes of checksums, right, wrong and partial.

use super::*;

#[test]
fn a_wrong_checksum_is_neither_merged_nor_hidden() {
    for base in Spec::all(0) {
        let mut packets = build(&run(&base, &[100; 4]));
        let last = packets[2].len() - 1;
        packets[2][last] ^= 1;
        let writes = coalesce(&packets, Trust::Unknown);
        let counts: Vec<_> = writes.iter().map(|write| write.segments).collect();
        assert_eq!(counts, [2, 1, 1]);
        assert_eq!(writes[1].hdr, VnetHdr::default(), "the stack verifies");
        assert_eq!(writes[1].ip, packets[2]);
    }
}

#[test]
fn a_wrong_ip_checksum_is_neither_merged_nor_hidden() {
    for base in [Spec::tcp4(0), Spec::udp4(0)] {
        let mut packets = build(&run(&base, &[100; 4]));
        packets[2][10] ^= 1;
        assert_eq!(counts(&packets), [2, 1, 1]);
        let writes = coalesce(&packets, Trust::Vouched);
        assert_eq!(writes[1].ip, packets[2]);
    }
}

#[test]
fn udp_without_a_checksum_stays_without() {
    let mut packets = build(&run(&Spec::udp4(0), &[100; 3]));
    packets.iter_mut().for_each(|packet| packet[26..28].fill(0));
    assert_eq!(counts(&packets), [1, 1, 1]);
    let writes = coalesce(&packets, Trust::Vouched);
    assert!(writes.iter().all(|write| write.hdr == VnetHdr::default()));
    assert_eq!(deliver(&writes), packets);
}

#[test]
fn single_packets_are_written_as_they_came() {
    for base in Spec::all(100) {
        for trust in [Trust::Vouched, Trust::Unknown] {
            let writes = coalesce(&[base.build()], trust);
            assert_eq!(writes[0].hdr, VnetHdr::default());
            assert_eq!(writes[0].ip, base.build());
        }
    }
}

#[test]
fn partial_checksums_are_completed_by_the_kernel() {
    for base in Spec::all(100) {
        let writes = coalesce(&[base.build_partial()], Trust::Unknown);
        let expected = VnetHdr {
            gso_type: vnet_hdr::GSO_NONE,
            hdr_len: 0,
            gso_size: 0,
            ..base.vnet_hdr(0)
        };
        assert_eq!(writes[0].hdr, expected);
        assert_eq!(deliver(&writes), [base.build()]);
    }
    let syn = Spec {
        flags: SYN,
        ..Spec::tcp6(0)
    };
    let writes = coalesce(&[syn.build_partial()], Trust::Unknown);
    assert_eq!(writes[0].hdr.flags, vnet_hdr::F_NEEDS_CSUM);
}

#[test]
fn partial_and_complete_checksums_merge() {
    for base in Spec::all(0) {
        let specs = run(&base, &[100; 4]);
        let mut packets: Vec<_> = specs.iter().map(Spec::build_partial).collect();
        packets[1] = specs[1].build();
        assert_eq!(counts(&packets), [4]);
        let writes = coalesce(&packets, Trust::Unknown);
        assert_eq!(deliver(&writes), build(&specs));
    }
}
