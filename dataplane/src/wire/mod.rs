//! Byte-level views and builders.
