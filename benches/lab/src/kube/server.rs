//! The server as tests hold it.

use super::access::{ADMIN, Credentials, service_account};
use super::faults::{Faults, Refusal};
use super::flannel::{self, USER};
use super::http::{Shared, answer};
use super::journal::{Asked, Journal};
use super::store::{HISTORY, Key, Scope, Store, Write};
use super::watch::StreamingLists;
use super::{nodes, strategy};
use crate::etcd::own_address;
use crate::etcd::pki::Pki;
use crate::{Error, Namespace, Result, wait_until};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

/// The port of API servers.
const PORT: u16 = 6443;

/// How a server is started.
#[derive(Clone, Debug)]
pub struct ApiOptions {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where that address is; `None`: in the namespace of the thread that starts it.
    pub namespace: Option<Namespace>,
    /// Changes that it remembers.
    pub history: usize,
    /// Time between the bookmarks of a watch.
    pub bookmark_interval: Duration,
    /// What it makes of streaming lists.
    pub streaming_lists: StreamingLists,
}

impl Default for ApiOptions {
    /// On a loopback address that nobody else has, with a minute between bookmarks, as real ones.
    fn default() -> ApiOptions {
        ApiOptions {
            address: (own_address(), PORT).into(),
            namespace: None,
            history: HISTORY,
            bookmark_interval: Duration::from_secs(60),
            streaming_lists: StreamingLists::Served,
        }
    }
}

/// An API server on a thread of its own. It keeps everything in memory: what is stored outlives
/// [`ApiServer::stop`], not the value itself.
///
/// From its start on there are the namespaces `default` and `kube-flannel`, and in the latter
/// flannel's service account with the role that flannel's manifest has for it.
pub struct ApiServer {
    shared: Arc<Shared>,
    tls: Arc<ServerConfig>,
    address: SocketAddr,
    namespace: Option<Namespace>,
    pki: Mutex<Pki>,
    /// What issued certificates are numbered by.
    issued: AtomicUsize,
    /// Seconds that heartbeats are ahead of the clock.
    beats: AtomicI64,
    /// Holds the files of certificates.
    dir: TempDir,
    running: Option<Running>,
}

struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl ApiServer {
    /// Start one.
    pub fn start(options: ApiOptions) -> Result<ApiServer> {
        let failed = |error| Error::because("a directory for certificates", error);
        let dir = tempfile::tempdir().map_err(failed)?;
        let pki = Pki::new(dir.path(), "kubernetes");
        let tls = tls(&pki, options.address.ip())?;
        let store = Arc::new(Store::new(options.history));
        let default = json!({"metadata": {"name": "default"}, "status": {"phase": "Active"}});
        let shared = Shared {
            store,
            credentials: Mutex::new(Credentials::default()),
            faults: Faults::default(),
            journal: Journal::default(),
            lists: Mutex::new(options.streaming_lists),
            bookmark_interval: options.bookmark_interval,
            address: options.address.to_string(),
        };
        let mut server = ApiServer {
            shared: Arc::new(shared),
            tls: Arc::new(tls),
            address: options.address,
            namespace: options.namespace,
            pki: Mutex::new(pki),
            issued: AtomicUsize::new(0),
            beats: AtomicI64::new(0),
            dir,
            running: None,
        };
        server.put("namespaces", default);
        flannel::install(&server.shared.store);
        server.rotate_token();
        server.start_again()?;
        Ok(server)
    }

    /// Listen once more, with all that was stored. Does nothing while it runs.
    pub fn start_again(&mut self) -> Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        let address = self.address;
        let bind = || TcpListener::bind(address);
        let bound = match &self.namespace {
            Some(namespace) => namespace.enter(bind)?,
            None => bind(),
        };
        let failed = |error| Error::because(format!("cannot listen on {address}"), error);
        let listener = bound.map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        self.address = listener.local_addr().map_err(failed)?;
        let (stop, stopped) = oneshot::channel();
        let acceptor = TlsAcceptor::from(self.tls.clone());
        let shared = self.shared.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(failed)?;
        let thread = std::thread::spawn(move || {
            // Connections end with the runtime, in the middle of whatever they are at.
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    () = serve(listener, acceptor, shared) => {}
                }
            });
        });
        self.running = Some(Running { stop, thread });
        Ok(())
    }

    /// Close all connections and listen no more: an outage.
    pub fn stop(&mut self) {
        if let Some(Running { stop, thread }) = self.running.take() {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }

    /// `https://address:port`.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate of its authority.
    pub fn ca_pem(&self) -> String {
        fs::read_to_string(self.pki().ca()).unwrap_or_default()
    }

    fn pki(&self) -> MutexGuard<'_, Pki> {
        self.pki.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn credentials(&self) -> MutexGuard<'_, Credentials> {
        self.shared
            .credentials
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The token of flannel's service account.
    pub fn token(&self) -> String {
        let credentials = self.credentials();
        let mut tokens = credentials.tokens.iter();
        let found = tokens.find(|(_, user)| *user == USER);
        found.map(|(token, _)| token.clone()).unwrap_or_default()
    }

    /// A further token of any user.
    pub fn issue_token(&self, user: &str) -> String {
        let token = format!("lab.{}.{}", strategy::uid(), strategy::uid());
        self.credentials()
            .tokens
            .insert(token.clone(), user.to_owned());
        token
    }

    /// Give flannel's service account another token; the old ones are worth nothing any more.
    pub fn rotate_token(&self) -> String {
        self.credentials().revoke(USER);
        self.issue_token(USER)
    }

    /// Write `token`, `ca.crt` and `namespace` of flannel's service account to a directory, as
    /// kubelets do for pods. The token is replaced in one step.
    pub fn write_service_account(&self, dir: &Path) -> Result<()> {
        let namespace = service_account(USER).map_or("", |(namespace, _)| namespace);
        let write = |name: &str, text: &str| {
            let (path, fresh) = (dir.join(name), dir.join(format!(".{name}")));
            let written = fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, &path));
            written.map_err(|error| Error::because(path.display(), error))
        };
        write("ca.crt", &self.ca_pem())?;
        write("namespace", namespace)?;
        write("token", &self.token())
    }

    /// A kubeconfig with a certificate of this user, such as [`ADMIN`], for whom everything is
    /// allowed.
    pub fn kubeconfig(&self, user: &str) -> String {
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        let pair = self.pki().client(&format!("client{number}"), user);
        let text = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let (cert, key) = (text(&pair.cert), text(&pair.key));
        if let Ok(der) = CertificateDer::from_pem_slice(cert.as_bytes()) {
            let certificates = &mut self.credentials().certificates;
            certificates.insert(der.to_vec(), user.to_owned());
        }
        self.config(
            user,
            json!({
                "client-certificate-data": STANDARD.encode(cert),
                "client-key-data": STANDARD.encode(key),
            }),
        )
    }

    /// A kubeconfig with a token.
    pub fn kubeconfig_with_token(&self, token: &str) -> String {
        self.config("token", json!({"token": token}))
    }

    /// JSON, which YAML includes.
    fn config(&self, user: &str, credentials: Value) -> String {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "lab",
            "clusters": [{"name": "lab", "cluster": {
                "server": self.url(), "certificate-authority-data": STANDARD.encode(self.ca_pem()),
            }}],
            "users": [{"name": user, "user": credentials}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user}}],
        });
        format!("{config:#}\n")
    }

    /// Write a kubeconfig of [`ADMIN`] to a file.
    pub fn write_kubeconfig(&self, path: &Path) -> Result<()> {
        let written = fs::write(path, self.kubeconfig(ADMIN));
        written.map_err(|error| Error::because(path.display(), error))
    }

    /// Directory for files that are to last as long as the server.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Store an object of a kind (`nodes`, `daemonsets.apps`), whatever was there; its version.
    /// Unlike clients this may change everything.
    pub fn put(&self, kind: &str, object: Value) -> u64 {
        let mut object = object;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &object["metadata"];
        let key = Key::new(
            kind,
            &text(&metadata["namespace"]),
            &text(&metadata["name"]),
        );
        self.write(&key, |there| {
            let metadata = &mut object["metadata"];
            let was = there.map_or(&Value::Null, |there| &there["metadata"]);
            if metadata["uid"].is_null() {
                metadata["uid"] = was["uid"]
                    .as_str()
                    .map_or_else(strategy::uid, str::to_owned)
                    .into();
            }
            if metadata["creationTimestamp"].is_null() {
                let created = was["creationTimestamp"].as_str();
                metadata["creationTimestamp"] =
                    created.map_or_else(strategy::now, str::to_owned).into();
            }
            Write::Put(object)
        })
    }

    fn write(&self, key: &Key, decide: impl FnOnce(Option<&Value>) -> Write) -> u64 {
        let written = self
            .shared
            .store
            .write(key, |there| Ok::<_, Infallible>(decide(there)));
        let Ok(written) = written;
        written.version
    }

    /// An object of a kind; `namespace` is empty for what belongs to the cluster.
    pub fn object(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let stored = self.shared.store.get(&Key::new(kind, namespace, name));
        stored.map(|stored| stored.value())
    }

    /// Delete an object of a kind; whether it was there.
    pub fn delete(&self, kind: &str, namespace: &str, name: &str) -> bool {
        let mut was_there = false;
        self.write(&Key::new(kind, namespace, name), |there| {
            was_there = there.is_some();
            Write::Delete
        });
        was_there
    }

    /// Store a node (see [`nodes::realistic`]); the resource version that it has.
    pub fn put_node(&self, node: Value) -> u64 {
        self.put("nodes", node)
    }

    /// A node.
    pub fn node(&self, name: &str) -> Option<Value> {
        self.object("nodes", "", name)
    }

    /// Names of all nodes.
    pub fn node_names(&self) -> Vec<String> {
        let scope = Scope {
            kind: "nodes".to_owned(),
            namespace: None,
        };
        let nodes = self
            .shared
            .store
            .list(&scope, None)
            .map(|list| list.objects);
        let nodes = nodes.unwrap_or_default();
        nodes.iter().map(|node| node.key.name.clone()).collect()
    }

    /// Delete a node; whether it was there.
    pub fn delete_node(&self, name: &str) -> bool {
        self.delete("nodes", "", name)
    }

    /// Change a node that is there; the resource version that it has then.
    pub fn change_node(&self, name: &str, change: impl FnOnce(&mut Value)) -> u64 {
        self.write(&Key::new("nodes", "", name), |there| {
            let Some(there) = there else {
                return Write::Keep;
            };
            let mut node = there.clone();
            change(&mut node);
            Write::Put(node)
        })
    }

    /// Change an annotation of a node, or take it away.
    pub fn annotate_node(&self, node: &str, name: &str, value: Option<&str>) -> u64 {
        self.change_node(node, |node| match value {
            Some(value) => node["metadata"]["annotations"][name] = value.into(),
            None => {
                let annotations = node["metadata"]["annotations"].as_object_mut();
                _ = annotations.and_then(|annotations| annotations.remove(name));
            }
        })
    }

    /// Have a node's kubelet say once more that all is well: of the node nothing changes but the
    /// times of its conditions. Each time is later than the last, however soon it comes.
    pub fn heartbeat(&self, name: &str) -> u64 {
        let ahead = self.beats.fetch_add(1, Ordering::Relaxed);
        let time = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(ahead);
        let time = time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        self.change_node(name, |node| nodes::beat(node, &time))
    }

    /// Wait until a node is there and `fits`.
    pub fn wait_for_node(
        &self,
        name: &str,
        limit: Duration,
        fits: impl Fn(&Value) -> bool,
    ) -> bool {
        wait_until(limit, || self.node(name).is_some_and(|node| fits(&node)))
    }

    /// Declare a kind of a namespace, such as `monitoring.coreos.com`, `v1`, `podmonitors`,
    /// `PodMonitor`, as a CustomResourceDefinition does.
    pub fn declare(&self, group: &str, version: &str, plural: &str, kind: &str) {
        let name = format!("{plural}.{group}");
        self.put(super::resource::DEFINITIONS, json!({
            "metadata": {"name": name},
            "spec": {
                "group": group, "scope": "Namespaced", "names": {"plural": plural, "kind": kind},
                "versions": [{"name": version, "served": true, "storage": true}],
            },
        }));
    }

    /// The resource version of the last change.
    pub fn version(&self) -> u64 {
        self.shared.store.version()
    }

    /// Forget all changes so far: versions before the present one are too old from now on.
    pub fn forget_history(&self) {
        self.shared.store.forget();
    }

    /// Refuse the next `count` requests for objects.
    pub fn refuse(&self, count: usize, refusal: Refusal) {
        self.shared.faults.refuse(count, refusal);
    }

    /// Answer each request only after this time.
    pub fn delay(&self, delay: Duration) {
        self.shared.faults.delay(delay);
    }

    /// Forbid everybody a verb on a resource (`patch`, `nodes/status`), whatever roles say.
    pub fn forbid(&self, verb: &str, resource: &str) {
        self.shared.faults.forbid(verb, resource);
    }

    /// Leave what was forbidden to roles again.
    pub fn permit(&self, verb: &str, resource: &str) {
        self.shared.faults.permit(verb, resource);
    }

    /// What to make of streaming lists from now on.
    pub fn set_streaming_lists(&self, lists: StreamingLists) {
        *self
            .shared
            .lists
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = lists;
    }

    /// Break the connections of all watches, each in the middle of an event.
    pub fn break_watches(&self) {
        self.shared.faults.order(|orders| orders.broken += 1);
    }

    /// End all watches in order, as when their time is over.
    pub fn end_watches(&self) {
        self.shared.faults.order(|orders| orders.ended += 1);
    }

    /// Let watches stay open and send nothing, or send what they have missed.
    pub fn silence_watches(&self, silent: bool) {
        self.shared.faults.order(|orders| orders.silent = silent);
    }

    /// Send a bookmark to all watches that want such.
    pub fn send_bookmarks(&self) {
        self.shared.faults.order(|orders| orders.bookmarks += 1);
    }

    /// How often a verb was asked of a resource (`list`, `nodes`; `patch`, `nodes/status`), also
    /// where that was refused.
    pub fn requests(&self, verb: &str, resource: &str) -> u64 {
        self.shared.journal.count(verb, resource)
    }

    /// The last 10,000 requests.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.journal.last()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn tls(pki: &Pki, address: IpAddr) -> Result<ServerConfig> {
    let failed = |error: &dyn std::fmt::Display| Error::because("TLS of the API server", error);
    let names = [
        "127.0.0.1",
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
    ];
    let names: Vec<String> = [address.to_string()]
        .into_iter()
        .chain(names.map(str::to_owned))
        .collect();
    let pair = pki.server("apiserver", &names);
    let cert = CertificateDer::from_pem_file(&pair.cert).map_err(|e| failed(&e))?;
    let key = PrivateKeyDer::from_pem_file(&pair.key).map_err(|e| failed(&e))?;
    let ca = CertificateDer::from_pem_file(pki.ca()).map_err(|e| failed(&e))?;
    let mut roots = RootCertStore::empty();
    roots.add(ca).map_err(|e| failed(&e))?;
    let provider = Arc::new(ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let clients = clients
        .allow_unauthenticated()
        .build()
        .map_err(|e| failed(&e))?;
    let config = ServerConfig::builder_with_provider(provider);
    let config = config
        .with_safe_default_protocol_versions()
        .map_err(|e| failed(&e))?;
    let config = config.with_client_cert_verifier(clients);
    let mut config = config
        .with_single_cert(vec![cert], key)
        .map_err(|e| failed(&e))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, acceptor.clone(), shared.clone()));
            }
            // Out of file descriptors, most likely: some may be closed by then.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    // Answers are small, and watches send single events.
    let _ = stream.set_nodelay(true);
    // A client that breaks off, or does not trust the server, knows that best itself.
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let certificates = stream.get_ref().1.peer_certificates();
    let certificate = certificates.and_then(|certificates| certificates.first());
    let certificate: Option<Arc<[u8]>> = certificate.map(|der| der.as_ref().into());
    let service = service_fn(move |request| {
        let answer = answer(shared.clone(), certificate.clone(), request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    let _ = served.await;
}
