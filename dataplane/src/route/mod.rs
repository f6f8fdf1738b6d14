//! Which peer a destination belongs to.
