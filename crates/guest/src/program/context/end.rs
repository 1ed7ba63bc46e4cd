//! How contexts end: closed, by themselves, or by the guest.

use std::time::Duration;

use rustix::process::Signal;

use super::super::reaper::{Ended, Status, Usage};
use super::super::refusal::Refusal;
use super::super::server::Server;
use super::super::shell::{end_tree, signal};
use super::super::timers::Owner;
use super::super::tree;
use super::{Context, Doing, Process, State};
use crate::message::{GuestErrorCode, Reply};

impl Server {
    /// Ends a context with all that was started in it.
    pub(in super::super) fn context_close(&mut self, id: &str) -> Result<Reply, Refusal> {
        let number = self.contexts.find(id)?;
        if let Some(context) = self.contexts.all.remove(&number) {
            self.end_context(number, context, "was closed");
        }
        Ok(Reply::Done)
    }

    /// Ends the process of a context that was taken out.
    pub(super) fn end_context(&mut self, number: u64, context: Context, why: &str) {
        self.timers.set(Owner::Context(number), None);
        let State::Alive(process) = context.state else { return };
        let Process { identity, outputs, doing, .. } = *process;
        self.leave_outputs(outputs);
        match doing {
            Doing::Starting { key, .. } if !why.is_empty() => {
                let message = format!("context {}: {why}", context.id);
                self.refuse(key, Refusal::new(GuestErrorCode::ContextNotFound, message));
            }
            Doing::Starting { .. } | Doing::Idle { .. } => {}
            Doing::Busy(busy) => {
                self.journal.set_value(busy.serial, died(&format!("it {why}")));
                // From here on it is an exec like any other, which is being ended.
                if let (Some(exec), Some(identity)) = (self.execs.get_mut(&busy.serial), identity) {
                    exec.session = None;
                    self.by_pid.insert(identity.pid, Owner::Exec(busy.serial));
                    self.terminate(busy.serial, Duration::ZERO);
                    return;
                }
            }
        }
        if let Some(identity) = identity {
            self.by_pid.remove(&identity.pid);
            end_tree(identity.pid);
        }
    }

    /// The guest ends a context that is of no more use.
    pub(super) fn fault(&mut self, number: u64, why: &str) {
        let Some(process) = self.contexts.process(number) else { return };
        if process.fault.is_none() {
            process.fault = Some(why.to_owned());
        }
        process.link.silence();
        // It fails where this was done at a hang-up.
        let _removed = self.poller.remove(&process.link.socket);
        let Some(identity) = process.identity else {
            return self.give_up_start(number, GuestErrorCode::Internal, why);
        };
        let is_there = tree::facts(identity.pid).is_some_and(|facts| facts.process == identity);
        match &process.doing {
            _ if !is_there => {
                // It was reaped before its hello was read.
                self.by_pid.remove(&identity.pid);
                let status = Status::Signalled(libc::SIGKILL);
                self.on_context_end(number, Ended { pid: identity.pid, status, usage: Usage::default() });
            }
            Doing::Busy(busy) => {
                let serial = busy.serial;
                self.terminate(serial, Duration::ZERO);
            }
            Doing::Starting { .. } | Doing::Idle { .. } => signal(identity.pid, Signal::KILL),
        }
    }

    /// A context's process has ended.
    pub(in super::super) fn on_context_end(&mut self, number: u64, ended: Ended) {
        // Its last words may still be there, e.g. why it cannot begin.
        self.on_context_control_at_end(number);
        let ran_out = {
            let Some(process) = self.contexts.process(number) else { return };
            let before = process.oom_before;
            self.oom.read() > before
        };
        self.timers.set(Owner::Context(number), None);
        let Some(context) = self.contexts.all.get_mut(&number) else { return };
        let State::Alive(process) = &mut context.state else { return };
        let reason = match (process.fault.take(), ended.status) {
            (Some(fault), _) => fault,
            (None, Status::Signalled(_)) if ran_out => "the sandbox's memory limit ended it".to_owned(),
            (None, Status::Signalled(signal)) => format!("signal {signal} ended it"),
            (None, Status::Exited(status)) => format!("it exited with status {status}"),
        };
        let State::Alive(process) = std::mem::replace(&mut context.state, State::Ended(reason.clone()))
        else {
            return;
        };
        let Process { outputs, doing, .. } = *process;
        self.leave_outputs(outputs);
        match doing {
            Doing::Starting { key, .. } => {
                let id = self.contexts.all.remove(&number).map_or(String::new(), |context| context.id);
                let message = format!("context {id}: {reason}");
                self.refuse(key, Refusal::new(GuestErrorCode::Internal, message));
            }
            Doing::Idle { .. } => {}
            Doing::Busy(busy) => {
                self.journal.set_value(busy.serial, died(&reason));
                if let Some(exec) = self.execs.get_mut(&busy.serial) {
                    exec.session = None;
                }
                self.on_leader_end(busy.serial, ended);
            }
        }
    }

    fn on_context_control_at_end(&mut self, number: u64) {
        let starting = self.contexts.process(number).is_some_and(|process| {
            matches!(process.doing, Doing::Starting { .. }) && process.fault.is_none()
        });
        if starting {
            if let Some(process) = self.contexts.process(number) {
                // What follows is about its end, not about a hang-up.
                process.fault = Some("its process ended before it was ready".to_owned());
            }
            self.on_context_control(number);
        }
    }
}

/// What is told of code whose interpreter ended under it.
fn died(reason: &str) -> Vec<u8> {
    let plain: String = reason.chars().filter(|c| !matches!(c, '"' | '\\') && !c.is_control()).collect();
    format!("{{\"died\":\"{plain}\"}}").into_bytes()
}
