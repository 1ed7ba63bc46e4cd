//! What a context does: runs, interrupts, and what it says of them.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::super::connection::StreamKey;
use super::super::exec::{Exec, Output, Session};
use super::super::journal::{Reservation, Serial, digest};
use super::super::poller::{Interest, Source};
use super::super::reaper::{Ended, Status, Usage};
use super::super::refusal::Refusal;
use super::super::requests::{MAX_OUTPUT_LIMIT, check_id, conflict};
use super::super::server::Server;
use super::super::shell::usage;
use super::super::timers::Owner;
use super::super::watch::Watch;
use super::link::{Said, Tell};
use super::{Doing, IDLE, Maker, State};
use crate::message::{self, ContextEntry, ContextRunRequest, GuestErrorCode, OutputMode, Reply};

/// The longest code, in bytes.
const MAX_CODE: usize = 1 << 20;
/// How long it may take until it is known why a context has hung up.
const WORD: Duration = Duration::from_millis(200);

/// Code that runs.
#[derive(Debug)]
pub(super) struct Busy {
    pub(super) serial: Serial,
    interrupts: u32,
    /// What interrupted code came to. It is told when the context has answered once more: an interrupt that came late must
    /// not hit the next run.
    outcome: Option<(Ended, Vec<u8>)>,
    /// When the context is ended.
    kill_at: Option<Instant>,
}

impl Server {
    /// Runs code in a context.
    pub(in super::super) fn context_run(
        &mut self,
        key: StreamKey,
        mut request: ContextRunRequest,
    ) -> Result<(), Refusal> {
        check_id("exec id", &request.exec_id)?;
        let mode = std::mem::replace(&mut request.output, OutputMode::Detach);
        let exec_id = std::mem::take(&mut request.exec_id);
        if request.code.len() > MAX_CODE {
            let length = request.code.len();
            return Err(Refusal::invalid(format!("code: has {length} bytes; at most {MAX_CODE}")));
        }
        if request.output_limit > MAX_OUTPUT_LIMIT {
            let limit = request.output_limit;
            return Err(Refusal::invalid(format!("output limit {limit}: at most {MAX_OUTPUT_LIMIT}")));
        }
        let digest = digest(&[b"context ", &message::encode(&request)[..]].concat());
        let watch = |serial| Watch { serial, mode, positions: [0, 0] };
        match self.journal.look_up(&exec_id, digest) {
            Some(Reservation::Known(serial)) => {
                self.watch(key, watch(serial), true);
                return Ok(());
            }
            Some(_) => return Err(conflict(&exec_id)),
            None => {}
        }
        let number = self.contexts.find(&request.context_id)?;
        if let Some(context) = self.contexts.all.get(&number) {
            context.check_idle()?;
        }
        match self.reserve(&exec_id, digest, request.output_limit)? {
            Reservation::New(serial) => {
                self.run_in_context(number, serial, &request);
                if mode == OutputMode::Follow {
                    self.arm_outputs(serial);
                }
                self.watch(key, watch(serial), false);
            }
            Reservation::Known(serial) => self.watch(key, watch(serial), true),
            Reservation::Conflict => return Err(conflict(&exec_id)),
        }
        Ok(())
    }

    fn run_in_context(&mut self, number: u64, serial: Serial, request: &ContextRunRequest) {
        let oom_before = self.oom.read();
        let Some(context) = self.contexts.all.get_mut(&number) else { return };
        let State::Alive(process) = &mut context.state else { return };
        let Some(identity) = process.identity else { return };
        for output in &mut process.outputs {
            output.disarm(&self.poller);
        }
        process.oom_before = oom_before;
        let outputs = std::mem::take(&mut process.outputs);
        let timeout = request.timeout_ms.map(Duration::from_millis);
        let mut exec = Exec::new(identity.pid, outputs, oom_before, timeout);
        exec.session = Some(Session::Context(number));
        exec.grace = Duration::from_millis(request.grace_ms);
        process.link.tell(Tell::Run(&request.code));
        process.doing = Doing::Busy(Busy { serial, interrupts: 0, outcome: None, kill_at: None });
        self.execs.insert(serial, exec);
        self.set_exec_timer(serial);
        self.set_context_timer(number);
        self.send_to_context(number);
    }

    /// Sends a context what it takes now.
    pub(in super::super) fn send_to_context(&mut self, number: u64) {
        let Some(process) = self.contexts.process(number) else { return };
        let full = process.link.flush();
        if full == process.link.full {
            return;
        }
        process.link.full = full;
        let interest = if full { Interest::Both } else { Interest::Read };
        let source = Source::ContextControl(number);
        if self.poller.modify(&process.link.socket, source, interest).is_err() {
            self.fault(number, "there is no memory to talk to it");
        }
    }

    /// A context has said something, or has hung up.
    pub(in super::super) fn on_context_control(&mut self, number: u64) {
        let Some(process) = self.contexts.process(number) else { return };
        if process.link.over {
            return;
        }
        let expected = process.identity.map(|identity| identity.pid);
        let Ok(sender) = process.link.receive(expected) else {
            return self.fault(number, "another process spoke in its place");
        };
        loop {
            let Some(process) = self.contexts.process(number) else { return };
            match process.link.next() {
                Ok(Some(said)) => {
                    if !self.on_said(number, said, sender) {
                        return self.fault(number, "it said what no context says");
                    }
                }
                Ok(None) => break,
                Err(_) => return self.fault(number, "it said what no context says"),
            }
        }
        let Some(process) = self.contexts.process(number) else { return };
        if process.link.over {
            // It was added, so this cannot fail; at worst it would wake the loop once more.
            let _removed = self.poller.remove(&process.link.socket);
            process.hung_up = Some(Instant::now() + WORD);
            self.set_context_timer(number);
        }
    }

    fn on_said(&mut self, number: u64, said: Said, sender: Option<i32>) -> bool {
        let Some(process) = self.contexts.process(number) else { return true };
        let Doing::Busy(busy) = &mut process.doing else { return self.on_start(number, said, sender) };
        let Some(identity) = process.identity else { return false };
        match (said, &mut busy.outcome) {
            (Said::Done(status, report), outcome @ None) => {
                let used = usage(identity.pid);
                let since = process.usage;
                process.usage = used;
                let ended = Ended {
                    pid: identity.pid,
                    status: Status::Exited(status.into()),
                    usage: Usage {
                        user_us: used.user_us.saturating_sub(since.user_us),
                        system_us: used.system_us.saturating_sub(since.system_us),
                        max_rss: used.max_rss,
                    },
                };
                if busy.interrupts > 0 {
                    *outcome = Some((ended, report));
                    process.link.tell(Tell::Ping);
                    self.send_to_context(number);
                } else {
                    self.finish_run(number, ended, report);
                }
                true
            }
            (Said::Pong, outcome @ Some(_)) => {
                if let Some((ended, report)) = outcome.take() {
                    self.finish_run(number, ended, report);
                }
                true
            }
            _ => false,
        }
    }

    fn finish_run(&mut self, number: u64, ended: Ended, report: Vec<u8>) {
        let Some(process) = self.contexts.process(number) else { return };
        let idle = Doing::Idle { since: Instant::now() };
        let Doing::Busy(busy) = std::mem::replace(&mut process.doing, idle) else { return };
        self.journal.set_value(busy.serial, report);
        self.end_command(busy.serial, ended);
        self.set_context_timer(number);
    }

    /// Gives a run's outputs back to its context.
    pub(in super::super) fn return_context_outputs(&mut self, number: u64, mut outputs: [Output; 2]) {
        match self.contexts.process(number) {
            Some(process) => {
                for output in &mut outputs {
                    output.disarm(&self.poller);
                }
                process.outputs = outputs;
                self.set_context_timer(number);
            }
            None => self.leave_outputs(outputs),
        }
    }

    /// What threads write while no code runs goes nowhere.
    pub(in super::super) fn on_context_output(&mut self, number: u64, which: usize) {
        if let Some(process) = self.contexts.process(number) {
            process.outputs[which].discard();
        }
    }

    pub(super) fn set_context_timer(&mut self, number: u64) {
        let at = self.contexts.process(number).and_then(|process| {
            let next = match &process.doing {
                Doing::Starting { until, .. } => Some(*until),
                Doing::Idle { since } => {
                    let drained = process.outputs.iter().all(Output::is_armed_or_closed);
                    (!drained).then(|| *since + IDLE)
                }
                Doing::Busy(busy) => busy.kill_at,
            };
            [next, process.hung_up].into_iter().flatten().min()
        });
        self.timers.set(Owner::Context(number), at);
    }

    /// A context's timer is due.
    pub(in super::super) fn on_context_timer(&mut self, number: u64, now: Instant) {
        let Some(process) = self.contexts.process(number) else { return };
        if process.hung_up.is_some_and(|at| at <= now) {
            process.hung_up = None;
            return match (&process.doing, process.identity) {
                (Doing::Starting { .. }, None) => {
                    let why = "its process ended before it was ready";
                    self.give_up_start(number, GuestErrorCode::Internal, why);
                }
                _ => self.fault(number, "it closed the socket that it is told by what to run"),
            };
        }
        match &mut process.doing {
            Doing::Starting { until, maker, .. } if *until <= now => {
                if let Maker::Zygote(zygote) = *maker {
                    self.kill_zygote(zygote);
                }
                self.give_up_start(number, GuestErrorCode::Internal, "was not ready in time");
            }
            Doing::Starting { .. } => {}
            Doing::Idle { since } => {
                if *since + IDLE <= now {
                    for (output, which) in process.outputs.iter_mut().zip([0, 1]) {
                        output.arm(&self.poller, Source::ContextOutput(number, which));
                    }
                }
            }
            Doing::Busy(busy) => {
                if busy.kill_at.is_some_and(|at| at <= now) {
                    busy.kill_at = None;
                    self.fault(number, "its code did not give way to an interrupt");
                }
            }
        }
        self.set_context_timer(number);
    }

    /// Interrupts the code of a context; ends the context when it does not give way until `kill_at`.
    pub(in super::super) fn interrupt_context(&mut self, number: u64, kill_at: Option<Instant>) {
        let Some(process) = self.contexts.process(number) else { return };
        let Doing::Busy(busy) = &mut process.doing else { return };
        busy.kill_at = [busy.kill_at, kill_at].into_iter().flatten().min();
        if busy.outcome.is_none() {
            busy.interrupts += 1;
            if let Some(pid) = process.identity.and_then(|identity| Pid::from_raw(identity.pid)) {
                // A group that is gone has nothing to interrupt.
                let _sent = kill_process_group(pid, Signal::INT);
            }
        }
        self.set_context_timer(number);
    }

    /// Interrupts what a context runs.
    pub(in super::super) fn context_interrupt(&mut self, id: &str) -> Result<Reply, Refusal> {
        let number = self.contexts.find(id)?;
        self.interrupt_context(number, None);
        Ok(Reply::Done)
    }

    /// The contexts, oldest first.
    pub(in super::super) fn context_list(&self) -> Vec<ContextEntry> {
        self.contexts.all.values().map(super::Context::entry).collect()
    }
}
