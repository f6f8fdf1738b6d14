//! The table of programs that run.

use crate::nodes::{INNER_PORT, LIMIT, PORT, isolated, mac, nodes, overlay, passes, underlay};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use weft_dataplane::fastpath::Entries;
use weft_dataplane::route::table::{NewPeer, Route, Table};
use weft_dataplane::wire::frame::Wire;
use weft_lab::wait_until;

/// Packets on the way at most: less than any queue holds.
const WINDOW: u64 = 50;

/// Bytes of a frame up to the inner destination address.
const INNER_DESTINATION: usize = 22 + 16;

/// A table in which 10.244.2.0/24 and 10.244.3.0/24 belong to peers of these numbers.
fn table(owners: [u8; 2]) -> Entries {
    let routes = [2, 3].into_iter().zip(owners).map(|(subnet, owner)| Route {
        prefix: format!("10.244.{subnet}.0/24").parse().unwrap(),
        peer: NewPeer {
            addr: (underlay(owner), PORT).into(),
            mac: mac(owner),
        },
    });
    let routes: Vec<Route> = routes.collect();
    Entries::of(&Table::build(overlay(1, Wire::Vxlan), &routes).unwrap())
}

/// Two peers exchange their subnets again and again while packets go to both. Each packet goes by
/// one table or by the other: the address outside and the one inside are of one peer.
#[test]
fn no_packet_goes_by_a_mixture_of_tables() {
    isolated(|bpffs| {
        let [a, b] = nodes(bpffs, Wire::Vxlan);
        b.ns.ip("addr add 192.0.2.3/24 dev eth0").unwrap();
        let peers = [2, 3].map(|number| {
            let bound = b.ns.enter(|| UdpSocket::bind((underlay(number), PORT)));
            let socket = bound.unwrap().unwrap();
            socket
                .set_read_timeout(Some(Duration::from_millis(20)))
                .unwrap();
            (number, socket)
        });
        a.run("ping -c 1 -w 10 192.0.2.3");
        let mut programs = a.start(|_| {}).unwrap();
        let tables = [table([2, 3]), table([3, 2])];
        programs.publish(&tables[0], |_| None).unwrap();
        let sender = a.inside();
        let received = AtomicU64::new(0);
        let [changed, done] = [const { AtomicBool::new(false) }; 2];
        let receive = |number: u8, socket: &UdpSocket| {
            let mut subnets = [0_u64; 2];
            while !done.load(Ordering::Relaxed) {
                let mut frame = [0; 256];
                let Ok(len) = socket.recv(&mut frame) else {
                    continue;
                };
                assert_eq!(frame[8..14], mac(number).0, "another peer's frame");
                assert!(len > INNER_DESTINATION + 4);
                subnets[usize::from(frame[INNER_DESTINATION + 2]) - 2] += 1;
                received.fetch_add(1, Ordering::Relaxed);
            }
            subnets
        };
        std::thread::scope(|scope| {
            let receiving = peers
                .each_ref()
                .map(|(number, socket)| scope.spawn(|| receive(*number, socket)));
            let sending = scope.spawn(|| {
                let mut sent = 0;
                while !changed.load(Ordering::Relaxed) {
                    let arrived = || sent - received.load(Ordering::Relaxed) < WINDOW;
                    if !arrived() && !wait_until(LIMIT, arrived) {
                        break;
                    }
                    let to = Ipv4Addr::new(10, 244, 2 + (sent % 2) as u8, 1);
                    sender.send_to(&[0; 32], (to, INNER_PORT)).unwrap();
                    sent += 1;
                }
                wait_until(LIMIT, || sent == received.load(Ordering::Relaxed));
                done.store(true, Ordering::Relaxed);
                sent
            });
            for round in 0..100 {
                programs.publish(&tables[round % 2], |_| None).unwrap();
                // Some packets at least go by each.
                let before = received.load(Ordering::Relaxed);
                wait_until(LIMIT, || received.load(Ordering::Relaxed) > before);
            }
            changed.store(true, Ordering::Relaxed);
            let sent = sending.join().unwrap();
            let subnets = receiving.map(|thread| thread.join().unwrap());
            assert_eq!(received.load(Ordering::Relaxed), sent);
            assert!(
                subnets.iter().flatten().all(|&packets| packets > 20),
                "{subnets:?}"
            );
        });
    });
}

/// Whoever may make no maps any more cannot tell of new peers; what is known of the others holds.
#[test]
fn a_table_that_the_kernel_refuses_leaves_the_one_before_in_force() {
    isolated(|bpffs| {
        let [a, b] = nodes(bpffs, Wire::Vxlan);
        let _b = b.start(|_| {}).unwrap();
        let mut programs = a.start(|_| {}).unwrap();
        assert!(passes(&a, &b));
        // Of this thread alone.
        let all = capabilities(None).unwrap();
        let mut fewer = all;
        fewer.effective -= CapabilitySet::BPF | CapabilitySet::SYS_ADMIN;
        set_capabilities(None, fewer).unwrap();
        let refused = programs.publish(&table([3, 2]), |_| None);
        set_capabilities(None, all).unwrap();
        let text = refused.unwrap_err().to_string();
        assert!(text.starts_with("making a table: "), "{text}");
        assert!(
            text.contains("CAP_BPF") && text.lines().count() == 1,
            "{text}"
        );
        assert!(passes(&a, &b));
        programs.publish(&table([2, 3]), |_| None).unwrap();
        assert!(passes(&a, &b));
    });
}
