//! Ends an exec and every process that it started: TERM, grace, then KILL until none is left.
//!
//! The leader is the subreaper of its tree, so while it lives every orphan of the tree is found below it. KILL therefore
//! stops the whole tree first, so that nothing forks while it is counted, then kills all but the leader, and the leader
//! last. When the leader has ended early, by TERM, its orphans are the guest's; those that are nobody else's are its.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::exec::Life;
use super::journal::Serial;
use super::server::Server;
use super::tree::{self, Facts, Process};

/// How long one round of passes may take.
const ROUND: Duration = Duration::from_millis(20);
/// The pause between rounds.
const PAUSE: Duration = Duration::from_millis(2);
/// How long stopping a tree may take before it is killed as it is.
const STOPPING: Duration = Duration::from_millis(300);
/// After which everything but the guest is killed, if the tree is still not gone.
const LAST_RESORT: Duration = Duration::from_secs(1);

/// Looks at once. The first two see it all unless members come and go.
const LOOKS: u32 = 8;

/// How far a termination is.
#[derive(Debug)]
enum Phase {
    /// TERM was sent; KILL comes at this time.
    Grace {
        /// When.
        kill_at: Instant,
    },
    /// KILL is under way.
    Killing {
        /// Since when.
        since: Instant,
        /// What was told to stop.
        stopped: HashSet<Process>,
        /// The whole tree stands still, or had its time to.
        still: bool,
        /// When the next round is due.
        next: Instant,
    },
}

/// A termination under way.
#[derive(Debug)]
pub struct Termination {
    phase: Phase,
    kin: Kin,
}

impl Termination {
    /// When it is to be looked at again.
    #[must_use]
    pub fn next(&self) -> Instant {
        match &self.phase {
            Phase::Grace { kill_at } => *kill_at,
            Phase::Killing { next, .. } => *next,
        }
    }
}

/// Which processes belong to an exec, and which are known not to.
#[derive(Debug, Default)]
struct Kin {
    members: HashSet<Process>,
    foreign: HashSet<Process>,
}

/// Whom the guest started.
#[derive(Debug, Clone)]
struct Leaders {
    guest: i32,
    /// The exec's own, while it lives.
    own: Option<i32>,
    /// Those of other execs and of shells.
    others: HashSet<i32>,
}

impl Kin {
    /// Those that are in this session now; all others are nobody's or somebody else's.
    fn of_session(all: &[Facts], session: i32) -> Self {
        let (members, foreign): (Vec<&Facts>, Vec<&Facts>) =
            all.iter().partition(|facts| facts.session == session);
        let processes = |facts: Vec<&Facts>| facts.into_iter().map(|facts| facts.process).collect();
        Self { members: processes(members), foreign: processes(foreign) }
    }

    /// Sorts all processes into members and others; returns the members, those included that are yet to be reaped.
    fn update(&mut self, all: &[Facts], leaders: &Leaders) -> Vec<Facts> {
        let roots: Vec<i32> = if let Some(own) = leaders.own {
            vec![own]
        } else {
            let of_others = tree::descendants(all, leaders.others.iter().copied());
            let is_foreign = |facts: &Facts| {
                self.foreign.contains(&facts.process) || of_others.contains(&facts.process.pid)
            };
            let sessions: HashSet<i32> =
                all.iter().filter(|facts| is_foreign(facts)).map(|facts| facts.session).collect();
            all.iter()
                .filter(|facts| {
                    self.members.contains(&facts.process)
                        || (facts.parent == leaders.guest
                            && !is_foreign(facts)
                            && !sessions.contains(&facts.session))
                })
                .map(|facts| facts.process.pid)
                .collect()
        };
        let found = tree::descendants(all, roots);
        // Where a parent ended while it was looked, whose its children are cannot be told until the next look.
        let known = tree::descendants(all, [leaders.guest]);
        let mut members = Vec::new();
        for facts in all {
            let member = found.contains(&facts.process.pid) || self.members.contains(&facts.process);
            if facts.process.pid == leaders.guest {
                continue;
            }
            if member {
                self.foreign.remove(&facts.process);
                if !facts.is_gone() {
                    self.members.insert(facts.process);
                }
                members.push(*facts);
            } else if known.contains(&facts.process.pid) {
                self.foreign.insert(facts.process);
            }
        }
        members
    }

    /// Looks for members that are alive.
    ///
    /// A chain of processes that each fork the next and end can outrun one look, but not hide that it goes on: what ends
    /// stays to be seen until it is reaped, by the leader, which is stopped, or by the guest, which is here. So a look
    /// has seen everything when the next one finds each member as it was, alive or ended, and no other: what had ended in
    /// the first had left its last child before the second began.
    fn look(&mut self, leaders: &Leaders) -> (Vec<Facts>, Sight) {
        let mut before = None;
        let mut alive = Vec::new();
        for _ in 0..LOOKS {
            let all = tree::scan();
            // Where the leader ended while it was looked, children that it had look like the guest's own.
            let is_there = |pid: &i32| tree::facts(*pid).is_some_and(|facts| !facts.is_gone());
            let members =
                self.update(&all, &Leaders { own: leaders.own.filter(is_there), ..leaders.clone() });
            let seen: HashSet<(Process, bool)> =
                members.iter().map(|facts| (facts.process, facts.is_gone())).collect();
            alive = members.into_iter().filter(|facts| !facts.is_gone()).collect();
            if before.as_ref() == Some(&seen) {
                return (alive, Sight::Whole);
            }
            before = Some(seen);
        }
        (alive, Sight::Partial)
    }
}

/// How much a look has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sight {
    /// Every member that there was.
    Whole,
    /// New ones appeared as long as it was looked.
    Partial,
}

fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid).filter(|_| pid > 1) {
        // It may have ended just now, which is what is wanted.
        let _sent = kill_process(pid, signal);
    }
}

impl Server {
    fn leaders(&self, serial: Serial) -> Leaders {
        let exec = self.execs.get(&serial);
        let own = exec.filter(|exec| matches!(exec.life, Life::Running)).map(|exec| exec.pid);
        let others = self.by_pid.keys().filter(|pid| Some(**pid) != own);
        Leaders {
            guest: rustix::process::getpid().as_raw_nonzero().get(),
            own,
            others: others.copied().collect(),
        }
    }

    /// Begins to end an exec whose leader runs: TERM now, KILL after `grace`; at once KILL when that is none.
    pub(super) fn terminate(&mut self, serial: Serial, grace: Duration) {
        let leaders = self.leaders(serial);
        let now = Instant::now();
        let Some(exec) = self.execs.get_mut(&serial) else { return };
        let kill_at = now + grace.min(Duration::from_secs(86_400));
        if let Some(termination) = &mut exec.termination {
            if let Phase::Grace { kill_at: before } = &mut termination.phase {
                *before = kill_at.min(*before);
            }
            return self.set_exec_timer(serial);
        }
        let mut kin = Kin::default();
        let (alive, _) = kin.look(&leaders);
        if !grace.is_zero() {
            for facts in alive {
                signal(facts.process.pid, Signal::TERM);
            }
        }
        exec.termination = Some(Termination { phase: Phase::Grace { kill_at }, kin });
        self.continue_termination(serial, Instant::now());
        self.set_exec_timer(serial);
    }

    /// Begins to end what is left of the session of an exec whose leader ended for want of memory. Nothing else would end
    /// it, its timeout neither, and a crowd that fights for the last page keeps the guest from its work.
    pub(super) fn begin_session_end(&mut self, serial: Serial) {
        let Some(exec) = self.execs.get_mut(&serial) else { return };
        if exec.termination.is_none() {
            let kin = Kin::of_session(&tree::scan(), exec.pid);
            exec.termination = Some(Termination { phase: Phase::Grace { kill_at: Instant::now() }, kin });
        }
    }

    /// Goes on with an exec's termination.
    pub(super) fn continue_termination(&mut self, serial: Serial, now: Instant) {
        let Some(exec) = self.execs.get_mut(&serial) else { return };
        let Some(termination) = &mut exec.termination else { return };
        match &mut termination.phase {
            Phase::Grace { kill_at } if *kill_at > now => return,
            Phase::Grace { .. } => {
                let stopped = HashSet::new();
                termination.phase = Phase::Killing { since: now, stopped, still: false, next: now };
            }
            Phase::Killing { .. } => {}
        }
        loop {
            if self.pass(serial) {
                break;
            }
            if now.elapsed() > ROUND {
                break;
            }
        }
        self.set_exec_timer(serial);
    }

    /// One pass over all processes; true when there is nothing to do now but wait.
    fn pass(&mut self, serial: Serial) -> bool {
        let leaders = self.leaders(serial);
        let Some(exec) = self.execs.get_mut(&serial) else { return true };
        let Some(Termination { phase, kin }) = &mut exec.termination else { return true };
        let (alive, sight) = kin.look(&leaders);
        let Phase::Killing { since, stopped, still, next } = phase else { return true };
        *next = Instant::now() + PAUSE;
        if alive.is_empty() && sight == Sight::Whole {
            // With the leader a zombie that is about to be reaped, that is all of it.
            if leaders.own.is_none() {
                exec.termination = None;
            }
            return true;
        }
        if since.elapsed() > LAST_RESORT && leaders.guest == 1 {
            // A tree that outruns being killed one by one. The guest itself is spared by the kernel.
            super::spawn::kill_everything();
            return true;
        }
        if !*still {
            let fresh: Vec<_> = alive.iter().filter(|facts| stopped.insert(facts.process)).collect();
            // A whole group at once: a chain of processes that each fork the next and exit outruns any other way.
            let groups: HashSet<i32> = fresh.iter().map(|facts| facts.group).collect();
            for group in groups.into_iter().filter_map(Pid::from_raw) {
                let _sent = rustix::process::kill_process_group(group, Signal::STOP);
            }
            for facts in &fresh {
                signal(facts.process.pid, Signal::STOP);
            }
            *still = (fresh.is_empty() && sight == Sight::Whole) || since.elapsed() > STOPPING;
            return false;
        }
        let mut others = false;
        for facts in alive.iter().filter(|facts| Some(facts.process.pid) != leaders.own) {
            signal(facts.process.pid, Signal::KILL);
            others = true;
        }
        // Only then: what it is the reaper of would be out of sight otherwise.
        if !others
            && sight == Sight::Whole
            && let Some(own) = leaders.own
        {
            signal(own, Signal::KILL);
        }
        true
    }

    /// Children were reaped: perhaps a tree is gone, and perhaps orphans are to be told apart while it is known whose.
    pub(super) fn look_after_terminations(&mut self) {
        let under_way: Vec<Serial> = self
            .execs
            .iter()
            .filter(|(_, exec)| exec.termination.is_some())
            .map(|(serial, _)| *serial)
            .collect();
        if under_way.is_empty() {
            return;
        }
        for serial in under_way {
            let leaders = self.leaders(serial);
            let Some(exec) = self.execs.get_mut(&serial) else { continue };
            let Some(termination) = &mut exec.termination else { continue };
            let (alive, sight) = termination.kin.look(&leaders);
            if alive.is_empty() && sight == Sight::Whole && leaders.own.is_none() {
                exec.termination = None;
                self.settle(serial);
            } else if let Phase::Killing { next, .. } = &mut termination.phase {
                *next = Instant::now();
                self.set_exec_timer(serial);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::tree::Stage;

    fn process(pid: i32, parent: i32, session: i32) -> Facts {
        Facts {
            process: Process { pid, start: 100 },
            parent,
            group: session,
            session,
            state: b'S',
            stage: Stage::Executed,
            ignores_interrupts: false,
            user_ticks: 0,
            system_ticks: 0,
            resident_pages: 0,
        }
    }

    fn pids(alive: &[Facts]) -> Vec<i32> {
        let mut pids: Vec<i32> = alive.iter().map(|facts| facts.process.pid).collect();
        pids.sort_unstable();
        pids
    }

    #[test]
    fn orphans_of_an_ended_leader_are_its_and_those_of_others_are_not() {
        let mut kin = Kin::default();
        let mut leaders = Leaders { guest: 1, own: Some(10), others: HashSet::from([20]) };
        // 30 is a daemon of an exec that has ended long ago.
        let before = [
            process(1, 0, 1),
            process(10, 1, 10),
            process(11, 10, 10),
            process(20, 1, 20),
            process(21, 20, 20),
            process(30, 1, 29),
        ];
        assert_eq!(pids(&kin.update(&before, &leaders)), [10, 11]);
        leaders.own = None;
        // 12 and 13 were made by 11 after the last look; 22 is an orphan in the session of exec 20; 31 a child of 30.
        let after = [
            process(1, 0, 1),
            process(11, 1, 10),
            process(12, 1, 12),
            process(13, 12, 13),
            process(20, 1, 20),
            process(22, 1, 20),
            process(30, 1, 29),
            process(31, 30, 31),
        ];
        assert_eq!(pids(&kin.update(&after, &leaders)), [11, 12, 13]);
    }

    #[test]
    fn one_whose_parent_was_missed_is_not_taken_for_somebody_else_s() {
        let mut kin = Kin::default();
        let mut leaders = Leaders { guest: 1, own: Some(10), others: HashSet::new() };
        // 11 has ended and was reaped between the looks at it and at its child.
        let torn = [process(1, 0, 1), process(10, 1, 10), process(12, 11, 10), process(40, 1, 40)];
        assert_eq!(pids(&kin.update(&torn, &leaders)), [10]);
        leaders.own = None;
        let after = [process(1, 0, 1), process(12, 1, 10), process(13, 1, 10), process(40, 1, 40)];
        assert_eq!(pids(&kin.update(&after, &leaders)), [12, 13]);
    }

    #[test]
    fn a_later_process_with_a_known_number_is_another() {
        let mut kin = Kin::default();
        let leaders = Leaders { guest: 1, own: Some(10), others: HashSet::new() };
        kin.update(&[process(10, 1, 10), process(11, 10, 11)], &leaders);
        let later = Facts { process: Process { pid: 11, start: 999 }, ..process(11, 7, 7) };
        assert_eq!(pids(&kin.update(&[process(10, 1, 10), later], &leaders)), [10]);
    }
}
