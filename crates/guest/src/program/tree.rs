//! The processes of the sandbox and how they descend from each other, as `/proc` shows them.

use std::collections::{HashMap, HashSet};

use rustix::fs::{Mode, OFlags};

/// The kernel's `PF_EXITING`.
const EXITING: u64 = 0x4;
/// The kernel's `PF_FORKNOEXEC`.
const FORKED_ONLY: u64 = 0x40;
/// SIGINT in a set of signals.
const INTERRUPT: u64 = 1 << 1;

/// A process, told apart from a later one with the same id by its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub start: u64,
}

/// How far a process's life has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It has executed nothing since it was forked.
    Forked,
    /// It has executed a program.
    Executed,
    /// It is on its way out: no signal reaches it any more.
    Exiting,
}

/// What `/proc/PID/stat` says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Which process.
    pub process: Process,
    /// Its parent.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// The letter of its state.
    pub state: u8,
    /// How far its life has come.
    pub stage: Stage,
    /// SIGINT does nothing to it.
    pub ignores_interrupts: bool,
    /// CPU time in user mode, of it and the children it waited for, in clock ticks.
    pub user_ticks: u64,
    /// CPU time in the kernel, likewise.
    pub system_ticks: u64,
    /// Its resident set, in pages.
    pub resident_pages: u64,
}

impl Facts {
    /// It runs no more.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }

    /// It is stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        matches!(self.state, b'T' | b't')
    }
}

/// Reads one process; `None` when it is gone.
#[must_use]
pub fn facts(pid: i32) -> Option<Facts> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(format!("/proc/{pid}/stat"), flags, Mode::empty()).ok()?;
    // More than the kernel ever writes: some fifty numbers and a short name.
    let mut buffer = [0; 2048];
    let length = rustix::io::read(&file, &mut buffer).ok()?;
    parse(pid, &buffer[..length])
}

fn parse(pid: i32, stat: &[u8]) -> Option<Facts> {
    // The name is in parentheses and may hold anything; the last one closes it.
    let after = stat.iter().rposition(|b| *b == b')')? + 1;
    let text = std::str::from_utf8(&stat[after..]).ok()?;
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let id = |at: usize| fields.get(at)?.parse::<i32>().ok();
    Some(Facts {
        process: Process { pid, start: number(19)? },
        state: *fields.first()?.as_bytes().first()?,
        parent: id(1)?,
        group: id(2)?,
        session: id(3)?,
        stage: stage(number(6)?),
        ignores_interrupts: number(30)? & INTERRUPT != 0,
        user_ticks: number(11)? + number(13)?,
        system_ticks: number(12)? + number(14)?,
        resident_pages: number(21)?,
    })
}

fn stage(flags: u64) -> Stage {
    if flags & EXITING != 0 {
        Stage::Exiting
    } else if flags & FORKED_ONLY != 0 {
        Stage::Forked
    } else {
        Stage::Executed
    }
}

/// All processes that can be seen; one that ends meanwhile is missed.
#[must_use]
pub fn scan() -> Vec<Facts> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(facts)
        .collect()
}

/// How many processes there are.
#[must_use]
pub fn count() -> usize {
    let Ok(entries) = std::fs::read_dir("/proc") else { return 0 };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok()).count()
}

/// Which processes descend from `roots`, themselves included.
#[must_use]
pub fn descendants(all: &[Facts], roots: impl IntoIterator<Item = i32>) -> HashSet<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for facts in all {
        children.entry(facts.parent).or_default().push(facts.process.pid);
    }
    let mut found = HashSet::new();
    let mut open: Vec<i32> = roots.into_iter().collect();
    while let Some(pid) = open.pop() {
        if found.insert(pid)
            && let Some(more) = children.get(&pid)
        {
            open.extend(more);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_confuse() {
        let stat = b"42 (a) b (c) R 7 8 9 0 -1 4194304 1 2 3 4 10 20 30 40 20 0 1 0 12345 1000 55 18446744073709551615 \
            1 2 3 4 5 0 65536 2 3 0";
        let facts = parse(42, stat).unwrap();
        assert_eq!(facts.process, Process { pid: 42, start: 12345 });
        assert_eq!((facts.parent, facts.group, facts.session, facts.state), (7, 8, 9, b'R'));
        assert_eq!((facts.stage, facts.ignores_interrupts), (Stage::Executed, true));
        assert_eq!([0x40, 0x44, 0x400].map(stage), [Stage::Forked, Stage::Exiting, Stage::Executed]);
        assert_eq!((facts.user_ticks, facts.system_ticks, facts.resident_pages), (40, 60, 55));
        assert!(parse(1, b"").is_none());
    }

    #[test]
    fn descendants_are_found_whatever_the_order() {
        let process = |pid, parent| Facts {
            process: Process { pid, start: 0 },
            parent,
            group: 0,
            session: 0,
            state: b'S',
            stage: Stage::Executed,
            ignores_interrupts: false,
            user_ticks: 0,
            system_ticks: 0,
            resident_pages: 0,
        };
        let all = [process(5, 4), process(4, 3), process(3, 1), process(9, 1), process(6, 3)];
        assert_eq!(descendants(&all, [3]), HashSet::from([3, 4, 5, 6]));
    }

    #[test]
    fn this_process_is_seen() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(scan().iter().any(|facts| facts.process.pid == me));
    }
}
