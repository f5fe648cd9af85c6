//! Medians, ratios, and how they are printed.

use crate::measure::Sample;

/// A figure of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    /// Million records per second, from the first to the last.
    Rate,
    /// User and system time per record, from the first to the last.
    CpuNs,
    /// The most memory that was resident.
    PeakMib,
}

impl Metric {
    fn title(self) -> &'static str {
        match self {
            Self::Rate => "M records/s",
            Self::CpuNs => "CPU ns/record",
            Self::PeakMib => "peak MiB",
        }
    }

    /// Works the figure out of what a client told.
    pub(crate) fn of(self, sample: &Sample) -> Option<f64> {
        let per_record = |name| Some(sample.get(name)? / sample.get("records")?);
        match self {
            Self::Rate => per_record("read_s").map(|seconds| 1e-6 / seconds),
            Self::CpuNs => per_record("cpu_s").map(|seconds| seconds * 1e9),
            Self::PeakMib => Some(sample.get("peak_kib")? / 1024.0),
        }
    }
}

/// A client's name and what it told, once for each round.
pub(crate) type Row<'a> = (&'a str, &'a [Sample]);

/// Lays out a table in Markdown: the ratios first, then the figures they come from.
///
/// Ratios are told to raw's CPU, and to the rates of `peers`.
pub(crate) fn layout(rows: &[Row<'_>], metrics: &[Metric], peers: &[&str]) -> String {
    let figure = |name: &str, metric: Metric| {
        let (_, samples) = rows.iter().find(|(row, _)| *row == name)?;
        median(samples.iter().filter_map(|sample| metric.of(sample)).collect())
    };
    let ratio = |row: &str, to: &str, metric: Metric| Some(figure(row, metric)? / figure(to, metric)?);
    let mut lines = vec![vec![String::new()]];
    let has = |name: &str| rows.iter().any(|(row, samples)| *row == name && !samples.is_empty());
    let peers: Vec<_> = peers.iter().filter(|peer| has(peer)).collect();
    let is_ratio = !peers.is_empty() && metrics.contains(&Metric::Rate);
    if is_ratio {
        lines[0].push("CPU : raw".into());
        lines[0].extend(peers.iter().map(|peer| format!("rate : {peer}")));
    }
    lines[0].extend(metrics.iter().map(|metric| metric.title().to_owned()));
    for (row, _) in rows {
        let mut cells = vec![(*row).to_owned()];
        if is_ratio {
            cells.push(short(ratio(row, "raw", Metric::CpuNs)));
            cells.extend(peers.iter().map(|peer| short(ratio(row, peer, Metric::Rate))));
        }
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
    fn columns_stand_under_each_other() {
        let line = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let text = align(&[line(["", "rate"]), line(["raw", "13.2"])]);
        assert_eq!(text, "|     | rate |\n|-----|-----:|\n| raw | 13.2 |\n");
    }
}
