//! The cluster machine among virtual brokers.

#![allow(clippy::disallowed_methods, reason = "virtual time begins at some instant")]

mod authentication;
mod coordinator;
mod exactly_once;
mod metadata;
mod routing;
mod world;
