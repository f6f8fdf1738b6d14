//! The server as tests hold it.

use super::access::Credentials;
use super::faults::Faults;
use super::flannel;
use super::http::Shared;
use super::journal::Journal;
use super::store::{HISTORY, Store};
use super::watch::StreamingLists;
use crate::etcd::own_address;
use crate::etcd::pki::Pki;
use crate::{Error, Namespace, Result};
use rustix::net::{Shutdown, shutdown};
use rustls::ServerConfig;
use serde_json::json;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicI64, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

mod faults;
mod listen;
mod objects;
#[cfg(test)]
mod tests;
mod users;

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
    /// The same socket as that of the thread.
    listener: TcpListener,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl ApiServer {
    /// Start one.
    pub fn start(options: ApiOptions) -> Result<ApiServer> {
        let failed = |error| Error::because("a directory for certificates", error);
        let dir = tempfile::tempdir().map_err(failed)?;
        let pki = Pki::new(dir.path(), "kubernetes");
        let tls = listen::tls(&pki, options.address.ip())?;
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
        let same = listener.try_clone().map_err(failed)?;
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
                    () = listen::serve(listener, acceptor, shared) => {}
                }
            });
        });
        self.running = Some(Running {
            listener: same,
            stop,
            thread,
        });
        Ok(())
    }

    /// Close all connections and listen no more: an outage.
    pub fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            // A process that another thread is about to start has the socket, too, until it
            // runs its program: closing it would not be enough.
            let _ = shutdown(&running.listener, Shutdown::Both);
            let _ = running.stop.send(());
            let _ = running.thread.join();
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
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.stop();
    }
}
