//! Makes sure that whoever builds ottla needs no C compiler.

use std::process::Command;

/// Crates that compile C, or look for a library that is C.
const COMPILE_C: [&str; 6] = ["cc", "cmake", "bindgen", "pkg-config", "vcpkg", "ring"];

/// Declarations only: what they name is the operating system's own.
const DECLARE_ONLY: [&str; 5] = ["core-foundation-sys", "linux-raw-sys", "js-sys", "security-framework-sys", "web-sys"];

/// Looks through all that ottla is built from, on every system, with the features that are on by default: only who asks for `aws-lc` or
/// `ring` gets C.
pub(crate) fn check() -> Result<(), String> {
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--package", "ottla", "--edges", "normal,build", "--target", "all", "--prefix", "none"]);
    let output = tree.output().map_err(|error| format!("cannot run cargo tree: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo tree failed: {}", String::from_utf8_lossy(&output.stderr)));
    }
    match offenders(&String::from_utf8_lossy(&output.stdout)) {
        found if found.is_empty() => Ok(()),
        found => Err(format!("ottla must build without a C compiler, but is built from {}", found.join(", "))),
    }
}

/// Finds the crates of a `cargo tree` that bring C along.
fn offenders(tree: &str) -> Vec<&str> {
    let mut names: Vec<_> = tree.lines().filter_map(|line| line.split(' ').next()).filter(|name| brings_c(name)).collect();
    names.sort();
    names.dedup();
    names
}

fn brings_c(name: &str) -> bool {
    let is_sys = name.ends_with("-sys") && !name.starts_with("windows") && !DECLARE_ONLY.contains(&name);
    is_sys || COMPILE_C.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_that_compiles_c_is_found_and_a_harmless_one_is_not() {
        let tree = "ottla v0.1.0 (/src)\nzstd-sys v2.0.0\nwindows-sys v0.61.0\nbytes v1.12.0\ncc v1.2.0\nzstd-sys v2.0.0 (*)\nlinux-raw-sys v0.1.0";
        assert_eq!(offenders(tree), ["cc", "zstd-sys"]);
    }
}
