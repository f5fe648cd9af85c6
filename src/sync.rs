//! Locks and atomics of what is shared between threads record by record.
//!
//! They are std's; built with `--cfg shuttle`, they are shuttle's, and a test can play every order in which threads get to them. An `Arc` is
//! std's in either case: what shuttle orders is all that is done with what it holds.

#[cfg(shuttle)]
pub(crate) use shuttle::sync::{Mutex, MutexGuard, atomic};
#[cfg(not(shuttle))]
pub(crate) use std::sync::{Mutex, MutexGuard, atomic};
