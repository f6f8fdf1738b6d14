//! Entry points of the fuzz targets, as plain functions over bytes.
