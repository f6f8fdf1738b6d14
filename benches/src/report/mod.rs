//! Reports: figures made readable.

pub mod comparison;
pub mod summary;
pub mod table;

pub use comparison::Comparison;
pub use summary::Summary;
pub use table::Table;
