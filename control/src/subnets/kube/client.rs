//! Requests to the API server, and what is said when it does not answer, or says no.

mod connection;
mod credentials;
mod failure;
mod lines;
mod request;

pub(super) use connection::{ApiConnection, STORE};
pub(super) use failure::ApiFailure;
pub(super) use lines::AnswerLines;
pub(super) use request::{ApiRequest, escape};
