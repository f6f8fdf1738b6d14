//! What `weft connectivity` finds out: whether each node of many reaches each other.
//!
//! A [`Row`] is what one node measures to all others that it knows; rows of many nodes make a
//! [`Matrix`]. No node needs an open port for that: rows come by whatever runs commands there.

mod matrix;
mod row;

pub use matrix::{Cell, Matrix, Named, Pair};
pub use row::{Reached, Row, measure};
