//! What a node costs a host that has a lot of its own.

use super::*;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;

/// As of a BGP daemon with a full table, but for their number.
const FOREIGN: usize = 5000;

fn add_foreign_routes(dir: &TempDir) {
    let mut batch = String::new();
    for n in 0..FOREIGN {
        let (high, low) = (n / 256, n % 256);
        let _ = writeln!(
            batch,
            "route add 198.{high}.{low}.0/24 via 192.0.2.254 proto bgp"
        );
    }
    let file = dir.path().join("routes");
    std::fs::write(&file, batch).unwrap();
    netns::ip(&["-batch", file.to_str().unwrap()]);
}

#[test]
fn looks_at_the_host_do_not_read_the_routes_of_others() {
    for backend in ["vxlan", "host-gw"] {
        netns::run(async move |netlink| {
            underlay(&netlink).await;
            let dir = tempfile::tempdir().unwrap();
            let leases = Leases {
                backend,
                ..Leases::of("10.5.72.0/24")
            };
            let options = options(&dir, &["-ip-blackhole-route"]);
            let mut node = Node::start(&options, &leases).await.unwrap();
            let (attrs, _) = leases.asked().remove(0);
            let peer = Lease {
                subnet: Some("10.5.9.0/24".parse().unwrap()),
                subnet_v6: None,
                attrs: LeaseAttrs {
                    public_ip: [192, 0, 2, 9].into(),
                    ..attrs
                },
                expires: None,
                revision: 2,
            };
            let mut batch = vec![LeaseEvent::Snapshot(vec![peer])];
            node.backend.apply(&mut batch).await.unwrap();
            assert_eq!(node.backend.peers(), 1);
            add_foreign_routes(&dir);

            let listed = node.backend.host().netlink.listed.clone();
            listed.store(0, Ordering::Relaxed);
            for _ in 0..2 {
                node.backend.reconcile().await;
                node.resync().await;
            }
            let listed = listed.load(Ordering::Relaxed);
            assert!((1..200).contains(&listed), "{backend}: {listed}");
            node.stop().await;
        });
    }
}
