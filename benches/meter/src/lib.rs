//! What every measured program shares, whatever it reads with: a [`Task`], a [`Meter`], and the line of JSON that it prints at the end.
//!
//! Each is a process of its own, called with `NAME=VALUE` arguments. It reads so many records of a topic, is then idle or holds what it
//! has if asked to, leaves its group, and prints one line. `benches/peers` says the same in Go and in Java.

#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "a meter asks clocks")]

mod meter;
mod task;

pub use meter::Meter;
pub use task::Task;
