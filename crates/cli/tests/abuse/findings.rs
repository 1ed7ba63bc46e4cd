//! What a case found out.

use std::fmt;

/// Characters of evidence: an attack's output may be megabytes.
const EVIDENCE: usize = 2000;

/// One thing that was looked at.
#[derive(Debug, Clone)]
pub(crate) enum Finding {
    /// The defence held.
    Held,
    /// It did not, and the sandbox says so: a named hole.
    Hole(String),
    /// It did not, and nothing said so.
    Broken(String),
}

/// All that one attack, or one control, found out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    /// Notes whether something held; the start of `evidence` is shown when it did not.
    pub(crate) fn holds(&mut self, what: impl fmt::Display, held: bool, evidence: impl fmt::Display) {
        self.0.push(if held {
            Finding::Held
        } else {
            let evidence: String = evidence.to_string().chars().take(EVIDENCE).collect();
            Finding::Broken(format!("{what}: {evidence}"))
        });
    }

    /// Notes a defence that does not hold here and that the sandbox itself names as missing.
    pub(crate) fn hole(&mut self, name: impl Into<String>) {
        self.0.push(Finding::Hole(name.into()));
    }

    /// Takes over what a part of the case found out.
    pub(crate) fn add(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Notes that the case could not be played to its end.
    pub(crate) fn broke(&mut self, error: &anyhow::Error) {
        self.0.push(Finding::Broken(format!("{error:#}")));
    }

    /// How many things held.
    pub(crate) fn held(&self) -> usize {
        self.0.iter().filter(|finding| matches!(finding, Finding::Held)).count()
    }

    /// How many things were looked at.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The names of the holes.
    pub(crate) fn holes(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|finding| match finding {
            Finding::Hole(name) => Some(name.as_str()),
            Finding::Held | Finding::Broken(_) => None,
        })
    }

    /// What did not hold and was not named.
    pub(crate) fn broken(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|finding| match finding {
            Finding::Broken(what) => Some(what.as_str()),
            Finding::Held | Finding::Hole(_) => None,
        })
    }
}
