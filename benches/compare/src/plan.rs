//! What was asked for on the command line.

use crate::{
    clients,
    workload::{ALL, Workload},
};

const ROUNDS: usize = 5;
const ROUNDS_QUICK: usize = 3;

/// What was asked for on the command line.
pub(crate) struct Plan {
    /// How often each client reads, unless the workload says less.
    pub(crate) rounds: usize,
    /// The names of the clients that take part; all when there are none.
    only: Vec<String>,
    /// What ottla is told beside: arguments as its program understands them.
    pub(crate) with: Vec<String>,
    pub(crate) workloads: Vec<Workload>,
}

impl Plan {
    /// Understands `[--quick] [--rounds N] [--only CLIENT,…] [--with NAME=VALUE] [WORKLOAD…]`.
    pub(crate) fn parse(args: &[String]) -> Result<Self, String> {
        let (mut is_quick, mut rounds) = (false, None);
        let (mut only, mut with, mut workloads) = (Vec::new(), Vec::new(), Vec::new());
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} wants a value"));
            match arg.as_str() {
                "--quick" => is_quick = true,
                "--rounds" => rounds = Some(value()?.parse().map_err(|_| "--rounds wants a number")?),
                "--only" => only.extend(value()?.split(',').map(str::to_owned)),
                "--with" => with.push(value()?.clone()),
                name => workloads.push(*ALL.iter().find(|workload| workload.name == name).ok_or_else(|| unknown(name))?),
            }
        }
        if workloads.is_empty() {
            workloads = ALL.to_vec();
        }
        if is_quick {
            workloads.iter_mut().for_each(Workload::shorten);
        }
        if let Some(unknown) = only.iter().find(|only| !clients::is_known(only)) {
            return Err(format!("there is no client {unknown}"));
        }
        let rounds = rounds.unwrap_or(if is_quick { ROUNDS_QUICK } else { ROUNDS });
        Ok(Self { rounds: rounds.max(1), only, with, workloads })
    }

    /// Says whether a client takes part; `family` is another name for it and others.
    pub(crate) fn wants(&self, name: &str, family: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name || only == family)
    }
}

fn unknown(name: &str) -> String {
    let names: Vec<_> = ALL.iter().map(|workload| workload.name).collect();
    format!("there is no workload {name}; there are {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &str) -> Result<Plan, String> {
        Plan::parse(&args.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn nothing_asked_for_is_everything() {
        let plan = parse("").unwrap();
        assert_eq!((plan.workloads.len(), plan.rounds), (ALL.len(), 5));
        assert!(plan.wants("raw", "raw"));
    }

    #[test]
    fn a_quick_run_reads_a_tenth_three_times() {
        let plan = parse("--quick b100 --only ottla,franz-go").unwrap();
        assert_eq!((plan.workloads.len(), plan.workloads[0].load.records, plan.rounds), (1, 1_000_000, 3));
        assert!(plan.wants("batches", "ottla") && plan.wants("franz-go", "peers") && !plan.wants("raw", "raw"));
        assert!(parse("b101").is_err() && parse("--only kafka").is_err() && parse("--rounds many").is_err());
    }
}
