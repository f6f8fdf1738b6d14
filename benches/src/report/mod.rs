//! Reports: figures made readable.

pub mod comparison;
pub mod host;
pub mod summary;
pub mod table;

pub use comparison::Comparison;
pub use host::Host;
pub use summary::Summary;
pub use table::Table;
