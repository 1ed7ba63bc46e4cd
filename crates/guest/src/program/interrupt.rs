//! An interrupt of a shell's command, and whether a program that the shell waits for has missed it.
//!
//! A program gets an interrupt for certain when it had been executed before, and was not exiting yet after. Others do not:
//!
//! - One that the shell has forked but that is not executed yet still has the shell's handler, and drops it. The shell
//!   itself gives the command up, reports its status, and only then waits for that program, to the end.
//! - One that is exiting ends as if nothing had been. The shell, which waits for it, takes that for a program that has
//!   dealt with the interrupt, and goes on to the next.
//!
//! None of this can be told beforehand, so it is looked at afterwards. A program that has the interrupt and lives on
//! has chosen so, and is not bothered again.

use rustix::process::{Pid, Signal, kill_process_group};

use super::tree::{self, Facts, Process, Stage};

/// How often it is looked at most after an interrupt.
const MAX_LOOKS: u32 = 100;

/// An interrupt that was sent.
#[derive(Debug)]
pub struct Interrupt {
    /// The children of the shell that have it for certain.
    reached: Vec<Process>,
    looks: u32,
}

/// What a shell waits for after an interrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// No program.
    Nothing,
    /// Only such as have the interrupt; or the shell itself ignores it.
    Reached,
    /// Also one that may have missed it.
    Missed,
}

impl Interrupt {
    /// Interrupts a shell and what it waits for; also what it waits for right after.
    pub fn send(shell: i32) -> (Self, Awaited) {
        let before = tree::scan();
        if let Some(group) = Pid::from_raw(shell) {
            // A group that is gone has nothing to interrupt.
            let _sent = kill_process_group(group, Signal::INT);
        }
        let after = tree::scan();
        let reached = reached(&before, &after, shell);
        let awaited = awaited(&after, shell, &reached);
        (Self { reached, looks: 0 }, awaited)
    }

    /// Interrupts again what has missed this one.
    pub fn repeat(self, shell: i32) -> (Self, Awaited) {
        let (again, awaited) = Self::send(shell);
        (Self { looks: self.looks, ..again }, awaited)
    }

    /// What the shell waits for now.
    pub fn awaited(&self, shell: i32) -> Awaited {
        awaited(&tree::scan(), shell, &self.reached)
    }

    /// As [`awaited`](Self::awaited); `None` once that was asked often enough.
    pub fn look(&mut self, shell: i32) -> Option<Awaited> {
        self.looks += 1;
        (self.looks <= MAX_LOOKS).then(|| self.awaited(shell))
    }
}

/// The children that a shell may wait for. Those that ignore interrupts are its background jobs.
fn foreground(all: &[Facts], shell: i32) -> impl Iterator<Item = &Facts> {
    all.iter().filter(move |facts| {
        facts.parent == shell
            && !facts.is_gone()
            && facts.stage != Stage::Exiting
            && !facts.ignores_interrupts
    })
}

fn reached(before: &[Facts], after: &[Facts], shell: i32) -> Vec<Process> {
    let had_executed = |process| {
        foreground(before, shell)
            .any(|facts: &Facts| facts.process == process && facts.stage == Stage::Executed)
    };
    foreground(after, shell).map(|facts| facts.process).filter(|process| had_executed(*process)).collect()
}

fn awaited(all: &[Facts], shell: i32, reached: &[Process]) -> Awaited {
    if all.iter().any(|facts| facts.process.pid == shell && facts.ignores_interrupts) {
        return Awaited::Reached;
    }
    let mut waited_for = foreground(all, shell).peekable();
    if waited_for.peek().is_none() {
        Awaited::Nothing
    } else if waited_for.all(|facts| reached.contains(&facts.process)) {
        Awaited::Reached
    } else {
        Awaited::Missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHELL: i32 = 7;

    fn child(pid: i32, start: u64) -> Facts {
        Facts {
            process: Process { pid, start },
            parent: SHELL,
            group: SHELL,
            session: SHELL,
            state: b'S',
            stage: Stage::Executed,
            ignores_interrupts: false,
            user_ticks: 0,
            system_ticks: 0,
            resident_pages: 0,
        }
    }

    fn shell() -> Facts {
        Facts { parent: 1, ..child(SHELL, 1) }
    }

    fn after(before: &[Facts], sent: &[Facts], now: &[Facts]) -> Awaited {
        awaited(now, SHELL, &reached(before, sent, SHELL))
    }

    #[test]
    fn a_program_that_had_executed_has_the_interrupt_and_is_not_bothered_again() {
        let all = [shell(), child(10, 5)];
        assert_eq!(after(&all, &all, &all), Awaited::Reached);
        assert_eq!(after(&all, &all, &all[..1]), Awaited::Nothing);
    }

    #[test]
    fn a_program_that_was_only_forked_may_have_missed_it_also_once_it_is_executed() {
        let forked = [shell(), Facts { stage: Stage::Forked, ..child(10, 5) }];
        let executed = [shell(), child(10, 5)];
        assert_eq!(after(&forked, &forked, &executed), Awaited::Missed);
        assert_eq!(after(&forked, &executed, &executed), Awaited::Missed);
    }

    #[test]
    fn a_program_that_exits_hides_no_later_one() {
        let alive = [shell(), child(10, 5)];
        let exiting = [shell(), Facts { stage: Stage::Exiting, ..child(10, 5) }];
        let next = [shell(), child(11, 5)];
        assert_eq!(after(&alive, &exiting, &exiting), Awaited::Nothing);
        assert_eq!(after(&alive, &exiting, &next), Awaited::Missed);
        assert_eq!(after(&alive, &next, &next), Awaited::Missed);
        // The same id again, for another process.
        assert_eq!(after(&alive, &alive, &[shell(), child(10, 6)]), Awaited::Missed);
    }

    #[test]
    fn background_jobs_and_children_of_others_do_not_count() {
        let job = Facts { ignores_interrupts: true, ..child(12, 3) };
        let other = Facts { parent: 1, ..child(13, 3) };
        let exiting = Facts { stage: Stage::Exiting, ..child(10, 5) };
        assert_eq!(after(&[job, child(10, 5)], &[job, exiting], &[job, other]), Awaited::Nothing);
    }

    #[test]
    fn a_shell_that_ignores_interrupts_is_left_alone() {
        let shell = Facts { ignores_interrupts: true, ..shell() };
        assert_eq!(after(&[shell], &[shell], &[shell]), Awaited::Reached);
    }
}
