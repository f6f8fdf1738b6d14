//! Reports: figures made readable.

pub mod comparison;
pub mod host;
pub mod html;
pub mod json;
pub mod sitting;
pub mod summary;
pub mod svg;
pub mod table;
pub mod text;

pub use comparison::Comparison;
pub use host::Host;
pub use sitting::{Failure, Setting, Sitting};
pub use summary::Summary;
pub use table::Table;
