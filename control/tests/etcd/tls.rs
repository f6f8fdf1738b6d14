//! A cluster of three members with TLS and users.

use crate::lab::{Etcd, PREFIX, timing};
use crate::{FRESH, PATIENCE, QUIET, config, node, soon};
use std::fs;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use weft_control::lease::Lease;
use weft_control::subnets::etcd::EtcdSubnets;
use weft_control::subnets::etcd::{EtcdOptions, Secret};
use weft_control::subnets::{LeaseEvent, SubnetManager};
use weft_lab::etcd::Location;
use weft_lab::etcd::cluster::{Demands, TlsCluster, USER};
use weft_lab::etcd::pki::{Pair, Pki};
use weft_lab::log::Log;
use weft_lab::memory_dir;

/// A cluster of `members` on loopback, and the directory that it lives in.
async fn cluster(members: usize, demands: Demands) -> Lab {
    let dir = memory_dir().unwrap();
    let path = dir.path().to_owned();
    let cluster = spawn_blocking(move || {
        let locations = (0..members).map(|_| Location::loopback()).collect();
        let mut cluster = TlsCluster::start(&path, locations, demands);
        cluster.enable_auth();
        cluster.put("config", "{}");
        cluster
    });
    Lab {
        cluster: Some(cluster.await.unwrap()),
        dir,
    }
}

struct Lab {
    /// Not here while something is being done to it.
    cluster: Option<TlsCluster>,
    dir: TempDir,
}

impl Lab {
    /// Do something to the cluster while other futures go on.
    async fn with<T: Send + 'static>(
        &mut self,
        act: impl FnOnce(&mut TlsCluster) -> T + Send + 'static,
    ) -> T {
        let mut cluster = self.cluster.take().unwrap();
        let done = spawn_blocking(move || {
            let outcome = act(&mut cluster);
            (cluster, outcome)
        });
        let (cluster, outcome) = done.await.unwrap();
        self.cluster = Some(cluster);
        outcome
    }

    fn cluster(&self) -> &TlsCluster {
        self.cluster.as_ref().unwrap()
    }

    /// Options with the authority, without user or client certificate.
    fn anonymous(&self) -> EtcdOptions {
        EtcdOptions {
            endpoints: self.cluster().endpoints(),
            prefix: PREFIX.to_owned(),
            ca_file: Some(self.cluster().pki.ca().to_owned()),
            ..EtcdOptions::default()
        }
    }

    /// Options of a node: authority, user and password.
    fn options(&self) -> EtcdOptions {
        EtcdOptions {
            username: USER.0.to_owned(),
            password: Secret::new(USER.1),
            ..self.anonymous()
        }
    }

    /// Options with a client certificate, whose files can be written anew.
    fn with_certificate(&self, pair: &Pair) -> EtcdOptions {
        EtcdOptions {
            cert_file: Some(pair.cert.clone()),
            key_file: Some(pair.key.clone()),
            ..self.anonymous()
        }
    }
}

fn subnets(options: &EtcdOptions) -> EtcdSubnets {
    EtcdSubnets::new(options, timing()).unwrap()
}

/// The lines of the log that contain all of `words`.
fn lines_with(log: &Log, words: &[&str]) -> Vec<String> {
    let lines = log.lines().into_iter();
    let all = |line: &String| words.iter().all(|word| line.contains(word));
    lines.filter(all).collect()
}

/// Expect that the log has just one line that contains all of `words`.
fn assert_said_once(log: &Log, words: &[&str]) {
    let found = lines_with(log, words);
    assert_eq!(found.len(), 1, "{words:?} in {:#?}", log.lines());
}

/// Expect that a request brings nothing but a line in the log, and that one once.
async fn refused(subnets: &EtcdSubnets, log: &Log, words: &[&str]) {
    let said = async {
        let line = async {
            while lines_with(log, words).is_empty() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        if timeout(PATIENCE, line).await.is_err() {
            panic!("no {words:?} in {:#?}", log.lines());
        }
        // Time for some more tries.
        sleep(2 * QUIET).await;
    };
    tokio::select! {
        answer = subnets.network_config() => panic!("{answer:?}"),
        () = said => assert_said_once(log, words),
    }
    let text = log.lines().join("\n");
    assert!(!text.contains(USER.1), "the password is in the log");
}

async fn acquire(subnets: &EtcdSubnets) -> Lease {
    let (config, node) = (config(), node(1));
    let lease = subnets.acquire(&config, &node, &FRESH);
    soon("lease", lease).await.unwrap()
}

async fn granted(subnets: &EtcdSubnets) {
    let found = soon("config", subnets.network_config()).await;
    assert_eq!(found, Ok("{}".to_owned()));
}

#[tokio::test]
async fn s85_real_tls_to_etcd_members_stop_and_start_while_leases_are_kept_and_watched() {
    let mut lab = cluster(3, Demands::default()).await;
    let log = Log::start();
    let subnets = subnets(&lab.options());
    let own = acquire(&subnets).await;
    let key = format!("subnets/{}", own.key());
    let (sender, mut events) = mpsc::channel(16);
    // Due at once, and each second again.
    let margin = Duration::from_secs(86_399);
    let mut peers = 10..;
    tokio::select! {
        end = subnets.keep(own.clone(), margin) => panic!("{end}"),
        () = subnets.watch(&own, sender) => panic!("the watch ended"),
        () = async {
            soon("list", events.recv()).await;
            for i in [0, 1, 2, 0] {
                lab.with(move |cluster| cluster.stop(i)).await;
                announce(&mut lab, peers.next().unwrap(), &mut events).await;
                lab.with(move |cluster| cluster.resume(i)).await;
                announce(&mut lab, peers.next().unwrap(), &mut events).await;
            }
            lab.with(TlsCluster::stop_all).await;
            sleep(Duration::from_secs(2)).await;
            lab.with(TlsCluster::resume_all).await;
            announce(&mut lab, peers.next().unwrap(), &mut events).await;
            let before = log.lines().len();
            let renewed = async {
                while !log.lines()[before..].iter().any(|line| line.contains("renewed")) {
                    sleep(Duration::from_millis(50)).await;
                }
            };
            soon("renewal after the outage", renewed).await;
        } => {}
    }
    let value = lab.with(move |cluster| cluster.get(&key)).await;
    assert_eq!(value, Some(node(1).to_json()));
    let refusals = log
        .lines()
        .into_iter()
        .filter(|line| line.contains("refused to"));
    assert_eq!(refusals.collect::<Vec<_>>(), [""; 0]);
}

/// Write a lease of another node, and expect to hear of it.
async fn announce(lab: &mut Lab, n: u8, events: &mut mpsc::Receiver<LeaseEvent>) {
    let value = node(n).to_json();
    lab.with(move |cluster| cluster.put(&format!("subnets/10.1.{n}.0-24"), &value))
        .await;
    loop {
        match soon("put", events.recv()).await {
            Some(LeaseEvent::Put(lease)) => {
                assert_eq!(lease.attrs, node(n));
                return;
            }
            // The watch was too far behind a member's compaction or history.
            Some(LeaseEvent::Snapshot(leases)) => {
                if leases.iter().any(|lease| lease.attrs == node(n)) {
                    return;
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn s85_auth_tokens_that_expire_are_renewed_without_a_word() {
    let demands = Demands {
        token_ttl: Some(1),
        ..Demands::default()
    };
    let lab = cluster(1, demands).await;
    let log = Log::start();
    let subnets = subnets(&lab.options());
    for _ in 0..3 {
        granted(&subnets).await;
        // etcd looks for expired tokens each second.
        sleep(Duration::from_secs(3)).await;
    }
    // A watch is refused in its own way.
    let own = acquire(&subnets).await;
    sleep(Duration::from_secs(3)).await;
    let (sender, mut events) = mpsc::channel(16);
    tokio::select! {
        () = subnets.watch(&own, sender) => panic!("the watch ended"),
        list = soon("list", events.recv()) => {
            assert_eq!(list, Some(LeaseEvent::Snapshot(Vec::new())));
        }
    }
    let warnings = log
        .lines()
        .into_iter()
        .filter(|line| line.starts_with("WARN"));
    assert_eq!(warnings.collect::<Vec<_>>(), [""; 0]);
}

#[tokio::test]
async fn s85_auth_turned_on_later_is_noticed() {
    let etcd = Etcd::start().await;
    etcd.put("config", "{}").await;
    let log = Log::start();
    let options = EtcdOptions {
        username: USER.0.to_owned(),
        password: Secret::new(USER.1),
        ..crate::lab::options(&[etcd.endpoint()])
    };
    let subnets = subnets(&options);
    granted(&subnets).await;
    assert_said_once(&log, &["WARN", "no users turned on"]);

    let mut client = etcd.client().await;
    for (name, password) in [("root", "root-of-all"), USER] {
        client.user_add(name, password, None).await.unwrap();
        client.user_grant_role(name, "root").await.unwrap();
    }
    client.auth_enable().await.unwrap();
    granted(&subnets).await;
}

#[tokio::test]
async fn s85_auth_a_wrong_password_is_one_line() {
    let lab = cluster(1, Demands::default()).await;
    let log = Log::start();
    let options = EtcdOptions {
        password: Secret::new("7-wrong-threads"),
        ..lab.options()
    };
    let subnets = subnets(&options);
    let words = [
        "WARN",
        "user \"weft\"",
        "invalid user ID or password",
        "check -etcd-username",
    ];
    refused(&subnets, &log, &words).await;
    assert!(!log.lines().join("\n").contains("7-wrong-threads"));
}

#[tokio::test]
async fn s85_auth_a_user_without_permission_is_told_what_to_be_granted() {
    let mut lab = cluster(1, Demands::default()).await;
    lab.with(|cluster| cluster.add_user("guest", "guest-word"))
        .await;
    let log = Log::start();
    let options = EtcdOptions {
        username: "guest".to_owned(),
        password: Secret::new("guest-word"),
        ..lab.options()
    };
    let subnets = subnets(&options);
    let advice = "etcdctl role grant-permission ROLE readwrite --prefix /coreos.com/network/";
    let words = ["WARN", "read the network config", "user \"guest\"", advice];
    refused(&subnets, &log, &words).await;
    lab.with(|cluster| cluster.ctl(&["user", "grant-role", "guest", "node"]))
        .await;
    granted(&subnets).await;
}

#[tokio::test]
async fn s85_auth_a_client_without_a_user_is_told_to_have_one() {
    let lab = cluster(1, Demands::default()).await;
    let log = Log::start();
    let subnets = subnets(&lab.anonymous());
    let words = [
        "WARN",
        "user name is empty",
        "give -etcd-username and -etcd-password",
    ];
    refused(&subnets, &log, &words).await;
}

#[tokio::test]
async fn s85_real_tls_to_etcd_a_wrong_authority_is_named_and_can_be_put_right() {
    let lab = cluster(1, Demands::default()).await;
    let log = Log::start();
    let mut options = lab.options();
    let other = Pki::new(lab.dir.path(), "other-ca");
    options.ca_file = Some(other.ca().to_owned());
    // Without a scheme, TLS is used where there is an authority.
    for endpoint in &mut options.endpoints {
        *endpoint = endpoint.replace("https://", "");
    }
    let subnets = subnets(&options);
    let words = [
        "WARN",
        "https://127.",
        "not signed by any authority of -etcd-cafile",
    ];
    refused(&subnets, &log, &words).await;
    fs::copy(lab.cluster().pki.ca(), other.ca()).unwrap();
    granted(&subnets).await;
    assert_said_once(&log, &["INFO certificates for etcd have changed"]);
}

#[tokio::test]
async fn s85_real_tls_to_etcd_an_expired_certificate_is_named_and_can_be_renewed() {
    let demands = Demands {
        client_certs: true,
        ..Demands::default()
    };
    let lab = cluster(1, demands).await;
    let log = Log::start();
    let pair = lab.cluster().pki.expired("node", USER.0);
    let subnets = subnets(&lab.with_certificate(&pair));
    let words = ["WARN", "certificate of this client", "expired"];
    refused(&subnets, &log, &words).await;
    lab.cluster().pki.client("node", USER.0);
    granted(&subnets).await;
}

#[tokio::test]
async fn s85_real_tls_to_etcd_a_missing_certificate_is_named() {
    let demands = Demands {
        client_certs: true,
        ..Demands::default()
    };
    let lab = cluster(1, demands).await;
    let log = Log::start();
    let subnets = subnets(&lab.options());
    refused(
        &subnets,
        &log,
        &["WARN", "a certificate of this client", "-etcd-certfile"],
    )
    .await;
}

#[tokio::test]
async fn s85_real_tls_to_etcd_certificates_that_change_on_disk_are_used() {
    let demands = Demands {
        client_certs: true,
        ..Demands::default()
    };
    let mut lab = cluster(1, demands).await;
    lab.with(|cluster| cluster.add_user("guest", "guest-word"))
        .await;
    let log = Log::start();
    // The certificate's name is the user.
    let pair = lab.cluster().pki.client("node", USER.0);
    let subnets = subnets(&lab.with_certificate(&pair));
    granted(&subnets).await;

    lab.cluster().pki.client("node", "guest");
    let words = ["WARN", "permission denied", "the client certificate names"];
    refused(&subnets, &log, &words).await;

    lab.cluster().pki.client("node", USER.0);
    granted(&subnets).await;
    fs::write(&pair.cert, "nonsense").unwrap();
    granted(&subnets).await;
    let cert = pair.cert.display().to_string();
    assert_said_once(&log, &["WARN", &cert, "-etcd-certfile", "stays in use"]);
}

#[tokio::test]
async fn s85_real_tls_to_etcd_a_server_for_another_name_is_refused() {
    let mut lab = cluster(1, Demands::default()).await;
    let options = lab.options();
    let elsewhere = lab
        .cluster()
        .pki
        .server("elsewhere", &["192.0.2.1".to_owned()]);
    lab.with(move |cluster| {
        cluster.stop(0);
        cluster.set_certificate(0, elsewhere);
        cluster.launch(0);
    })
    .await;
    // It listens before it answers.
    let named = async {
        loop {
            let log = Log::start();
            let subnets = subnets(&options);
            let waiting = timeout(Duration::from_secs(2), subnets.network_config()).await;
            assert!(waiting.is_err(), "{waiting:?}");
            let lines = log.lines().join("\n");
            if lines.contains("the server's certificate cannot be accepted") {
                return lines;
            }
        }
    };
    let lines = soon("refusal", named).await;
    assert!(lines.contains("192.0.2.1"), "{lines}");
}

#[tokio::test]
async fn tls_where_there_is_none_is_named() {
    let etcd = Etcd::start().await;
    let log = Log::start();
    let dir = TempDir::new().unwrap();
    let options = EtcdOptions {
        ca_file: Some(Pki::new(dir.path(), "ca").ca().to_owned()),
        ..crate::lab::options(&[etcd.endpoint().replace("http://", "https://")])
    };
    refused(
        &subnets(&options),
        &log,
        &["WARN", "is it an http:// endpoint?"],
    )
    .await;
}

#[tokio::test]
async fn plain_http_uses_no_certificates_and_says_so_once() {
    let etcd = Etcd::start().await;
    etcd.put("config", "{}").await;
    let log = Log::start();
    let options = EtcdOptions {
        // Not even read.
        ca_file: Some("/nonexistent/ca.pem".into()),
        cert_file: Some("/nonexistent/cert.pem".into()),
        key_file: Some("/nonexistent/key.pem".into()),
        ..crate::lab::options(&[etcd.endpoint(), "http://127.0.0.1:1".to_owned()])
    };
    granted(&subnets(&options)).await;
    assert_said_once(&log, &["WARN", "is used without TLS"]);
}

#[tokio::test]
async fn a_unix_socket_is_a_server() {
    let dir = memory_dir().unwrap();
    // etcd makes the socket in its working directory, named like host and port.
    let url = "unix://localhost:2379";
    let etcd = Command::new("etcd")
        .current_dir(dir.path())
        .args(["--data-dir", "data", "--listen-client-urls", url])
        .args(["--advertise-client-urls", "http://127.0.0.1:1"])
        .args([
            "--listen-peer-urls",
            &format!("http://{}", Location::loopback().peer()),
        ])
        .env("ETCD_UNSUPPORTED_ARCH", "arm64")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn();
    let mut etcd = etcd.unwrap();
    let endpoint = format!("unix://{}/localhost:2379", dir.path().display());
    let subnets = subnets(&crate::lab::options(&[endpoint]));
    let found = timeout(PATIENCE, subnets.network_config()).await;
    etcd.kill().unwrap();
    etcd.wait().unwrap();
    let found = format!("{found:?}");
    assert!(found.contains("NoConfig"), "{found}");
}
