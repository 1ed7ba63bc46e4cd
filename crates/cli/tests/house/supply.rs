//! What comes from outside: only licences and sources that deny.toml allows, and none of the crates that it bans.

use std::collections::BTreeSet;

/// The rules of deny.toml that are checked here.
struct Rules {
    licences: BTreeSet<String>,
    registries: BTreeSet<String>,
    banned: BTreeSet<String>,
}

fn rules() -> Rules {
    let text = std::fs::read_to_string(crate::root().join("deny.toml")).expect("deny.toml");
    let table: toml::Table = text.parse().expect("deny.toml is TOML");
    let strings = |section: &str, key: &str| -> BTreeSet<String> {
        let list = table[section][key].as_array().unwrap_or_else(|| panic!("{section}.{key} is a list"));
        list.iter().map(|item| item.as_str().expect("a string").to_owned()).collect()
    };
    let banned = table["bans"]["deny"].as_array().expect("bans.deny is a list");
    Rules {
        licences: strings("licenses", "allow"),
        registries: strings("sources", "allow-registry"),
        banned: banned.iter().map(|ban| ban["name"].as_str().expect("a name").to_owned()).collect(),
    }
}

/// Whether an SPDX expression can be met with allowed licences alone: `OR` needs one side, `AND` both.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let expression = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let tokens: Vec<&str> = expression.split_whitespace().collect();
    let mut rest = tokens.as_slice();
    let verdict = either(&mut rest, allowed);
    assert!(rest.is_empty(), "licence expression {expression:?} ends early");
    verdict
}

fn either(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut verdict = both(rest, allowed);
    while rest.first() == Some(&"OR") {
        *rest = &rest[1..];
        verdict |= both(rest, allowed);
    }
    verdict
}

fn both(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut verdict = one(rest, allowed);
    while rest.first() == Some(&"AND") {
        *rest = &rest[1..];
        verdict &= one(rest, allowed);
    }
    verdict
}

fn one(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let first = *rest.first().expect("a licence");
    *rest = &rest[1..];
    if first == "(" {
        let verdict = either(rest, allowed);
        assert_eq!(rest.first(), Some(&")"), "a closing bracket");
        *rest = &rest[1..];
        return verdict;
    }
    let mut name = first.to_owned();
    if rest.first() == Some(&"WITH") {
        name = format!("{first} WITH {}", rest.get(1).expect("an exception"));
        *rest = &rest[2..];
    }
    allowed.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_licence_is_allowed() {
        let rules = rules();
        for package in crate::metadata().packages {
            let licence = package.license.unwrap_or_else(|| panic!("{} names no licence", package.name));
            assert!(
                is_allowed(&licence, &rules.licences),
                "{} {} is under {licence:?}, which deny.toml does not allow",
                package.name,
                package.version
            );
        }
    }

    #[test]
    fn every_source_is_allowed() {
        let rules = rules();
        for package in crate::metadata().packages {
            let Some(source) = package.source else { continue };
            let registry = source.repr.strip_prefix("registry+").map(ToOwned::to_owned);
            assert!(
                registry.is_some_and(|registry| rules.registries.contains(&registry)),
                "{} comes from {source}, which deny.toml does not allow",
                package.name
            );
        }
    }

    #[test]
    fn no_banned_crate_is_used() {
        let rules = rules();
        for package in crate::metadata().packages {
            assert!(!rules.banned.contains(package.name.as_str()), "deny.toml bans {}", package.name);
        }
    }

    #[test]
    fn licence_expressions_are_understood() {
        let allowed: BTreeSet<String> =
            ["MIT", "BSD-3-Clause", "Apache-2.0 WITH LLVM-exception"].map(ToOwned::to_owned).into();
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("GPL-3.0 OR MIT", true),
            ("MIT AND GPL-3.0", false),
            ("MIT/GPL-3.0", true),
            ("(MIT OR GPL-3.0) AND BSD-3-Clause", true),
            ("(MIT OR GPL-3.0) AND Unicode-3.0", false),
            ("Apache-2.0 WITH LLVM-exception OR GPL-3.0", true),
            ("Apache-2.0", false),
        ] {
            assert_eq!(is_allowed(expression, &allowed), expected, "{expression}");
        }
    }
}
