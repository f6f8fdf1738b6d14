//! Between reading a key and writing it another node writes it.

use crate::lab::{Etcd, PREFIX, manager, timing};
use crate::{FRESH, config, node, previously, soon};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use weft_control::config::NetworkConfig;
use weft_control::lease::{Lease, LeaseEnd, Previous};
use weft_control::subnets::SubnetManager;
use weft_control::subnets::etcd::{EtcdSubnets, Timing};

/// What only requests that write a lease have in them.
const WRITE: &[u8] = b"\"PublicIP\"";

/// A way to etcd that holds the first write of a lease back.
struct Gate {
    endpoint: String,
    /// The write has come.
    held: oneshot::Receiver<()>,
    /// Lets it pass.
    release: oneshot::Sender<()>,
}

impl Gate {
    /// A gate before `server`, a `host:port`.
    async fn to(server: &str) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (came, held) = oneshot::channel();
        let (release, released) = oneshot::channel();
        let mut barrier = Some((came, released));
        let server = server.to_owned();
        // One connection carries all requests as long as it does not break.
        tokio::spawn(async move {
            let (client, _) = listener.accept().await.unwrap();
            let server = TcpStream::connect(server).await.unwrap();
            let (mut requests, mut back) = client.into_split();
            let (mut answers, mut forth) = server.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut answers, &mut back).await });
            let mut buffer = vec![0; 64 << 10];
            while let Ok(length @ 1..) = requests.read(&mut buffer).await {
                let request = &buffer[..length];
                if request.windows(WRITE.len()).any(|window| window == WRITE)
                    && let Some((came, released)) = barrier.take()
                {
                    let _ = came.send(());
                    let _ = released.await;
                }
                forth.write_all(request).await.unwrap();
            }
        });
        Gate {
            endpoint,
            held,
            release,
        }
    }

    /// When the write is held back, have node 2 write `key`, and let the write pass.
    async fn overtake(self, etcd: &Etcd, key: &str) {
        soon("write", self.held).await.unwrap();
        etcd.put(key, &node(2).to_json()).await;
        self.release.send(()).unwrap();
    }
}

/// A gate, and a manager behind it that is patient with held requests.
async fn gated(etcd: &Etcd) -> (Gate, EtcdSubnets) {
    let endpoint = etcd.endpoint();
    let gate = Gate::to(endpoint.strip_prefix("http://").unwrap()).await;
    let patient = Timing {
        request_timeout: Duration::from_secs(20),
        keep_alive: Duration::from_secs(60),
        ..timing()
    };
    let subnets = manager(std::slice::from_ref(&gate.endpoint), patient).await;
    (gate, subnets)
}

/// A lease that node 1 has from before.
async fn acquired(etcd: &Etcd, config: &NetworkConfig, previous: &Previous) -> Lease {
    let subnets = etcd.subnets().await;
    subnets.acquire(config, &node(1), previous).await.unwrap()
}

#[tokio::test]
async fn s85_a_race_lost_by_a_renewal_leaves_the_other_nodes_value() {
    let etcd = Etcd::start().await;
    let key = "subnets/10.1.6.0-24";
    let wish = previously("10.1.6.0/24");
    let own = acquired(&etcd, &config(), &wish).await;
    // Due at once: something else stands under the key than what this node wrote.
    etcd.put(key, r#"{"PublicIP":"192.0.2.1"}"#).await;
    let (gate, subnets) = gated(&etcd).await;
    let keep = soon("end", subnets.keep(own, Duration::from_secs(3600)));
    let (end, ()) = tokio::join!(keep, gate.overtake(&etcd, key));
    let by = node(2).identity();
    assert_eq!(end, LeaseEnd::Taken { by });
    assert_eq!(etcd.get(key).await, Some(node(2).to_json()));
}

#[tokio::test]
async fn s85_a_race_lost_for_the_own_lease_leaves_the_other_nodes_value() {
    let etcd = Etcd::start().await;
    let key = "subnets/10.1.6.0-24";
    etcd.put(key, &node(1).to_json()).await;
    let (gate, subnets) = gated(&etcd).await;
    let (config, attrs) = (config(), node(1));
    let acquire = soon("lease", subnets.acquire(&config, &attrs, &FRESH));
    let (lease, ()) = tokio::join!(acquire, gate.overtake(&etcd, key));
    let lease = lease.unwrap();
    assert_ne!(lease.subnet, Some("10.1.6.0/24".parse().unwrap()));
    assert_eq!(etcd.get(key).await, Some(node(2).to_json()));
    let own = format!("subnets/{}", lease.key());
    assert_eq!(etcd.get(&own).await, Some(node(1).to_json()));
}

#[tokio::test]
async fn s85_a_race_lost_for_a_lease_that_gives_way_deletes_nothing() {
    let etcd = Etcd::start().await;
    // Outside of the range, so that the node wants another in its place.
    let key = "subnets/10.1.9.0-24";
    let attached = NetworkConfig::parse(
        r#"{"Network":"10.1.0.0/16","SubnetMin":"10.1.9.0","SubnetMax":"10.1.9.0"}"#,
    )
    .unwrap();
    let former = acquired(&etcd, &attached, &FRESH).await;
    assert_eq!(former.key().to_string(), "10.1.9.0-24");
    let (gate, subnets) = gated(&etcd).await;
    let (config, attrs) = (config(), node(1));
    let acquire = soon("lease", subnets.acquire(&config, &attrs, &FRESH));
    let (lease, ()) = tokio::join!(acquire, gate.overtake(&etcd, key));
    assert_eq!(etcd.get(key).await, Some(node(2).to_json()));
    let own = format!("subnets/{}", lease.unwrap().key());
    assert_eq!(etcd.get(&own).await, Some(node(1).to_json()));
    // What the held write was to create is not there besides.
    assert_eq!(etcd.leases().await.len(), 2);
}

#[tokio::test]
async fn s85_a_race_lost_for_a_free_subnet_leaves_the_other_nodes_value() {
    let etcd = Etcd::start().await;
    let one = format!("{PREFIX}/subnets/10.1.5.0-24");
    let (gate, subnets) = gated(&etcd).await;
    let (config, attrs) = (config(), node(1));
    let wish = previously("10.1.5.0/24");
    let acquire = soon("lease", subnets.acquire(&config, &attrs, &wish));
    let overtake = gate.overtake(&etcd, "subnets/10.1.5.0-24");
    let (lease, ()) = tokio::join!(acquire, overtake);
    assert_ne!(lease.unwrap().subnet, wish.subnet);
    let stored = etcd.client().await.get(one, None).await.unwrap();
    assert_eq!(
        stored.kvs()[0].value_str().unwrap(),
        node(2).to_json(),
        "overwritten"
    );
}
