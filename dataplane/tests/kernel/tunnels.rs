//! Tunnels over IPv4 and IPv6 that carry both, and over IPv4 such that carry bare IPv4
//! packets, with every kind of offload on the underlay.

use crate::traffic::{ping, tcp, udp, udp_super};
use crate::tunnel::{Family, Offload, Tunnel, Vtep};
use weft_dataplane::worker::EngineKind;
use weft_lab::skips_test_without_namespaces;

/// Everything that the nodes may do to each other with packets of `family`.
fn exchange(tunnel: &Tunnel, family: Family) {
    let largest = tunnel.mtu() - family.header_len() - 8;
    let [a, b] = &tunnel.nodes;
    for (from, to) in [(a, b), (b, a)] {
        ping(family, from, to, largest);
        tcp(family, from, to, 4, 2 << 20);
        udp(family, from, to, &[0, 1, 1_001, largest]);
        udp_super(family, from, to, (1_200, 40, 77));
        udp_super(family, from, to, (largest, 12, 0));
        // These leave as fragments.
        udp(family, from, to, &[largest + 1, 8_000, 60_000]);
    }
}

fn exchange_all(underlay: Family, vteps: [Vtep; 2]) {
    if skips_test_without_namespaces() {
        return;
    }
    for offload in Offload::ALL {
        let tunnel = Tunnel::new(underlay, vteps, offload);
        let plain = matches!(vteps[0], Vtep::Plain(_));
        let carried = if plain {
            &Family::BOTH[..1]
        } else {
            &Family::BOTH
        };
        for &family in carried {
            exchange(&tunnel, family);
        }
        tunnel.assert_no_errors();
        assert_shapes(&tunnel, offload);
    }
}

/// Expect that weft has met the shapes of datagrams that the underlay's offloads bring about,
/// and no others.
fn assert_shapes(tunnel: &Tunnel, offload: Offload) {
    let from_kernel = tunnel.nodes.iter().any(|node| node.vtep == Vtep::Kernel);
    let expected = match (offload, from_kernel) {
        (Offload::None, _) => (false, false),
        (Offload::All, true) => (false, true),
        // Whether the kernel merges what its own tunnels send over a virtual link depends on
        // the moment: mostly it does not.
        (Offload::Gro, true) => return,
        (Offload::All | Offload::Gro, false) => (true, false),
    };
    for node in tunnel.nodes.iter().filter(|node| node.vtep != Vtep::Kernel) {
        let trains = node.counter("trains_received") > 0;
        let supers = node.counter("super_frames_received") > 0;
        assert_eq!((trains, supers), expected, "trains and super-packets");
        assert!(node.counter("frames_sent") > 2 * node.counter("sends"));
        assert_eq!(node.counter("downgrades"), 0);
    }
}

macro_rules! on_each_engine {
    ($($name:ident: $underlay:expr, $weft:path, $other:expr;)+) => {
        mod ring {
            $(#[test] fn $name() {
                let weft = $weft(super::EngineKind::Ring);
                super::exchange_all($underlay, [weft, $other(weft)]);
            })+
        }
        mod poll {
            $(#[test] fn $name() {
                let weft = $weft(super::EngineKind::Poll);
                super::exchange_all($underlay, [weft, $other(weft)]);
            })+
        }
    };
}

on_each_engine! {
    weft_and_weft_over_ipv4: super::Family::V4, super::Vtep::Weft, |weft| weft;
    weft_and_weft_over_ipv6: super::Family::V6, super::Vtep::Weft, |weft| weft;
    weft_and_weft_in_the_udp_format: super::Family::V4, super::Vtep::Plain, |weft| weft;
    weft_and_kernel_vxlan_over_ipv4: super::Family::V4, super::Vtep::Weft, |_| super::Vtep::Kernel;
    weft_and_kernel_vxlan_over_ipv6: super::Family::V6, super::Vtep::Weft, |_| super::Vtep::Kernel;
}
