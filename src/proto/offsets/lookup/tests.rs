use super::*;
use crate::{
    model::{LeaderEpoch, Offset},
    proto::{Answer, CallError, PartitionView, TopicView},
    wire::{Api, CoordinatorResponse, FetchedOffset, ListedOffset, Malformed, OffsetFetchResponse, Response},
};

const NONE: ErrorCode = ErrorCode::NONE;
const TIMEOUT: Duration = Duration::from_secs(60);

/// What happens in answer to something that the machine does.
#[derive(Clone)]
enum Reply {
    Nothing,
    /// Of each partition its number, a code and an offset; -1 stands for none.
    Listed(Vec<(i32, ErrorCode, i64)>),
    Committed(ErrorCode, Vec<(i32, ErrorCode, i64)>),
    Coordinator(Result<i32, ErrorCode>),
    No(CallError),
    View(ClusterView),
}

use Reply::{Committed, Coordinator, Listed, No, Nothing, View};

fn partition(number: i32) -> TopicPartition {
    TopicPartition::new("orders", number)
}

/// The topic `orders`, each of its partitions led by this broker; 0 is none.
fn led_by(leaders: &[i32]) -> ClusterView {
    let known = |leader: &i32| PartitionView {
        leader: Some(BrokerId(*leader)).filter(|leader| leader.0 > 0),
        leader_epoch: Some(LeaderEpoch(5)),
        ..PartitionView::default()
    };
    let topic = TopicView { error: NONE, id: None, partitions: leaders.iter().map(known).collect() };
    ClusterView { revision: 1, topics: [("orders".into(), topic)].into() }
}

fn without(error: ErrorCode) -> ClusterView {
    let topic = TopicView { error, id: None, partitions: Vec::new() };
    ClusterView { revision: 1, topics: [("orders".into(), topic)].into() }
}

fn of_topic(at: Timestamp) -> Question {
    Question::List { of: vec!["orders".into()], at }
}

fn of_partitions(numbers: &[i32], at: Timestamp) -> Question {
    Question::List { of: numbers.iter().map(|number| partition(*number).into()).collect(), at }
}

fn committed() -> Question {
    Question::Committed { group: "g".into() }
}

fn lag() -> Question {
    Question::Lag { group: "g".into() }
}

fn lost() -> Reply {
    No(CallError::Lost("b1:9092: reset".into()))
}

fn malformed() -> Reply {
    No(CallError::Malformed(Malformed { api: Api::ListOffsets, version: 7, at: 0, what: "a length" }))
}

fn unsupported() -> Reply {
    No(CallError::Unsupported { api: Api::ListOffsets, ours: (7, 10), theirs: Some((1, 5)) })
}

struct Harness {
    lookup: Lookup<&'static str>,
    start: Instant,
    now: Instant,
    view: ClusterView,
    requests: usize,
}

/// What the machine does next.
enum Deed {
    Event(LookupEvent<&'static str>),
    Ask(Ask),
}

impl Harness {
    #[allow(clippy::disallowed_methods, reason = "where virtual time begins")]
    fn new(view: ClusterView) -> Self {
        let config = LookupConfig {
            isolation: Isolation::ReadCommitted,
            request_timeout: Duration::from_secs(30),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            seed: 3,
        };
        let now = Instant::now();
        Self { lookup: Lookup::new(config), start: now, now, view, requests: 0 }
    }

    fn ask(&mut self, id: u64, question: Question, ticket: &'static str) {
        self.lookup.ask(self.now, id, question, TIMEOUT, ticket);
    }

    /// `None`: nothing happens before the time passes.
    fn next_now(&mut self) -> Option<Deed> {
        if let Some(event) = self.lookup.poll_event() {
            return Some(Deed::Event(event));
        }
        let ask = self.lookup.poll_ask(self.now, &self.view);
        ask.map(Deed::Ask).or_else(|| self.lookup.poll_event().map(Deed::Event))
    }

    fn next(&mut self) -> Deed {
        for _ in 0..1000 {
            if let Some(deed) = self.next_now() {
                return deed;
            }
            let (until, why) = self.lookup.poll_timeout().expect("a question is open");
            assert!(until > self.now, "{why}: a deadline that has passed is a busy loop");
            self.now = until;
            self.lookup.handle_timeout(self.now);
        }
        panic!("nothing happens any more")
    }

    fn reply(&mut self, ask: Option<Ask>, reply: Reply) {
        let word = |(number, error, offset): &(i32, ErrorCode, i64)| {
            let position = Some(Position { offset: Offset(*offset), leader_epoch: Some(LeaderEpoch(5)) });
            (partition(*number), *error, position.filter(|position| position.offset.0 >= 0))
        };
        let answer: Answer = match reply {
            Nothing => return,
            View(view) => return self.view = view,
            Listed(words) => {
                let listed = |of| {
                    let (partition, error, position) = word(of);
                    (partition, ListedOffset { error, position, timestamp_ms: None })
                };
                Ok(Response::ListOffsets(words.iter().map(listed).collect()))
            }
            Committed(error, words) => {
                let fetched = |of| {
                    let (partition, error, committed) = word(of);
                    (partition, FetchedOffset { error, committed, metadata: Some("m".into()) })
                };
                Ok(Response::OffsetFetch(OffsetFetchResponse { error, partitions: words.iter().map(fetched).collect() }))
            }
            Coordinator(found) => {
                let broker = |id| Broker { id: BrokerId(id), host: "b".into(), port: 1, rack: None };
                let (error, coordinator) = (found.err().unwrap_or(NONE), found.ok().map(broker));
                Ok(Response::FindCoordinator(CoordinatorResponse { error, message: None, coordinator }))
            }
            No(error) => Err(error),
        };
        let Owner::Lookup(call) = ask.expect("only a request has an answer").owner else { panic!("another's call") };
        self.lookup.handle_answer(self.now, call, answer);
    }

    fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Nothing is left of any question, and nothing happens for it any more.
    fn is_at_rest(&mut self) -> bool {
        while let Some(LookupEvent::WatchTopics(_)) = self.lookup.poll_event() {}
        self.next_now().is_none() && self.lookup.poll_timeout().is_none() && self.lookup.calls.is_empty()
    }
}

/// A request as whom it goes to and what it asks for; an event by its name.
fn told(deed: &Deed) -> String {
    match deed {
        Deed::Event(LookupEvent::WatchTopics(topics)) => {
            format!("watch {}", topics.iter().cloned().collect::<Vec<_>>().join(" "))
        }
        Deed::Event(LookupEvent::Coordinator(broker)) => format!("learn {}", broker.id.0),
        Deed::Event(LookupEvent::RefreshMetadata) => "refresh".to_owned(),
        Deed::Event(LookupEvent::Answered { ticket, .. }) => format!("answered {ticket}"),
        Deed::Ask(Ask { to, request, .. }) => {
            let to = match to {
                Target::Any => "any".to_owned(),
                Target::Broker(broker) => broker.0.to_string(),
                other => panic!("{other:?}"),
            };
            let what = match request {
                Request::FindCoordinator { group } => format!("find {group}"),
                Request::GroupOffsets { group } => format!("committed {group}"),
                Request::ListOffsets { isolation: Isolation::ReadCommitted, partitions } => {
                    assert!(partitions.iter().all(|asked| asked.current_leader_epoch == Some(LeaderEpoch(5))));
                    let numbers: Vec<_> = partitions.iter().map(|asked| asked.partition.partition().to_string()).collect();
                    format!("list {}", numbers.join(" "))
                }
                request => panic!("{request:?}"),
            };
            format!("{to}: {what}")
        }
    }
}

fn told_outcome(outcome: Outcome) -> Vec<String> {
    let found = match outcome {
        Ok(found) => found,
        Err(error) => return vec![format!("{error:?}")],
    };
    let commits = found.committed.iter().map(|(of, commit)| format!("{of} committed {}", commit.position.offset.0));
    let listed = found.listed.iter().map(|(of, listed)| match listed {
        Some(listed) => format!("{of} {}", listed.position.offset.0),
        None => format!("{of} none"),
    });
    let errors = found.errors.iter().map(|error| format!("{error:?}"));
    commits.chain(listed).chain(errors).collect()
}

/// Plays a question: the machine does what `script` says, in this order, and what stands beside it happens then. In the end this is
/// the outcome: what was found, and errors word by word. Returns how long it took.
#[track_caller]
fn check(view: ClusterView, question: Question, script: &[(&str, Reply)], outcome: &[&str]) -> Duration {
    let mut h = Harness::new(view);
    h.ask(1, question, "it");
    for (expected, reply) in script {
        let deed = h.next();
        assert_eq!(told(&deed), *expected, "after {:?}", h.elapsed());
        let ask = if let Deed::Ask(ask) = deed { Some(ask) } else { None };
        h.reply(ask, reply.clone());
    }
    match h.next() {
        Deed::Event(LookupEvent::Answered { ticket: "it", outcome: found }) => assert_eq!(told_outcome(found), outcome),
        deed => panic!("{} instead of the answer, after {:?}", told(&deed), h.elapsed()),
    }
    let elapsed = h.elapsed();
    assert!(h.is_at_rest());
    elapsed
}

const SOON: Duration = Duration::from_secs(1);

#[test]
fn each_leader_is_asked_once_for_all_its_partitions() {
    let view = led_by(&[1, 2, 1, 2]);
    let question = Question::List { of: vec![partition(2).into(), "orders".into()], at: Timestamp::Latest };
    let script = [
        ("watch orders", Nothing),
        ("1: list 0 2", Listed(vec![(0, NONE, 7), (2, NONE, 9)])),
        ("2: list 1 3", Listed(vec![(3, NONE, 0), (1, NONE, 8)])),
    ];
    let took = check(view, question, &script, &["orders-0 7", "orders-1 8", "orders-2 9", "orders-3 0"]);
    assert_eq!(took, Duration::ZERO);
}

#[test]
fn a_leader_that_does_not_answer_holds_up_no_other() {
    let script = [("watch orders", Nothing), ("1: list 0", Nothing), ("2: list 1", Listed(vec![(1, NONE, 8)]))];
    let late = "TimedOut: cannot find the end of orders-0 within 60s: broker 1 did not answer ListOffsets; check the brokers' health, or \
                give it more time (`timeout`)";
    let took = check(led_by(&[1, 2]), of_topic(Timestamp::Latest), &script, &["orders-1 8", late]);
    assert_eq!(took, TIMEOUT);
}

#[test]
fn a_leader_that_moves_in_the_midst_is_followed() {
    for code in [ErrorCode::NOT_LEADER_OR_FOLLOWER, ErrorCode::FENCED_LEADER_EPOCH, ErrorCode::OFFSET_NOT_AVAILABLE] {
        let script = [
            ("watch orders", Nothing),
            ("1: list 0 2", Listed(vec![(0, NONE, 7), (2, code, -1)])),
            ("refresh", View(led_by(&[1, 2, 2]))),
            ("2: list 1", Listed(vec![(1, NONE, 8)])),
            ("2: list 2", Listed(vec![(2, NONE, 9)])),
        ];
        let found = ["orders-0 7", "orders-1 8", "orders-2 9"];
        assert!(check(led_by(&[1, 2, 1]), of_topic(Timestamp::Latest), &script, &found) < SOON);
    }
}

#[test]
fn a_leader_that_is_not_elected_yet_is_waited_for() {
    let view = led_by(&[1, 0]);
    let mut h = Harness::new(view);
    h.ask(1, of_topic(Timestamp::Latest), "it");
    assert_eq!(told(&h.next()), "watch orders");
    let Deed::Ask(ask) = h.next() else { panic!("an event") };
    h.reply(Some(ask), Listed(vec![(0, NONE, 7)]));
    assert!(h.next_now().is_none());
    h.view = led_by(&[1, 3]);
    assert_eq!(told(&h.next_now().expect("at once")), "3: list 1");

    let late = "TimedOut: cannot find the end of orders-0 within 60s: no broker leads it; check the brokers' health, or give it more time \
                (`timeout`)";
    check(led_by(&[0]), of_topic(Timestamp::Latest), &[("watch orders", Nothing)], &[late]);
}

#[test]
fn a_lost_connection_is_no_answer() {
    for lost in [lost(), No(CallError::NotSent("b1:9092: refused".into()))] {
        let script = [
            ("watch orders", Nothing),
            ("1: list 0 1", lost),
            ("refresh", Nothing),
            ("1: list 0 1", Listed(vec![(0, NONE, 7), (1, NONE, 8)])),
        ];
        let took = check(led_by(&[1, 1]), of_topic(Timestamp::Earliest), &script, &["orders-0 7", "orders-1 8"]);
        assert!(Duration::from_millis(80) <= took && took < SOON, "{took:?}");
    }
}

#[test]
fn what_an_answer_leaves_out_is_asked_for_again_but_not_for_ever() {
    let half = Listed(vec![(0, NONE, 7), (0, NONE, 70), (9, NONE, 1)]);
    let script = [
        ("watch orders", Nothing),
        ("1: list 0 1", half),
        ("1: list 1", Listed(vec![])),
        ("1: list 1", Listed(vec![(1, NONE, 8)])),
    ];
    check(led_by(&[1, 1]), of_topic(Timestamp::Latest), &script, &["orders-0 7", "orders-1 8"]);

    let mut script = vec![("watch orders", Nothing)];
    script.extend([("1: list 0", Listed(vec![])), ("1: list 0", malformed()), ("refresh", Nothing)]);
    script.extend([("1: list 0", Listed(vec![(0, NONE, -1)])), ("1: list 0", Listed(vec![(0, ErrorCode(999), -1)]))]);
    script.push(("1: list 0", Listed(vec![])));
    let failed = "Protocol: cannot find the end of orders-0: broker 1's answer to ListOffsets leaves it out, 5 times; check the brokers' logs";
    assert!(check(led_by(&[1]), of_topic(Timestamp::Latest), &script, &[failed]) < Duration::from_secs(5));
}

#[test]
fn a_record_that_there_is_not_is_an_answer_and_an_end_that_there_is_not_is_none() {
    let nowhere = || [("watch orders", Nothing), ("1: list 0", Listed(vec![(0, NONE, -1)]))];
    for at in [Timestamp::AtMs(99), Timestamp::Newest] {
        check(led_by(&[1]), of_topic(at), &nowhere(), &["orders-0 none"]);
    }
    for at in [Timestamp::Earliest, Timestamp::Latest] {
        let [watch, none] = nowhere();
        check(led_by(&[1]), of_topic(at), &[watch, none, ("1: list 0", Listed(vec![(0, NONE, 0)]))], &["orders-0 0"]);
    }
}

#[test]
fn a_topic_that_does_not_exist_is_said_by_name_after_brokers_had_time_to_hear_of_it() {
    let missing = "UnknownTopic: cannot find the end of topic orders: the topic does not exist, or this user may not describe it: \
                   UNKNOWN_TOPIC_OR_PARTITION (3); check its name, or create it";
    let unknown = without(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let watch = || [("watch orders", Nothing)];
    assert_eq!(check(unknown.clone(), of_topic(Timestamp::Latest), &watch(), &[missing]), MISSING_AFTER);
    // A partition of it is looked for as the topic is.
    let question = Question::List { of: vec!["orders".into(), partition(0).into()], at: Timestamp::Latest };
    let mut h = Harness::new(unknown);
    h.ask(1, question, "it");
    assert_eq!((told(&h.next()), told(&h.next())), ("watch orders".into(), "refresh".into()));
    h.view = led_by(&[1]);
    assert_eq!(told(&h.next_now().expect("at once")), "1: list 0");
}

#[test]
fn a_partition_that_the_topic_has_not_is_looked_for_a_while() {
    let mut h = Harness::new(led_by(&[1, 1]));
    h.ask(1, of_partitions(&[1, 2], Timestamp::Latest), "it");
    assert_eq!(told(&h.next()), "watch orders");
    let Deed::Ask(ask) = h.next() else { panic!("an event") };
    h.reply(Some(ask), Listed(vec![(1, NONE, 8)]));
    let mut refreshes = 0;
    let found = loop {
        match h.next() {
            Deed::Event(LookupEvent::RefreshMetadata) => refreshes += 1,
            Deed::Event(LookupEvent::Answered { outcome, .. }) => break outcome,
            deed => panic!("{}", told(&deed)),
        }
    };
    let missing = "UnknownTopic: cannot find the end of orders-2: the topic has 2 partitions, counted from 0; check the number";
    assert_eq!(told_outcome(found), ["orders-1 8", missing]);
    assert!(h.elapsed() == MISSING_AFTER && (2..8).contains(&refreshes), "{:?}, {refreshes} refreshes", h.elapsed());

    let script = [("watch orders", Nothing), ("refresh", View(led_by(&[1, 1, 1]))), ("1: list 2", Listed(vec![(2, NONE, 0)]))];
    assert_eq!(check(led_by(&[1, 1]), of_partitions(&[2], Timestamp::Latest), &script, &["orders-2 0"]), Duration::ZERO);
}

#[test]
fn a_leader_that_knows_no_such_partition_may_hear_of_it_later() {
    let unknown = || Listed(vec![(0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, -1)]);
    let again = || [("1: list 0", unknown()), ("refresh", Nothing)];
    let script: Vec<_> =
        [("watch orders", Nothing)].into_iter().chain(again()).chain([("1: list 0", Listed(vec![(0, NONE, 7)]))]).collect();
    check(led_by(&[1]), of_topic(Timestamp::Latest), &script, &["orders-0 7"]);

    let mut h = Harness::new(led_by(&[1]));
    h.ask(1, of_topic(Timestamp::Latest), "it");
    let found = loop {
        match h.next() {
            Deed::Ask(ask) => h.reply(Some(ask), unknown()),
            Deed::Event(LookupEvent::Answered { outcome, .. }) => break outcome,
            Deed::Event(_) => {}
        }
    };
    let gone = "UnknownTopic: cannot find the end of orders-0: broker 1 answered ListOffsets with UNKNOWN_TOPIC_OR_PARTITION (3); it does \
                not exist (any more)";
    assert_eq!(told_outcome(found), [gone]);
    assert!(h.elapsed() >= MISSING_AFTER && h.elapsed() < MISSING_AFTER + Duration::from_secs(2), "{:?}", h.elapsed());
}

#[test]
fn a_missing_permission_is_said_at_once_and_holds_nothing_else_up() {
    let of_topic_alone = "Unauthorized: cannot find the end of topic orders: this user may not look at the topic: \
                          TOPIC_AUTHORIZATION_FAILED (29); allow Describe on it";
    let watch = || ("watch orders", Nothing);
    let refused = without(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    assert_eq!(check(refused.clone(), of_topic(Timestamp::Latest), &[watch()], &[of_topic_alone]), Duration::ZERO);
    let of_one = of_topic_alone.replace("topic orders", "orders-3");
    check(refused, of_partitions(&[3], Timestamp::Latest), &[watch()], &[&of_one]);

    let words = Listed(vec![(0, ErrorCode::TOPIC_AUTHORIZATION_FAILED, -1), (1, NONE, 8)]);
    let of_leader = "Unauthorized: cannot find the end of orders-0: broker 1 answered ListOffsets with TOPIC_AUTHORIZATION_FAILED (29); \
                     allow Describe on the topic";
    check(led_by(&[1, 1]), of_topic(Timestamp::Latest), &[watch(), ("1: list 0 1", words)], &["orders-1 8", of_leader]);

    let code = ErrorCode::GROUP_AUTHORIZATION_FAILED;
    let of_group = "Unauthorized: cannot find what group g has committed: FindCoordinator was answered with GROUP_AUTHORIZATION_FAILED \
                    (30); allow Describe on the group";
    check(led_by(&[1]), committed(), &[("any: find g", Coordinator(Err(code)))], &[of_group]);
    let of_group = of_group.replace("FindCoordinator was answered", "broker 2 answered OffsetFetch");
    let script = [("any: find g", Coordinator(Ok(2))), ("learn 2", Nothing), ("2: committed g", Committed(code, vec![]))];
    check(led_by(&[1]), committed(), &script, &[&of_group]);

    let words = vec![(0, ErrorCode::TOPIC_AUTHORIZATION_FAILED, -1), (1, NONE, 8)];
    let of_partition = "Unauthorized: cannot find what group g has committed for topic orders: broker 2 answered OffsetFetch with \
                        TOPIC_AUTHORIZATION_FAILED (29); allow Describe on the topic";
    let script = [("any: find g", Coordinator(Ok(2))), ("learn 2", Nothing), ("2: committed g", Committed(NONE, words))];
    check(led_by(&[1]), committed(), &script, &["orders-1 committed 8", of_partition]);
}

#[test]
fn a_coordinator_that_moves_is_followed_and_one_that_loads_is_waited_for() {
    let at = |id| ("any: find g", Coordinator(Ok(id)));
    let words = || Committed(NONE, vec![(0, NONE, 7), (1, NONE, -1)]);
    for moved in [ErrorCode::NOT_COORDINATOR, ErrorCode::COORDINATOR_NOT_AVAILABLE] {
        let script = [
            at(2),
            ("learn 2", Nothing),
            ("2: committed g", Committed(moved, vec![])),
            ("any: find g", Coordinator(Err(ErrorCode::COORDINATOR_NOT_AVAILABLE))),
            at(3),
            ("learn 3", Nothing),
            ("3: committed g", words()),
        ];
        assert!(check(led_by(&[1]), committed(), &script, &["orders-0 committed 7"]) < SOON);
    }
    for later in [ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, ErrorCode::REQUEST_TIMED_OUT] {
        // Older brokers say of each partition what concerns the group.
        for word in [Committed(later, vec![]), Committed(NONE, vec![(0, later, -1)])] {
            let script = [at(2), ("learn 2", Nothing), ("2: committed g", word), ("2: committed g", words())];
            assert!(check(led_by(&[1]), committed(), &script, &["orders-0 committed 7"]) < SOON);
        }
    }
    let script = [
        at(2),
        ("learn 2", Nothing),
        ("2: committed g", lost()),
        ("refresh", Nothing),
        at(3),
        ("learn 3", Nothing),
        ("3: committed g", words()),
    ];
    check(led_by(&[1]), committed(), &script, &["orders-0 committed 7"]);
}

#[test]
fn a_group_that_has_committed_nothing_or_does_not_exist_is_no_error() {
    for word in [Committed(NONE, vec![]), Committed(ErrorCode::GROUP_ID_NOT_FOUND, vec![])] {
        for question in [committed(), lag()] {
            let script = [("any: find g", Coordinator(Ok(2))), ("learn 2", Nothing), ("2: committed g", word.clone())];
            assert_eq!(check(led_by(&[1]), question, &script, &[]), Duration::ZERO);
        }
    }
}

#[test]
fn the_lag_is_about_all_partitions_of_the_topics_in_which_anything_is_committed() {
    let script = [
        ("any: find g", Coordinator(Ok(2))),
        ("learn 2", Nothing),
        ("2: committed g", Committed(NONE, vec![(0, NONE, 7)])),
        ("watch orders", Nothing),
        ("1: list 0", Listed(vec![(0, NONE, 9)])),
        ("2: list 1", Listed(vec![(1, NONE, 4)])),
    ];
    check(led_by(&[1, 2]), lag(), &script, &["orders-0 committed 7", "orders-0 9", "orders-1 4"]);

    let [find, learn, committed, watch, ..] = script;
    let gone = "UnknownTopic: cannot find the end of topic orders: the topic does not exist, or this user may not describe it: \
                UNKNOWN_TOPIC_OR_PARTITION (3); check its name, or create it";
    let mut h = Harness::new(without(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    h.ask(1, lag(), "it");
    for (expected, reply) in [find, learn, committed, watch] {
        let deed = h.next();
        assert_eq!(told(&deed), expected);
        let ask = if let Deed::Ask(ask) = deed { Some(ask) } else { None };
        h.reply(ask, reply);
    }
    let outcome = loop {
        match h.next() {
            Deed::Event(LookupEvent::Answered { outcome, .. }) => break outcome,
            deed => assert_eq!(told(&deed), "refresh"),
        }
    };
    assert_eq!(told_outcome(outcome), ["orders-0 committed 7", gone], "said once");
}

#[test]
fn a_time_that_has_passed_says_what_was_waited_for() {
    let late = |what: &str, waited: &str| {
        format!("TimedOut: cannot find {what} within 60s: {waited}; check the brokers' health, or give it more time (`timeout`)")
    };
    let no_metadata = late("the partitions of topic orders", "no broker answered Metadata");
    check(ClusterView::default(), of_topic(Timestamp::Latest), &[("watch orders", Nothing)], &[&no_metadata]);
    let no_metadata = late("the first record since 99 ms of orders-3", "no broker answered Metadata");
    check(ClusterView::default(), of_partitions(&[3], Timestamp::AtMs(99)), &[("watch orders", Nothing)], &[&no_metadata]);
    let not_yet = late("the partitions of topic orders", "a broker answered Metadata with LEADER_NOT_AVAILABLE (5)");
    let view = without(ErrorCode::LEADER_NOT_AVAILABLE);
    check(view, of_topic(Timestamp::Latest), &[("watch orders", Nothing)], &[&not_yet]);
    let nobody = late("what group g has committed", "no broker answered FindCoordinator");
    check(led_by(&[1]), committed(), &[("any: find g", Nothing)], &[&nobody]);
    let silent = late("what group g has committed", "broker 2 did not answer OffsetFetch");
    let script = [("any: find g", Coordinator(Ok(2))), ("learn 2", Nothing), ("2: committed g", Nothing)];
    check(led_by(&[1]), committed(), &script, &[&silent]);
    let silent = late(
        "the beginning of orders-0",
        "broker 1 did not answer ListOffsets, and before broker 1 answered ListOffsets with NOT_LEADER_OR_FOLLOWER (6)",
    );
    let script = [
        ("watch orders", Nothing),
        ("1: list 0", Listed(vec![(0, ErrorCode::NOT_LEADER_OR_FOLLOWER, -1)])),
        ("refresh", Nothing),
        ("1: list 0", Nothing),
    ];
    check(led_by(&[1]), of_topic(Timestamp::Earliest), &script, &[&silent]);
}

#[test]
fn what_is_wrong_with_the_whole_cluster_is_in_the_text() {
    for (trouble, expected) in [
        (Some("no broker can be reached"), "no broker answered Metadata; no broker can be reached; check the brokers' health"),
        (None, "no broker answered Metadata; check the brokers' health"),
    ] {
        let mut h = Harness::new(ClusterView::default());
        h.lookup.handle_trouble(Some("something else".to_owned()));
        h.ask(1, of_topic(Timestamp::Latest), "it");
        h.lookup.handle_trouble(trouble.map(str::to_owned));
        assert_eq!(told(&h.next()), "watch orders");
        let Deed::Event(LookupEvent::Answered { outcome, .. }) = h.next() else { panic!("no answer") };
        let told = told_outcome(outcome);
        assert!(told[0].contains(expected), "{told:?}");
    }
}

#[test]
fn brokers_that_cannot_say_it_are_told_apart_from_those_that_will_later() {
    let too_old = "Incompatible: cannot find the newest record of orders-0: broker 1 could not be asked: the broker speaks ListOffsets \
                   versions Some((1, 5)), ottla (7, 10); upgrade the brokers";
    let script = [("watch orders", Nothing), ("1: list 0", unsupported()), ("refresh", Nothing)];
    check(led_by(&[1]), of_topic(Timestamp::Newest), &script, &[too_old]);
    let mut h = Harness::new(led_by(&[1]));
    h.ask(1, committed(), "it");
    let Deed::Ask(ask) = h.next() else { panic!("an event") };
    h.reply(Some(ask), unsupported());
    let Deed::Event(LookupEvent::RefreshMetadata) = h.next() else { panic!("no refresh") };
    let Deed::Event(LookupEvent::Answered { outcome: Err(error), .. }) = h.next() else { panic!("no answer") };
    assert_eq!(error.kind(), OffsetsErrorKind::Incompatible);
}

#[test]
fn no_code_is_taken_for_an_answer_or_asked_about_in_a_storm() {
    let codes = || (-1..130).map(ErrorCode).filter(|code| *code != NONE);
    let answer = |question: Question, reply: &dyn Fn(&Request, ErrorCode) -> Reply, code| {
        let (mut h, what) = (Harness::new(led_by(&[1])), format!("{question:?}"));
        h.ask(1, question, "it");
        loop {
            match h.next() {
                Deed::Ask(ask) => {
                    h.requests += 1;
                    let reply = reply(&ask.request, code);
                    h.reply(Some(ask), reply);
                }
                Deed::Event(LookupEvent::Answered { outcome, .. }) => {
                    assert!(h.elapsed() <= TIMEOUT && h.requests <= 150, "{what} {code}: {} requests", h.requests);
                    assert!(h.is_at_rest(), "{what} {code}");
                    return outcome;
                }
                Deed::Event(_) => {}
            }
        }
    };
    for code in codes() {
        let refused = |_: &Request, code| Listed(vec![(0, code, 7)]);
        let found = answer(of_topic(Timestamp::Latest), &refused, code).expect("of partitions");
        assert!(found.listed.is_empty() && found.errors.len() == 1, "{code}: {found:?}");
        assert_eq!((found.errors[0].topic(), found.errors[0].partition()), (Some("orders"), Some(0)), "{code}");
        assert!(found.errors[0].message.contains(&code.to_string()), "{code}: {}", found.errors[0]);

        let refused = |_: &Request, code| Coordinator(Err(code));
        let not_found = answer(committed(), &refused, code);
        assert!(not_found.is_err() || code == ErrorCode::GROUP_ID_NOT_FOUND, "{code}");

        for of_group in [true, false] {
            let refused = |request: &Request, code| match request {
                Request::FindCoordinator { .. } => Coordinator(Ok(1)),
                _ if of_group => Committed(code, vec![(0, NONE, 7)]),
                _ => Committed(NONE, vec![(0, code, 7)]),
            };
            match answer(committed(), &refused, code) {
                Err(error) => assert!(error.message.contains(&code.to_string()), "{code}: {error}"),
                Ok(found) => {
                    assert!(found.committed.is_empty(), "{code}: {found:?}");
                    assert!(found.errors.len() == 1 || code == ErrorCode::GROUP_ID_NOT_FOUND, "{code}: {found:?}");
                }
            }
        }
    }
}

#[test]
fn questions_are_apart_and_each_has_one_answer() {
    let mut h = Harness::new(led_by(&[1]));
    h.ask(1, of_topic(Timestamp::Earliest), "first");
    h.ask(2, of_topic(Timestamp::Latest), "second");
    assert_eq!(told(&h.next()), "watch orders", "both are about it");
    assert_eq!(told(&h.next()), "refresh", "what the first one has found may be old for the second");
    let (Deed::Ask(first), Deed::Ask(second)) = (h.next(), h.next()) else { panic!("an event") };
    assert!(h.next_now().is_none(), "one request for each");
    let late = first.clone();
    h.reply(Some(second), Listed(vec![(0, NONE, 9)]));
    assert_eq!(told(&h.next()), "answered second");
    h.reply(Some(first), Listed(vec![(0, NONE, 1)]));
    assert_eq!(told(&h.next()), "answered first");
    h.reply(Some(late), Listed(vec![(0, NONE, 1)]));
    assert_eq!(told(&h.next()), "watch ");
    assert!(h.is_at_rest());
}

#[test]
fn a_forgotten_question_is_neither_answered_nor_asked_again() {
    let mut h = Harness::new(led_by(&[1]));
    h.ask(1, of_topic(Timestamp::Latest), "it");
    assert_eq!(told(&h.next()), "watch orders");
    let Deed::Ask(ask) = h.next() else { panic!("an event") };
    h.lookup.forget(1);
    h.lookup.forget(1);
    h.reply(Some(ask), Listed(vec![(0, ErrorCode::NOT_LEADER_OR_FOLLOWER, -1)]));
    assert_eq!(told(&h.next()), "watch ");
    assert!(h.is_at_rest());
}

#[test]
fn what_is_the_end_of_all_hope_is_said_to_everybody() {
    let mut h = Harness::new(led_by(&[1]));
    h.ask(1, of_topic(Timestamp::Latest), "first");
    h.ask(2, committed(), "second");
    h.lookup.fail_all(OffsetsErrorKind::Unauthenticated, "b1: who are you");
    let mut told = Vec::new();
    while let Some(event) = h.lookup.poll_event() {
        if let LookupEvent::Answered { ticket, outcome } = event {
            told.push((ticket, told_outcome(outcome)));
        }
    }
    let said = vec!["Unauthenticated: b1: who are you".to_owned()];
    assert_eq!(told, [("first", said.clone()), ("second", said)]);
    assert!(h.is_at_rest());
}

#[test]
fn questions_about_nothing_are_answered_at_once() {
    assert_eq!(check(led_by(&[1]), of_partitions(&[], Timestamp::Latest), &[], &[]), Duration::ZERO);
}

#[test]
fn a_name_that_no_topic_can_have_is_said_at_once_and_never_asked_for() {
    let long = "x".repeat(40_000);
    let of = vec![TopicOrPartition::from(long.as_str()), TopicPartition::new("a b", 3).into(), partition(0).into()];
    let question = Question::List { of, at: Timestamp::Latest };
    let rule = "is no topic name: 1 to 249 of the characters a-z A-Z 0-9 . _ -, and not \".\" or \"..\"; check it";
    let [of_long, of_other] = [&long[..249], "a b"].map(|name| format!("UnknownTopic: {name:?} {rule}"));
    let script = [("watch orders", Nothing), ("1: list 0", Listed(vec![(0, NONE, 7)]))];
    check(led_by(&[1]), question, &script, &["orders-0 7", &of_long, &of_other]);
    let of_group = "Refused: a consumer group needs a name, of 32767 bytes at most";
    for group in [String::new(), long] {
        check(led_by(&[1]), Question::Committed { group: group.as_str().into() }, &[], &[of_group]);
        check(led_by(&[1]), Question::Lag { group: group.into() }, &[], &[of_group]);
    }
}

#[test]
fn only_nonsense_counts_for_nonsense() {
    let moved = || Listed(vec![(0, ErrorCode::NOT_LEADER_OR_FOLLOWER, -1)]);
    let mut script = vec![("watch orders", Nothing)];
    for _ in 0..4 {
        script.extend([("1: list 0", moved()), ("refresh", Nothing), ("1: list 0", Listed(vec![]))]);
    }
    script.push(("1: list 0", Listed(vec![(0, NONE, 7)])));
    check(led_by(&[1]), of_topic(Timestamp::Latest), &script, &["orders-0 7"]);
    let coordinator = || ("any: find g", Coordinator(Ok(2)));
    let mut script = vec![];
    for _ in 0..5 {
        script.extend([coordinator(), ("learn 2", Nothing), ("2: committed g", lost()), ("refresh", Nothing)]);
    }
    script.extend([coordinator(), ("learn 2", Nothing), ("2: committed g", Committed(ErrorCode(999), vec![]))]);
    script.push(("2: committed g", Committed(NONE, vec![(0, NONE, 7)])));
    check(led_by(&[1]), committed(), &script, &["orders-0 committed 7"]);
}

#[test]
fn a_partition_is_missing_only_while_nobody_says_something_else() {
    let mut script = vec![("watch orders", Nothing)];
    for code in [ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ErrorCode::NOT_LEADER_OR_FOLLOWER] {
        for _ in 0..6 {
            script.extend([("1: list 0", Listed(vec![(0, code, -1)])), ("refresh", Nothing)]);
        }
    }
    let unknown = || ("1: list 0", Listed(vec![(0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, -1)]));
    script.extend([unknown(), ("refresh", Nothing), ("1: list 0", Listed(vec![(0, NONE, 7)]))]);
    let took = check(led_by(&[1]), of_topic(Timestamp::Latest), &script, &["orders-0 7"]);
    assert!(took > MISSING_AFTER);
}

#[test]
fn what_a_broker_makes_up_fills_no_memory() {
    let fetched = |error| FetchedOffset { error, committed: None, metadata: None };
    let refused = (0..1000).map(|number| (partition(number), fetched(ErrorCode::TOPIC_AUTHORIZATION_FAILED)));
    let long: Arc<str> = "x".repeat(30_000).into();
    let made_up =
        (0..1000).map(|number| (TopicPartition::new(Arc::clone(&long), number), fetched(ErrorCode::TOPIC_AUTHORIZATION_FAILED)));
    let answer = OffsetFetchResponse { error: NONE, partitions: refused.chain(made_up).collect() };
    let mut h = Harness::new(led_by(&[1]));
    h.ask(1, committed(), "it");
    let Deed::Ask(ask) = h.next() else { panic!("nothing is asked") };
    h.reply(Some(ask), Coordinator(Ok(2)));
    assert_eq!(told(&h.next()), "learn 2");
    let Deed::Ask(Ask { owner: Owner::Lookup(call), .. }) = h.next() else { panic!("nothing is asked") };
    h.lookup.handle_answer(h.now, call, Ok(Response::OffsetFetch(answer)));
    let Deed::Event(LookupEvent::Answered { outcome: Ok(found), .. }) = h.next() else { panic!("no answer") };
    assert_eq!(found.errors.len(), 1, "of each topic once, and none of what is no topic");
}
