//! Bytes to batches to records.
