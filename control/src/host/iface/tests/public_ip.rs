//! The advertised address: whose interface it names, and that packets leave from it.

use super::*;

#[test]
fn u23_regex_and_public_ip() {
    on_host(async |netlink| {
        let options = regex(&[r"172\.16\.30\.\d+"]).public("172.16.31.200");
        assert_eq!(chosen(&netlink, &options, V4).await, "dummy0 172.16.31.200");
    });
}

#[test]
fn public_ip_names_the_interface_unless_another_option_does() {
    on_host(async |netlink| {
        let none = InterfaceOptions::default;
        let local = none().public("172.16.31.200");
        assert_eq!(chosen(&netlink, &local, V4).await, "dummy0 172.16.31.200");
        let local = none().public("2001:db8:2::18");
        assert_eq!(chosen(&netlink, &local, V6).await, "dummy0 2001:db8:2::18");
        // Of a family that is not enabled, it names nothing.
        assert_eq!(chosen(&netlink, &local, V4).await, "eth0 192.168.1.10");
        let one = none().public("172.16.31.200").public("2001:db8:2::18");
        assert_eq!(
            chosen(&netlink, &one, DUAL).await,
            "dummy0 172.16.31.200 2001:db8:2::18"
        );
        let two = none().public("172.16.31.200").public("2001:db8:1::10");
        let error = chosen(&netlink, &two, DUAL).await;
        assert!(
            error.contains("-public-ip 172.16.31.200 is on dummy0"),
            "{error}"
        );
        let foreign = none().public("8.8.8.8");
        let error = chosen(&netlink, &foreign, V4).await;
        assert!(
            error.starts_with("-public-ip 8.8.8.8 is on no interface"),
            "{error}"
        );
        let translated = iface(&["eth0"]).public("8.8.8.8").public("2001:db8:9::1");
        assert_eq!(
            chosen(&netlink, &translated, DUAL).await,
            "eth0 192.168.1.10 as 8.8.8.8 2001:db8:1::10 as 2001:db8:9::1"
        );
    });
}

#[test]
fn packets_leave_from_the_advertised_address_if_this_host_has_it() {
    on_host(async |netlink| {
        run("address add 10.255.0.1/32 dev lo");
        run("address add fd00:255::1/128 dev lo nodad");
        for (options, wanted, expected) in [
            (iface(&["eth0"]), V4, "eth0 10.255.0.1"),
            (iface(&["eth0"]), DUAL, "eth0 10.255.0.1 fd00:255::1"),
            (iface(&["172.16.30.18"]), V4, "dummy0 10.255.0.1"),
            (reach("172.16.30.99"), V6, "dummy0 fd00:255::1"),
            // The loopback interface leads to no other node.
            (InterfaceOptions::default(), V4, "eth0 10.255.0.1"),
        ] {
            let options = options.public("10.255.0.1").public("fd00:255::1");
            assert_eq!(chosen(&netlink, &options, wanted).await, expected);
        }
        let elsewhere = iface(&["eth0"]).public("172.16.31.200");
        assert_eq!(chosen(&netlink, &elsewhere, V4).await, "eth0 172.16.31.200");
        // Of an interface without addresses of its own.
        run("address flush dev eth0");
        assert_eq!(chosen(&netlink, &elsewhere, V4).await, "eth0 172.16.31.200");
        // A link-local address is of one interface alone.
        let link_local = iface(&["eth0"]).public("fe80::5");
        run("address add 2001:db8:1::10/64 dev eth0 nodad");
        let expected = "eth0 2001:db8:1::10 as fe80::5";
        assert_eq!(chosen(&netlink, &link_local, V6).await, expected);
    });
}
