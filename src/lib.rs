//! ottla

mod assignor;
mod consumer;
mod model;
mod net;
mod proto;
mod records;
mod wire;
