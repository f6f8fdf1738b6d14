//! Measurements: load for the lab, replayed packets, and reports.

pub mod load;
pub mod replay;
pub mod report;
