//! The whole core, with the user's side as it is, against a cluster in memory, under virtual time.

mod chaos;
mod delivery;
mod fetching;
mod group;
mod kafka;
mod ledger;
mod world;
