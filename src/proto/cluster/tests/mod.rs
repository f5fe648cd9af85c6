//! The cluster machine among virtual brokers.

mod coordinator;
mod exactly_once;
mod metadata;
mod routing;
mod world;
