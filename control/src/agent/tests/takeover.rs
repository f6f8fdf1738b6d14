//! Taking over from flanneld's kernel VXLAN device.

use super::*;

const VXLAN: [&str; 6] = ["type", "vxlan", "id", "1", "dstport", "8472"];

/// What flanneld leaves of a node with one peer.
fn kernel_device() {
    netns::ip(&[&["link", "add", "flannel.1"], &VXLAN[..]].concat());
    for line in [
        "link set flannel.1 address 0e:01:02:03:04:05",
        "address add 10.5.72.0/32 dev flannel.1",
        "link set flannel.1 up",
        "neigh add 10.5.9.0 lladdr 0e:00:00:00:00:09 dev flannel.1 nud permanent",
        "route add 10.5.9.0/24 via 10.5.9.0 dev flannel.1 onlink",
    ] {
        netns::ip(&line.split(' ').collect::<Vec<_>>());
    }
}

/// All of the device that keeps a peer within reach.
fn shown() -> [String; 4] {
    [
        &["-o", "-d", "link", "show", "flannel.1"][..],
        &["-br", "-4", "address", "show", "flannel.1"],
        &["neigh", "show", "nud", "permanent", "dev", "flannel.1"],
        &["-4", "route", "show", "dev", "flannel.1"],
    ]
    .map(netns::ip)
}

#[test]
fn a_left_over_kernel_device_is_taken_over_with_its_mac() {
    netns::run(async |netlink| {
        underlay(&netlink).await;
        netns::ip(&[&["link", "add", "flannel.1"], &VXLAN[..]].concat());
        netns::ip(&["link", "set", "flannel.1", "address", "0e:01:02:03:04:05"]);
        netns::ip(&["link", "set", "flannel.1", "up"]);
        for route in ["10.5.9.0/24 via 10.5.9.0", "10.5.8.0/24 via 10.5.8.0"] {
            let words = route.split(' ').chain(["dev", "flannel.1", "onlink"]);
            netns::ip(
                &["route", "add"]
                    .into_iter()
                    .chain(words)
                    .collect::<Vec<_>>(),
            );
        }
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::of("10.5.72.0/24");
        for _ in 0..2 {
            let node = Node::start(&options(&dir, &[]), &leases).await.unwrap();
            let device = netlink.link("flannel.1").await.unwrap().unwrap();
            assert_eq!(device.kind.as_deref(), Some("tun"));
            let route = netns::ip(&["route", "show", "dev", "flannel.1"]);
            assert_eq!(route.lines().count(), 1, "{route}");
            node.stop();
        }
        for (attrs, _) in leases.asked() {
            let mac = attrs.vxlan_data().unwrap().vtep_mac;
            assert_eq!(mac, [0x0e, 1, 2, 3, 4, 5]);
        }
        // The way back: flanneld deletes what is no VXLAN device, and makes its own.
        netns::ip(&["link", "del", "flannel.1"]);
        netns::ip(&[&["link", "add", "flannel.1"], &VXLAN[..]].concat());
        let up = || {
            let mut ip = std::process::Command::new("ip");
            let status = ip.args(["link", "set", "flannel.1", "up"]).status();
            status.unwrap().success()
        };
        // The kernel lets go of the port only when it has wound up io_uring.
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while !up() {
            assert!(std::time::Instant::now() < deadline, "the port stays taken");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn a_takeover_that_fails_leaves_the_kernel_device_as_it_was() {
    netns::run(async |netlink| {
        underlay(&netlink).await;
        netns::ip(&["address", "add", "2001:db8::1/64", "dev", "eth0", "nodad"]);
        kernel_device();
        let before = shown();
        let dir = tempfile::tempdir().unwrap();
        // Without an IPv6 subnet the second tunnel cannot start, when the first one has.
        let leases = Leases {
            config: r#","EnableIPv6":true,"IPv6Network":"fd00:5::/48""#,
            ..Leases::of("10.5.72.0/24")
        };
        let error = start_error(&options(&dir, &[]), &leases).await;
        assert!(error.contains("no IPv6 subnet"), "{error}");
        assert_eq!(shown(), before);
        assert_eq!(leases.asked().len(), 1);

        // A node that is told what is wrong has its traffic meanwhile.
        let other = ["link", "add", "flannel.2", "type", "vxlan", "id", "2"];
        netns::ip(&[&other[..], &["dstport", "8472"]].concat());
        netns::ip(&["link", "set", "flannel.2", "up"]);
        let leases = Leases::of("10.5.72.0/24");
        let error = start_error(&options(&dir, &[]), &leases).await;
        for words in ["flannel.1", "flannel.2", "8472", "Backend.Port"] {
            assert!(error.contains(words), "{error}");
        }
        assert_eq!(shown(), before);
        assert_eq!(leases.asked(), []);

        // One that is down holds no port.
        netns::ip(&["link", "set", "flannel.2", "down"]);
        Node::start(&options(&dir, &[]), &leases)
            .await
            .unwrap()
            .stop();
        assert_eq!(leases.asked().len(), 1);
    });
}
