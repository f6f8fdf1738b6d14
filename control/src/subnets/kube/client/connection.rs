//! Requests to the API server, with the credentials that count at the time.

use super::credentials::{self, Access};
use super::failure::{ApiFailure, ApiRefusal, describe, is_no_answer, said};
use super::lines::AnswerLines;
use super::request::ApiRequest;
use crate::status::StoreHealth;
use crate::subnets::SubnetError;
use crate::subnets::kube::options::KubeOptions;
use crate::subnets::kube::timing::KubeTiming;
use crate::subnets::remote::Reach;
use http_body_util::BodyExt;
use kube::client::Body;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::{info, warn};

/// What people call the store.
pub(in crate::subnets::kube) const STORE: &str = "the API server";

/// The longest answer that is no list.
const ANSWER_MAX: usize = 4 << 20;

/// The way to the API server.
pub(in crate::subnets::kube) struct ApiConnection {
    options: KubeOptions,
    timing: KubeTiming,
    state: Mutex<AccessInUse>,
}

struct AccessInUse {
    access: Access,
    /// When the files were read last, or are to be read again at once.
    read: Option<Instant>,
    /// Why they could not be.
    problem: Option<String>,
    reach: Reach,
}

impl ApiConnection {
    /// Read the files that are named; nothing is sent.
    pub(in crate::subnets::kube) fn new(
        options: &KubeOptions,
        timing: KubeTiming,
    ) -> Result<ApiConnection, SubnetError> {
        let access = credentials::load(options, timing.request_timeout);
        let access = access.map_err(SubnetError::Api)?;
        Ok(ApiConnection {
            options: options.clone(),
            timing,
            state: Mutex::new(AccessInUse {
                access,
                read: Some(Instant::now()),
                problem: None,
                reach: Reach::new(STORE, "W1001"),
            }),
        })
    }

    pub(in crate::subnets::kube) fn timing(&self) -> &KubeTiming {
        &self.timing
    }

    /// How the server has answered so far.
    pub(in crate::subnets::kube) fn health(&self) -> StoreHealth {
        self.state().reach.health()
    }

    /// Send a request, and take the answer whole.
    pub(in crate::subnets::kube) async fn ask(
        &self,
        request: &ApiRequest,
    ) -> Result<Vec<u8>, ApiFailure> {
        let body = self.send(request).await?;
        match timeout(self.timing.request_timeout, whole(body)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(reason)) => Err(self.unanswered(&reason)),
            Err(_) => Err(self.late()),
        }
    }

    /// Send a request, and take the answer as it comes.
    pub(in crate::subnets::kube) async fn follow(
        &self,
        request: &ApiRequest,
    ) -> Result<AnswerLines, ApiFailure> {
        self.send(request).await.map(AnswerLines::of)
    }

    async fn send(&self, request: &ApiRequest) -> Result<Body, ApiFailure> {
        self.refresh().await;
        let client = self.state().access.client.clone();
        let begun = Instant::now();
        let http = request.http();
        let http = http.map_err(|error| ApiFailure::Broken(error.to_string()))?;
        let response = match timeout(self.timing.request_timeout, client.send(http)).await {
            Err(_) => return Err(self.late()),
            Ok(Err(error)) => return Err(self.unanswered(&describe(&error))),
            Ok(Ok(response)) => response,
        };
        let status = response.status().as_u16();
        if response.status().is_success() {
            self.state().reach.answered(begun);
            return Ok(response.into_body());
        }
        let body = timeout(self.timing.request_timeout, whole(response.into_body())).await;
        let body = body.map(Result::unwrap_or_default).unwrap_or_default();
        if is_no_answer(status) {
            return Err(self.unanswered(&said(status, &body)));
        }
        let mut state = self.state();
        state.reach.answered(begun);
        if status == 401 {
            // The token may have been replaced a moment ago.
            state.read = None;
        }
        Err(ApiFailure::Refused(ApiRefusal::new(request, status, &body)))
    }

    fn late(&self) -> ApiFailure {
        let limit = self.timing.request_timeout;
        self.unanswered(&format!("no answer within {limit:?}"))
    }

    /// Nobody has answered; the next request goes over a new connection.
    fn unanswered(&self, reason: &str) -> ApiFailure {
        let mut state = self.state();
        state.read = None;
        let reason = format!("{}: {reason}", state.access.url);
        state.reach.unanswered(reason);
        ApiFailure::Unreachable
    }

    /// Read the files again, if that is due. What cannot be read leaves in use what there was.
    async fn refresh(&self) {
        let due = |read: Instant| read.elapsed() >= self.timing.reread;
        if !self.state().read.is_none_or(due) {
            return;
        }
        let (options, limit) = (self.options.clone(), self.timing.request_timeout);
        let loading = spawn_blocking(move || credentials::load(&options, limit));
        // A file system that hangs must not hang the agent.
        let Ok(Ok(loaded)) = timeout(limit, loading).await else {
            return;
        };
        let mut state = self.state();
        let anew = state.read.replace(Instant::now()).is_none();
        match loaded {
            Ok(access) => {
                state.problem = None;
                let differs = access.mark != state.access.mark;
                if differs {
                    info!("the credentials for {STORE} have changed: using the new ones");
                }
                if differs || anew {
                    state.access = access;
                }
            }
            Err(reason) => {
                if state.problem.as_ref() != Some(&reason) {
                    warn!(
                        code = "W1003",
                        "{reason}; what was read before stays in use"
                    );
                }
                state.problem = Some(reason);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, AccessInUse> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All of an answer.
async fn whole(mut body: Body) -> Result<Vec<u8>, String> {
    let mut answer = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| describe(&error))?;
        if let Ok(data) = frame.into_data() {
            answer.extend_from_slice(&data);
        }
        if answer.len() > ANSWER_MAX {
            return Err(format!("an answer is longer than {ANSWER_MAX} bytes"));
        }
    }
    Ok(answer)
}
