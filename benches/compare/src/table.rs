//! Medians, ratios, and how they are printed.

use crate::measure::Sample;

/// Added to the name of a client that reads from one broker of several.
pub(crate) const ON_ONE: &str = ", from one broker";

/// What a sample calls the CPU time of the brokers, from the client's start to its end.
pub(crate) const BROKER_CPU_S: &str = "broker_cpu_s";

/// A figure of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    /// Million records per second, from the first to the last.
    Rate,
    /// The same from the process' start.
    RateFromStart,
    /// User and system time per record, from the first to the last.
    CpuNs,
    /// The same from the process' start.
    CpuNsFromStart,
    /// User and system time of all brokers per record, joining and leaving a group included.
    BrokerCpuNs,
    /// The most memory that was resident.
    PeakMib,
    /// The memory that is resident at the end.
    RssMib,
    LatencyP50Ms,
    LatencyP99Ms,
    /// From the process' start to the first record.
    StartMs,
    StartCpuMs,
    /// From the process' start to the last record.
    LastMs,
    /// From the process' start to the first assignment.
    AssignedMs,
    /// How much of one core an idle consumer takes.
    IdlePercent,
    /// How many Fetches there are in 500 ms, which is how long a broker waits before it says that there is nothing.
    FetchesPerWait,
    /// How many bytes of Fetches a second it takes to wait for records.
    IdleFetchBytes,
    /// To leave the group in order.
    CloseMs,
    /// From the second member's start until both have their share.
    SharedMs,
    /// From one member's leaving until the other has everything.
    TakenOverMs,
}

impl Metric {
    fn title(self) -> &'static str {
        match self {
            Self::Rate => "M records/s",
            Self::RateFromStart => "M records/s from start",
            Self::CpuNs => "CPU ns/record",
            Self::CpuNsFromStart => "CPU ns/record from start",
            Self::BrokerCpuNs => "brokers' CPU ns/record",
            Self::PeakMib => "peak MiB",
            Self::RssMib => "MiB",
            Self::LatencyP50Ms => "p50 ms",
            Self::LatencyP99Ms => "p99 ms",
            Self::StartMs => "first record ms",
            Self::StartCpuMs => "CPU ms",
            Self::LastMs => "last record ms",
            Self::AssignedMs => "assigned ms",
            Self::IdlePercent => "% of a core",
            Self::FetchesPerWait => "Fetches per 500 ms",
            Self::IdleFetchBytes => "bytes of Fetches/idle s",
            Self::CloseMs => "close ms",
            Self::SharedMs => "shared ms",
            Self::TakenOverMs => "taken over ms",
        }
    }

    /// Works the figure out of what a client told.
    pub(crate) fn of(self, sample: &Sample) -> Option<f64> {
        let ms = |name| Some(sample.get(name)? * 1e3);
        let mib = |name| Some(sample.get(name)? / 1024.0);
        let per_record = |seconds: f64| Some(seconds / sample.get("records")?);
        let read_s = || sample.get("read_s");
        let cpu_s = || sample.get("cpu_s");
        match self {
            Self::Rate => Some(1e-6 / per_record(read_s()?)?),
            Self::RateFromStart => Some(1e-6 / per_record(sample.get("start_s")? + read_s()?)?),
            Self::CpuNs => Some(per_record(cpu_s()?)? * 1e9),
            Self::CpuNsFromStart => Some(per_record(sample.get("start_cpu_s")? + cpu_s()?)? * 1e9),
            Self::BrokerCpuNs => Some(per_record(sample.get(BROKER_CPU_S)?)? * 1e9),
            Self::PeakMib => mib("peak_kib"),
            Self::RssMib => mib("rss_kib"),
            Self::LatencyP50Ms => sample.get("latency_p50_ms"),
            Self::LatencyP99Ms => sample.get("latency_p99_ms"),
            Self::StartMs => ms("start_s"),
            Self::StartCpuMs => ms("start_cpu_s"),
            Self::LastMs => Some(ms("start_s")? + ms("read_s")?),
            Self::AssignedMs => ms("assigned_s"),
            Self::IdlePercent => Some(sample.get("idle_cpu_share")? * 100.0),
            Self::FetchesPerWait => Some(sample.get("fetches_per_s")? / 2.0),
            Self::IdleFetchBytes => sample.get("idle_fetch_bytes_per_s"),
            Self::CloseMs => ms("close_s"),
            Self::SharedMs => ms("shared_s"),
            Self::TakenOverMs => ms("taken_over_s"),
        }
    }

    fn is_rate(self) -> bool {
        matches!(self, Self::Rate | Self::RateFromStart)
    }

    fn is_cpu(self) -> bool {
        matches!(self, Self::CpuNs | Self::CpuNsFromStart)
    }
}

/// A client's name and what it told, once for each round.
pub(crate) type Row<'a> = (&'a str, &'a [Sample]);

/// Lays out a table in Markdown: the ratios first, then the figures they come from.
///
/// Ratios are told to raw's CPU, to the rates of `peers`, where there are any, and to the client's own rate from one broker only.
pub(crate) fn layout(rows: &[Row<'_>], metrics: &[Metric], peers: &[&str]) -> String {
    let figure = |name: &str, metric: Metric| {
        let (_, samples) = rows.iter().find(|(row, _)| *row == name)?;
        median(samples.iter().filter_map(|sample| metric.of(sample)).collect())
    };
    let has = |name: &str| rows.iter().any(|(row, samples)| *row == name && !samples.is_empty());
    // What is told to whose, and as what.
    let mut ratios = Vec::new();
    for &metric in metrics {
        if metric.is_cpu() && has("raw") {
            ratios.insert(0, (metric, "raw", "CPU : raw".to_owned()));
        }
        if metric.is_rate() {
            ratios.extend(peers.iter().filter(|peer| has(peer)).map(|&peer| (metric, peer, format!("rate : {peer}"))));
        }
    }
    let rate_on_one =
        metrics.iter().copied().find(|metric| metric.is_rate()).filter(|_| rows.iter().any(|(row, _)| row.ends_with(ON_ONE)));
    let mut titles = vec![String::new()];
    titles.extend(rate_on_one.map(|_| "rate : from one broker".to_owned()));
    titles.extend(ratios.iter().map(|(_, _, title)| title.clone()));
    titles.extend(metrics.iter().map(|metric| metric.title().to_owned()));
    let mut lines = vec![titles];
    for (row, _) in rows {
        let mut cells = vec![(*row).to_owned()];
        cells.extend(rate_on_one.map(|metric| {
            let ratio = figure(row, metric).zip(figure(&format!("{row}{ON_ONE}"), metric)).map(|(this, other)| this / other);
            short(ratio)
        }));
        cells.extend(ratios.iter().map(|(metric, to, _)| {
            let ratio = figure(row, *metric).zip(figure(to, *metric)).map(|(this, other)| this / other);
            short(ratio)
        }));
        cells.extend(metrics.iter().map(|metric| short(figure(row, *metric))));
        lines.push(cells);
    }
    align(&lines)
}

/// The middle of some numbers, or of the two in the middle; `None` of none.
pub(crate) fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    match numbers.len() {
        0 => None,
        len if len % 2 == 1 => Some(numbers[middle]),
        _ => Some((numbers[middle - 1] + numbers[middle]) / 2.0),
    }
}

/// Three digits that count, or so.
fn short(number: Option<f64>) -> String {
    match number {
        None => "–".into(),
        Some(number) if number.abs() >= 99.95 => format!("{number:.0}"),
        Some(number) if number.abs() >= 9.995 => format!("{number:.1}"),
        Some(number) => format!("{number:.2}"),
    }
}

fn align(lines: &[Vec<String>]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..lines[0].len()).map(width).collect();
    let mut text = String::new();
    for (at, line) in lines.iter().enumerate() {
        let cell = |(column, cell): (usize, &String)| {
            let padding = " ".repeat(widths[column] - cell.chars().count());
            if column == 0 { format!("| {cell}{padding} ") } else { format!("| {padding}{cell} ") }
        };
        text.extend(line.iter().enumerate().map(cell));
        text += "|\n";
        if at == 0 {
            let rule = |(column, width): (usize, &usize)| {
                let dashes = "-".repeat(*width);
                if column == 0 { format!("|{dashes}--") } else { format!("|{dashes}-:") }
            };
            text.extend(widths.iter().enumerate().map(rule));
            text += "|\n";
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
    }

    #[test]
    fn numbers_are_as_long_as_they_mean_something() {
        assert_eq!([1.234, 12.34, 123.4, 0.0].map(|number| short(Some(number))), ["1.23", "12.3", "123", "0.00"]);
    }

    #[test]
    fn who_reads_from_one_broker_is_what_it_is_compared_with() {
        let read_in = |seconds: &str| {
            Sample::parse(&format!(r#"{{"client":"raw","settings":"","records":10000000,"read_s":{seconds}}}"#)).unwrap()
        };
        let (all, one) = ([read_in("1.0")], [read_in("1.25")]);
        let text = layout(&[("raw", &all), (&format!("raw{ON_ONE}"), &one)], &[Metric::Rate], &[]);
        let cells: Vec<Vec<_>> = text.lines().map(|line| line.split('|').map(str::trim).collect()).collect();
        assert_eq!(cells[0][1..4], ["", "rate : from one broker", "M records/s"]);
        assert_eq!(cells[2][1..4], ["raw", "1.25", "10.0"]);
        assert_eq!(cells[3][1..4], ["raw, from one broker", "–", "8.00"]);
        assert!(!layout(&[("raw", &all)], &[Metric::Rate], &[]).contains("one broker"));
    }

    #[test]
    fn columns_stand_under_each_other() {
        let line = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let text = align(&[line(["", "rate"]), line(["raw", "13.2"])]);
        assert_eq!(text, "|     | rate |\n|-----|-----:|\n| raw | 13.2 |\n");
    }
}
