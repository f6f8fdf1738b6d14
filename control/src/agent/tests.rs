//! Starting a node in a network namespace of its own, with leases from memory.

mod blackhole;
mod cost;
mod identity;
mod life;
mod readiness;
mod start;
mod status;
mod takeover;

use super::*;
use crate::config::NetworkConfig;
use crate::flags::{self, Command};
use crate::host::netlink::Netlink;
use crate::host::netns;
use crate::lease::{Lease, LeaseAttrs, LeaseEnd, Previous};
use crate::subnets::{LeaseEvent, SubnetError};
use ipnet::Ipv4Net;
use socket2::{Domain, Socket, Type};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Mutex;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc;

/// Run `main` beside a thread that hangs; how it ends.
fn beside_one_that_hangs<T: Send + 'static>(
    main: impl AsyncFnOnce() -> T + Send + 'static,
) -> std::thread::Result<T> {
    let (release, hangs) = std::sync::mpsc::channel::<()>();
    let (sender, ended) = std::sync::mpsc::channel();
    let agent = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let (begun, reads) = tokio::sync::oneshot::channel();
        let main = async {
            tokio::task::spawn_blocking(move || {
                begun.send(()).unwrap();
                let _ = hangs.recv();
            });
            reads.await.unwrap();
            main().await
        };
        let run = AssertUnwindSafe(|| block_on_alone(runtime.unwrap(), main));
        sender.send(panic::catch_unwind(run)).unwrap();
    });
    let outcome = ended.recv_timeout(Duration::from_secs(30));
    drop(release);
    agent.join().unwrap();
    outcome.expect("it ends while the other still hangs")
}

#[test]
fn a_read_that_hangs_does_not_hold_up_the_end() {
    assert_eq!(beside_one_that_hangs(async || 7).unwrap(), 7);
}

#[test]
fn a_read_that_hangs_does_not_hold_up_the_end_by_a_panic() {
    let outcome = beside_one_that_hangs(async || panic!("a reason"));
    assert_eq!(outcome.unwrap_err().downcast_ref(), Some(&"a reason"));
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
    fn store(&self) -> &'static str {
        "etcd"
    }

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
    // Where nothing can be pinned, so that programs end with their test.
    let paths = [
        ("subnet-file", "run/subnet.env"),
        ("state-dir", "state"),
        ("bpffs", "bpf"),
    ];
    let paths = paths.map(|(flag, path)| format!("-{flag}={}", dir.path().join(path).display()));
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
    fn store(&self) -> &'static str {
        "etcd"
    }

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
        let granted = Granted::wait(options, manager, &mut vacant(options)).await?;
        granted.start(options).await
    }
}

/// The post of an agent to which nothing was passed.
fn vacant(options: &AgentOptions) -> Post {
    Post::vacant(AgentName::of(options).to_string(), BTreeMap::new())
}

async fn start_error(options: &AgentOptions, leases: &Leases) -> String {
    match Node::start(options, leases).await {
        Ok(_) => panic!("started"),
        Err(error) => error.to_string(),
    }
}
