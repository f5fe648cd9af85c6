//! Calling other programs.

use std::process::{Command, Stdio};

/// Cargo, with arguments that hold no blanks.
pub(crate) fn cargo(args: &str) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(args.split(' '));
    cargo
}

/// Runs a command to its end; says which one it was when it fails.
pub(crate) fn call(command: &mut Command) -> Result<(), String> {
    let name = format!("{} {}", command.get_program().display(), command.get_args().next().unwrap_or_default().display());
    let status = command.stdin(Stdio::null()).status().map_err(|error| format!("cannot run {name}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{name}: {status}")) }
}
