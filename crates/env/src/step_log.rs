//! Steps that were taken under an id, so that none is taken twice.

use std::collections::VecDeque;

use crate::observed::Observed;

/// As many are known again.
const KEPT: usize = 64;

/// The last steps with an id, of one session.
#[derive(Debug, Default)]
pub(crate) struct StepLog(VecDeque<Taken>);

#[derive(Debug)]
struct Taken {
    id: String,
    action: String,
    observed: Observed,
}

/// What is known of an id.
#[derive(Debug)]
pub(crate) enum Known<'a> {
    /// Nothing: the step is to be taken.
    Nothing,
    /// It was taken, and this came of it.
    Taken(&'a Observed),
    /// It was taken with another action.
    Reused,
}

impl StepLog {
    /// What is known of an id.
    pub(crate) fn look(&self, id: &str, action: &str) -> Known<'_> {
        match self.0.iter().find(|taken| taken.id == id) {
            None => Known::Nothing,
            Some(taken) if taken.action == action => Known::Taken(&taken.observed),
            Some(_) => Known::Reused,
        }
    }

    /// Keeps a step.
    pub(crate) fn keep(&mut self, id: &str, action: &str, observed: &Observed) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(Taken { id: id.to_owned(), action: action.to_owned(), observed: observed.clone() });
    }

    /// Forgets all, for another episode.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
