//! The manual: what is worth knowing and belongs to no single item. There is no code in it.

pub mod limits;
pub mod non_obvious;
pub mod performance;
pub mod rebalancing;
