//! A cluster on the lab's API server, as one node of it sees it.

use crate::soon;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc::{self, Receiver};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use weft_control::config::NetworkConfig;
use weft_control::lease::{Lease, LeaseAttrs, LeaseEnd, Previous, SubnetKey, VxlanData};
use weft_control::subnets::kube::{KubeOptions, KubeSubnets, KubeTiming, NodeRef};
use weft_control::subnets::{LeaseEvent, SubnetError, SubnetManager};
use weft_control::wire::{MacAddr, Vni};
use weft_lab::kube::{ApiOptions, ApiServer, nodes};

pub(crate) const PREFIX: &str = "flannel.alpha.coreos.com/";
pub(crate) const CONFIG: &str = r#"{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}"#;
pub(crate) const DUAL: &str = r#"{"Network":"10.244.0.0/16","EnableIPv6":true,
    "IPv6Network":"fd00:10:244::/48","Backend":{"Type":"vxlan"}}"#;

/// Intervals short enough for tests.
pub(crate) fn timing() -> KubeTiming {
    let ms = Duration::from_millis;
    KubeTiming {
        request_timeout: ms(2000),
        watch: Duration::from_secs(30),
        reread: ms(50),
        wait: ms(50),
        rewrite: ms(200),
        backoff_min: ms(20),
        backoff_max: ms(200),
    }
}

/// An API server, and the files of one node's agent.
pub(crate) struct Cluster {
    pub(crate) api: ApiServer,
    dir: TempDir,
}

impl Cluster {
    pub(crate) fn new() -> Cluster {
        Cluster::with(ApiOptions::default())
    }

    pub(crate) fn with(options: ApiOptions) -> Cluster {
        let cluster = Cluster {
            api: ApiServer::start(options).unwrap(),
            dir: TempDir::new().unwrap(),
        };
        cluster.set_config(CONFIG);
        cluster.write_kubeconfig();
        cluster
    }

    pub(crate) fn set_config(&self, text: &str) {
        fs::write(self.path("net-conf.json"), text).unwrap();
    }

    pub(crate) fn write_kubeconfig(&self) {
        self.api.write_kubeconfig(&self.path("kubeconfig")).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn options(&self, node: &str) -> KubeOptions {
        KubeOptions {
            kubeconfig: Some(self.path("kubeconfig")),
            net_config: self.path("net-conf.json"),
            set_condition: true,
            node: NodeRef {
                name: Some(node.to_owned()),
                pod: None,
            },
            ..KubeOptions::default()
        }
    }

    /// The subnet manager of node 1.
    pub(crate) fn subnets(&self) -> KubeSubnets {
        KubeSubnets::new(&self.options(&name(1)), timing()).unwrap()
    }

    /// Node `number` as its kubelet makes it, with `10.244.<number>.0/24`.
    pub(crate) fn add_bare(&self, number: u16) {
        self.api.put_node(bare(number));
    }

    /// The same with what flanneld writes.
    pub(crate) fn add(&self, number: u16) {
        self.api.put_node(annotated(number));
    }

    pub(crate) fn annotations(&self, number: u16) -> BTreeMap<String, String> {
        let node = self.api.node(&name(number)).unwrap();
        let all = node["metadata"]["annotations"].as_object().cloned();
        let all = all.unwrap_or_default().into_iter();
        let own = all.filter_map(|(name, value)| {
            let name = name.strip_prefix(PREFIX)?.to_owned();
            Some((name, value.as_str()?.to_owned()))
        });
        own.collect()
    }

    pub(crate) fn annotate(&self, number: u16, key: &str, value: Option<&str>) {
        let key = format!("{PREFIX}{key}");
        self.api.annotate_node(&name(number), &key, value);
    }

    pub(crate) async fn acquire(
        &self,
        subnets: &KubeSubnets,
        attrs: &LeaseAttrs,
    ) -> Result<Lease, SubnetError> {
        let config = subnets.network_config().await?;
        let config = NetworkConfig::parse(&config).unwrap();
        soon(subnets.acquire(&config, attrs, &Previous::default())).await
    }

    /// Wait until something holds.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Cluster) -> bool) {
        soon(async {
            while !holds(self) {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert!(holds(self), "{what}");
    }
}

pub(crate) fn name(number: u16) -> String {
    format!("node-{number}")
}

pub(crate) fn cidr(number: u16) -> String {
    format!("10.{}.{}.0/24", 244 + number / 256, number % 256)
}

pub(crate) fn key(number: u16) -> SubnetKey {
    cidr(number).replace('/', "-").parse().unwrap()
}

pub(crate) fn bare(number: u16) -> Value {
    nodes::realistic(&name(number), &[&cidr(number)])
}

fn mac(number: u16) -> MacAddr {
    let [high, low] = number.to_be_bytes();
    format!("0e:00:00:00:{high:02x}:{low:02x}").parse().unwrap()
}

/// As flanneld writes it about itself.
pub(crate) fn annotated(number: u16) -> Value {
    let mut node = bare(number);
    let [high, low] = number.to_be_bytes();
    for (key, value) in [
        ("kube-subnet-manager", "true".to_owned()),
        ("backend-type", "vxlan".to_owned()),
        (
            "backend-data",
            format!(r#"{{"VNI":1,"VtepMAC":"{}"}}"#, mac(number)),
        ),
        ("public-ip", format!("172.18.{high}.{low}")),
    ] {
        node["metadata"]["annotations"][format!("{PREFIX}{key}")] = value.into();
    }
    node
}

/// What node `number` says of itself.
pub(crate) fn attrs(number: u16) -> LeaseAttrs {
    let [high, low] = number.to_be_bytes();
    LeaseAttrs::vxlan(Some(([172, 18, high, low].into(), data(number))), None)
}

pub(crate) fn data(number: u16) -> VxlanData {
    VxlanData {
        vni: Vni::new(1).unwrap(),
        vtep_mac: mac(number),
    }
}

/// Node 1 with a lease, which it keeps, and what it hears of the others.
pub(crate) struct Running {
    pub(crate) events: Receiver<LeaseEvent>,
    tasks: [JoinHandle<Option<LeaseEnd>>; 2],
}

impl Running {
    pub(crate) async fn start(cluster: &Cluster) -> Running {
        cluster.add_bare(1);
        Running::with(cluster, attrs(1)).await
    }

    pub(crate) async fn with(cluster: &Cluster, attrs: LeaseAttrs) -> Running {
        let subnets = std::sync::Arc::new(cluster.subnets());
        let lease = cluster.acquire(&subnets, &attrs).await.unwrap();
        let (sender, events) = mpsc::channel(16);
        let (keeper, own) = (subnets.clone(), lease.clone());
        let watch = tokio::spawn(async move {
            subnets.watch(&lease, sender).await;
            None
        });
        let keep =
            tokio::spawn(async move { Some(keeper.keep(own, Duration::from_secs(3600)).await) });
        Running {
            events,
            tasks: [watch, keep],
        }
    }

    pub(crate) async fn next(&mut self) -> LeaseEvent {
        soon(self.events.recv()).await.expect("the watch goes on")
    }

    /// The next event must be a snapshot of these nodes.
    pub(crate) async fn expect_snapshot(&mut self, numbers: &[u16]) {
        match self.next().await {
            LeaseEvent::Snapshot(leases) => {
                let keys: Vec<SubnetKey> = leases.iter().map(Lease::key).collect();
                let wanted: Vec<SubnetKey> = numbers.iter().map(|number| key(*number)).collect();
                assert_eq!(keys, wanted);
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn expect_put(&mut self, number: u16) -> Lease {
        match self.next().await {
            LeaseEvent::Put(lease) if lease.key() == key(number) => lease,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn expect_delete(&mut self, number: u16) {
        assert_eq!(self.next().await, LeaseEvent::Delete(key(number)));
    }

    /// How the lease ends.
    pub(crate) async fn end(&mut self) -> LeaseEnd {
        soon(&mut self.tasks[1]).await.unwrap().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
