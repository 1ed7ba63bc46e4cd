//! How the sandboxes ended that are no more: who asks for one of them is told.
//!
//! ```text
//! $HOTHOUSE_HOME/endings.jsonl     a line for each, written before it is ended, so that an end that was begun is made good
//! ```

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use hothouse_domain::{EndCause, Ending, SandboxId};
use serde::{Deserialize, Serialize};

use crate::link::locked;
use crate::terms::Claimant;

/// Endings that are remembered.
const KEPT: usize = 10_000;
/// Lines after which the file is written anew with those that are remembered.
const MAX_LINES: usize = 3 * KEPT;
const FILE: &str = "endings.jsonl";

/// Who ends a sandbox and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// For a program.
    pub cause: EndCause,
    /// Who.
    pub by: String,
    /// For a person: a lowercase fragment.
    pub why: String,
}

impl End {
    /// An end.
    pub fn new(cause: EndCause, by: impl Into<String>, why: impl Into<String>) -> Self {
        Self { cause, by: by.into(), why: why.into() }
    }

    /// A client deletes it.
    #[must_use]
    pub fn deleted() -> Self {
        Self::new(EndCause::Deleted, "client", "it was deleted")
    }

    pub(crate) fn now(self) -> Ending {
        let Self { cause, by, why } = self;
        Ending { cause, by, at: jiff::Timestamp::now().to_string(), why }
    }
}

/// A sandbox that is no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Which.
    pub id: SandboxId,
    /// How it ended; absent in a line that says that another one has its id now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
    /// Whose it was, and by which request.
    #[serde(default)]
    pub claimant: Claimant,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Endings {
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    /// With the number of its ending.
    by_id: HashMap<SandboxId, (u64, Ended)>,
    /// The oldest first; what has begun again since still stands here.
    order: VecDeque<(u64, SandboxId)>,
    count: u64,
    /// Since this node was started.
    by_cause: BTreeMap<&'static str, u64>,
    file: Option<(File, PathBuf)>,
    lines: usize,
}

impl Endings {
    /// Without a file: for a node whose sandboxes do not outlive it.
    pub(crate) fn in_memory() -> Self {
        Self { memory: Mutex::default() }
    }

    /// With those that an earlier node wrote down.
    pub(crate) fn open(home: &Path) -> io::Result<Self> {
        let path = home.join(FILE);
        let mut memory = Memory::default();
        match std::fs::read_to_string(&path) {
            // The last line may be half of one, where the node was killed.
            Ok(text) => text.lines().filter_map(|line| serde_json::from_str(line).ok()).for_each(|ended| {
                memory.learn(ended);
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        memory.rewrite(path)?;
        Ok(Self { memory: Mutex::new(memory) })
    }

    /// Notes an ending. Where it cannot be written down it is remembered as long as this node lives.
    pub(crate) fn note(&self, ended: Ended) {
        let mut memory = locked(&self.memory);
        memory.write(&ended);
        if let Some(ending) = &ended.ending {
            *memory.by_cause.entry(ending.cause.as_str()).or_default() += 1;
        }
        memory.learn(ended);
    }

    pub(crate) fn by_cause(&self) -> BTreeMap<&'static str, u64> {
        locked(&self.memory).by_cause.clone()
    }

    /// The id is in use again.
    pub(crate) fn forget(&self, id: &SandboxId) {
        let mut memory = locked(&self.memory);
        if memory.by_id.contains_key(id) {
            let again = Ended { id: id.clone(), ending: None, claimant: Claimant::default() };
            memory.write(&again);
            memory.learn(again);
        }
    }

    pub(crate) fn find(&self, id: &SandboxId) -> Option<Ended> {
        locked(&self.memory).by_id.get(id).map(|(_, ended)| ended.clone())
    }

    pub(crate) fn all(&self) -> Vec<Ended> {
        locked(&self.memory).by_id.values().map(|(_, ended)| ended.clone()).collect()
    }
}

impl Memory {
    fn learn(&mut self, ended: Ended) {
        if ended.ending.is_none() {
            self.by_id.remove(&ended.id);
            return;
        }
        self.count += 1;
        self.order.push_back((self.count, ended.id.clone()));
        self.by_id.insert(ended.id.clone(), (self.count, ended));
        while self.order.len() > KEPT {
            if let Some((number, oldest)) = self.order.pop_front()
                && self.by_id.get(&oldest).is_some_and(|(latest, _)| *latest == number)
            {
                self.by_id.remove(&oldest);
            }
        }
    }

    fn write(&mut self, ended: &Ended) {
        let Some((file, path)) = &mut self.file else { return };
        let written = serde_json::to_vec(ended).map_err(io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            file.write_all(&line)
        });
        let path = path.clone();
        if let Err(error) = written {
            tracing::error!(path = %path.display(), %error, sandbox = %ended.id, "writing an ending down");
        }
        self.lines += 1;
        if self.lines >= MAX_LINES
            && let Err(error) = self.rewrite(path.clone())
        {
            tracing::error!(path = %path.display(), %error, "writing the endings anew");
        }
    }

    /// Writes the file anew with what is remembered; whoever reads it finds the old one or the new one.
    fn rewrite(&mut self, path: PathBuf) -> io::Result<()> {
        let mut text = Vec::new();
        self.order.retain(|(number, id)| self.by_id.get(id).is_some_and(|(latest, _)| latest == number));
        for (_, ended) in self.order.iter().filter_map(|(_, id)| self.by_id.get(id)) {
            serde_json::to_writer(&mut text, ended)?;
            text.push(b'\n');
        }
        let unfinished = path.with_extension("unfinished");
        std::fs::write(&unfinished, &text)?;
        std::fs::rename(&unfinished, &path)?;
        self.lines = self.order.len();
        self.file = Some((File::options().append(true).open(&path)?, path));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(id: &str) -> Ended {
        let ending = Some(End::deleted().now());
        Ended { id: id.parse().unwrap(), ending, claimant: Claimant::default() }
    }

    fn found(endings: &Endings, id: &str) -> bool {
        endings.find(&id.parse().unwrap()).is_some()
    }

    #[test]
    fn a_later_node_knows_what_ended_and_what_has_begun_again() {
        let home = tempfile::tempdir().unwrap();
        let endings = Endings::open(home.path()).unwrap();
        endings.note(ended("gone"));
        endings.note(ended("again"));
        endings.forget(&"again".parse().unwrap());
        endings.forget(&"never".parse().unwrap());
        std::fs::OpenOptions::new()
            .append(true)
            .open(home.path().join(FILE))
            .unwrap()
            .write_all(b"{\"id")
            .unwrap();
        for _ in 0..2 {
            let endings = Endings::open(home.path()).unwrap();
            assert!(found(&endings, "gone") && !found(&endings, "again") && !found(&endings, "never"));
        }
    }

    #[test]
    fn only_so_many_are_kept_in_memory_and_in_the_file() {
        let home = tempfile::tempdir().unwrap();
        let endings = Endings::open(home.path()).unwrap();
        for n in 0..MAX_LINES + 10 {
            endings.note(ended(&format!("s{n}")));
        }
        assert_eq!(endings.all().len(), KEPT);
        let last = format!("s{}", MAX_LINES + 9);
        assert!(found(&endings, &last) && !found(&endings, "s0"));
        let lines = std::fs::read_to_string(home.path().join(FILE)).unwrap().lines().count();
        assert!((KEPT..MAX_LINES).contains(&lines), "{lines}");
        assert!(found(&Endings::open(home.path()).unwrap(), &last));
    }
}
