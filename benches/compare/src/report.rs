//! What is told at the end, to people and in JSON.

use std::{collections::BTreeSet, fs, path::PathBuf};

use serde::Serialize;

use crate::{
    clients::Client,
    measure::Sample,
    table,
    workload::{Feed, Place, Workload},
};

/// What came of one workload.
#[derive(Serialize)]
pub(crate) struct Outcome {
    #[serde(skip)]
    pub(crate) workload: Workload,
    name: &'static str,
    says: &'static str,
    records: u64,
    batch_bytes: usize,
    rounds: usize,
    pub(crate) clients: Vec<ClientOutcome>,
}

/// What one client did in it.
#[derive(Serialize)]
pub(crate) struct ClientOutcome {
    pub(crate) name: String,
    pub(crate) is_peer: bool,
    pub(crate) samples: Vec<Sample>,
    pub(crate) failures: Vec<String>,
}

impl ClientOutcome {
    /// Nothing yet.
    pub(crate) fn of(client: &Client, place: Place) -> Self {
        let name = client.label() + place.suffixes().1;
        Self { name, is_peer: client.is_peer && place == Place::Everywhere, samples: Vec::new(), failures: Vec::new() }
    }
}

impl Outcome {
    pub(crate) fn new(workload: Workload, rounds: usize, clients: Vec<ClientOutcome>) -> Self {
        Self {
            workload,
            name: workload.name,
            says: workload.says,
            records: workload.load.records,
            batch_bytes: workload.load.batch_bytes,
            rounds,
            clients,
        }
    }

    fn table(&self) -> String {
        let rows: Vec<_> = self.clients.iter().map(|client| (client.name.as_str(), &client.samples[..])).collect();
        let peers =
            self.clients.iter().filter(|client| client.is_peer && self.workload.has_ratios).map(|client| client.name.as_str());
        table::layout(&rows, self.workload.metrics, &peers.collect::<Vec<_>>())
    }

    fn title(&self) -> String {
        let batches = match self.workload.feed {
            Feed::Before => format!(", batches of {} KiB at most", self.batch_bytes >> 10),
            Feed::PerSecond(_) => String::new(),
        };
        format!("{}: {} x {}{batches}; medians of {}", self.name, self.records, self.says, self.rounds)
    }
}

/// All that was measured, as it grows.
pub(crate) struct Report {
    folder: PathBuf,
    written: Written,
}

#[derive(Serialize)]
struct Written {
    machine: String,
    missing: Vec<String>,
    settings: BTreeSet<String>,
    workloads: Vec<Outcome>,
}

impl Report {
    pub(crate) fn new(machine: String, missing: &[String], folder: PathBuf) -> Self {
        let written = Written { machine, missing: missing.to_vec(), settings: BTreeSet::new(), workloads: Vec::new() };
        Self { folder, written }
    }

    pub(crate) fn machine(&self) -> &str {
        &self.written.machine
    }

    /// Prints the table of a workload, and writes down all there is so far.
    pub(crate) fn add(&mut self, outcome: Outcome) -> Result<(), String> {
        println!("\n{}\n\n{}", outcome.title(), outcome.table());
        for client in &outcome.clients {
            let distinct: BTreeSet<_> = client.failures.iter().collect();
            distinct.iter().for_each(|what| println!("{}: FAILED: {what}", client.name));
            self.written.settings.extend(client.samples.iter().map(|told| format!("{}: {}", told.client, told.settings)));
        }
        self.written.workloads.push(outcome);
        let file = self.folder.join("results.json");
        let text = serde_json::to_string_pretty(&self.written).map_err(|error| error.to_string())?;
        fs::write(&file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))
    }

    /// Prints the settings of all who took part; fails when one of them did.
    pub(crate) fn conclude(self) -> Result<(), String> {
        println!("\nsettings:");
        self.written.settings.iter().for_each(|settings| println!("  {settings}"));
        println!("\nall figures are in {}", self.folder.join("results.json").display());
        let clients = self.written.workloads.iter().flat_map(|outcome| &outcome.clients);
        let failed: BTreeSet<_> =
            clients.filter(|client| !client.failures.is_empty()).map(|client| client.name.as_str()).collect();
        if failed.is_empty() {
            return Ok(());
        }
        Err(format!("failed at least once: {}", failed.into_iter().collect::<Vec<_>>().join(", ")))
    }
}
