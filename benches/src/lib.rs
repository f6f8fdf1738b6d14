//! Measurements: a lab of network namespaces, load for it, replayed packets, and reports.

pub mod lab;
pub mod load;
pub mod replay;
pub mod report;
