//! The sandboxes of a node by id.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Mutex;

use hothouse_domain::SandboxId;

use crate::error::SandboxError;
use crate::link::locked;

/// How many entries are looked at under one lock.
const STRIDE: usize = 256;

/// Entries by id, bounded; a place is taken before what goes there is made.
#[derive(Debug)]
pub(crate) struct Registry<T> {
    entries: Mutex<BTreeMap<SandboxId, T>>,
    limit: usize,
}

impl<T: Clone> Registry<T> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { entries: Mutex::new(BTreeMap::new()), limit }
    }

    /// Takes a place.
    pub(crate) fn reserve(&self, id: &SandboxId, entry: T) -> Result<(), SandboxError> {
        let mut entries = locked(&self.entries);
        if entries.contains_key(id) {
            return Err(SandboxError::Exists(id.clone()));
        }
        if entries.len() >= self.limit {
            return Err(SandboxError::NodeFull { limit: self.limit });
        }
        entries.insert(id.clone(), entry);
        Ok(())
    }

    /// Puts in what exists already, over the limit too.
    pub(crate) fn adopt(&self, id: SandboxId, entry: T) {
        locked(&self.entries).insert(id, entry);
    }

    pub(crate) fn get(&self, id: &SandboxId) -> Option<T> {
        locked(&self.entries).get(id).cloned()
    }

    pub(crate) fn remove(&self, id: &SandboxId) {
        locked(&self.entries).remove(id);
    }

    pub(crate) fn len(&self) -> usize {
        locked(&self.entries).len()
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn all(&self) -> Vec<T> {
        locked(&self.entries).values().cloned().collect()
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
                let entries = locked(&self.entries);
                let from = last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
                let range = entries.range::<SandboxId, _>((from, Bound::Unbounded));
                range.take(STRIDE.min(limit)).map(|(id, entry)| (id.clone(), entry.clone())).collect()
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

    #[test]
    fn a_place_is_taken_once_and_only_while_there_is_room() {
        let registry = Registry::new(2);
        registry.reserve(&id(1), 1).unwrap();
        assert!(matches!(registry.reserve(&id(1), 1), Err(SandboxError::Exists(_))));
        registry.reserve(&id(2), 2).unwrap();
        assert!(matches!(registry.reserve(&id(3), 3), Err(SandboxError::NodeFull { limit: 2 })));
        registry.remove(&id(1));
        registry.reserve(&id(3), 3).unwrap();
        assert_eq!(registry.len(), 2);
    }

    proptest! {
        #[test]
        fn pages_joined_are_the_whole(
            ids in prop::collection::btree_set(0_u32..2000, 0..900),
            limit in 1_usize..300,
            modulus in 1_u32..5,
        ) {
            let registry = Registry::new(10_000);
            for n in &ids {
                registry.reserve(&id(*n), *n).unwrap();
            }
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
