//! A real etcd on loopback, and a way to cut it off.

use etcd_client::{AlarmAction, AlarmOptions, AlarmType, Client, Txn, TxnOp};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use weft_control::subnets::etcd::EtcdOptions;
use weft_control::subnets::etcd::{EtcdSubnets, Timing};
use weft_lab::etcd::Location;
use weft_lab::memory_dir;

pub(crate) const PREFIX: &str = "/coreos.com/network";

/// One etcd server with its own data, killed when dropped.
pub(crate) struct Etcd {
    server: weft_lab::Etcd,
    data: TempDir,
}

impl Etcd {
    pub(crate) async fn start() -> Etcd {
        let data = memory_dir().unwrap();
        let server = weft_lab::Etcd::stopped_at(Location::loopback(), data.path());
        let mut etcd = Etcd { server, data };
        etcd.resume().await;
        etcd
    }

    pub(crate) fn endpoint(&self) -> String {
        self.server.endpoint().to_owned()
    }

    /// Kill the server; its data stays.
    pub(crate) fn stop(&mut self) {
        self.server.kill().unwrap();
    }

    /// Start it again, and wait until it answers. What else the test does goes on meanwhile.
    pub(crate) async fn resume(&mut self) {
        self.server.launch().unwrap();
        let deadline = Instant::now() + crate::PATIENCE;
        while !self.server.is_healthy() {
            assert!(Instant::now() < deadline, "etcd does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Start it again with nothing in it.
    pub(crate) async fn replace(&mut self) {
        self.stop();
        std::fs::remove_dir_all(self.server.data()).unwrap();
        self.resume().await;
    }

    /// A snapshot of what it holds, as operators make one.
    pub(crate) fn save(&self) -> PathBuf {
        let file = self.data.path().join("snapshot");
        let endpoint = self.endpoint();
        etcdctl(&["--endpoints", &endpoint, "snapshot", "save"], &file);
        file
    }

    /// Stop it and put it back from a snapshot, with the ids that it had.
    pub(crate) fn restore(&mut self, snapshot: &Path) {
        self.stop();
        let data = self.server.data();
        std::fs::remove_dir_all(data).unwrap();
        let peer = format!("http://{}", self.server.location().peer());
        let cluster = format!("lab={peer}");
        let args = [
            "snapshot",
            "restore",
            "--name",
            "lab",
            "--data-dir",
            data.to_str().unwrap(),
            "--initial-cluster",
            &cluster,
            "--initial-advertise-peer-urls",
            &peer,
        ];
        etcdctl(&args, snapshot);
    }

    /// Raise or take away the alarm that lets nobody write.
    pub(crate) async fn set_no_space(&self, raised: bool) {
        let mut client = self.client().await;
        let now = client.get("x", None).await.unwrap();
        let member = now.header().unwrap().member_id();
        let action = match raised {
            true => AlarmAction::Activate,
            false => AlarmAction::Deactivate,
        };
        let mut options = AlarmOptions::new();
        options.with_member(member);
        let alarm = client.alarm(action, AlarmType::Nospace, Some(options));
        alarm.await.unwrap();
    }

    /// A plain client, for what operators and other nodes do.
    pub(crate) async fn client(&self) -> Client {
        Client::connect([self.endpoint()], None).await.unwrap()
    }

    /// The subnet manager under test.
    pub(crate) async fn subnets(&self) -> EtcdSubnets {
        manager(&[self.endpoint()], timing()).await
    }

    pub(crate) async fn put(&self, key: &str, value: &str) {
        let key = format!("{PREFIX}/{key}");
        self.client().await.put(key, value, None).await.unwrap();
    }

    pub(crate) async fn delete(&self, key: &str) {
        let key = format!("{PREFIX}/{key}");
        self.client().await.delete(key, None).await.unwrap();
    }

    pub(crate) async fn get(&self, key: &str) -> Option<String> {
        let key = format!("{PREFIX}/{key}");
        let response = self.client().await.get(key, None).await.unwrap();
        let kv = response.kvs().first()?;
        Some(kv.value_str().unwrap().to_owned())
    }

    /// Names and values of all leases.
    pub(crate) async fn leases(&self) -> Vec<(String, String)> {
        let options = etcd_client::GetOptions::new().with_prefix();
        let prefix = format!("{PREFIX}/subnets/");
        let response = self.client().await.get(prefix.clone(), Some(options)).await;
        let response = response.unwrap();
        let name = |kv: &etcd_client::KeyValue| kv.key_str().unwrap()[prefix.len()..].to_owned();
        let pairs = response.kvs().iter();
        pairs
            .map(|kv| (name(kv), kv.value_str().unwrap().to_owned()))
            .collect()
    }

    /// Seconds that a lease has left; `None` if it hangs on no etcd lease.
    pub(crate) async fn ttl(&self, key: &str) -> Option<i64> {
        let mut client = self.client().await;
        let key = format!("{PREFIX}/{key}");
        let id = client.get(key, None).await.unwrap().kvs()[0].lease();
        match id {
            0 => None,
            id => Some(client.lease_time_to_live(id, None).await.unwrap().ttl()),
        }
    }

    /// How many requests of each gRPC method the server has taken so far.
    pub(crate) async fn requests(&self) -> BTreeMap<String, u64> {
        let client = self.server.location().client();
        let mut server = TcpStream::connect(client).await.unwrap();
        let request = b"GET /metrics HTTP/1.0\r\n\r\n";
        server.write_all(request).await.unwrap();
        let mut text = String::new();
        server.read_to_string(&mut text).await.unwrap();
        let count = |line: &str| {
            let (_, rest) = line.split_once("grpc_method=\"")?;
            let (method, _) = rest.split_once('"')?;
            let (_, count) = line.rsplit_once(' ')?;
            Some((method.to_owned(), count.parse().ok()?))
        };
        let started = "grpc_server_started_total{";
        let lines = text.lines().filter(|line| line.starts_with(started));
        lines.filter_map(count).collect()
    }

    /// Leases of nodes on 10.N.0.0/16 to 10.N+9.0.0/16, 100 of each.
    pub(crate) async fn thousand_leases(&self, first: u8) {
        let mut client = self.client().await;
        for high in first..first + 10 {
            let put = |low: u8| {
                let key = format!("{PREFIX}/subnets/10.{high}.{low}.0-24");
                // None of them the watching node.
                TxnOp::put(key, crate::node(100 + low).to_json(), None)
            };
            let puts: Vec<_> = (0..100).map(put).collect();
            client.txn(Txn::new().and_then(puts)).await.unwrap();
        }
    }

    /// How many writes it has seen.
    pub(crate) async fn revision(&self) -> i64 {
        let now = self.client().await.get("x", None).await.unwrap();
        now.header().unwrap().revision()
    }

    /// Drop all history.
    pub(crate) async fn compact(&self) {
        let revision = self.revision().await;
        self.client().await.compact(revision, None).await.unwrap();
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Run etcdctl, or etcdutl for what newer versions leave to it.
fn etcdctl(args: &[&str], file: &Path) {
    let run = |program| {
        let mut command = Command::new(program);
        command.args(args).arg(file).env("ETCDCTL_API", "3");
        command.output()
    };
    let output = match args.contains(&"restore") {
        true => run("etcdutl").or_else(|_| run("etcdctl")),
        false => run("etcdctl"),
    };
    let output = output.expect("etcdctl: apt-get install etcd-client");
    assert!(output.status.success(), "{args:?}: {output:?}");
}

/// Intervals short enough for tests, and long enough for a busy machine.
pub(crate) fn timing() -> Timing {
    Timing {
        lease_ttl: Duration::from_secs(86_400),
        renew_retry: Duration::from_millis(200),
        request_timeout: Duration::from_secs(3),
        keep_alive: Duration::from_secs(2),
        backoff_min: Duration::from_millis(20),
        backoff_max: Duration::from_millis(200),
        // Who is gone from a list is gone.
        absence: Duration::ZERO,
    }
}

pub(crate) async fn manager(endpoints: &[String], timing: Timing) -> EtcdSubnets {
    EtcdSubnets::new(&options(endpoints), timing).unwrap()
}

/// Plain connections to these servers.
pub(crate) fn options(endpoints: &[String]) -> EtcdOptions {
    EtcdOptions {
        endpoints: endpoints.to_vec(),
        prefix: PREFIX.to_owned(),
        ..EtcdOptions::default()
    }
}

/// What a proxy does with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Pass,
    /// Close them, new ones at once.
    Cut,
    /// Leave them open and move no byte, as when a machine vanishes.
    Hang,
    /// Pass answers on at this many bytes each second.
    Slow(u32),
    /// Pass on until a lease has been written; close that connection instead of passing the
    /// answer back, then go on as `Pass`.
    LoseWrite,
}

/// What only requests that write a lease have in them.
const WRITE: &[u8] = b"\"PublicIP\"";

/// Longest that etcd takes for a write.
const WRITE_TIME: Duration = Duration::from_millis(300);

/// A way to etcd that can be interrupted.
pub(crate) struct Proxy {
    port: u16,
    mode: watch::Sender<Mode>,
}

impl Proxy {
    pub(crate) async fn to(etcd: &Etcd) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mode = watch::Sender::new(Mode::Pass);
        let (modes, server) = (mode.clone(), etcd.server.location().client());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, server, modes.clone()));
            }
        });
        Proxy { port, mode }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    pub(crate) fn mode(&self) -> Mode {
        *self.mode.borrow()
    }
}

async fn pass(client: TcpStream, server: SocketAddr, mode: watch::Sender<Mode>) {
    let mut modes = mode.subscribe();
    let at = *modes.borrow_and_update();
    match at {
        Mode::Cut => return,
        Mode::Hang => return std::future::pending().await,
        Mode::Pass | Mode::Slow(_) | Mode::LoseWrite => {}
    }
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    // Kept here so that `Hang` leaves them open.
    let (mut client, mut server) = (client, server);
    tokio::select! {
        _ = copy(&mut client, &mut server, &mode) => {}
        _ = modes.wait_for(|mode| matches!(mode, Mode::Cut | Mode::Hang)) => {}
    }
    let hang = *modes.borrow() == Mode::Hang;
    if hang {
        std::future::pending::<()>().await;
    }
}

/// Copy both ways until one side closes or an answer is to be lost.
async fn copy(
    client: &mut TcpStream,
    server: &mut TcpStream,
    mode: &watch::Sender<Mode>,
) -> std::io::Result<()> {
    let (mut request, mut answer) = ([0; 16 << 10], [0; 16 << 10]);
    loop {
        tokio::select! {
            read = client.read(&mut request) => {
                let request = &request[..read?];
                server.write_all(request).await?;
                let mut windows = request.windows(WRITE.len());
                let lose = *mode.borrow() == Mode::LoseWrite;
                if lose && windows.any(|window| window == WRITE) {
                    tokio::time::sleep(WRITE_TIME).await;
                    mode.send_replace(Mode::Pass);
                    return Ok(());
                }
                if request.is_empty() {
                    return Ok(());
                }
            }
            read = server.read(&mut answer) => {
                let answer = &answer[..read?];
                client.write_all(answer).await?;
                let now = *mode.borrow();
                if let Mode::Slow(rate) = now {
                    let time = Duration::from_secs(answer.len() as u64) / rate;
                    tokio::time::sleep(time).await;
                }
                if answer.is_empty() {
                    return Ok(());
                }
            }
        }
    }
}
