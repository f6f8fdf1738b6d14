//! A member of etcd that is cut off from the others.

use crate::lab::{PREFIX, manager, timing};
use crate::{FRESH, PATIENCE, config, node, soon};
use etcd_client::Client;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use weft_control::lease::LeaseAttrs;
use weft_control::subnets::{LeaseEvent, SubnetManager};
use weft_lab::etcd::Location;
use weft_lab::{Process, etcd, memory_dir};

/// Milliseconds between heartbeats, and until others want to lead: etcd's own.
const PACE: (u32, u32) = (100, 1000);

const MARGIN: Duration = Duration::from_secs(3600);

/// Who is cut off: the members' peer address, and the id by which it names itself to others.
type Cut = Option<(IpAddr, String)>;

/// Three members that reach each other through proxies only.
struct Cluster {
    members: Vec<Member>,
    cut: watch::Sender<Cut>,
    _data: TempDir,
}

struct Member {
    process: Process,
    location: Location,
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.process.kill();
    }
}

impl Cluster {
    async fn start() -> Cluster {
        let data = memory_dir().unwrap();
        let cut = watch::Sender::new(None);
        let locations = [
            Location::loopback(),
            Location::loopback(),
            Location::loopback(),
        ];
        for location in &locations {
            let listener = TcpListener::bind(proxy(location)).await.unwrap();
            tokio::spawn(pass_peers(listener, location.peer(), cut.clone()));
        }
        let members = locations.clone().map(|location| Member {
            process: launch(data.path(), &location, &locations),
            location,
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
        format!("http://{}", self.members[i].location.client())
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
        self.cut
            .send_replace(Some((self.members[i].location.address(), id)));
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

/// Where the others reach a member: beside its own ports.
fn proxy(location: &Location) -> SocketAddr {
    (location.address(), location.peer().port() - 1).into()
}

fn launch(data: &Path, location: &Location, all: &[Location]) -> Process {
    let proxied = |location: &Location| format!("http://{}", proxy(location));
    let name = |location: &Location| location.address().to_string();
    let members = all
        .iter()
        .map(|other| format!("{}={}", name(other), proxied(other)));
    let name = name(location);
    let mut command = location.command("etcd");
    let member = etcd::Member {
        name: &name,
        data: &data.join(&name),
        client: &format!("http://{}", location.client()),
        peer: &format!("http://{}", location.peer()),
        advertised: &proxied(location),
        cluster: &members.collect::<Vec<_>>().join(","),
        pace: PACE,
    };
    member.configure(&mut command);
    let log = data.join(format!("{name}.log"));
    Process::spawn(command, &log).expect("etcd: apt-get install etcd-server")
}

/// Pass on what others send to the member at `to`.
async fn pass_peers(proxy: TcpListener, to: SocketAddr, cut: watch::Sender<Cut>) {
    while let Ok((from, _)) = proxy.accept().await {
        tokio::spawn(pass(from, to, cut.subscribe()));
    }
}

/// Copy both ways until one of the two is cut off.
async fn pass(client: TcpStream, to: SocketAddr, mut cut: watch::Receiver<Cut>) {
    let Ok(server) = TcpStream::connect(to).await else {
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

fn is_cut(cut: &watch::Receiver<Cut>, to: SocketAddr, from: &Option<String>) -> bool {
    let cut = cut.borrow();
    let cut = cut.as_ref();
    cut.is_some_and(|(address, id)| *address == to.ip() || from.as_ref() == Some(id))
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
