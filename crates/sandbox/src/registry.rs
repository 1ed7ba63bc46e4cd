//! The sandboxes of a node by id.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Mutex;

use hothouse_domain::capacity::{Amounts, SANDBOXES};
use hothouse_domain::{SandboxId, TenantName};
use tokio::sync::watch;

use crate::capacity::{Demand, Ledger};
use crate::error::SandboxError;
use crate::link::locked;

/// How many entries are looked at under one lock.
const STRIDE: usize = 256;

/// Entries by id, with what each takes; room is taken before what goes there is made.
#[derive(Debug)]
pub(crate) struct Registry<T> {
    books: Mutex<Books<T>>,
    limit: usize,
    /// Counts how often something was given back.
    freed: watch::Sender<u64>,
}

#[derive(Debug)]
struct Books<T> {
    entries: BTreeMap<SandboxId, (T, Demand)>,
    ledger: Ledger,
}

impl<T: Clone> Registry<T> {
    /// For so many entries, and with these further limits.
    pub(crate) fn new(limit: usize, capacity: &Amounts) -> Self {
        let mut capacity = capacity.clone();
        #[expect(clippy::cast_precision_loss, reason = "nobody has 2^52 sandboxes")]
        capacity.insert(SANDBOXES.to_owned(), limit as f64);
        let books = Books { entries: BTreeMap::new(), ledger: Ledger::new(&capacity) };
        Self { books: Mutex::new(books), limit, freed: watch::Sender::new(0) }
    }

    /// Takes room for all of them or, where it is short for one, for none.
    pub(crate) fn reserve(&self, wanted: Vec<(SandboxId, T, Demand)>) -> Result<(), SandboxError> {
        let books = &mut *locked(&self.books);
        let mut new = BTreeSet::new();
        if let Some((id, ..)) =
            wanted.iter().find(|(id, ..)| books.entries.contains_key(id) || !new.insert(id))
        {
            return Err(SandboxError::Exists(id.clone()));
        }
        let demands: Vec<Demand> = wanted.iter().map(|(.., demand)| demand.clone()).collect();
        books.ledger.take(&demands)?;
        books.entries.extend(wanted.into_iter().map(|(id, entry, demand)| (id, (entry, demand))));
        Ok(())
    }

    /// Puts in what exists already, over the limits too.
    pub(crate) fn adopt(&self, id: SandboxId, entry: T, demand: Demand) {
        let books = &mut *locked(&self.books);
        books.ledger.note(std::slice::from_ref(&demand));
        books.entries.insert(id, (entry, demand));
    }

    /// Has an entry take something else, where there is room for that.
    pub(crate) fn exchange(&self, id: &SandboxId, demand: Demand) -> Result<(), SandboxError> {
        let books = &mut *locked(&self.books);
        let Some((_, taken)) = books.entries.get_mut(id) else {
            return Err(SandboxError::NotFound(id.to_string()));
        };
        if *taken == demand {
            return Ok(());
        }
        books.ledger.give_back(taken);
        let exchanged = books.ledger.take(std::slice::from_ref(&demand));
        match exchanged {
            Ok(()) => *taken = demand,
            Err(_) => books.ledger.note(std::slice::from_ref(taken)),
        }
        exchanged
    }

    pub(crate) fn set_quotas(&self, quotas: &HashMap<TenantName, Amounts>) {
        locked(&self.books).ledger.set_quotas(quotas);
    }

    /// What there is and what is taken of it, by name; no limit where there is `None`.
    pub(crate) fn usage(&self) -> BTreeMap<String, (f64, Option<f64>)> {
        locked(&self.books).ledger.usage()
    }

    pub(crate) fn get(&self, id: &SandboxId) -> Option<T> {
        locked(&self.books).entries.get(id).map(|(entry, _)| entry.clone())
    }

    pub(crate) fn remove(&self, id: &SandboxId) {
        let removed = {
            let books = &mut *locked(&self.books);
            let removed = books.entries.remove(id);
            if let Some((_, demand)) = &removed {
                books.ledger.give_back(demand);
            }
            removed
        };
        if removed.is_some() {
            self.freed.send_modify(|count| *count += 1);
        }
    }

    /// Told whenever something is given back.
    pub(crate) fn freed(&self) -> watch::Receiver<u64> {
        self.freed.subscribe()
    }

    pub(crate) fn len(&self) -> usize {
        locked(&self.books).entries.len()
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn all(&self) -> Vec<T> {
        locked(&self.books).entries.values().map(|(entry, _)| entry.clone()).collect()
    }

    /// Entries after an id, in order, that `wanted` accepts; at most `limit`.
    pub(crate) fn page(
        &self,
        after: Option<&SandboxId>,
        limit: usize,
        wanted: impl Fn(&T) -> bool,
    ) -> Vec<T> {
        let mut page = Vec::new();
        let mut last = after.cloned();
        while page.len() < limit {
            let stride: Vec<(SandboxId, T)> = {
                let books = locked(&self.books);
                let from = last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
                let range = books.entries.range::<SandboxId, _>((from, Bound::Unbounded));
                range.take(STRIDE.min(limit)).map(|(id, (entry, _))| (id.clone(), entry.clone())).collect()
            };
            let Some((id, _)) = stride.last() else { break };
            last = Some(id.clone());
            page.extend(stride.into_iter().map(|(_, entry)| entry).filter(&wanted).take(limit - page.len()));
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(n: u32) -> SandboxId {
        format!("s{n:05}").parse().unwrap()
    }

    fn one() -> Demand {
        Demand { tenant: None, amounts: vec![(SANDBOXES.to_owned(), 1.0)] }
    }

    fn wanted(ids: &[u32]) -> Vec<(SandboxId, u32, Demand)> {
        ids.iter().map(|n| (id(*n), *n, one())).collect()
    }

    #[test]
    fn a_place_is_taken_once_and_only_while_there_is_room() {
        let registry = Registry::new(2, &Amounts::new());
        registry.reserve(wanted(&[1])).unwrap();
        assert!(matches!(registry.reserve(wanted(&[1])), Err(SandboxError::Exists(_))));
        assert!(matches!(registry.reserve(wanted(&[2, 2])), Err(SandboxError::Exists(_))));
        assert!(matches!(registry.reserve(wanted(&[2, 3])), Err(SandboxError::NodeFull { .. })));
        assert_eq!(registry.len(), 1, "all or none");
        registry.reserve(wanted(&[2])).unwrap();
        let mut freed = registry.freed();
        assert!(!freed.has_changed().unwrap());
        registry.remove(&id(1));
        assert!(freed.has_changed().unwrap());
        freed.mark_unchanged();
        registry.remove(&id(1));
        assert!(!freed.has_changed().unwrap(), "it was gone already");
        registry.reserve(wanted(&[3])).unwrap();
        assert_eq!(registry.usage()[SANDBOXES], (2.0, Some(2.0)));
    }

    #[test]
    fn what_an_entry_takes_is_exchanged_or_stays() {
        let registry = Registry::new(2, &Amounts::from([("gpus".to_owned(), 1.0)]));
        registry.reserve(wanted(&[1])).unwrap();
        let gpus = |n: f64| Demand { tenant: None, amounts: vec![("gpus".to_owned(), n)] };
        registry.exchange(&id(1), gpus(1.0)).unwrap();
        assert!(registry.exchange(&id(1), gpus(2.0)).is_err());
        assert_eq!(registry.usage()["gpus"], (1.0, Some(1.0)));
        registry.remove(&id(1));
        assert_eq!(registry.usage()["gpus"], (0.0, Some(1.0)));
    }

    proptest! {
        #[test]
        fn pages_joined_are_the_whole(
            ids in prop::collection::btree_set(0_u32..2000, 0..900),
            limit in 1_usize..300,
            modulus in 1_u32..5,
        ) {
            let registry = Registry::new(10_000, &Amounts::new());
            registry.reserve(wanted(&ids.iter().copied().collect::<Vec<_>>())).unwrap();
            let mut got = Vec::new();
            loop {
                let after = got.last().map(|n| id(*n));
                let page = registry.page(after.as_ref(), limit, |n| n % modulus == 0);
                prop_assert!(page.len() <= limit);
                if page.is_empty() {
                    break;
                }
                got.extend(page);
            }
            let whole: Vec<u32> = ids.into_iter().filter(|n| n % modulus == 0).collect();
            prop_assert_eq!(got, whole);
        }
    }
}
