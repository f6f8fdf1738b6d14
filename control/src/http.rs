//! `/healthz`, `/readyz` and `/metrics`, for whoever watches the agent.
//!
//! Requests are answered on the agent's own thread: an agent that hangs does not answer. What
//! `/metrics` says is the node's to say, and asked for there.

mod questions;

use crate::connections::Connections;
use crate::host::open_files;
use crate::metrics::{self, Exposition};
use crate::text::span;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
pub use questions::Question;
use questions::{PATIENCE, Questions};
use socket2::{Domain, Protocol, Socket, Type};
use std::convert::Infallible;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{debug, info};

/// Connections that are open at a time, where the limit on open files allows it. For a further
/// one the oldest is closed: who has asked for nothing since is not worth waiting for.
const CONNECTIONS: usize = 64;

/// The part of the open files that connections may take; the rest is for packets, etcd and the
/// programs of the firewall.
const SHARE_OF_FILES: u64 = 4;

/// How long a client may take for the head of a request.
const HEAD_TIME: Duration = Duration::from_secs(5);

/// How long open requests may hold up the end, as in flanneld.
const STOP_TIME: Duration = Duration::from_secs(3);

/// Where health checks are answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthzOptions {
    /// An IP address or the name of a host.
    pub host: String,
    /// 0: nowhere.
    pub port: u16,
}

impl HealthzOptions {
    /// `host:port` or `[address]:port`, if they are answered at all.
    pub fn address(&self) -> Option<String> {
        let HealthzOptions { host, port } = self;
        match (port, host.contains(':')) {
            (0, _) => None,
            (_, true) => Some(format!("[{host}]:{port}")),
            (_, false) => Some(format!("{host}:{port}")),
        }
    }
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot serve /healthz on {address}: {source}; choose another -healthz-ip or -healthz-port"
)]
pub struct HealthError {
    address: String,
    source: io::Error,
}

impl HealthError {
    /// Its code, see [`crate::codes`].
    pub const CODE: &str = "W0104";
}

/// What the server knows of the node. Whether it can be used: `subnet.env` is written, the peers
/// are known, and the underlay has the address that packets leave from. And the way to ask it for
/// all else.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Known>);

#[derive(Debug)]
struct Known {
    /// When the agent began.
    since: SystemTime,
    ready: AtomicBool,
    /// When what the node goes by was written down, in seconds since 1970; 0: it goes by what
    /// the store says.
    remembered: AtomicU64,
    /// What people call the store.
    store: OnceLock<&'static str>,
    questions: Questions,
}

impl Default for Known {
    fn default() -> Known {
        Known {
            since: SystemTime::now(),
            ready: AtomicBool::default(),
            remembered: AtomicU64::default(),
            store: OnceLock::new(),
            questions: Questions::default(),
        }
    }
}

impl Readiness {
    /// From here on the node can be used, or cannot.
    pub fn set(&self, ready: bool) {
        self.0.ready.store(ready, Ordering::Relaxed);
    }

    /// From here on the node goes by what was written down then, or by what the store says.
    /// `store` is what people call that.
    pub fn remember(&self, written: Option<SystemTime>, store: &'static str) {
        let _ = self.0.store.set(store);
        let seconds = written.map_or(0, |at| {
            let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
            since.as_secs().max(1)
        });
        self.0.remembered.store(seconds, Ordering::Relaxed);
    }

    /// Wait until somebody wants to know what the node is doing.
    pub(crate) async fn asked(&self) -> Question {
        self.0.questions.next().await
    }

    /// When the agent began.
    pub(crate) fn since(&self) -> SystemTime {
        self.0.since
    }

    pub(crate) fn get(&self) -> bool {
        self.0.ready.load(Ordering::Relaxed)
    }

    /// How old what the node goes by is, if it is not the store's word.
    fn age(&self) -> Option<Duration> {
        match self.0.remembered.load(Ordering::Relaxed) {
            0 => None,
            seconds => {
                let written = UNIX_EPOCH + Duration::from_secs(seconds);
                Some(written.elapsed().unwrap_or_default())
            }
        }
    }
}

/// The running server.
pub struct HealthServer {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    /// Closed when the port is free.
    port: oneshot::Receiver<Infallible>,
    server: JoinHandle<()>,
}

impl HealthServer {
    /// Listen on `address` (`host:port`) and answer on the current runtime. An unspecified
    /// address stands for all addresses of both families, and a name for its first address,
    /// IPv4 before IPv6, as in Go.
    pub async fn start(address: &str, ready: Readiness) -> Result<HealthServer, HealthError> {
        let failed = |source| HealthError {
            address: address.to_owned(),
            source,
        };
        let found = lookup_host(address).await.map_err(failed)?;
        let first = found.min_by_key(SocketAddr::is_ipv6);
        let first = first.ok_or_else(|| failed(io::ErrorKind::AddrNotAvailable.into()))?;
        let listener = listen(first).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (stop, stopped) = oneshot::channel();
        let (held, port) = oneshot::channel();
        let server = tokio::spawn(serve((listener, held), ready, stopped));
        info!("serving /healthz, /readyz and /metrics on {address}");
        Ok(HealthServer {
            address,
            stop,
            port,
            server,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Give the port up at once. Requests that have begun are still answered.
    pub async fn release(self) {
        let _ = self.stop.send(());
        let _ = self.port.await;
    }

    /// Take no more requests, and give those that have begun 3 seconds.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        if let Err(error) = self.server.await {
            debug!("the health server failed: {error}");
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let all = SocketAddr::from((Ipv6Addr::UNSPECIFIED, address.port()));
    let bound = match address.ip().is_unspecified() {
        // Where there is no IPv6, the address as it was given is all there is.
        true => bind(all).or_else(|error| match error.kind() {
            io::ErrorKind::AddrInUse => Err(error),
            _ => bind(address),
        }),
        false => bind(address),
    };
    TcpListener::from_std(bound?.into())
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(128)?;
    Ok(socket)
}

async fn serve(
    (listener, held): (TcpListener, oneshot::Sender<Infallible>),
    ready: Readiness,
    mut stop: oneshot::Receiver<()>,
) {
    let graceful = GracefulShutdown::new();
    let most = connections(open_files::limit());
    let mut open = Connections::new(most);
    loop {
        let accepted = tokio::select! {
            _ = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let served = graceful.watch(connection(stream, ready.clone()));
                // A client that breaks off is its own concern.
                open.add(async move { drop(served.await) }).await;
            }
            Err(error) => {
                // Out of file descriptors, most likely: each that is closed is one.
                debug!("cannot accept a connection for /healthz: {error}");
                if !open.close_oldest().await {
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
    drop(listener);
    drop(held);
    let _ = timeout(STOP_TIME, graceful.shutdown()).await;
}

/// How many connections may be open where the process may have `files` open files.
fn connections(files: u64) -> usize {
    let share = usize::try_from(files / SHARE_OF_FILES).unwrap_or(CONNECTIONS);
    share.clamp(1, CONNECTIONS)
}

fn connection(
    stream: TcpStream,
    ready: Readiness,
) -> impl hyper_util::server::graceful::GracefulConnection {
    let service = service_fn(move |request: Request<Incoming>| {
        let (asked, ready) = (request.into_parts().0, ready.clone());
        async move { Ok::<_, Infallible>(answer(&asked, &ready).await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        // Who asks again connects again: an idle connection is of no use to anybody.
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
}

async fn answer(asked: &Parts, ready: &Readiness) -> Response<String> {
    match (asked.uri.path(), &asked.method) {
        ("/metrics", &Method::GET | &Method::HEAD) => metrics(asked, ready).await,
        ("/metrics", _) => {
            let mut refusal = plain(
                StatusCode::METHOD_NOT_ALLOWED,
                "405 only GET and HEAD are answered\n",
            );
            let allowed = HeaderValue::from_static("GET, HEAD");
            refusal.headers_mut().insert(ALLOW, allowed);
            refusal
        }
        (path, _) => health(path, ready),
    }
}

/// flanneld's answers, whatever the method.
fn health(path: &str, ready: &Readiness) -> Response<String> {
    let (status, body) = match (path, ready.get()) {
        ("/healthz", _) => (StatusCode::OK, "flanneld is running"),
        ("/readyz", true) => (StatusCode::OK, "flanneld is ready"),
        ("/readyz", false) => (StatusCode::SERVICE_UNAVAILABLE, "flanneld is not ready yet"),
        _ => (StatusCode::NOT_FOUND, "404 page not found\n"),
    };
    let mut body = body.to_owned();
    if let Some(age) = ready.age().filter(|_| path == "/readyz" && ready.get()) {
        let age = span(age);
        let store = ready.0.store.get().unwrap_or(&"the store");
        body += &format!(", by what it knew {age} ago: {store} has not answered yet");
    }
    plain(status, body)
}

async fn metrics(asked: &Parts, ready: &Readiness) -> Response<String> {
    let status = match ready.0.questions.ask(PATIENCE).await {
        Ok(status) => status,
        Err(reason) => return plain(StatusCode::SERVICE_UNAVAILABLE, format!("503 {reason}\n")),
    };
    let accept = asked.headers.get_all(ACCEPT).iter();
    let mut accept = accept.filter_map(|value| value.to_str().ok());
    let format = match accept.any(|value| Exposition::wanted(value) == Exposition::OpenMetrics) {
        true => Exposition::OpenMetrics,
        false => Exposition::Text,
    };
    let mut response = Response::new(metrics::encode(Arc::new(status), format));
    let kind = HeaderValue::from_static(format.content_type());
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn plain(status: StatusCode, body: impl Into<String>) -> Response<String> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests;
