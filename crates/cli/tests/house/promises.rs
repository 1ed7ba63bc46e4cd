//! SPECIFICATION.md: every promise names a test, a bench, an abuse case, a fault or a test in a browser, and what it names
//! exists.

use std::collections::BTreeSet;
use std::path::Path;

/// What a row of SPECIFICATION.md may name as its witness.
#[derive(Default)]
struct Witnesses {
    /// Functions marked `#[test]` (or a relative of it).
    tests: BTreeSet<String>,
    /// Names of the subcommands of `hothouse bench`.
    benches: BTreeSet<String>,
    /// Names of the tests of web pages.
    pages: BTreeSet<String>,
}

fn gather(directory: &Path, witnesses: &mut Witnesses) {
    for entry in std::fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display())) {
        let path = entry.expect("a directory entry").path();
        if path.is_dir() {
            gather(&path, witnesses);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let mut marked = false;
            for line in text.lines().map(str::trim) {
                marked |= line.starts_with("#[test")
                    || line.starts_with("#[tokio::test")
                    || line.starts_with("proptest!");
                if let Some(name) =
                    line.split_once("fn ").and_then(|(_, after)| after.split(['(', '<']).next())
                    && marked
                {
                    witnesses.tests.insert(name.to_owned());
                }
                // A property-test block holds several functions; elsewhere one mark is for one function.
                if line == "}" {
                    marked = false;
                }
            }
        }
    }
}

/// The names in `test("…"`, which begins a line.
fn gather_pages(directory: &Path, witnesses: &mut Witnesses) {
    for entry in std::fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display())) {
        let path = entry.expect("a directory entry").path();
        if path.to_string_lossy().ends_with(".test.js") {
            let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let names = text.lines().filter_map(|line| line.strip_prefix("test(\"")?.split('"').next());
            witnesses.pages.extend(names.map(ToOwned::to_owned));
        }
    }
}

fn witnesses() -> Witnesses {
    let mut found = Witnesses::default();
    gather(&crate::root().join("crates"), &mut found);
    gather_pages(&crate::root().join("tests/web"), &mut found);
    found.benches = [
        "create", "claim", "exec", "session", "context", "dial", "fork", "image", "score", "adopt", "growth",
        "density", "steps",
    ]
    .map(ToOwned::to_owned)
    .into();
    found
}

/// The witnesses that one row of the table names, in its last cell: `` test `name` ``, `` bench `name` ``, `` abuse `T01` ``.
fn named(row: &str) -> Vec<(String, String)> {
    let cell = row.trim_end_matches('|').rsplit('|').next().unwrap_or("");
    let mut found = Vec::new();
    let mut kind = String::new();
    for (at, part) in cell.split('`').enumerate() {
        if at % 2 == 1 {
            found.push((kind.clone(), part.to_owned()));
        } else if let Some(word) =
            part.split_whitespace().last().filter(|word| word.chars().all(char::is_alphabetic))
        {
            kind = word.to_owned();
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_promise_names_a_witness_that_exists() {
        let path = crate::root().join("SPECIFICATION.md");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let known = witnesses();
        let faults = crate::root().join("crates/cli/tests/chaos/parts");
        let mut promises = 0;
        for row in text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Promise")) {
            promises += 1;
            let named = named(row);
            assert!(!named.is_empty(), "no witness: {row}");
            for (kind, name) in named {
                let exists = match kind.as_str() {
                    "test" => known.tests.contains(&name),
                    "bench" => known.benches.contains(&name),
                    "abuse" => name.starts_with('T') && name.len() == 3,
                    "page" => known.pages.contains(&name),
                    "chaos" => faults.join(format!("{name}.rs")).is_file(),
                    other => panic!("{other:?} is neither test, bench, abuse, chaos nor page: {row}"),
                };
                assert!(exists, "{kind} `{name}` does not exist: {row}");
            }
        }
        assert!(promises >= 20, "only {promises} promises found");
    }

    #[test]
    fn a_row_may_name_several_witnesses() {
        let row = "| it holds | 3 ms | bench `create`, abuse `T01`, test `it_holds`, `it_holds_too` |";
        let expected =
            [("bench", "create"), ("abuse", "T01"), ("test", "it_holds"), ("test", "it_holds_too")];
        assert_eq!(named(row), expected.map(|(kind, name)| (kind.to_owned(), name.to_owned())));
    }
}
