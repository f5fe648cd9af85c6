//! Everything at once, at random, from a seed: it heals in the end, and then everything must be done within a bound of time.
//!
//! A failure prints its seed. `OTTLA_SEED=17 cargo test chaos` plays that one alone; `OTTLA_SEEDS=100000` plays so many.

use std::time::Duration;

use super::{
    kafka::Log,
    world::{Records, World, builder, ms, orders, secs},
};
use crate::{consumer::OffsetReset, proto::backoff::Rng, wire::Api};

const SEEDS: u64 = 50;
const PARTITIONS: i32 = 3;
const PARTITIONS_MAX: usize = 5;
/// Longer than a session, than metadata may age, and than any user holds on to something.
const HEALED_WITHIN: Duration = secs(60);

struct Chaos {
    world: World,
    rng: Rng,
    at_most_once: bool,
    alive: Vec<usize>,
}

/// Says which seed it was.
struct Names(u64);

impl Drop for Names {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("OTTLA_SEED={}", self.0);
        }
    }
}

#[test]
fn whatever_happens_everything_is_done_soon_after_it_stops() {
    let number = |name| std::env::var(name).ok().and_then(|value: String| value.parse().ok());
    if let Some(seed) = number("OTTLA_SEED") {
        play(seed);
        return;
    }
    for seed in 0..number("OTTLA_SEEDS").unwrap_or(SEEDS) {
        play(seed);
    }
}

#[test]
fn the_same_seed_gives_the_same_life() {
    let life = |seed| -> Vec<_> {
        let world = play(seed);
        world.kafka.seen.iter().map(|seen| (seen.at - world.start, seen.client, seen.api, seen.fetched.clone())).collect()
    };
    assert_eq!(life(42), life(42));
}

fn play(seed: u64) -> World {
    let _names = Names(seed);
    let mut chaos =
        Chaos { world: World::seeded(PARTITIONS, seed), rng: Rng::new(seed), at_most_once: seed % 4 == 3, alive: Vec::new() };
    chaos.world.connections_hold = false;
    chaos.start();
    for _ in 0..20 {
        let time = ms(chaos.below(1200));
        chaos.world.run(time);
        chaos.step();
    }
    chaos.heal();
    chaos.world
}

impl Chaos {
    fn below(&mut self, limit: u64) -> u64 {
        self.rng.next_u64() % limit
    }

    fn start(&mut self) {
        let builder = builder()
            .offset_reset(OffsetReset::Earliest)
            .fetch_max_wait(secs(4))
            .request_timeout(secs(8))
            .rebalance_timeout(secs(20))
            .drain_timeout(secs(4))
            .processing_timeout(secs(20))
            .metadata_max_age(secs(30));
        let client = match self.at_most_once {
            true => self.world.join(builder, |consumer| Records::AtMostOnce(consumer.at_most_once())),
            false => self.world.join(builder, |consumer| Records::AtLeastOnce(consumer.at_least_once())),
        };
        let (at_once, work, drops) = (self.below(20) as usize + 1, ms(self.below(4) * 50), self.below(4) * 4);
        self.world.habits(client, |habits| (habits.at_once, habits.work, habits.drops_percent) = (at_once, work, drops));
        self.alive.push(client);
    }

    fn step(&mut self) {
        let (number, broker) = (self.below(PARTITIONS as u64) as i32, self.below(3) as i32 + 1);
        let at = self.below(self.alive.len().max(1) as u64) as usize;
        let client = self.alive.get(at).copied();
        let world = &mut self.world;
        match self.rng.next_u64() % 18 {
            0..4 => world.produce(number, 1 + broker * 7),
            4 => world.kafka(|kafka, now| kafka.rebalance(now)),
            5 => world.kafka(|kafka, now| kafka.move_coordinator(now, broker)),
            6 => world.elect(number, broker),
            7 => world.stop_broker(broker),
            8 => world.kafka.down.clear(),
            9 => {
                let percent = self.rng.next_u64() % 30;
                world.kafka.chaos = Some((Rng::new(self.rng.next_u64()), percent));
            }
            10 => {
                if let Some(client) = client {
                    self.alive.remove(at);
                    world.kill(client);
                }
                self.start();
            }
            11 => {
                if let Some(client) = client {
                    self.alive.remove(at);
                    world.close(client, ms(500 * broker as u64));
                }
                self.start();
            }
            12 if self.alive.len() < 3 => self.start(),
            13 => client.into_iter().for_each(|client| {
                let frozen = self.rng.next_u64().is_multiple_of(2);
                world.freeze(client, frozen);
            }),
            14 => client.into_iter().for_each(|client| world.kafka(|kafka, now| kafka.expel(now, client))),
            15 => {
                let logs = &mut world.kafka.topics.get_mut("orders").expect("created").logs;
                if logs.len() < PARTITIONS_MAX {
                    logs.push(Log::new(broker));
                    logs.last_mut().expect("pushed").produce(5);
                }
            }
            16 => drop(world.kafka.unstable.insert(orders(number))),
            _ => client.into_iter().for_each(|client| {
                let partition = orders(number);
                let paused = self.rng.next_u64().is_multiple_of(2);
                world.with_handle(client, |handle| if paused { handle.pause([&partition]) } else { handle.resume([&partition]) });
            }),
        }
    }

    fn heal(&mut self) {
        self.world.kafka.heal();
        for client in self.alive.clone() {
            self.world.freeze(client, false);
            self.world.with_handle(client, |handle| handle.resume([&orders(0), &orders(1), &orders(2)]));
        }
        if self.alive.is_empty() {
            self.start();
        }
        for number in 0..PARTITIONS {
            self.world.produce(number, 3);
        }
        let healed = self.world.now;
        let at_most_once = self.at_most_once;
        self.world.run_until(HEALED_WITHIN, |world| if at_most_once { world.is_committed() } else { world.is_done() });
        let world = &self.world;
        world.ledger.check_contents();
        let (requests, clients) = (world.kafka.seen.len(), world.clients.len());
        let most = 100 * clients + 30 * clients * world.elapsed().as_secs() as usize;
        assert!(requests <= most, "{requests} requests of {clients} clients in {:?}", world.elapsed());
        let joins = world.kafka.seen.iter().filter(|seen| seen.at > healed && seen.api == Api::JoinGroup).count();
        assert!(joins <= 12 * clients, "{joins} joins of {clients} clients after the end of all trouble");
    }
}
