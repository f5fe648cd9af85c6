//! What is handed out, and what is committed.

use super::world::{World, ms, orders, secs};
use crate::wire::Api;

#[test]
fn everything_is_handed_out_once_in_order_and_committed() {
    let mut world = World::new(2);
    world.produce(0, 100);
    world.at_least_once();
    world.finish(secs(3));
    world.produce(1, 50);
    world.produce(0, 1);
    world.finish(secs(2));
    assert_eq!(world.handed_out(&orders(0)), (0..101).collect::<Vec<_>>());
    assert_eq!(world.handed_out(&orders(1)), (0..50).collect::<Vec<_>>());
    assert!(world.kafka.count(Api::OffsetCommit) <= 5);
    world.run(ms(100));
}
