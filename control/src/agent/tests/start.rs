//! What a start makes, and what it refuses.

use super::*;

#[test]
fn a_start_makes_the_device_and_a_stop_leaves_it() {
    netns::run(async |netlink| {
        underlay(&netlink).await;
        let dir = tempfile::tempdir().unwrap();
        let options = options(&dir, &[]);
        let leases = Leases::of("10.5.72.0/24");
        for _ in 0..2 {
            let node = Node::start(&options, &leases).await.unwrap();
            let device = netlink.link("flannel.1").await.unwrap().unwrap();
            assert_eq!(device.kind.as_deref(), Some("tun"));
            assert_eq!((device.mtu, device.up), (1450, true));
            let env = std::fs::read_to_string(&options.subnet_file).unwrap();
            let expected = "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.72.1/24\n\
                            FLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n";
            assert_eq!(env, expected);
            node.stop().await;
            let route = netns::ip(&["route", "show", "dev", "flannel.1"]);
            assert!(route.starts_with("10.5.0.0/16 src 10.5.72.0"), "{route}");
        }
        let asked = leases.asked();
        assert_eq!(asked[0].0, asked[1].0, "the same address and MAC");
        assert_eq!(asked[0].0.public_ip.to_string(), "192.0.2.1");
        assert_eq!(asked[0].1, Previous::default());
        assert_eq!(
            asked[1].1.subnet,
            Some(leases.subnet),
            "asks for its subnet again"
        );
    });
}

#[test]
fn another_lease_moves_address_and_route() {
    netns::run(async |netlink| {
        underlay(&netlink).await;
        let dir = tempfile::tempdir().unwrap();
        let options = options(&dir, &["-public-ip=203.0.113.9"]);
        for (subnet, addr, network) in [
            ("10.5.72.0/24", "10.5.72.0", "10.5.0.0/16"),
            ("10.5.80.0/24", "10.5.80.0", "10.5.0.0/16"),
            ("10.9.4.0/24", "10.9.4.0", "10.9.0.0/16"),
        ] {
            let leases = Leases::of(subnet);
            Node::start(&options, &leases).await.unwrap().stop().await;
            assert_eq!(leases.asked()[0].0.public_ip.to_string(), "203.0.113.9");
            let addresses = netns::ip(&["-brief", "-4", "address", "show", "flannel.1"]);
            let own: Vec<&str> = addresses.split_whitespace().skip(2).collect();
            assert_eq!(own, [format!("{addr}/32")]);
            let routes = netns::ip(&["route", "show", "dev", "flannel.1"]);
            assert_eq!(routes.lines().count(), 1, "{routes}");
            let route = format!("{network} src {addr}");
            assert!(routes.starts_with(&route), "{routes}");
        }
    });
}

#[test]
fn a_network_that_changes_before_the_lease_is_taken_is_started_with() {
    netns::run(async |netlink| {
        underlay(&netlink).await;
        let dir = tempfile::tempdir().unwrap();
        let options = options(&dir, &[]);
        let leases = Replaced {
            former: Mutex::new(Some(Leases::of("10.5.72.0/24"))),
            leases: Leases::of("10.9.4.0/24"),
        };
        Node::start(&options, &leases).await.unwrap().stop().await;
        let env = std::fs::read_to_string(&options.subnet_file).unwrap();
        assert!(env.starts_with("FLANNEL_NETWORK=10.9.0.0/16\n"), "{env}");
        let routes = netns::ip(&["route", "show", "dev", "flannel.1"]);
        assert_eq!(routes.lines().count(), 1, "{routes}");
        assert!(routes.starts_with("10.9.0.0/16 src 10.9.4.0"), "{routes}");
    });
}

#[test]
fn a_foreign_device_is_named_before_a_lease_is_taken() {
    netns::run(async |netlink| {
        underlay(&netlink).await;
        netns::link(&netlink, "flannel.1").await;
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::of("10.5.72.0/24");
        let error = start_error(&options(&dir, &[]), &leases).await;
        assert!(error.contains("ip link del flannel.1"), "{error}");
        assert_eq!(leases.asked(), []);
    });
}

#[test]
fn a_tap_and_a_tun_with_one_queue_are_called_what_they_are() {
    for mode in ["tap", "tun"] {
        netns::run(async move |netlink| {
            underlay(&netlink).await;
            netns::ip(&["tuntap", "add", "flannel.1", "mode", mode]);
            let dir = tempfile::tempdir().unwrap();
            let leases = Leases::of("10.5.72.0/24");
            let error = start_error(&options(&dir, &[]), &leases).await;
            assert!(error.contains("ip link del flannel.1"), "{error}");
            assert!(error.contains("but a TAP or one with a single"), "{error}");
            assert!(!error.contains("VXLAN"), "{error}");
            assert_eq!(leases.asked(), []);
        });
    }
}

#[test]
fn a_port_in_use_is_one_line_with_the_port() {
    netns::run(async |netlink| {
        underlay(&netlink).await;
        let _holder = UdpSocket::bind("0.0.0.0:8472").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::of("10.5.72.0/24");
        let error = start_error(&options(&dir, &[]), &leases).await;
        assert!(
            error.contains("8472") && error.lines().count() == 1,
            "{error}"
        );
    });
}

#[test]
fn no_underlay_and_unusable_mtu_are_refused() {
    netns::run(async |netlink| {
        let dir = tempfile::tempdir().unwrap();
        let options = options(&dir, &[]);
        let leases = Leases::of("10.5.72.0/24");
        let error = start_error(&options, &leases).await;
        assert!(error.contains("-iface eth0"), "{error}");
        underlay(&netlink).await;
        netns::ip(&["link", "set", "eth0", "mtu", "600"]);
        let error = start_error(&options, &leases).await;
        assert!(error.contains("MTU 600 of eth0"), "{error}");
        assert_eq!(leases.asked(), []);
    });
}
