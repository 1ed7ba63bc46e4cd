//! Files: small, named after a noun, without a drawer for odds and ends; unsafe code only where it is expected.

use std::path::{Path, PathBuf};

/// From so many lines on, think about a second file.
const NOTICE_LINES: usize = 500;
/// More lines than this fail.
const MAX_LINES: usize = 800;
/// `fn main` is wiring: so many lines between its braces.
const MAX_MAIN_LINES: usize = 12;
/// Drawers for odds and ends.
const DRAWERS: &[&str] = &["util", "utils", "common", "helper", "helpers", "misc"];
/// The crates that may contain unsafe code.
const UNSAFE_CRATES: &[&str] = &["guest", "sandbox"];

/// A source file of ours.
struct Source {
    /// Relative to the root.
    path: PathBuf,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = crate::root();
    let mut found = Vec::new();
    walk(&root.join("crates"), &root, &mut found);
    assert!(found.len() > 10, "only {} Rust files found: this test sees nothing", found.len());
    found
}

fn walk(directory: &Path, root: &Path, found: &mut Vec<Source>) {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    for entry in entries {
        let entry = entry.expect("a directory entry");
        let path = entry.path();
        let kind = entry.file_type().expect("a file type");
        if kind.is_dir() && entry.file_name() != "target" {
            walk(&path, root, found);
        } else if kind.is_file() && path.extension().is_some_and(|ext| ext == "rs") {
            let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let path = path.strip_prefix(root).expect("below the root").to_path_buf();
            found.push(Source { path, text });
        }
    }
}

fn crate_of(path: &Path) -> String {
    let name = path.components().nth(1).expect("crates/<name>/…");
    name.as_os_str().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_is_too_long() {
        let mut too_long = Vec::new();
        for source in sources() {
            let lines = source.text.lines().count();
            if lines > MAX_LINES {
                too_long.push(format!("{} has {lines} lines", source.path.display()));
            } else if lines > NOTICE_LINES {
                println!("notice: {} has {lines} lines; is it two nouns?", source.path.display());
            }
        }
        assert!(too_long.is_empty(), "over {MAX_LINES} lines: {too_long:#?}");
    }

    #[test]
    fn no_drawer_for_odds_and_ends() {
        for source in sources() {
            for part in source.path.with_extension("").components() {
                let part = part.as_os_str().to_string_lossy();
                assert!(
                    !DRAWERS.contains(&part.as_ref()),
                    "{}: name it after what it holds",
                    source.path.display()
                );
            }
            for line in source.text.lines() {
                let words: Vec<&str> = line.split_whitespace().collect();
                if let Some(at) = words.iter().position(|word| *word == "mod") {
                    let name = words.get(at + 1).map_or("", |name| name.trim_end_matches([';', '{']));
                    assert!(
                        !DRAWERS.contains(&name),
                        "{}: `mod {name}`: name it after what it holds",
                        source.path.display()
                    );
                }
            }
        }
    }

    #[test]
    fn main_is_wiring() {
        for source in sources().iter().filter(|source| source.path.ends_with("src/main.rs")) {
            let after = source.text.split_once("fn main()").map_or("", |(_, after)| after);
            let body = after.lines().skip(1).take_while(|line| *line != "}").count();
            assert!(
                body <= MAX_MAIN_LINES,
                "{}: main has {body} lines, at most {MAX_MAIN_LINES}",
                source.path.display()
            );
        }
    }

    #[test]
    fn unsafe_code_lives_in_two_crates_and_says_why() {
        for source in sources() {
            let allows = source.text.lines().any(|line| {
                let line = line.trim_start_matches(['#', '!', '[', ' ']);
                line.starts_with("allow(unsafe_code") || line.starts_with("expect(unsafe_code")
            });
            let its_crate = crate_of(&source.path);
            assert!(
                !allows || UNSAFE_CRATES.contains(&its_crate.as_str()),
                "{}: unsafe code belongs into {UNSAFE_CRATES:?}",
                source.path.display()
            );
        }
    }

    #[test]
    fn every_crate_takes_the_lints_of_the_workspace() {
        for entry in std::fs::read_dir(crate::root().join("crates")).expect("crates/") {
            let manifest = entry.expect("a directory entry").path().join("Cargo.toml");
            let text =
                std::fs::read_to_string(&manifest).unwrap_or_else(|e| panic!("{}: {e}", manifest.display()));
            assert!(
                text.contains("[lints]\nworkspace = true"),
                "{}: `[lints] workspace = true` is missing",
                manifest.display()
            );
        }
    }
}
