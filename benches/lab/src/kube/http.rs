//! From HTTP requests to answers.

use super::access::{self, ADMIN, Credentials};
use super::discovery;
use super::failure::{About, Failure};
use super::faults::Faults;
use super::journal::{Asked, Journal};
use super::objects::{Done, Task};
use super::patch::Patch;
use super::request::{Query, Target};
use super::resource::{Resource, spelt};
use super::store::Store;
use super::watch::{StreamingLists, Surroundings, Watch};
use super::{catalog, list, openapi, review};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode};
use serde_json::Value;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;

/// Bytes that the body of a request may have, as in a real server.
const BODY_LIMIT: usize = 3 << 20;

/// Batches of events that wait for a client that reads slowly.
const WAITING: usize = 4;

/// Media type of OpenAPI documents of version 2 in protobuf.
const OPENAPI_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Media types of bodies that are read.
const READ: [&str; 1] = ["application/json"];

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: Arc<Store>,
    pub(super) credentials: Mutex<Credentials>,
    pub(super) faults: Faults,
    pub(super) journal: Journal,
    pub(super) lists: Mutex<StreamingLists>,
    pub(super) bookmark_interval: Duration,
    /// `address:port`.
    pub(super) address: String,
}

/// The body of an answer.
pub(super) enum Reply {
    Whole(Option<Bytes>),
    Events(mpsc::Receiver<io::Result<Bytes>>),
}

impl Body for Reply {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let next = match self.get_mut() {
            Reply::Whole(bytes) => Poll::Ready(bytes.take().map(Ok)),
            Reply::Events(events) => events.poll_recv(context),
        };
        next.map(|next| next.map(|next| next.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Reply::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Reply::Events(_) => SizeHint::new(),
        }
    }
}

/// Answer a request of a client that showed this certificate.
pub(super) async fn answer(
    shared: Arc<Shared>,
    certificate: Option<Arc<[u8]>>,
    request: Request<Incoming>,
) -> Response<Reply> {
    let (head, body) = request.into_parts();
    let header = head.headers.get(AUTHORIZATION);
    let header = header.map(|value| value.to_str().unwrap_or_default());
    let user = {
        let credentials = shared
            .credentials
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        credentials.user(header, certificate.as_deref())
    };
    let user = user.and_then(|user| acting(user, &head));
    let mut asked = Asked::new(&head, user.as_deref().unwrap_or(""));
    let response = match user {
        Ok(user) => respond(&shared, &user, &head, body, &mut asked).await,
        Err(failure) => Err(failure),
    };
    let response = response.unwrap_or_else(|failure| refused(&failure));
    asked.code = response.status().as_u16();
    shared.journal.add(asked);
    response
}

/// The user that a user acts as: itself, or for an administrator whoever it wants to be.
fn acting(user: String, head: &Parts) -> Result<String, Failure> {
    let other = text_of(head, "impersonate-user");
    match other.as_str() {
        "" => Ok(user),
        _ if user == ADMIN => Ok(other),
        _ => {
            let users = Target {
                plural: "users".to_owned(),
                name: other,
                ..Target::default()
            };
            Err(access::refusal(&user, "impersonate", &users))
        }
    }
}

async fn respond(
    shared: &Arc<Shared>,
    user: &str,
    head: &Parts,
    body: Incoming,
    asked: &mut Asked,
) -> Result<Response<Reply>, Failure> {
    tokio::time::sleep(shared.faults.delayed_by()).await;
    let (path, query) = (
        head.uri.path(),
        Query::parse(head.uri.query().unwrap_or_default()),
    );
    let Some(target) = Target::parse(path) else {
        return other_path(shared, user, head);
    };
    let verb = target.verb(&head.method, &query);
    asked.verb = verb.to_owned();
    asked.resource = spelt_of(&target);
    if let Some(refusal) = shared.faults.refusal() {
        return Err(refusal.failure());
    }
    let review = target.group == "authorization.k8s.io";
    let forbidden = shared.faults.forbids(verb, &asked.resource);
    if forbidden || !review && !access::allows(&shared.store, user, verb, &target) {
        return Err(access::refusal(user, verb, &target));
    }
    if review {
        return review_of(shared, user, &target, verb, body).await;
    }
    let resource = catalog::find(&shared.store, &target).ok_or_else(Failure::no_such_path)?;
    check_subresource(&resource, &target)?;
    let task = Task {
        store: &shared.store,
        resource: &resource,
        target: &target,
        query: &query,
    };
    let done = match verb {
        "get" => task.get(),
        "list" => list::list(&shared.store, &resource, &target, &query).map(|list| (200, list)),
        "watch" => return watch(shared, &resource, &target, &query),
        "create" => task.create(sent(head, body).await?),
        "update" => task.update(sent(head, body).await?),
        "patch" => {
            let media_type = text_of(head, CONTENT_TYPE.as_str());
            task.patch(&Patch::read(
                &media_type,
                &read(body).await?,
                resource.custom,
            )?)
        }
        "delete" => {
            let body = read(body).await?;
            let options = match body.is_empty() {
                true => Value::Null,
                false => object(&body)?,
            };
            task.delete(&options)
        }
        _ => Err(Failure::method_not_allowed()),
    };
    finished(done)
}

/// As rules spell it with its group: `nodes/status`, `daemonsets.apps`.
fn spelt_of(target: &Target) -> String {
    let whole = spelt(&target.group, &target.plural);
    match target.subresource.as_str() {
        "" => whole,
        subresource => format!("{whole}/{subresource}"),
    }
}

fn check_subresource(resource: &Resource, target: &Target) -> Result<(), Failure> {
    let whole = resource.spelt();
    match target.subresource.as_str() {
        "" => {}
        "status" if resource.has_status => {}
        _ => return Err(Failure::no_such_path()),
    }
    match !resource.namespaced && !target.namespace.is_empty() {
        true => Err(Failure::not_found(About {
            kind: &whole,
            name: &target.name,
        })),
        false => Ok(()),
    }
}

fn other_path(shared: &Shared, user: &str, head: &Parts) -> Result<Response<Reply>, Failure> {
    let path = head.uri.path();
    let verb = head.method.as_str().to_lowercase();
    if !access::allows_path(&shared.store, user, &verb, path) {
        return Err(access::path_refusal(user, &verb, path));
    }
    if ["/healthz", "/livez", "/readyz"].contains(&path) {
        return Ok(response(200, "text/plain; charset=utf-8", "ok".into()));
    }
    let all = catalog::all(&shared.store);
    if path == "/openapi/v2" && text_of(head, ACCEPT.as_str()).contains("protobuf") {
        let document = openapi::v2_protobuf(&all);
        return Ok(response(200, OPENAPI_PROTOBUF, document.into()));
    }
    let found = match path {
        "/openapi/v2" => Some(openapi::v2(&all)),
        _ => openapi::v3(path, &all).or_else(|| discovery::answer(path, &shared.address, &all)),
    };
    let found = found.ok_or_else(Failure::no_such_path)?;
    finished(Ok((200, found.to_string().into())))
}

async fn review_of(
    shared: &Shared,
    user: &str,
    target: &Target,
    verb: &str,
    body: Incoming,
) -> Result<Response<Reply>, Failure> {
    match (target.plural.as_str(), verb) {
        ("selfsubjectaccessreviews", "create") => {
            let review = review::answer(&shared.store, user, &review::read(&read(body).await?)?);
            finished(Ok((201, review.to_string().into())))
        }
        _ => Err(Failure::no_such_path()),
    }
}

fn watch(
    shared: &Arc<Shared>,
    resource: &Resource,
    target: &Target,
    query: &Query,
) -> Result<Response<Reply>, Failure> {
    let lists = *shared.lists.lock().unwrap_or_else(PoisonError::into_inner);
    let watch = Watch::new(&shared.store, resource, target, query, lists)?;
    let around = Surroundings {
        orders: shared.faults.orders(),
        bookmark_interval: shared.bookmark_interval,
    };
    let (to, events) = mpsc::channel(WAITING);
    tokio::spawn(watch.run(around, to));
    let mut response = Response::new(Reply::Events(events));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    Ok(response)
}

async fn read(body: Incoming) -> Result<Bytes, Failure> {
    let read = Limited::new(body, BODY_LIMIT).collect().await;
    let read =
        read.map_err(|error| Failure::new(413, "RequestEntityTooLarge", error.to_string()))?;
    Ok(read.to_bytes())
}

/// The object that was sent along.
async fn sent(head: &Parts, body: Incoming) -> Result<Value, Failure> {
    let media_type = text_of(head, CONTENT_TYPE.as_str());
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    match media_type.is_empty() || READ.contains(&media_type) {
        true => object(&read(body).await?),
        false => Err(Failure::unsupported_media_type(&READ)),
    }
}

fn object(body: &[u8]) -> Result<Value, Failure> {
    let object: Result<Value, _> = serde_json::from_slice(body);
    match object {
        Ok(object) if object.is_object() => Ok(object),
        Ok(_) => Err(Failure::bad_request("the body is no object")),
        Err(error) => Err(Failure::bad_request(format!(
            "the body is no JSON: {error}"
        ))),
    }
}

fn text_of(head: &Parts, name: &str) -> String {
    let value = head.headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

fn finished(done: Done) -> Result<Response<Reply>, Failure> {
    done.map(|(code, json)| response(code, "application/json", json))
}

fn refused(failure: &Failure) -> Response<Reply> {
    let mut response = match failure.plain {
        true => {
            let text = failure.message.clone();
            response(failure.code, "text/plain; charset=utf-8", text.into())
        }
        false => {
            let status = failure.status().to_string();
            response(failure.code, "application/json", status.into())
        }
    };
    if let Some(seconds) = failure.retry_after {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

fn response(code: u16, media_type: &'static str, body: Bytes) -> Response<Reply> {
    let mut response = Response::new(Reply::Whole(Some(body)));
    *response.status_mut() =
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let media_type = HeaderValue::from_static(media_type);
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}
