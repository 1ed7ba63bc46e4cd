//! One direction: `cli ─► server ─► env ─► fleet ─► sandbox ─► guest`, and everything but the guest knows `domain`.

use std::collections::BTreeSet;

use cargo_metadata::Metadata;

/// Every arrow that may exist between two crates of the house, in builds and in tests. When a crate is added, its
/// arrows are added here, never against the direction of ARCHITECTURE.md.
const ALLOWED: &[(&str, &str)] = &[
    ("hothouse-cli", "hothouse-domain"),
    ("hothouse-cli", "hothouse-env"),
    ("hothouse-cli", "hothouse-fleet"),
    ("hothouse-cli", "hothouse-sandbox"),
    ("hothouse-cli", "hothouse-server"),
    ("hothouse-sandbox", "hothouse-domain"),
    ("hothouse-sandbox", "hothouse-guest"),
    ("hothouse-env", "hothouse-domain"),
    ("hothouse-env", "hothouse-fleet"),
    ("hothouse-env", "hothouse-sandbox"),
    ("hothouse-fleet", "hothouse-domain"),
    ("hothouse-fleet", "hothouse-sandbox"),
    ("hothouse-server", "hothouse-domain"),
    ("hothouse-server", "hothouse-env"),
    ("hothouse-server", "hothouse-fleet"),
    ("hothouse-server", "hothouse-sandbox"),
];

/// What the words of the house are made of: no runtime, no I/O, no clock.
const DOMAIN_MAY_USE: &[&str] = &["serde", "thiserror", "utoipa"];

/// What PID 1 of a sandbox must never be linked with.
const GUEST_NEVER_USES: &[&str] = &["tokio", "futures", "hyper", "axum", "hothouse-domain"];

fn arrows(metadata: &Metadata) -> BTreeSet<(String, String)> {
    let members: BTreeSet<&str> = metadata.workspace_packages().iter().map(|p| p.name.as_str()).collect();
    metadata
        .workspace_packages()
        .iter()
        .flat_map(|package| {
            let from = package.name.to_string();
            package
                .dependencies
                .iter()
                .filter(|dependency| members.contains(dependency.name.as_str()))
                .map(move |dependency| (from.clone(), dependency.name.clone()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direct(metadata: &Metadata, package: &str) -> BTreeSet<String> {
        let package = metadata
            .workspace_packages()
            .into_iter()
            .find(|p| p.name.as_str() == package)
            .unwrap_or_else(|| panic!("no crate {package}"));
        package
            .dependencies
            .iter()
            .filter(|d| d.kind != cargo_metadata::DependencyKind::Development)
            .map(|d| d.name.clone())
            .collect()
    }

    #[test]
    fn only_the_arrows_of_the_design_exist() {
        let allowed: BTreeSet<(String, String)> =
            ALLOWED.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
        let found = arrows(&crate::metadata());
        let against: Vec<_> = found.difference(&allowed).collect();
        assert!(against.is_empty(), "arrows against the direction of ARCHITECTURE.md: {against:?}");
        assert!(!found.is_empty(), "no arrow was found at all, so this test sees nothing");
    }

    /// What is compiled into the program with these features.
    fn built_with(features: &[&str]) -> BTreeSet<String> {
        let output = std::process::Command::new(env!("CARGO"))
            .args(["tree", "--locked", "-p", "hothouse-cli", "-e", "normal", "--prefix", "none", "-f", "{p}"])
            .args(features)
            .current_dir(crate::root())
            .output()
            .expect("cargo tree");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("names");
        text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
    }

    #[test]
    fn the_default_program_has_no_exporter_of_traces() {
        let exporter = |names: &BTreeSet<String>| names.iter().any(|name| name.contains("opentelemetry"));
        let default = built_with(&[]);
        assert!(default.contains("tokio") && !exporter(&default), "{default:?}");
        assert!(exporter(&built_with(&["--features", "otel"])), "this test would see it");
    }

    #[test]
    fn the_words_need_no_runtime() {
        let allowed: BTreeSet<String> = DOMAIN_MAY_USE.iter().map(|name| (*name).to_owned()).collect();
        let found = direct(&crate::metadata(), "hothouse-domain");
        let extra: Vec<_> = found.difference(&allowed).collect();
        assert!(extra.is_empty(), "domain is words only, but uses {extra:?}");
    }

    #[test]
    fn the_guest_has_no_runtime_and_no_words() {
        let found = direct(&crate::metadata(), "hothouse-guest");
        for name in GUEST_NEVER_USES {
            assert!(!found.contains(*name), "the guest must not use {name}");
        }
    }
}
