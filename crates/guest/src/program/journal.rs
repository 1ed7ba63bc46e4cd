//! The record of execs: what makes a repeated id return the recorded result instead of running again. Pure.
//!
//! ```text
//!  reserve ──► running ──► finished ──► (evicted: over 1,024 results, or output over budget)
//! ```
//!
//! An id is reserved before its process is started. The same id with the same body is a repeat, with another body a
//! conflict. Running execs are never evicted, nor is what a stream is still reading.

use std::collections::{BTreeMap, HashMap};

use sha2::{Digest, Sha256};

use super::output::Retained;
use crate::message::{ExecEntry, Finished, OutputStream};

/// Finished execs that are remembered.
pub const RESULTS: usize = 1024;
/// Bytes of output of finished execs that are kept, all together.
pub const OUTPUT_BUDGET: usize = 32 << 20;

/// Numbers an exec for the life of the guest.
pub type Serial = u64;
/// SHA-256 of what decides whether two requests with one id are the same.
pub type BodyDigest = [u8; 32];

/// The digest of a request's body.
#[must_use]
pub fn digest(body: &[u8]) -> BodyDigest {
    Sha256::digest(body).into()
}

/// One exec.
#[derive(Debug)]
pub struct Record {
    /// Its id.
    pub exec_id: String,
    digest: BodyDigest,
    /// Standard output and standard error.
    pub outputs: [Retained; 2],
    /// What it came to besides, for code of a context.
    value: Option<Vec<u8>>,
    finished: Option<Finished>,
    readers: u32,
}

impl Record {
    /// What it came to besides its outputs and status.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        self.value.as_deref()
    }

    /// How it ended; `None` while it runs.
    #[must_use]
    pub fn finished(&self) -> Option<&Finished> {
        self.finished.as_ref()
    }

    /// One of its outputs.
    #[must_use]
    pub fn output(&self, stream: OutputStream) -> &Retained {
        match stream {
            OutputStream::Stdout => &self.outputs[0],
            OutputStream::Stderr => &self.outputs[1],
        }
    }

    /// As lookups show it.
    #[must_use]
    pub fn entry(&self) -> ExecEntry {
        ExecEntry {
            exec_id: self.exec_id.clone(),
            stdout_total: self.outputs[0].total(),
            stderr_total: self.outputs[1].total(),
            finished: self.finished.clone(),
        }
    }

    fn kept(&self) -> usize {
        self.outputs.iter().map(Retained::kept).sum::<usize>() + self.value.as_ref().map_or(0, Vec::len)
    }
}

/// What reserving an id came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reservation {
    /// It is new: start it.
    New(Serial),
    /// It is a repeat.
    Known(Serial),
    /// The id is taken by another body.
    Conflict,
}

/// All execs that are remembered.
#[derive(Debug, Default)]
pub struct Journal {
    records: BTreeMap<Serial, Record>,
    by_id: HashMap<String, Serial>,
    /// Finished ones in the order in which they ended.
    ended: BTreeMap<u64, Serial>,
    ended_next: u64,
    /// Those of them that still keep output.
    keeping: BTreeMap<u64, Serial>,
    next: Serial,
    /// Bytes of output of finished ones.
    kept: usize,
}

impl Journal {
    /// Takes an id for a body, before anything is started.
    pub fn reserve(&mut self, exec_id: &str, digest: BodyDigest, output_limit: u64) -> Reservation {
        if let Some(&serial) = self.by_id.get(exec_id) {
            let same = self.records.get(&serial).is_some_and(|record| record.digest == digest);
            return if same { Reservation::Known(serial) } else { Reservation::Conflict };
        }
        let serial = self.next;
        self.next += 1;
        self.by_id.insert(exec_id.to_owned(), serial);
        let record = Record {
            exec_id: exec_id.to_owned(),
            digest,
            outputs: [Retained::new(output_limit), Retained::new(output_limit)],
            value: None,
            finished: None,
            readers: 0,
        };
        self.records.insert(serial, record);
        Reservation::New(serial)
    }

    /// What an id is reserved for, without reserving it.
    #[must_use]
    pub fn look_up(&self, exec_id: &str, digest: BodyDigest) -> Option<Reservation> {
        let serial = *self.by_id.get(exec_id)?;
        let same = self.records.get(&serial).is_some_and(|record| record.digest == digest);
        Some(if same { Reservation::Known(serial) } else { Reservation::Conflict })
    }

    /// The exec with this id.
    #[must_use]
    pub fn find(&self, exec_id: &str) -> Option<Serial> {
        self.by_id.get(exec_id).copied()
    }

    /// A record.
    #[must_use]
    pub fn get(&self, serial: Serial) -> Option<&Record> {
        self.records.get(&serial)
    }

    /// A record to push output to.
    pub fn get_mut(&mut self, serial: Serial) -> Option<&mut Record> {
        self.records.get_mut(&serial)
    }

    /// All records, oldest first.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// A stream begins to read a record: it stays until [`Journal::unpin`].
    pub fn pin(&mut self, serial: Serial) {
        if let Some(record) = self.records.get_mut(&serial) {
            record.readers += 1;
        }
    }

    /// A stream has read a record.
    pub fn unpin(&mut self, serial: Serial) {
        if let Some(record) = self.records.get_mut(&serial) {
            record.readers = record.readers.saturating_sub(1);
            if record.readers == 0 && record.finished.is_some() {
                let before = record.kept();
                record.outputs.iter_mut().for_each(Retained::seal);
                self.kept -= before - record.kept();
                self.evict();
            }
        }
    }

    /// Records what an exec that has not ended yet came to. The first one stands.
    pub fn set_value(&mut self, serial: Serial, value: Vec<u8>) {
        if let Some(record) = self.records.get_mut(&serial)
            && record.finished.is_none()
            && record.value.is_none()
        {
            record.value = Some(value);
        }
    }

    /// Records how an exec ended. The first record stands.
    pub fn finish(&mut self, serial: Serial, finished: Finished) {
        let Some(record) = self.records.get_mut(&serial) else { return };
        if record.finished.is_some() {
            return;
        }
        record.finished = Some(finished);
        // Whoever still reads may be behind by more than the limit keeps; it is cut down when they have read.
        if record.readers == 0 {
            record.outputs.iter_mut().for_each(Retained::seal);
        }
        let kept = record.kept();
        self.kept += kept;
        if kept > 0 {
            self.keeping.insert(self.ended_next, serial);
        }
        self.ended.insert(self.ended_next, serial);
        self.ended_next += 1;
        self.evict();
    }

    fn evict(&mut self) {
        let free = |records: &BTreeMap<Serial, Record>, serial: &Serial| {
            records.get(serial).is_none_or(|record| record.readers == 0)
        };
        while self.ended.len() > RESULTS {
            let Some((&at, &serial)) = self.ended.iter().find(|(_, serial)| free(&self.records, serial))
            else {
                break;
            };
            self.ended.remove(&at);
            self.keeping.remove(&at);
            if let Some(record) = self.records.remove(&serial) {
                self.kept -= record.kept();
                self.by_id.remove(&record.exec_id);
            }
        }
        while self.kept > OUTPUT_BUDGET {
            let oldest = self.keeping.iter().find(|(_, serial)| free(&self.records, serial));
            let Some((&at, &serial)) = oldest else { break };
            self.keeping.remove(&at);
            if let Some(record) = self.records.get_mut(&serial) {
                self.kept -= record.kept();
                record.outputs.iter_mut().for_each(Retained::forget);
                record.value = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::Ending;

    fn finished(code: i32) -> Finished {
        Finished {
            ending: Ending::Exited(code),
            wall_ns: 1,
            user_us: 0,
            system_us: 0,
            max_rss: 0,
            stdout_total: 0,
            stderr_total: 0,
            stdout_dropped: 0,
            stderr_dropped: 0,
            held_open: false,
        }
    }

    fn new(journal: &mut Journal, id: &str) -> Serial {
        match journal.reserve(id, digest(b"body"), 1 << 20) {
            Reservation::New(serial) => serial,
            other => panic!("{id} is {other:?}"),
        }
    }

    #[test]
    fn a_repeat_is_known_and_another_body_conflicts() {
        let mut journal = Journal::default();
        let serial = new(&mut journal, "a");
        assert_eq!(journal.reserve("a", digest(b"body"), 9), Reservation::Known(serial));
        assert_eq!(journal.reserve("a", digest(b"other"), 9), Reservation::Conflict);
        journal.finish(serial, finished(3));
        assert_eq!(journal.reserve("a", digest(b"body"), 9), Reservation::Known(serial));
        journal.finish(serial, finished(4));
        assert_eq!(journal.get(serial).unwrap().finished().unwrap().ending, Ending::Exited(3));
    }

    #[test]
    fn the_oldest_results_go_first_and_running_and_pinned_ones_stay() {
        let mut journal = Journal::default();
        let running = new(&mut journal, "running");
        let pinned = new(&mut journal, "pinned");
        journal.pin(pinned);
        journal.finish(pinned, finished(0));
        for i in 0..RESULTS + 10 {
            let serial = new(&mut journal, &format!("e{i}"));
            journal.finish(serial, finished(0));
        }
        assert!(journal.get(running).is_some());
        assert!(journal.get(pinned).is_some());
        assert!(journal.find("e0").is_none());
        assert!(journal.find(&format!("e{}", RESULTS + 9)).is_some());
        assert_eq!(journal.len(), RESULTS + 1);
        journal.unpin(pinned);
    }

    #[test]
    fn output_over_the_budget_is_forgotten_oldest_first_but_results_stay() {
        let mut journal = Journal::default();
        let mut serials = Vec::new();
        for i in 0..40 {
            let serial = new(&mut journal, &format!("e{i}"));
            journal.get_mut(serial).unwrap().outputs[0].push(&vec![b'x'; 1 << 20]);
            journal.finish(serial, finished(i));
            serials.push(serial);
        }
        assert_eq!(journal.get(serials[0]).unwrap().outputs[0].kept(), 0);
        assert_eq!(journal.get(serials[39]).unwrap().outputs[0].kept(), 1 << 20);
        assert_eq!(journal.get(serials[0]).unwrap().finished().unwrap().ending, Ending::Exited(0));
        assert!(journal.records().map(Record::kept).sum::<usize>() <= OUTPUT_BUDGET);
    }

    proptest! {
        #[test]
        fn an_id_is_never_new_twice_while_it_is_remembered(
            steps in prop::collection::vec((0_u8..20, 0_u8..3, any::<bool>()), 0..200),
        ) {
            let mut journal = Journal::default();
            let mut bodies: HashMap<u8, (u8, Serial)> = HashMap::new();
            for (id, body, end) in steps {
                match (journal.reserve(&id.to_string(), digest(&[body]), 10), bodies.get(&id)) {
                    (Reservation::New(serial), None) => {
                        bodies.insert(id, (body, serial));
                    }
                    (Reservation::Known(serial), Some((known, at))) => {
                        prop_assert_eq!((body, serial), (*known, *at));
                    }
                    (Reservation::Conflict, Some((known, _))) => prop_assert_ne!(body, *known),
                    (got, known) => prop_assert!(false, "{:?} for {:?}", got, known),
                }
                if end {
                    journal.finish(bodies[&id].1, finished(0));
                }
            }
        }
    }
}
