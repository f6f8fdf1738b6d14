//! The documentation held to the code: what a table lists is what the code has, and the reverse.

#![allow(clippy::unwrap_used)]

mod codes;
mod commands;
mod counters;
mod doctor;
mod fast_path;
mod figures;
mod files;
mod flags;
mod glossary;
mod links;
mod log;
mod markdown;
mod metrics;
mod readme;
mod rust;
mod tuning;
