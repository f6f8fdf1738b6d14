//! Requests to whichever etcd server answers, and what is said when none does.

use super::progress::{self, unless_silent};
use super::refusal::{self, Asker};
use super::server::Server;
use super::tls::Tls;
use crate::status::StoreHealth;
use crate::subnets::SubnetError;
use crate::subnets::etcd::options::EtcdOptions;
use crate::subnets::etcd::timing::Timing;
use crate::subnets::remote::{Failure, Reach};
use etcd_client::{Client, ConnectOptions, Error};
use rand::RngExt;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tonic::transport::Endpoint;
use tracing::warn;

/// A set of etcd servers, of which one is used as long as it answers.
pub(crate) struct Connection {
    servers: Vec<Server>,
    /// `None` if no server is spoken to in TLS.
    tls: Option<Tls>,
    /// With user and password, if there are any.
    login: ConnectOptions,
    asker: Asker,
    timing: Timing,
    state: Mutex<InUse>,
}

/// Which server is in use, and how that goes.
struct InUse {
    /// Index of the server in use.
    current: usize,
    /// The connection to it; a new one is made after each failure, since one whose peer has
    /// vanished would only break after minutes of retransmissions.
    link: Option<Link>,
    /// How many links there have been.
    links: u64,
    reach: Reach,
    /// Whether it has been said that no user is needed.
    said_no_user: bool,
}

/// A connection to one server. Its token, if etcd wants one, was fresh when it was made.
#[derive(Clone)]
struct Link {
    id: u64,
    client: Client,
}

impl Connection {
    /// Check the options and read the files that they name; nothing is sent. `prefix` is the
    /// path of all keys that will be asked for.
    pub(crate) fn new(
        options: &EtcdOptions,
        prefix: &str,
        timing: Timing,
    ) -> Result<Connection, SubnetError> {
        let tls_given = options.has_tls_files();
        let servers = options.servers();
        let servers = servers.map(|text| Server::parse(text, tls_given));
        let servers = servers
            .collect::<Result<Vec<_>, _>>()
            .map_err(SubnetError::Settings)?;
        if servers.is_empty() {
            return Err(SubnetError::Settings("no etcd endpoint is given".into()));
        }
        for line in options.ignored() {
            warn!(code = "W0205", "{line}");
        }
        if let Some(server) = servers.iter().find(|server| server.is_http())
            && tls_given
        {
            warn!(
                code = "W0204",
                "{} is used without TLS: the certificates given count for https:// only",
                server.url()
            );
        }
        let tls = servers
            .iter()
            .any(Server::uses_tls)
            .then(|| Tls::new(options));
        let tls = tls.transpose().map_err(SubnetError::Settings)?;
        let login = match options.login() {
            Some((name, password)) => ConnectOptions::new().with_user(name, password.reveal()),
            None => ConnectOptions::new(),
        };
        // All nodes may be given the same list: they spread over the servers.
        let first = rand::rng().random_range(0..servers.len());
        let connection = Connection {
            servers,
            tls,
            login: login.with_require_leader(true),
            asker: Asker::new(options, prefix),
            timing,
            state: Mutex::new(InUse {
                current: first,
                link: None,
                links: 0,
                reach: Reach::new("etcd", "W0201"),
                said_no_user: false,
            }),
        };
        for server in &connection.servers {
            connection.endpoint(server).map_err(|error| {
                let message = format!("etcd endpoint {:?} cannot be used: {error}", server.url());
                SubnetError::Settings(message)
            })?;
        }
        Ok(connection)
    }

    pub(crate) fn timing(&self) -> &Timing {
        &self.timing
    }

    /// Send a request to the server in use, then to each other until one answers. `what`
    /// completes "etcd refused to ...". The request may be sent more than once.
    pub(crate) async fn call<T, F, Fut>(&self, what: &str, request: F) -> Result<T, Failure>
    where
        F: Fn(Client) -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        let mut reasons: BTreeMap<usize, String> = BTreeMap::new();
        let mut authenticated = false;
        // Each server once, and once more those whose connection or token turns out stale.
        for _ in 0..=self.servers.len() + 1 {
            let (mut used, begun) = (self.pick(), Instant::now());
            let outcome = self.attempt(&mut used, &request).await;
            let (reason, go_on) = match outcome {
                Outcome::Done(value) => {
                    self.state().reach.answered(begun);
                    return Ok(value);
                }
                Outcome::Refused(error) => {
                    self.state().reach.answered(begun);
                    let again = refusal::is_about_identity(&error);
                    if again {
                        self.leave(&used, false);
                    }
                    if used.fresh || authenticated || !again {
                        return Err(Failure::Refused(self.asker.explain(what, &error)));
                    }
                    authenticated = true;
                    continue;
                }
                Outcome::NoAnswer(error) => {
                    let first = used.fresh && self.servers[used.server].uses_tls();
                    let reason = match first {
                        true => refusal::describe_first(&error),
                        false => refusal::describe(&error),
                    };
                    (reason, used.fresh)
                }
                Outcome::Late => {
                    let limit = self.timing.request_timeout;
                    (format!("no answer within {limit:?}"), true)
                }
            };
            self.leave(&used, go_on);
            reasons.insert(used.server, reason);
            if go_on && reasons.len() == self.servers.len() {
                break;
            }
        }
        let reasons = reasons.iter();
        let reasons =
            reasons.map(|(server, reason)| format!("{}: {reason}", self.servers[*server].url()));
        let reasons = reasons.collect::<Vec<_>>().join(", ");
        self.state().reach.unanswered(reasons);
        Err(Failure::Unreachable)
    }

    /// The server to ask, and the connection to it if there is one that is up to date.
    fn pick(&self) -> Used {
        let changed = self.tls.as_ref().is_some_and(|tls| tls.refresh(false));
        let mut state = self.state();
        if changed {
            state.link = None;
        }
        Used {
            server: state.current,
            fresh: state.link.is_none(),
            link: state.link.clone(),
        }
    }

    /// Send a request to one server, over a new connection if there is none.
    async fn attempt<T, F, Fut>(&self, used: &mut Used, request: &F) -> Outcome<T>
    where
        F: Fn(Client) -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        let client = match &used.link {
            Some(link) => link.client.clone(),
            None => match self.within_limit(self.connect(used.server)).await {
                Outcome::Done(client) => {
                    used.link = Some(self.keep(used.server, client.clone()));
                    client
                }
                Outcome::Refused(error) => return Outcome::Refused(error),
                Outcome::NoAnswer(error) => return Outcome::NoAnswer(error),
                Outcome::Late => return Outcome::Late,
            },
        };
        self.within_limit(request(client)).await
    }

    async fn within_limit<T>(&self, request: impl Future<Output = Result<T, Error>>) -> Outcome<T> {
        match unless_silent(self.timing.request_timeout, request).await {
            Some(Ok(value)) => Outcome::Done(value),
            Some(Err(error)) if refusal::is_answer(&error) => Outcome::Refused(error),
            Some(Err(error)) => Outcome::NoAnswer(error),
            None => Outcome::Late,
        }
    }

    /// A client for one server, with a new token if there is a user. Without one nothing is
    /// sent before the first request.
    async fn connect(&self, server: usize) -> Result<Client, Error> {
        if let Some(tls) = &self.tls {
            tls.refresh(true);
        }
        let endpoint = self.endpoint(&self.servers[server])?;
        let channel = || progress::channel(&endpoint);
        match Client::from_channel(channel(), Some(self.login.clone())).await {
            Err(error) if refusal::wants_no_user(&error) => {
                if !std::mem::replace(&mut self.state().said_no_user, true) {
                    warn!(
                        code = "W0203",
                        "etcd has no users turned on: -etcd-username is not used"
                    );
                }
                let options = ConnectOptions::new().with_require_leader(true);
                Client::from_channel(channel(), Some(options)).await
            }
            outcome => outcome,
        }
    }

    fn endpoint(&self, server: &Server) -> Result<Endpoint, tonic::transport::Error> {
        let keep_alive = self.timing.keep_alive;
        let endpoint = server
            .endpoint()?
            .connect_timeout(self.timing.request_timeout)
            .http2_keep_alive_interval(keep_alive)
            .keep_alive_timeout(keep_alive / 2)
            // etcd closes connections that ping while no request is under way.
            .keep_alive_while_idle(false);
        match &self.tls {
            Some(tls) if server.uses_tls() => tls.secure(endpoint),
            _ => Ok(endpoint),
        }
    }

    /// Remember a new connection for the next requests.
    fn keep(&self, server: usize, client: Client) -> Link {
        let mut state = self.state();
        state.links += 1;
        let link = Link {
            id: state.links,
            client,
        };
        if state.current == server {
            state.link = Some(link.clone());
        }
        link
    }

    /// Give up a connection, and go on to the next server if asked to, unless another request
    /// has done so already.
    fn leave(&self, used: &Used, go_on: bool) {
        let mut state = self.state();
        let kept = state.link.as_ref().map(|link| link.id);
        let was = used.link.as_ref().map(|link| link.id);
        if kept.is_some() && kept != was {
            return;
        }
        state.link = None;
        if go_on && state.current == used.server {
            state.current = (used.server + 1) % self.servers.len();
        }
    }

    /// Why the last request found no server, each with its reason.
    pub(crate) fn outage(&self) -> String {
        self.state().reach.outage()
    }

    /// How the servers have answered so far.
    pub(crate) fn health(&self) -> StoreHealth {
        self.state().reach.health()
    }

    fn state(&self) -> MutexGuard<'_, InUse> {
        // Each critical section is a few assignments: a poisoned state is still a state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a request is sent with.
struct Used {
    /// Index of the server.
    server: usize,
    /// Whether the connection is made for this request.
    fresh: bool,
    /// The connection, once there is one.
    link: Option<Link>,
}

/// What one request to one server came to.
enum Outcome<T> {
    Done(T),
    /// The server answered "no".
    Refused(Error),
    /// The server could not be reached, or could not answer.
    NoAnswer(Error),
    /// The server has been silent for too long.
    Late,
}
