//! Processes that surely end: by number, with whoever started them.

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::error::{Context, Error, Result};

/// How often a condition is looked at again.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Writes its own number down before it becomes the command, so there is no moment in which the process runs and the watchdog does not
/// know it. When the watchdog was faster and the folder is gone, the command never starts.
const RECORD_AND_RUN: &str = r#"echo $$ > "$0" && exec "$@""#;

/// Waits until its input closes, then ends every process whose number stands in a `*/pid` file of the folder, and removes the folder.
/// A number alone may by then be another program's: the process must also name the folder in its arguments.
const END_ALL: &str = r#"
read -r _
arguments() { tr '\0' ' ' < "/proc/$1/cmdline" 2>/dev/null || ps -o args= -p "$1"; }
for file in "$1"/*/pid; do
    pid=$(cat "$file" 2>/dev/null) && [ -n "$pid" ] || continue
    case $(arguments "$pid") in *"$1"*) kill -KILL "$pid" ;; esac
    rm -f -- "$file"
done
[ -n "$2" ] && exit
for again in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- "$1" 2>/dev/null && exit; sleep 0.1; done
"#;

/// Ends the processes of a folder, and removes it, when it is dropped or when this process dies in whatever way: either closes the pipe.
pub(crate) struct Watchdog {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Watchdog {
    /// Starts to watch; `KAFKA_HARNESS_KEEP=1` keeps the folder with the logs.
    pub(crate) fn over(folder: &Path) -> Result<Self> {
        let mut shell = end_all(folder).stdin(Stdio::piped()).spawn().context("start the watchdog")?;
        let pipe = shell.stdin.take();
        Ok(Self { shell, pipe })
    }

    /// Stops watching: the processes live on.
    pub(crate) fn dismiss(mut self) -> Result<()> {
        self.shell.kill().context("dismiss the watchdog")
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.pipe = None;
        let _ = self.shell.wait();
    }
}

/// Does at once what the watchdog would do at the end.
pub(crate) fn end_processes_of(folder: &Path) -> Result<()> {
    end_all(folder).stdin(Stdio::null()).status().context("run sh")?;
    Ok(())
}

fn end_all(folder: &Path) -> Command {
    let mut shell = Command::new("sh");
    // A group of its own: Ctrl-C must end the test and leave the watchdog to its work.
    shell.args(["-c", END_ALL, "watchdog"]).arg(folder).arg(std::env::var_os("KAFKA_HARNESS_KEEP").unwrap_or_default());
    shell.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    shell
}

/// Runs `command` in the background, its number in `folder/pid`, what it prints at the end of `folder/log`.
pub(crate) fn spawn_recorded(folder: &Path, command: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Child> {
    let log = File::options().create(true).append(true).open(folder.join("log")).context("open the log")?;
    let errors = log.try_clone().context("open the log")?;
    let mut shell = Command::new("sh");
    shell.args(["-c", RECORD_AND_RUN]).arg(folder.join("pid")).args(command);
    shell.stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
    shell.spawn().context("run sh")
}

/// Waits for the end of a process that `spawn_recorded` started, and forgets its number, which is free for others from then on.
pub(crate) fn reap(folder: &Path, child: &mut Child, within: Duration) -> Option<ExitStatus> {
    let mut status = None;
    eventually(within, || {
        status = child.try_wait().ok().flatten();
        status.is_some()
    })
    .then(|| {
        let _ = fs::remove_file(folder.join("pid"));
        status
    })?
}

/// Sends a signal by its name, such as `TERM` or `STOP`.
///
/// # Errors
///
/// When there is no such signal, or the process has ended and was waited for.
pub fn signal(name: &str, child: &Child) -> Result<()> {
    // The shell's own `kill`: a small container has no /bin/kill.
    let status =
        Command::new("sh").args(["-c", r#"kill -s "$0" "$1""#, name, &child.id().to_string()]).status().context("run sh")?;
    if status.success() { Ok(()) } else { Err(Error::new(format!("cannot send SIG{name} to process {}: {status}", child.id()))) }
}

/// Looks at a condition again and again until it holds; `false` when the time ran out first.
pub fn eventually(within: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + within;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// Returns the end of a text, for an error message.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: &str = "KAFKA_HARNESS_TEST_OWNER_OF";

    /// The same program once more plays the test process that is killed: it starts a process under a watchdog, and waits.
    #[test]
    fn a_killed_owner_takes_its_processes_and_their_folder_along() {
        if let Some(folder) = std::env::var_os(OWNER) {
            let folder = Path::new(&folder);
            let _watchdog = Watchdog::over(folder).unwrap();
            let _child =
                spawn_recorded(&folder.join("n1"), [OsStr::new("tail"), OsStr::new("-f"), folder.join("n1/log").as_ref()]);
            thread::sleep(Duration::from_secs(60));
            return;
        }
        let folder = std::env::temp_dir().join(format!("kafka-harness-watchdog-{}", std::process::id()));
        fs::create_dir_all(folder.join("n1")).unwrap();
        let name = "process::tests::a_killed_owner_takes_its_processes_and_their_folder_along";
        let mut owner = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(OWNER, &folder)
            .env_remove("KAFKA_HARNESS_KEEP")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let pid = || fs::read_to_string(folder.join("n1/pid")).unwrap_or_default().trim().to_owned();
        assert!(
            eventually(Duration::from_secs(20), || !pid().is_empty() && is_running(&pid(), "tail")),
            "the process never started"
        );
        let pid = pid();

        owner.kill().unwrap();
        owner.wait().unwrap();

        assert!(eventually(Duration::from_secs(20), || !is_running(&pid, "tail")), "process {pid} is still running");
        assert!(eventually(Duration::from_secs(20), || !folder.exists()), "{} is still there", folder.display());
    }

    #[test]
    fn a_number_that_became_another_programs_is_left_alone() {
        let folder = std::env::temp_dir().join(format!("kafka-harness-reused-{}", std::process::id()));
        fs::create_dir_all(folder.join("n1")).unwrap();
        let mut stranger = Command::new("sleep").arg("60").spawn().unwrap();
        fs::write(folder.join("n1/pid"), stranger.id().to_string()).unwrap();

        end_processes_of(&folder).unwrap();

        assert!(stranger.try_wait().unwrap().is_none(), "a process that is not of the folder was ended");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }

    fn is_running(pid: &str, name: &str) -> bool {
        let told = Command::new("ps").args(["-o", "stat=,comm=", "-p", pid]).output().unwrap();
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        told.contains(name) && !told.starts_with('Z')
    }
}
