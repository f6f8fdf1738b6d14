//! What of a host slows weft down: inspected, planned with reasons, changed, and put back.
//!
//! [`Facts`] are what a host is like, [`Wishes`] a profile and where it is departed from;
//! [`plan`] makes [`Plan`] of both without touching anything. [`apply`] and [`rollback`] change
//! the host by way of a [`Journal`].
//!
//! # Vocabulary
//!
//! - A **knob** is one value that can be read and set, such as `rps_cpus` of one queue.
//! - A **kind** is what knobs have in common: why weft cares, and what a change does.
//! - A **profile** says what a host is to be good at, a **wish** departs from it for one kind.
//! - A **change** gives a knob another value; **advice** is for what is not the host's to set.

pub mod catalog;
mod change;
mod cpus;
mod ethtool;
pub mod facts;
mod host;
mod journal;
mod knob;
mod plan;
mod profile;

pub use catalog::{Evidence, Kind};
pub use change::{Done, Outcome, State, apply, rollback, states};
pub use cpus::{CpuSet, NoCpuSet};
pub use facts::{Facts, Workers, default_device};
pub use host::Host;
pub use journal::{Entry, Journal, JournalError, Lock, Store};
pub use knob::{Knob, KnobError, Knobs};
pub use plan::{Advice, Change, Plan, plan};
pub use profile::{NoProfile, Profile, ProfileError, Wish, Wishes};
