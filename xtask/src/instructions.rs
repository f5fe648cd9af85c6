//! `cargo xtask instructions`: how many instructions the hot path takes, held against a table.
//!
//! Counted by valgrind, which simulates a processor: the figure is the same each time, however busy the machine is. It does depend on the
//! compiler and on the machine's kind, so the table says where it was made; elsewhere it is a comparison, not a bound.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    process::{Command, Output, Stdio},
};

use crate::process::cargo;

const TABLE: &str = "benches/instructions.toml";
const HEAD: &str = "\
# How many instructions each piece of benches/instructions.rs takes: per record, or all of it where the name has a number of partitions.
# A count more than 5 % above fails `cargo xtask test`. Made by `cargo xtask instructions --bless`.

";

/// What a count may be, beside the one in the table.
const FACTOR_MAX: f64 = 1.05;
/// A count below this part of what is in the table is worth a new table.
const FACTOR_BETTER: f64 = 0.95;

/// How often a piece of work is done: once, and this many times. The difference leaves out how it begins.
const TIMES: u32 = 3;

/// What was counted where.
#[derive(Debug, Default, PartialEq)]
struct Table {
    /// The compiler, the target and the counter; a count made with others cannot be compared to the instruction.
    counted_with: String,
    instructions: BTreeMap<String, f64>,
}

/// The command: counts, compares, and with `--bless` makes the table anew.
pub(crate) fn run(args: &[&str]) -> Result<(), String> {
    let bless = match args {
        [] => false,
        ["--bless"] => true,
        _ => return Err(format!("cannot understand {}\n\n{}", args.join(" "), crate::USAGE)),
    };
    let valgrind = valgrind().ok_or("valgrind is not installed (apt-get install valgrind)")?;
    let counted = count(valgrind)?;
    if bless {
        print(&counted, &counted);
        return fs::write(TABLE, counted.to_text()).map_err(|error| format!("cannot write {TABLE}: {error}"));
    }
    compare(&counted)
}

/// The step of `cargo xtask test`.
pub(crate) fn check() -> Result<(), String> {
    match valgrind() {
        Some(valgrind) => compare(&count(valgrind)?),
        None => {
            println!("not counted: valgrind is not installed (apt-get install valgrind)");
            Ok(())
        }
    }
}

fn compare(counted: &Table) -> Result<(), String> {
    let text = fs::read_to_string(TABLE).map_err(|error| format!("cannot read {TABLE}: {error}"))?;
    let table = Table::parse(&text)?;
    print(counted, &table);
    if counted.counted_with != table.counted_with {
        println!("only to compare: the table is of {}, this is {}", table.counted_with, counted.counted_with);
        return Ok(());
    }
    let wrong = table.what_is_wrong_with(counted);
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(format!("{}; if that is meant: cargo xtask instructions --bless", wrong.join("; ")))
    }
}

fn print(counted: &Table, table: &Table) {
    println!("{:>14} {:>14}", "instructions", "in the table");
    for (piece, now) in &counted.instructions {
        let (before, remark) = match table.instructions.get(piece) {
            Some(before) if now / before < FACTOR_BETTER => (format!("{before:.1}"), "  better: --bless keeps it so"),
            Some(before) => (format!("{before:.1}"), ""),
            None => ("-".to_owned(), ""),
        };
        println!("{now:14.1} {before:>14}  {piece}{remark}");
    }
}

/// The version of the valgrind that is there.
fn valgrind() -> Option<String> {
    let output = Command::new("valgrind").arg("--version").stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn count(valgrind: String) -> Result<Table, String> {
    let program = build()?;
    let pieces = succeeded(Command::new(&program).output(), &program)?;
    let mut instructions = BTreeMap::new();
    for piece in pieces.lines() {
        let (_, once) = count_piece(&program, piece, 1)?;
        let (units, more) = count_piece(&program, piece, TIMES)?;
        let each = more.saturating_sub(once) as f64 / f64::from(TIMES - 1) / units as f64;
        instructions.insert(piece.to_owned(), (each * 10.0).round() / 10.0);
    }
    Ok(Table { counted_with: format!("{}, {valgrind}", compiler()?), instructions })
}

/// Builds what is counted, optimised and in one unit, and says where it is.
fn build() -> Result<String, String> {
    let mut build =
        cargo("build --profile counted --features __bench --bench instructions --message-format json-render-diagnostics");
    let messages = succeeded(build.stderr(Stdio::inherit()).output(), "cargo build")?;
    let program = messages.lines().filter(|line| line.contains(r#""name":"instructions""#)).find_map(|line| {
        let (_, rest) = line.split_once(r#""executable":""#)?;
        rest.split_once('"').map(|(program, _)| program.to_owned())
    });
    program.ok_or_else(|| "cargo does not say where it has put the bench `instructions`".to_owned())
}

/// Does a piece of work so many times; how many units are in it, and how many instructions all of it took.
fn count_piece(program: &str, piece: &str, times: u32) -> Result<(u64, u64), String> {
    let mut counting = Command::new("valgrind");
    counting.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", program, piece, &times.to_string()]);
    let output = counting.output().map_err(|error| format!("cannot run valgrind: {error}"))?;
    let (told, counted) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let collected = counted.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    match (told.trim().parse(), collected) {
        (Ok(units), Some(collected)) if output.status.success() => Ok((units, collected)),
        _ => Err(format!("{piece} was not counted: {}\n{told}{counted}", output.status)),
    }
}

fn compiler() -> Result<String, String> {
    let about = succeeded(Command::new("rustc").arg("-vV").output(), "rustc")?;
    let field = |name| about.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("unknown");
    Ok(format!("rustc {} on {}", field("release: "), field("host: ")))
}

fn succeeded(output: std::io::Result<Output>, name: &str) -> Result<String, String> {
    let output = output.map_err(|error| format!("cannot run {name}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{name}: {}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

impl Table {
    /// Reads the little of TOML that the table is made of.
    fn parse(text: &str) -> Result<Self, String> {
        let mut table = Self::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', '['])) {
            let wrong = || format!("{TABLE}: cannot understand {line}");
            let (name, value) = line.rsplit_once(" = ").ok_or_else(wrong)?;
            match value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) {
                Some(text) if name == "counted_with" => table.counted_with = text.to_owned(),
                _ => drop(table.instructions.insert(name.trim_matches('"').to_owned(), value.parse().map_err(|_| wrong())?)),
            }
        }
        Ok(table)
    }

    fn to_text(&self) -> String {
        let mut text = format!("{HEAD}counted_with = \"{}\"\n\n[instructions]\n", self.counted_with);
        for (piece, count) in &self.instructions {
            writeln!(text, "\"{piece}\" = {count:.1}").expect("a string takes everything");
        }
        text
    }

    /// Compares what was counted now with the table, which must be of the same compiler.
    fn what_is_wrong_with(&self, counted: &Self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (piece, now) in &counted.instructions {
            match self.instructions.get(piece) {
                Some(before) if *now <= before * FACTOR_MAX => {}
                Some(before) => wrong.push(format!("{piece}: {before:.1} -> {now:.1} instructions")),
                None => wrong.push(format!("{piece}: not in the table")),
            }
        }
        let gone = self.instructions.keys().filter(|piece| !counted.instructions.contains_key(*piece));
        wrong.extend(gone.map(|piece| format!("{piece}: in the table, but not counted")));
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(pieces: &[(&str, f64)]) -> Table {
        let instructions = pieces.iter().map(|&(piece, count)| (piece.to_owned(), count)).collect();
        Table { counted_with: "rustc 1.95.0 on x".to_owned(), instructions }
    }

    #[test]
    fn a_table_is_read_as_it_was_written() {
        let table = table(&[("decode, 16 B", 40.1), ("planner, 10,000 partitions", 1_234_567.0)]);
        assert_eq!(Table::parse(&table.to_text()), Ok(table));
    }

    #[test]
    fn five_percent_more_are_borne_and_no_more() {
        let before = table(&[("a", 100.0), ("b", 100.0), ("gone", 1.0)]);
        let now = table(&[("a", 105.0), ("b", 105.1), ("new", 1.0)]);
        let wrong = ["b: 100.0 -> 105.1 instructions", "new: not in the table", "gone: in the table, but not counted"];
        assert_eq!(before.what_is_wrong_with(&now), wrong);
    }
}
