//! What clients have sent and what has broken the mock once, sent again: the seeds of the fuzzer (`cargo xtask fuzz`).

#[path = "../../fuzz/src/requests.rs"]
mod requests;

use std::{fs, path::Path};

#[test]
fn seeds_of_requests_hold() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds/requests");
    let mut count = 0;
    for seed in fs::read_dir(seeds).expect("the seeds").map(|seed| seed.expect("a seed").path()) {
        println!("{}", seed.display());
        let input = fs::read(&seed).expect("its bytes");
        requests::check(&input, |feed| allocation_counter::measure(feed).bytes_max);
        count += 1;
    }
    assert!(count > 0);
}
