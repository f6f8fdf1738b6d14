//! A member of etcd that is cut off from the others.

use crate::lab::{PREFIX, manager, timing};
use crate::place::{CLIENT_PORT, PEER_PORT, memory_dir, own_address};
use crate::{FRESH, PATIENCE, config, node, soon};
use etcd_client::Client;
use std::fs::File;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use weft_control::lease::LeaseAttrs;
use weft_control::subnets::{LeaseEvent, SubnetManager};

/// Where the others reach a member: between its two own ports.
const PROXY_PORT: u16 = PEER_PORT - 1;

const MARGIN: Duration = Duration::from_secs(3600);

/// Who is cut off: the members' peer address, and the id by which it names itself to others.
type Cut = Option<(Ipv4Addr, String)>;

/// Three members that reach each other through proxies only.
struct Cluster {
    members: Vec<Member>,
    cut: watch::Sender<Cut>,
    _data: TempDir,
}

struct Member {
    process: Child,
    address: Ipv4Addr,
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Cluster {
    async fn start() -> Cluster {
        let data = memory_dir();
        let cut = watch::Sender::new(None);
        let addresses = [own_address(), own_address(), own_address()];
        for address in addresses {
            let proxy = TcpListener::bind((address, PROXY_PORT)).await.unwrap();
            tokio::spawn(pass_peers(proxy, address, cut.clone()));
        }
        let members = addresses.map(|address| Member {
            process: launch(&data, address, &addresses),
            address,
        });
        let cluster = Cluster {
            members: members.into(),
            cut,
            _data: data,
        };
        cluster.await_answers().await;
        cluster
    }

    async fn await_answers(&self) {
        let deadline = Instant::now() + PATIENCE;
        for i in 0..self.members.len() {
            while !self.answers(i).await {
                assert!(Instant::now() < deadline, "member {i} does not answer");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }

    fn endpoint(&self, i: usize) -> String {
        format!("http://{}:{CLIENT_PORT}", self.members[i].address)
    }

    async fn client(&self, i: usize) -> Client {
        Client::connect([self.endpoint(i)], None).await.unwrap()
    }

    async fn answers(&self, i: usize) -> bool {
        let get = async { self.client(i).await.get("health", None).await };
        matches!(timeout(Duration::from_secs(1), get).await, Ok(Ok(_)))
    }

    /// Stop all that a member says to the others, and they to it. Its clients still reach it.
    async fn cut(&self, i: usize) {
        let mut client = self.client(i).await;
        let status = client.status().await.unwrap();
        let id = format!("{:x}", status.header().unwrap().member_id());
        self.cut.send_replace(Some((self.members[i].address, id)));
    }

    /// End the cut, and wait until all members work together.
    async fn heal(&self) {
        self.cut.send_replace(None);
        self.await_answers().await;
    }

    /// Write a lease of `node` through member `i`, which may have to find a leader first.
    async fn put(&self, i: usize, node: &LeaseAttrs) {
        let key = format!("{PREFIX}/subnets/10.1.9.0-24");
        soon("put", async {
            let mut client = self.client(i).await;
            while client.put(key.clone(), node.to_json(), None).await.is_err() {
                sleep(Duration::from_millis(100)).await;
            }
        })
        .await;
    }
}

fn launch(data: &TempDir, address: Ipv4Addr, all: &[Ipv4Addr]) -> Child {
    let proxied = |address: &Ipv4Addr| format!("http://{address}:{PROXY_PORT}");
    let members = all
        .iter()
        .map(|other| format!("{other}={}", proxied(other)));
    let client = format!("http://{address}:{CLIENT_PORT}");
    let mut command = Command::new("etcd");
    command.args(["--name", &address.to_string()]);
    command
        .arg("--data-dir")
        .arg(data.path().join(address.to_string()));
    command.args(["--listen-client-urls", &client]);
    command.args(["--advertise-client-urls", &client]);
    let peer = format!("http://{address}:{PEER_PORT}");
    command.args(["--listen-peer-urls", &peer]);
    command.args(["--initial-advertise-peer-urls", &proxied(&address)]);
    let members = members.collect::<Vec<_>>().join(",");
    command.args(["--initial-cluster", &members]);
    // The tests ask for signs of life more often than etcd likes.
    command.args(["--grpc-keepalive-min-time", "100ms"]);
    command.env("ETCD_UNSUPPORTED_ARCH", "arm64");
    let log = File::create(data.path().join(format!("{address}.log"))).unwrap();
    command.stdout(Stdio::null()).stderr(log);
    match command.spawn() {
        Ok(process) => process,
        Err(error) => panic!("cannot start etcd ({error}): apt-get install etcd-server"),
    }
}

/// Pass on what others send to the member at `to`.
async fn pass_peers(proxy: TcpListener, to: Ipv4Addr, cut: watch::Sender<Cut>) {
    while let Ok((from, _)) = proxy.accept().await {
        tokio::spawn(pass(from, to, cut.subscribe()));
    }
}

/// Copy both ways until one of the two is cut off.
async fn pass(client: TcpStream, to: Ipv4Addr, mut cut: watch::Receiver<Cut>) {
    let Ok(server) = TcpStream::connect((to, PEER_PORT)).await else {
        return;
    };
    let (mut requests, mut back) = client.into_split();
    let (mut answers, mut forth) = server.into_split();
    let requests = async {
        let mut from = None;
        let mut buffer = vec![0; 64 << 10];
        loop {
            tokio::select! {
                read = requests.read(&mut buffer) => {
                    let Ok(length @ 1..) = read else { return };
                    let request = &buffer[..length];
                    from = sender(request).or(from);
                    if is_cut(&cut, to, &from) || forth.write_all(request).await.is_err() {
                        return;
                    }
                }
                Ok(()) = cut.changed() => {
                    if is_cut(&cut, to, &from) {
                        return;
                    }
                }
            }
        }
    };
    tokio::select! {
        _ = tokio::io::copy(&mut answers, &mut back) => {}
        () = requests => {}
    }
}

fn is_cut(cut: &watch::Receiver<Cut>, to: Ipv4Addr, from: &Option<String>) -> bool {
    let cut = cut.borrow();
    let cut = cut.as_ref();
    cut.is_some_and(|(address, id)| *address == to || from.as_ref() == Some(id))
}

/// The id of the member that sends a request to another (etcd rafthttp/http.go).
fn sender(request: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(request);
    let (_, rest) = text.split_once("X-Server-From: ")?;
    let (id, _) = rest.split_once("\r\n")?;
    Some(id.to_owned())
}

#[tokio::test]
async fn s85_an_outage_of_one_members_links_to_its_peers_is_passed_over() {
    let cluster = Cluster::start().await;
    let endpoints = [0, 1, 2].map(|i| cluster.endpoint(i));
    let subnets = manager(&endpoints, timing()).await;
    let own = subnets.acquire(&config(), &node(1), &FRESH).await.unwrap();
    let (sender, mut events) = mpsc::channel(16);
    let others = async {
        let list = soon("list", events.recv()).await;
        assert_eq!(list, Some(LeaseEvent::Snapshot(Vec::new())));
        // Whichever is in use, one of these cuts hits it.
        for i in 0..3 {
            cluster.cut(i).await;
            let peer = node(10 + i as u8);
            cluster.put((i + 1) % 3, &peer).await;
            // The last change was no node's own: it is listed again.
            match soon("the change that the others know of", events.recv()).await {
                Some(LeaseEvent::Put(lease)) => assert_eq!(lease.attrs, peer),
                Some(LeaseEvent::Snapshot(leases)) => assert_eq!(leases[0].attrs, peer),
                other => panic!("{other:?}"),
            }
            cluster.heal().await;
        }
    };
    tokio::select! {
        end = subnets.keep(own.clone(), MARGIN) => panic!("{end}"),
        () = subnets.watch(&own, sender) => panic!("the watch ended"),
        () = others => {}
    }
}
