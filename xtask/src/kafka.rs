//! `cargo xtask kafka`: brokers for a person to play with.

use std::path::Path;

use kafka_harness::{Cluster, Options, stop_detached};

/// Where the brokers keep what they have, their process numbers included.
const FOLDER: &str = "target/kafka";

pub(crate) fn up(args: &[&str]) -> Result<(), String> {
    let mut options = Options::default();
    for pair in args.chunks(2) {
        match *pair {
            ["--nodes", nodes] => options.nodes = nodes.parse().map_err(|_| format!("--nodes {nodes}: not a number"))?,
            ["--version", version] => options.version = version.into(),
            _ => return Err(format!("cannot understand {}\n\n{}", args.join(" "), crate::USAGE)),
        }
    }
    let folder = std::env::current_dir().map_err(|error| error.to_string())?.join(FOLDER);
    let bootstrap = Cluster::start_detached(options, &folder).map_err(|error| error.to_string())?;
    println!("{bootstrap}");
    eprintln!("logs and data are in {FOLDER}; cargo xtask kafka down ends them");
    Ok(())
}

pub(crate) fn down() -> Result<(), String> {
    let folder = std::env::current_dir().map_err(|error| error.to_string())?.join(FOLDER);
    if !Path::new(&folder).exists() {
        return Err("there is nothing to end".into());
    }
    stop_detached(&folder).map_err(|error| error.to_string())
}
