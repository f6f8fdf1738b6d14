//! Taking over from flanneld's kernel VXLAN device.

use super::*;
use crate::family::Family;
use rustix::process::{Signal, getpid, kill_process};

const VXLAN: [&str; 6] = ["type", "vxlan", "id", "1", "dstport", "8472"];

fn ip(line: &str) {
    netns::ip(&line.split(' ').collect::<Vec<_>>());
}

/// What flanneld leaves of a node with one peer.
fn kernel_device() {
    kernel_device_that_is_down();
    bring_up();
}

fn kernel_device_that_is_down() {
    netns::ip(&[&["link", "add", "flannel.1"], &VXLAN[..]].concat());
    ip("link set flannel.1 address 0e:01:02:03:04:05");
    ip("address add 10.5.72.0/32 dev flannel.1");
}

fn bring_up() {
    for line in [
        "link set flannel.1 up",
        "neigh add 10.5.9.0 lladdr 0e:00:00:00:00:09 dev flannel.1 nud permanent",
        "route add 10.5.9.0/24 via 10.5.9.0 dev flannel.1 onlink",
    ] {
        ip(line);
    }
}

/// Leases, and what happens to the node while it waits for one.
struct Meanwhile(Leases, fn());

impl SubnetManager for Meanwhile {
    fn store(&self) -> &'static str {
        "etcd"
    }

    async fn network_config(&self) -> Result<String, SubnetError> {
        self.0.network_config().await
    }

    async fn acquire(
        &self,
        config: &NetworkConfig,
        attrs: &LeaseAttrs,
        previous: &Previous,
    ) -> Result<Lease, SubnetError> {
        (self.1)();
        self.0.acquire(config, attrs, previous).await
    }

    async fn keep(&self, lease: Lease, margin: Duration) -> LeaseEnd {
        self.0.keep(lease, margin).await
    }

    async fn watch(&self, own: &Lease, events: mpsc::Sender<LeaseEvent>) {
        self.0.watch(own, events).await;
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
            node.stop().await;
        }
        for (attrs, _) in leases.asked() {
            let mac = attrs.vxlan_data(Family::V4).unwrap().vtep_mac;
            assert_eq!(mac.to_string(), "0e:01:02:03:04:05");
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
            .stop()
            .await;
        assert_eq!(leases.asked().len(), 1);
    });
}

#[test]
fn a_kernel_device_that_changes_before_the_lease_is_there_is_left_alone() {
    let again = || {
        ip("link del flannel.1");
        kernel_device();
    };
    let changes: [fn(); 3] = [
        || ip("link del flannel.1"),
        again,
        || ip("link set flannel.1 address 0e:01:02:03:04:06"),
    ];
    for change in changes {
        netns::run(async move |netlink| {
            underlay(&netlink).await;
            kernel_device();
            let dir = tempfile::tempdir().unwrap();
            let leases = Meanwhile(Leases::of("10.5.72.0/24"), change);
            let outcome = Node::start(&options(&dir, &[]), &leases).await;
            let error = outcome.err().expect("started").to_string();
            assert!(error.contains("flannel.1 was removed or"), "{error}");
            assert!(error.ends_with("start again"), "{error}");
            let links = netlink.links().await.unwrap();
            let left = links.iter().filter(|link| link.name.starts_with("flannel"));
            assert!(left.clone().all(|link| link.name == "flannel.1" && link.up));
            assert!(left.count() <= 1);
        });
    }
}

#[test]
fn a_kernel_device_that_comes_up_before_the_lease_is_there_comes_back_up() {
    netns::run(async |netlink| {
        underlay(&netlink).await;
        ip("address add 2001:db8::1/64 dev eth0 nodad");
        kernel_device();
        let up = shown();
        ip("link del flannel.1");
        kernel_device_that_is_down();
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases {
            config: r#","EnableIPv6":true,"IPv6Network":"fd00:5::/48""#,
            ..Leases::of("10.5.72.0/24")
        };
        let leases = Meanwhile(leases, bring_up);
        let outcome = Node::start(&options(&dir, &[]), &leases).await;
        let error = outcome.err().expect("started").to_string();
        assert!(error.contains("no IPv6 subnet"), "{error}");
        let now = shown();
        assert!(now[0].contains(",UP"), "{}", now[0]);
        assert_eq!(now[1..], up[1..]);
    });
}

#[test]
fn what_a_takeover_left_aside_goes_and_flanneld_can_come_back() {
    netns::run(async |netlink| {
        underlay(&netlink).await;
        for (name, line) in [
            ("flannel-old0", "id 1 dstport 8472"),
            ("flannel-old1", "id 2 dstport 8472"),
            ("flannel-old2", "id 1 dstport 4789"),
            ("flannel-old3", "id 1 local 2001:db8::1 dstport 8472"),
        ] {
            ip(&format!("link add {name} type vxlan {line}"));
        }
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::of("10.5.72.0/24");
        let node = Node::start(&options(&dir, &[]), &leases).await.unwrap();
        node.stop().await;
        let links = netlink.links().await.unwrap();
        let old = links.into_iter().map(|link| link.name);
        let old: Vec<_> = old.filter(|name| name.contains("old")).collect();
        assert_eq!(old, ["flannel-old1", "flannel-old2", "flannel-old3"]);
        ip("link del flannel.1");
        netns::ip(&[&["link", "add", "flannel.1"], &VXLAN[..]].concat());
    });
}

/// Be told to stop as soon as the kernel device has made room.
async fn stop_in_the_middle(netlink: Netlink) {
    underlay(&netlink).await;
    kernel_device();
    let dir = tempfile::tempdir().unwrap();
    let options = options(&dir, &[]);
    let mut signals = Signals::install().unwrap();
    let looking = netlink.clone();
    let told = tokio::spawn(async move {
        while looking.link("flannel-old0").await.unwrap().is_none() {}
        kill_process(getpid(), Signal::TERM).unwrap();
    });
    let (leases, mut post) = (Leases::of("10.5.72.0/24"), vacant(&options));
    run_node(&options, &leases, &mut signals, &mut post)
        .await
        .unwrap();
    told.await.unwrap();
    let device = netlink.link("flannel.1").await.unwrap();
    assert_eq!(device.unwrap().kind.as_deref(), Some("tun"));
    assert_eq!(netlink.link("flannel-old0").await.unwrap(), None);
    assert!(options.subnet_file.exists());
}

#[test]
fn a_takeover_that_has_begun_is_finished_before_the_agent_stops() {
    const CHILD: &str = "WEFT_TAKEOVER_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        return netns::run(stop_in_the_middle);
    }
    // Signals are for whole processes, so the test is one of its own.
    let test =
        "agent::tests::takeover::a_takeover_that_has_begun_is_finished_before_the_agent_stops";
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    let counted = String::from_utf8_lossy(&output.stdout);
    assert!(counted.contains("1 passed"), "{counted}");
}
