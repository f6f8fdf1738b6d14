//! Requests to whichever etcd server answers, and what is said when none does.

use super::{SubnetError, Timing};
use etcd_client::{Client, ConnectOptions, Error};
use rand::RngExt;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::error::Elapsed;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

/// gRPC status codes by which a server answers "no" (grpc/doc/statuscodes.md): not found,
/// invalid argument, already exists, permission denied, exhausted, failed precondition, out
/// of range, unimplemented, data loss, unauthenticated. All others mean that it did not get
/// to an answer.
const ANSWERS: [i32; 10] = [3, 5, 6, 7, 8, 9, 11, 12, 15, 16];

/// Why a request brought nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No server answered; it has been logged.
    Unreachable,
    /// A server answered with a refusal.
    Refused(String),
}

/// A set of etcd servers, of which one is used as long as it answers.
pub(super) struct Connection {
    endpoints: Vec<String>,
    timing: Timing,
    state: Mutex<State>,
}

struct State {
    /// Index of the server in use.
    current: usize,
    /// The connection to it; a new one is made after each failure, since one whose peer has
    /// vanished would only break after minutes of retransmissions.
    client: Option<Client>,
    /// Whether the last request found no server.
    down: bool,
}

impl Connection {
    /// Check the endpoints; nothing is sent.
    pub(super) async fn new(
        endpoints: &[String],
        timing: Timing,
    ) -> Result<Connection, SubnetError> {
        if endpoints.is_empty() {
            return Err(SubnetError::Settings("no etcd endpoint is given".into()));
        }
        let connection = Connection {
            endpoints: endpoints.to_vec(),
            timing,
            state: Mutex::new(State {
                current: 0,
                client: None,
                down: false,
            }),
        };
        for endpoint in endpoints {
            if let Err(error) = connection.connect(endpoint).await {
                let reason = describe(&error);
                let message = format!("etcd endpoint {endpoint:?} cannot be used: {reason}");
                return Err(SubnetError::Settings(message));
            }
        }
        Ok(connection)
    }

    pub(super) fn timing(&self) -> &Timing {
        &self.timing
    }

    /// Send a request to the server in use, then to each other until one answers. `what`
    /// completes "etcd refused to ...". The request may be sent more than once.
    pub(super) async fn call<T, F, Fut>(&self, what: &str, request: F) -> Result<T, Failure>
    where
        F: Fn(Client) -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        let mut reasons: BTreeMap<usize, String> = BTreeMap::new();
        // Each server once, and once more the one whose connection turns out to be stale.
        for _ in 0..=self.endpoints.len() {
            let Attempt {
                server,
                fresh,
                outcome,
            } = self.attempt(&request).await;
            let (reason, go_on) = match outcome {
                Ok(Ok(value)) => {
                    self.reached();
                    return Ok(value);
                }
                Ok(Err(error)) if is_answer(&error) => {
                    self.reached();
                    let reason = describe(&error);
                    return Err(Failure::Refused(format!(
                        "etcd refused to {what}: {reason}"
                    )));
                }
                Ok(Err(error)) => (describe(&error), fresh),
                Err(_) => (
                    format!("no answer within {:?}", self.timing.request_timeout),
                    true,
                ),
            };
            reasons.insert(server, reason);
            self.leave(server, go_on);
            if go_on && reasons.len() == self.endpoints.len() {
                break;
            }
        }
        let reasons = reasons.iter();
        let reasons =
            reasons.map(|(server, reason)| format!("{}: {reason}", self.endpoints[*server]));
        self.unreached(reasons.collect());
        Err(Failure::Unreachable)
    }

    /// As [`Connection::call`], again and again until a server grants it.
    pub(super) async fn insist<T, F, Fut>(&self, what: &str, request: F) -> T
    where
        F: Fn(Client) -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        let mut retry = Retry::new(&self.timing);
        loop {
            match self.call(what, &request).await {
                Ok(value) => return value,
                Err(failure) => retry.pause(failure).await,
            }
        }
    }

    /// Send a request to the server in use.
    async fn attempt<T, F, Fut>(&self, request: &F) -> Attempt<T>
    where
        F: Fn(Client) -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        let (server, kept) = {
            let state = self.state();
            (state.current, state.client.clone())
        };
        let fresh = kept.is_none();
        let outcome = match kept {
            Some(client) => self.answer(request(client)).await,
            None => match self.connect(&self.endpoints[server]).await {
                Ok(client) => {
                    self.state().client = Some(client.clone());
                    self.answer(request(client)).await
                }
                Err(error) => Ok(Err(error)),
            },
        };
        Attempt {
            server,
            fresh,
            outcome,
        }
    }

    async fn answer<T>(&self, request: impl Future<Output = T>) -> Result<T, Elapsed> {
        timeout(self.timing.request_timeout, request).await
    }

    /// A client for one server. It connects at the first request, not here.
    async fn connect(&self, endpoint: &str) -> Result<Client, Error> {
        let keep_alive = self.timing.keep_alive;
        let options = ConnectOptions::new()
            .with_connect_timeout(self.timing.request_timeout)
            .with_keep_alive(keep_alive, keep_alive / 2)
            // etcd closes connections that ping while no request is under way.
            .with_keep_alive_while_idle(false)
            .with_require_leader(true);
        Client::connect([endpoint], Some(options)).await
    }

    /// Give up the connection to a server, and go on to the next one if asked to, unless
    /// another request has done so already.
    fn leave(&self, server: usize, go_on: bool) {
        let mut state = self.state();
        if state.current == server {
            state.client = None;
            if go_on {
                state.current = (server + 1) % self.endpoints.len();
            }
        }
    }

    fn reached(&self) {
        if std::mem::replace(&mut self.state().down, false) {
            info!("etcd reachable again");
        }
    }

    fn unreached(&self, reasons: Vec<String>) {
        if !std::mem::replace(&mut self.state().down, true) {
            warn!("etcd unreachable: {}; retrying", reasons.join(", "));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each critical section is a few assignments: a poisoned state is still a state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one request to one server came to.
struct Attempt<T> {
    /// Index of the server.
    server: usize,
    /// Whether the connection was made for this request.
    fresh: bool,
    outcome: Result<Result<T, Error>, Elapsed>,
}

/// Pauses between tries: doubling, with some scatter so that the nodes of a cluster do not
/// all come back at once. Logs each refusal once.
pub(super) struct Retry {
    pause: Duration,
    min: Duration,
    max: Duration,
    refusal: Option<String>,
}

impl Retry {
    pub(super) fn new(timing: &Timing) -> Retry {
        Retry {
            pause: timing.backoff_min,
            min: timing.backoff_min,
            max: timing.backoff_max,
            refusal: None,
        }
    }

    /// Start from the shortest pause again.
    pub(super) fn reset(&mut self) {
        self.pause = self.min;
        self.refusal = None;
    }

    /// Wait before the next try.
    pub(super) async fn pause(&mut self, failure: Failure) {
        self.note(failure);
        let scatter = rand::rng().random_range(0.75..1.0);
        sleep(self.pause.mul_f64(scatter)).await;
        self.pause = (self.pause * 2).min(self.max);
    }

    /// Log a refusal unless it is the one logged last.
    pub(super) fn note(&mut self, failure: Failure) {
        if let Failure::Refused(reason) = failure
            && self.refusal.as_ref() != Some(&reason)
        {
            warn!("{reason}; retrying");
            self.refusal = Some(reason);
        }
    }
}

/// Whether an error is a server's answer rather than the lack of one.
fn is_answer(error: &Error) -> bool {
    matches!(error, Error::GRpcStatus(status) if ANSWERS.contains(&i32::from(status.code())))
}

/// An error in one line: what etcd says, or the innermost cause.
pub(super) fn describe(error: &Error) -> String {
    match error {
        Error::GRpcStatus(status) => {
            let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(status);
            while let Some(inner) = cause.and_then(|cause| cause.source()) {
                cause = Some(inner);
            }
            match cause {
                Some(cause) => cause.to_string(),
                None => status.message().to_owned(),
            }
        }
        error => error.to_string(),
    }
}
