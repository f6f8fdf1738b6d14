//! Measurements: a lab of network namespaces, load for it, and reports.

pub mod lab;
pub mod load;
pub mod report;
