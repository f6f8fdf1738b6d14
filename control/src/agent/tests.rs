//! Starting a node in a network namespace of its own, with leases from memory.

mod blackhole;
mod cost;
mod identity;
mod readiness;
mod takeover;

use super::*;
use crate::flags::{self, Command};
use crate::host::netns;
use crate::lease::LeaseAttrs;
use crate::subnets::LeaseEvent;
use ipnet::Ipv4Net;
use socket2::{Domain, Socket, Type};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Mutex;
use tempfile::TempDir;

#[test]
fn a_read_that_hangs_does_not_hold_up_the_end() {
    let (release, hangs) = std::sync::mpsc::channel::<()>();
    let (sender, ended) = std::sync::mpsc::channel();
    let agent = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let (begun, reads) = tokio::sync::oneshot::channel();
        let outcome = block_on_alone(runtime.unwrap(), async {
            tokio::task::spawn_blocking(move || {
                begun.send(()).unwrap();
                let _ = hangs.recv();
            });
            reads.await
        });
        sender.send(outcome).unwrap();
    });
    let outcome = ended.recv_timeout(Duration::from_secs(30));
    drop(release);
    agent.join().unwrap();
    assert_eq!(outcome, Ok(Ok(())), "it ends while the file still hangs");
}

/// Gives out one subnet and remembers what it was asked.
struct Leases {
    backend: &'static str,
    /// Further keys of the network config.
    config: &'static str,
    network: Ipv4Net,
    subnet: Ipv4Net,
    asked: Mutex<Vec<(LeaseAttrs, Previous)>>,
}

impl Leases {
    fn of(subnet: &str) -> Leases {
        let subnet: Ipv4Net = subnet.parse().unwrap();
        Leases {
            backend: "vxlan",
            config: "",
            network: Ipv4Net::new(subnet.network(), 16).unwrap().trunc(),
            subnet,
            asked: Mutex::default(),
        }
    }

    fn text(&self) -> String {
        format!(
            r#"{{"Network":"{}","Backend":{{"Type":"{}"}}{}}}"#,
            self.network, self.backend, self.config
        )
    }

    fn asked(&self) -> Vec<(LeaseAttrs, Previous)> {
        self.asked.lock().unwrap().clone()
    }
}

impl SubnetManager for Leases {
    async fn network_config(&self) -> Result<String, SubnetError> {
        Ok(self.text())
    }

    async fn acquire(
        &self,
        _config: &NetworkConfig,
        attrs: &LeaseAttrs,
        previous: &Previous,
    ) -> Result<Lease, SubnetError> {
        self.asked
            .lock()
            .unwrap()
            .push((attrs.clone(), previous.clone()));
        Ok(Lease {
            subnet: Some(self.subnet),
            subnet_v6: None,
            attrs: attrs.clone(),
            expires: None,
            revision: 1,
        })
    }

    async fn keep(&self, _lease: Lease, _margin: Duration) -> LeaseEnd {
        std::future::pending().await
    }

    async fn watch(&self, _own: &Lease, events: mpsc::Sender<LeaseEvent>) {
        events.closed().await;
    }
}

fn options(dir: &TempDir, more: &[&str]) -> AgentOptions {
    let own = ["iface=eth0", "queues=1"].map(|flag| format!("-{flag}"));
    let paths = [("subnet-file", "run/subnet.env"), ("state-dir", "state")]
        .map(|(flag, path)| format!("-{flag}={}", dir.path().join(path).display()));
    let more = more.iter().map(|&flag| flag.to_owned());
    let args = own.into_iter().chain(paths).chain(more);
    match flags::parse(args, |_| None).unwrap() {
        Command::Run { options, .. } => *options,
        other => panic!("{other:?}"),
    }
}

async fn underlay(netlink: &Netlink) {
    netns::link(netlink, "eth0").await;
    netns::ip(&["address", "add", "192.0.2.1/24", "dev", "eth0"]);
    netns::ip(&["link", "set", "eth0", "up"]);
}

/// A store whose network config is replaced before the lease is taken.
struct Replaced {
    former: Mutex<Option<Leases>>,
    leases: Leases,
}

impl SubnetManager for Replaced {
    async fn network_config(&self) -> Result<String, SubnetError> {
        let former = self.former.lock().unwrap().as_ref().map(Leases::text);
        Ok(former.unwrap_or_else(|| self.leases.text()))
    }

    async fn acquire(
        &self,
        config: &NetworkConfig,
        attrs: &LeaseAttrs,
        previous: &Previous,
    ) -> Result<Lease, SubnetError> {
        if self.former.lock().unwrap().take().is_some() {
            return Err(SubnetError::ConfigChanged);
        }
        self.leases.acquire(config, attrs, previous).await
    }

    async fn keep(&self, lease: Lease, margin: Duration) -> LeaseEnd {
        self.leases.keep(lease, margin).await
    }

    async fn watch(&self, own: &Lease, events: mpsc::Sender<LeaseEvent>) {
        self.leases.watch(own, events).await;
    }
}

impl Node {
    async fn start(
        options: &AgentOptions,
        manager: &impl SubnetManager,
    ) -> Result<Node, AgentError> {
        Granted::wait(options, manager).await?.start(options).await
    }
}

async fn start_error(options: &AgentOptions, leases: &Leases) -> String {
    match Node::start(options, leases).await {
        Ok(_) => panic!("started"),
        Err(error) => error.to_string(),
    }
}

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
            node.stop();
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
            Node::start(&options, &leases).await.unwrap().stop();
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
        Node::start(&options, &leases).await.unwrap().stop();
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

#[test]
fn events_reach_the_table() {
    netns::run(async |netlink| {
        underlay(&netlink).await;
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::of("10.5.72.0/24");
        let options = options(&dir, &[]);
        let mut node = Node::start(&options, &leases).await.unwrap();
        let (attrs, _) = leases.asked().remove(0);
        let peer = Lease {
            subnet: Some("10.5.9.0/24".parse().unwrap()),
            subnet_v6: None,
            attrs,
            expires: None,
            revision: 2,
        };
        let gone = LeaseEvent::Delete(peer.key());
        let mut batch = vec![LeaseEvent::Snapshot(vec![peer])];
        node.backend.apply(&mut batch).await.unwrap();
        assert_eq!((node.backend.peers(), batch.len()), (1, 0));
        node.backend.apply(&mut vec![gone]).await.unwrap();
        assert_eq!(node.backend.peers(), 0);
        node.stop();
    });
}

#[test]
fn a_device_that_is_removed_or_set_down_comes_back() {
    netns::run(async |netlink| {
        underlay(&netlink).await;
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::of("10.5.72.0/24");
        let options = options(&dir, &[]);
        let mut node = Node::start(&options, &leases).await.unwrap();
        let up = async || {
            let device = netlink.link("flannel.1").await.unwrap().unwrap();
            let route = netns::ip(&["route", "show", "dev", "flannel.1"]);
            device.up && route.starts_with("10.5.0.0/16 src 10.5.72.0")
        };
        for harm in ["del", "set down", "del", "del"] {
            let words = ["link"].into_iter().chain(harm.split(' '));
            let words = words.chain(["dev", "flannel.1"]);
            netns::ip(&words.collect::<Vec<_>>());
            node.backend.watch().await.unwrap();
            assert!(up().await, "after {harm}");
            node.backend.watch().await.unwrap();
        }
        netns::ip(&["address", "flush", "dev", "flannel.1"]);
        assert!(!up().await, "the route goes with its source");
        node.backend.mend().await;
        assert!(up().await);
        node.stop();
    });
}

#[test]
fn another_backend_removes_what_host_gw_left() {
    netns::run(async |netlink| {
        underlay(&netlink).await;
        let dir = tempfile::tempdir().unwrap();
        let options = options(&dir, &[]);
        for backend in ["alloc", "udp", "vxlan"] {
            let add = "route add 10.5.9.0/24 via 192.0.2.9 dev eth0 proto 119";
            netns::ip(&add.split(' ').collect::<Vec<_>>());
            let leases = Leases {
                backend,
                ..Leases::of("10.5.72.0/24")
            };
            let mut node = Node::start(&options, &leases).await.unwrap();
            let mut batch = vec![LeaseEvent::Snapshot(Vec::new())];
            node.backend.apply(&mut batch).await.unwrap();
            assert_eq!(
                netns::ip(&["route", "show", "proto", "119"]),
                "",
                "{backend}"
            );
            node.stop();
        }
    });
}

#[test]
fn a_device_is_made_anew_on_an_underlay_that_was_made_anew_or_is_away() {
    netns::run(async |netlink| {
        underlay(&netlink).await;
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::of("10.5.72.0/24");
        let options = options(&dir, &[]);
        let mut node = Node::start(&options, &leases).await.unwrap();
        let old = netlink.link("eth0").await.unwrap().unwrap();
        netns::ip(&["link", "del", "eth0"]);
        underlay(&netlink).await;
        let new = netlink.link("eth0").await.unwrap().unwrap();
        assert_ne!(new.index, old.index);
        for away in [false, true] {
            if away {
                netns::ip(&["link", "del", "eth0"]);
                netns::ip(&["link", "set", "lo", "up"]);
                netns::ip(&["address", "add", "192.0.2.1/32", "dev", "lo"]);
            }
            netns::ip(&["link", "del", "flannel.1"]);
            node.backend.watch().await.unwrap();
            // The kernel lets go of a device without workers only a little later.
            tokio::time::sleep(Duration::from_millis(500)).await;
            let device = netlink.link("flannel.1").await.unwrap().unwrap();
            assert!(device.up && device.carrier, "away: {away}");
        }
        node.stop();
    });
}

#[test]
fn a_port_that_is_taken_while_the_device_is_made_anew_is_waited_for() {
    netns::run(async |netlink| {
        underlay(&netlink).await;
        let dir = tempfile::tempdir().unwrap();
        // With two queues the workers share their port, and so the test can have it, too.
        let options = options(&dir, &["-queues=2"]);
        let leases = Leases::of("10.5.72.0/24");
        let mut node = Node::start(&options, &leases).await.unwrap();
        let holder = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        holder.set_reuse_port(true).unwrap();
        let port: SocketAddr = "0.0.0.0:8472".parse().unwrap();
        holder.bind(&port.into()).unwrap();
        netns::ip(&["link", "del", "flannel.1"]);
        for _ in 0..2 {
            node.backend.watch().await.unwrap();
            assert_eq!(netlink.link("flannel.1").await.unwrap(), None);
        }
        drop(holder);
        node.backend.watch().await.unwrap();
        let device = netlink.link("flannel.1").await.unwrap().unwrap();
        assert!(device.up && device.carrier);
        node.stop();
    });
}
