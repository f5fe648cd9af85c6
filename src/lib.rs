//! ottla

mod assignor;
mod consumer;
mod model;
mod net;
mod proto;
mod record;
mod records;
mod wire;
