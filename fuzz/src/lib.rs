//! What is fed with bytes that nobody meant to send, under an allocator that counts.

mod requests;

/// Feeds a target of ottla.
pub fn check(name: &str, input: &[u8]) {
    let target = ottla::fuzzing::TARGETS.iter().find(|target| target.name == name).expect("one of ottla's targets");
    target.check(input, measure);
}

/// Feeds the mock's side of a connection.
pub fn check_requests(input: &[u8]) {
    requests::check(input, measure);
}

fn measure(feed: &mut dyn FnMut()) -> u64 {
    allocation_counter::measure(feed).bytes_max
}
