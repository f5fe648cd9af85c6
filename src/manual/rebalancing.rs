//! Rebalancing: how a group goes from one assignment to the next, and what to choose.
//!
//! # What happens
//!
//! A group rebalances when a member comes or goes, when a topic that somebody subscribed to gets more partitions, appears or goes, and when
//! a member changes its subscription. By the classic protocol every member joins anew, one of them, the leader, assigns, and each learns what
//! it holds. The assignors that all members offer decide how much stands still meanwhile:
//!
//! | | eager: [`Range`](crate::Range), [`RoundRobin`](crate::RoundRobin), [`Sticky`](crate::Sticky) | cooperative: [`CooperativeSticky`](crate::CooperativeSticky) (KIP-429) |
//! |---|---|---|
//! | before a member joins | it hands back everything | it hands back nothing |
//! | what it keeps | is fetched anew from the committed offset | is read on all the while: no pause, no refetch, buffers stay, acks count |
//! | what goes to another | is given at once | is handed back once the assignment is known, and given in a second rebalance |
//! | at most once | stands still | what is committed already is handed out; further commits wait until the group has assigned |
//!
//! To hand a partition back means: nothing more of it is handed out, what is in work is waited for
//! ([`drain_timeout`](crate::ConsumerBuilder::drain_timeout)), what was finished is committed. So a clean hand-over repeats nothing.
//!
//! A member is as eager as the most eager assignor that it offers, for any of them may be selected. The leader of a cooperative group gives
//! nobody what another member still claims; of claims that contradict each other it believes the one of the newest generation, and of two from
//! the same generation neither.
//!
//! # What to choose
//!
//! * **Nothing.** The default ([`Auto`](crate::GroupProtocol::Auto)) is the new protocol where the brokers have it, from Kafka 4.0 on. Elsewhere it
//!   offers `Range`, then `CooperativeSticky`, as the Java client does: it gets along with members of any client, and is eager.
//! * **[`GroupProtocol::Classic`](crate::GroupProtocol::Classic)**, if a hand-over in less than the broker's heartbeat interval counts for more
//!   than that nobody waits for the slowest: see below. Who chooses assignors gets it, too:
//! * **`CooperativeSticky` alone**, if all members of the group can: adding or losing a member then moves its share, and disturbs no other.
//! * **`Sticky`**, if members must be eager, and it is costly to move partitions, as with state that is kept for each.
//! * **`Range`**, if records with equal keys in several topics must meet at one member.
//!
//! # When topics come and go
//!
//! By [pattern](crate::ConsumerBuilder::subscribe_pattern) a member asks for all topics that its user may describe, and compares their names: when
//! metadata are old ([`metadata_max_age`](crate::ConsumerBuilder::metadata_max_age)), and whenever its group rebalances, so that what one member
//! has found is found by all of them in the same rebalance (by the new protocol, where a member hears of others' changes only by what it is
//! assigned, whenever it is assigned something). A topic that no broker has told of for three seconds does not match any more; its
//! partitions are given back without a word on the stream.
//!
//! By the new protocol the coordinator can match in place of the members
//! ([`subscribe_server_pattern`](crate::ConsumerBuilder::subscribe_server_pattern)): with regular expressions in the syntax of RE2, against whole names.
//! It looks when topics are new, at most every ten seconds, and a member learns of what matches by its assignment, in which topics have ids and no
//! names. What they are called is asked for by the ids, and asked for again while no broker knows; what can be named is read meanwhile.
//!
//! | | `subscribe_pattern` | `subscribe_server_pattern` |
//! |---|---|---|
//! | who matches | each member, among all topics that its user may describe | the coordinator, among what the user may describe whose heartbeat makes it look |
//! | syntax | the crate `regex` | RE2, of the library RE2/J |
//! | excluded patterns, and Kafka's own topics left out | yes | no |
//! | needs | any broker, either protocol | Kafka 4.0, and the new protocol |
//! | a new topic is found | within `metadata_max_age` | within some ten seconds |
//! | a pattern that is none | is refused by `connect` | ends the stream (`GroupRefused`) |
//! | nothing matches | is told on the stream; the member stays out of the group | the member stands by |
//!
//! What is subscribed to may also be changed, or given up for a while
//! ([`Handle::subscribe`](crate::Handle::subscribe), [`Handle::unsubscribe`](crate::Handle::unsubscribe)): a cooperative member and one by the new
//! protocol read on what they keep.
//!
//! # Who takes no part
//!
//! A consumer [without a group](crate::Consumer::standalone), or with [partitions of its own choice](crate::ConsumerBuilder::assign), waits for nobody,
//! and nobody for it. What is new is read as soon as metadata tell of it ([`metadata_max_age`](crate::ConsumerBuilder::metadata_max_age)), also while
//! what is no longer wanted is still in work. What is held stays held, across leaders, coordinators and topics that come and go; a topic that was
//! made anew begins anew. It is never put out for its silence, so a program that is stuck is for the program to notice
//! ([`Handle::lag`](crate::Handle::lag)).
//!
//! Two such consumers that commit to one group overwrite each other's offsets where their partitions are the same, and a group that also has
//! members takes none of their commits. Give each purpose a group of its own.
//!
//! # From eager to cooperative, without a stop
//!
//! 1. Restart each member with both (`[Range, CooperativeSticky]`, the default). The group stays with `Range`.
//! 2. Restart each member with `CooperativeSticky` alone. As soon as the first has joined, the group uses it, since it is the only one that
//!    all offer; members of the first kind stay eager until they are restarted.
//!
//! Back is the same way in the other order. A coordinator that takes over a group from another knows of each member only the assignor in use,
//! until the member joins again. If that happens between the steps, a member that does not offer that one is refused
//! (`INCONSISTENT_GROUP_PROTOCOL`): start it once more when the others have joined anew, or are restarted.
//!
//! # The new protocol (KIP-848)
//!
//! From Kafka 4.0 on there is another protocol, and a member takes part by it where broker and group
//! allow it, unless [`group_protocol`](crate::ConsumerBuilder::group_protocol) says otherwise. There is no round of all members: the coordinator assigns, with an assignor of its own
//! ([`server_assignor`](crate::ConsumerBuilder::server_assignor); `uniform` keeps as much as it can where it is, `range` brings equal partitions of
//! several topics together), and tells each member on its own what to hold. A member hands back what is another's to be, says so, and takes on
//! what is new; the rest is read on. Nobody waits for the slowest member but those who are to get its partitions. At most once, commits do not
//! wait either.
//!
//! | | classic | new |
//! |---|---|---|
//! | who says how often a member is to be heard of | the member: `session_timeout`, `heartbeat_interval` | the broker: `group.consumer.session.timeout.ms`, `group.consumer.heartbeat.interval.ms` |
//! | who assigns | the leader, with one of `assignors` | the coordinator, with one of `group.consumer.assignors` |
//! | a static member that starts while its former process still runs | takes its place, and the former is told (`Fenced`) | waits for its place, and is told so |
//! | a static member that is closed | says nothing, and has a session's time to come back | says that it will be back, and has the same time |
//! | two processes with different settings | the member's that leads count | each member's own count |
//!
//! A group goes from one protocol to the other while it works (the broker's `group.consumer.migration.policy`, `bidirectional` unless it is changed):
//! restart one member after the other with the other choice. The first member by the new protocol converts the group, the last one that
//! leaves converts it back, and members of both kinds share the partitions meanwhile, of any client. Where the broker does not convert groups,
//! stop all members first; the committed offsets stay. `Auto` joins by the classic protocol then. It stays with the one that it found until the
//! coordinator says that the group is of the other one; brokers that are upgraded do not say so, and the new protocol comes with the member's
//! next start.
//!
//! A member learns what it is to hand back, and what it gets, from the answer to a heartbeat. At a broker's defaults there is one in 5 s, so
//! that a newcomer may wait for two of them, and who takes over from one that left, for one; by the classic protocol all join at their next
//! heartbeat, 3 s at most, or whatever [`heartbeat_interval`](crate::ConsumerBuilder::heartbeat_interval) says. Who wants it sooner sets the group's
//! `consumer.heartbeat.interval.ms` at the brokers (`kafka-configs --entity-type groups`; not below `group.consumer.min.heartbeat.interval.ms`).
//!
//! # Losing partitions
//!
//! A member that the coordinator has not heard from for a session's time, or does not know any more, has lost what it held: others may read it
//! already. Its records count no more, acks change nothing, and nothing is committed. It joins anew by itself, and says so
//! ([`GroupEvent::Lost`](crate::GroupEvent::Lost)).
