use super::*;
use crate::offload::testing::Spec;

/// Nothing is known of the path.
const UNKNOWN: Option<PathLimit> = None;

/// So many bytes fit, and IP may fragment outer packets.
fn fits(fits: usize) -> Option<PathLimit> {
    Some(PathLimit {
        fits,
        outer_df: false,
    })
}

/// The same where nobody may fragment them.
fn fits_df(fits: usize) -> Option<PathLimit> {
    let outer_df = true;
    Some(PathLimit { fits, outer_df })
}

/// What is asked about.
#[derive(Clone)]
struct Asked {
    spec: Spec,
    /// Payload bytes of each segment; 0 for a packet that is one segment.
    gso_size: u16,
    wire: Wire,
    whole: bool,
}

fn single(spec: Spec) -> Asked {
    Asked {
        spec,
        gso_size: 0,
        wire: Wire::Vxlan,
        whole: false,
    }
}

fn super_packet(spec: Spec, gso_size: u16) -> Asked {
    let asked = single(spec);
    Asked { gso_size, ..asked }
}

/// Its peer takes super-packets whole.
fn whole(asked: Asked) -> Asked {
    let whole = true;
    Asked { whole, ..asked }
}

fn without_df(spec: Spec) -> Spec {
    Spec { df: false, ..spec }
}

impl Asked {
    fn offload(&self) -> VnetHdr {
        let mut offload = self.spec.vnet_hdr(self.gso_size);
        if self.gso_size == 0 {
            offload.gso_type = vnet_hdr::GSO_NONE;
        }
        offload
    }

    fn decide(&self, limit: Option<PathLimit>) -> Decision {
        let ip = self.spec.build_partial();
        let packet = IpPacket::new(&ip).unwrap();
        decide(packet, &self.offload(), self.wire, limit, || self.whole)
    }
}

/// A decision in words.
fn words(decision: &Decision) -> String {
    let mut words = match &decision.cut {
        Cut::InPlace => "in place".to_owned(),
        Cut::Whole(_) => "whole".to_owned(),
        Cut::Segments(segmenter) => format!("segments of {}", segmenter.next_len().unwrap()),
        Cut::Fragments(_) => "fragments".to_owned(),
        Cut::Datagrams(segmenter, None, limit) => format!(
            "datagrams of {} in fragments of {limit}",
            segmenter.next_len().unwrap()
        ),
        Cut::Datagrams(..) => "half cut".to_owned(),
        Cut::Refuse(reason) => format!("refused: {}", reason.name()),
    };
    if decision.alone {
        words += ", alone";
    }
    if let Some(too_big) = &decision.too_big {
        words += &format!(", tell {}", too_big.mtu);
    }
    words
}

#[track_caller]
fn assert_table(table: Vec<(Asked, Option<PathLimit>, &str)>) {
    for (asked, limit, expected) in table {
        let decision = asked.decide(limit);
        let Asked { spec, gso_size, .. } = &asked;
        let (v6, udp, df) = (spec.v6, spec.udp, spec.df);
        assert_eq!(
            words(&decision),
            expected,
            "v6 {v6}, udp {udp}, df {df}, gso {gso_size}, {limit:?}"
        );
    }
}

#[test]
fn single_packets() {
    let tcp4 = || single(Spec::tcp4(1400));
    let udp4 = |len: usize| single(Spec::udp4(len - 28));
    let udp6 = |len: usize| single(Spec::udp6(len - 48));
    let open = |len: usize| single(without_df(Spec::udp4(len - 28)));
    assert_table(vec![
        (tcp4(), UNKNOWN, "in place"),
        (tcp4(), fits(1440), "in place"),
        (tcp4(), fits_df(1440), "in place"),
        (tcp4(), fits(1439), "in place, alone, tell 1439"),
        (tcp4(), fits_df(1439), "refused: too_big, alone, tell 1439"),
        (open(1440), UNKNOWN, "in place"),
        (open(1440), fits(1440), "in place"),
        (open(1440), fits(1439), "fragments"),
        (open(1440), fits_df(1439), "fragments"),
        (open(1440), fits(20), "refused: bad_inner"),
        (udp6(1440), fits(1440), "in place"),
        (udp6(1440), fits(1439), "in place, alone, tell 1439"),
        (
            udp6(1440),
            fits_df(1439),
            "refused: too_big, alone, tell 1439",
        ),
        // Less than senders believe is told to those of IPv4 alone, where nothing else gets
        // through.
        (udp6(1281), fits(1230), "in place, alone, tell 1280"),
        (udp6(1280), fits(1230), "in place, alone"),
        (udp6(1280), fits_df(1230), "in place, alone"),
        (udp4(553), fits(502), "in place, alone, tell 552"),
        (udp4(552), fits(502), "in place, alone"),
        (udp4(552), fits_df(502), "refused: too_big, alone, tell 502"),
    ]);
    let bare = Asked {
        wire: Wire::Ip,
        ..whole(tcp4())
    };
    assert_table(vec![
        (bare.clone(), UNKNOWN, "in place"),
        (bare, fits(1439), "in place, alone, tell 1439"),
    ]);
}

#[test]
fn super_packets() {
    let tcp4 = || super_packet(Spec::tcp4(20_000), 1398);
    let tcp6 = || super_packet(Spec::tcp6(20_000), 1378);
    let open_tcp4 = || super_packet(without_df(Spec::tcp4(20_000)), 1398);
    let udp4 = || super_packet(Spec::udp4(20_000), 1400);
    let open_udp4 = || super_packet(without_df(Spec::udp4(20_000)), 1400);
    let udp6 = || super_packet(Spec::udp6(20_000), 1400);
    let bare = |asked| Asked {
        wire: Wire::Ip,
        ..asked
    };
    assert_table(vec![
        (tcp4(), UNKNOWN, "segments of 1438"),
        (whole(tcp4()), UNKNOWN, "whole"),
        (whole(tcp6()), UNKNOWN, "whole"),
        (whole(tcp4()), fits(1438), "whole"),
        (whole(bare(tcp4())), UNKNOWN, "segments of 1438"),
        (whole(udp4()), UNKNOWN, "segments of 1428"),
        (tcp4(), fits_df(1438), "segments of 1438"),
        (tcp4(), fits(1350), "segments of 1350, tell 1350"),
        (whole(tcp4()), fits(1350), "segments of 1350, tell 1350"),
        (bare(tcp4()), fits(1350), "segments of 1350, tell 1350"),
        (tcp4(), fits_df(1350), "segments of 1350, tell 1350"),
        (open_tcp4(), fits(1350), "segments of 1350"),
        (open_tcp4(), fits_df(1350), "segments of 1350"),
        (tcp4(), fits(502), "segments of 502, tell 552"),
        (tcp6(), fits_df(1210), "segments of 1210, tell 1280"),
        // Not even a few bytes of payload would fit a segment.
        (tcp4(), fits(44), "segments of 1438, alone, tell 552"),
        (open_tcp4(), fits(44), "segments of 1438, alone"),
        (udp4(), fits_df(1428), "segments of 1428"),
        (udp4(), fits(1350), "segments of 1428, alone, tell 1350"),
        (udp4(), fits_df(1350), "refused: too_big, alone, tell 1350"),
        (udp6(), fits(1350), "segments of 1448, alone, tell 1350"),
        (udp6(), fits_df(1350), "refused: too_big, alone, tell 1350"),
        (
            open_udp4(),
            fits(1350),
            "datagrams of 1428 in fragments of 1350",
        ),
        (
            open_udp4(),
            fits_df(1350),
            "datagrams of 1428 in fragments of 1350",
        ),
    ]);
}

#[test]
fn a_super_packet_that_is_none_is_refused() {
    let spec = Spec::tcp4(3000);
    let ip = spec.build_partial();
    let packet = IpPacket::new(&ip).unwrap();
    let unknown = VnetHdr {
        gso_type: 9,
        ..spec.vnet_hdr(1400)
    };
    for limit in [UNKNOWN, fits(1350), fits_df(1350)] {
        let decision = decide(packet, &unknown, Wire::Vxlan, limit, || true);
        assert_eq!(words(&decision), "refused: bad_offload");
    }
}

#[test]
fn only_for_what_may_leave_whole_is_it_asked_whether_it_does() {
    let tcp = super_packet(Spec::tcp4(20_000), 1398);
    let acc_ecn = VnetHdr {
        gso_type: vnet_hdr::GSO_TCPV4 | vnet_hdr::GSO_ACCECN,
        ..tcp.offload()
    };
    let (offload, udp) = (tcp.offload(), super_packet(Spec::udp4(9000), 1400));
    let single = single(Spec::tcp4(1000));
    let cases = [
        (&tcp, offload, Wire::Vxlan, UNKNOWN, true),
        (&tcp, offload, Wire::Vxlan, fits(1438), true),
        (&tcp, offload, Wire::Vxlan, fits(1437), false),
        (&tcp, offload, Wire::Ip, UNKNOWN, false),
        (&tcp, acc_ecn, Wire::Vxlan, UNKNOWN, false),
        (&udp, udp.offload(), Wire::Vxlan, UNKNOWN, false),
        (&single, single.offload(), Wire::Vxlan, UNKNOWN, false),
    ];
    for (case, (asked, offload, wire, limit, expected)) in cases.into_iter().enumerate() {
        let ip = asked.spec.build_partial();
        let packet = IpPacket::new(&ip).unwrap();
        let mut was_asked = false;
        decide(packet, &offload, wire, limit, || {
            was_asked = true;
            false
        });
        assert_eq!(was_asked, expected, "case {case}");
    }
}

/// The parts of a packet, each with its payload behind its header.
fn parts(mut cut: Cut, ip: &[u8]) -> Vec<(Vec<u8>, bool)> {
    let mut parts = Vec::new();
    while let Some(header_len) = cut.next_header_len() {
        let mut slot = vec![0; header_len];
        // One byte less is refused, and nothing is lost by that.
        if header_len > 0 && !matches!(cut, Cut::Datagrams(..)) {
            assert_eq!(cut.next(ip, &mut slot[1..]), None);
        }
        let part = cut.next(ip, &mut slot).unwrap();
        slot.extend(&ip[part.payload]);
        parts.push((slot, part.is_fragment));
    }
    assert_eq!(cut.next(ip, &mut [0; 256]), None);
    parts
}

#[test]
fn each_part_has_a_header_of_the_length_that_was_announced_and_fits() {
    let open = without_df(Spec::udp4(5000));
    let cases = [
        (super_packet(Spec::tcp4(20_000), 1398), fits(1350), 16, 0),
        (single(open.clone()), fits(1350), 4, 4),
        // Three datagrams in two fragments each, and a short one that needs none.
        (super_packet(open.clone(), 1400), fits(1350), 7, 6),
        (super_packet(open, 1000), fits(1350), 5, 0),
    ];
    for (asked, limit, count, fragments) in cases {
        let mut ip = asked.spec.build_partial();
        if asked.gso_size == 0 {
            ip = asked.spec.build();
        }
        let parts = parts(asked.decide(limit).cut, &ip);
        assert_eq!(parts.len(), count);
        let is_fragment = |part: &&(Vec<u8>, bool)| part.1;
        assert_eq!(parts.iter().filter(is_fragment).count(), fragments);
        for (bytes, _) in &parts {
            let packet = IpPacket::new(bytes).unwrap();
            assert_eq!(packet.total_len(), bytes.len());
            assert!(bytes.len() <= 1350);
        }
    }
}

#[test]
fn what_is_not_cut_has_no_parts() {
    let tcp = super_packet(Spec::tcp4(20_000), 1398);
    let ip = tcp.spec.build_partial();
    for cut in [
        Cut::InPlace,
        whole(tcp).decide(UNKNOWN).cut,
        Cut::Refuse(DropReason::TooBig),
    ] {
        assert!(parts(cut, &ip).is_empty());
    }
}
