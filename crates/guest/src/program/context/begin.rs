//! How contexts begin: opened, forked, reset.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Instant;

use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use super::super::connection::{Job, Stream, StreamKey};
use super::super::exec::Output;
use super::super::poller::{Interest, Source};
use super::super::reaper::Usage;
use super::super::refusal::{Refusal, reason};
use super::super::requests::{check_env, check_id};
use super::super::server::Server;
use super::super::shell::usage;
use super::super::timers::Owner;
use super::super::{files, tree};
use super::link::{Link, Said, Tell};
use super::zygote::{Origins, check_imports};
use super::{Context, Doing, Maker, Process, START, State, Terms};
use crate::message::{ContextEntry, ContextOpenRequest, GuestErrorCode, Reply};

/// Descriptors that go to a context: its socket and its two outputs.
type Ends = Vec<OwnedFd>;

impl Server {
    /// Starts a context; the reply comes when it is ready.
    pub(in super::super) fn context_open(
        &mut self,
        key: StreamKey,
        request: ContextOpenRequest,
    ) -> Result<(), Refusal> {
        let ContextOpenRequest { context_id, imports, env, secrets, cwd, user, memory_bytes } = request;
        check_id("context id", &context_id)?;
        check_env(&env)?;
        check_env(&secrets)?;
        files::path::checked(&cwd)?;
        check_imports(imports.as_deref().unwrap_or_default())?;
        self.contexts.make_room(&context_id)?;
        let origins = Origins { user, imports, env };
        let terms = Rc::new(Terms { origins, secrets, cwd, memory_bytes });
        self.begin(key, &context_id, &terms)
    }

    /// Has a zygote fork a context.
    fn begin(&mut self, key: StreamKey, id: &str, terms: &Rc<Terms>) -> Result<(), Refusal> {
        let refused =
            |refusal: Refusal| Refusal::new(refusal.code, format!("context {id}: {}", refusal.message));
        let mut zygote = self.zygote_for(&terms.origins).map_err(refused)?;
        let (mut process, ends) = self.process(id, key, Maker::Zygote(zygote))?;
        let mut asked = self.ask_zygote(zygote, &ends);
        if asked == Err(Errno::PIPE) {
            // It has just ended. So may the next one; its end is then the answer.
            self.forget_zygote(zygote);
            zygote = self.zygote_for(&terms.origins).map_err(refused)?;
            process.doing =
                Doing::Starting { key, until: Instant::now() + START, maker: Maker::Zygote(zygote) };
            asked = self.ask_zygote(zygote, &ends);
        }
        if let Err(errno) = asked
            && errno != Errno::PIPE
        {
            let message = format!("context {id}: its zygote takes no request: {}", reason(&errno.into()));
            return Err(Refusal::new(GuestErrorCode::LimitExceeded, message));
        }
        let context = Context {
            id: id.to_owned(),
            terms: Rc::clone(terms),
            version: String::new(),
            forked_from: None,
            state: State::Alive(Box::new(process)),
        };
        self.put(key, context);
        Ok(())
    }

    /// Keeps a context that is being made, under the number that its descriptors are watched by.
    fn put(&mut self, key: StreamKey, context: Context) {
        let number = self.contexts.next;
        self.contexts.next += 1;
        self.contexts.all.insert(number, context);
        if let Some(connection) = self.connections.get_mut(&key.connection) {
            connection.streams.insert(key.stream, Stream::new(Job::Pending));
        }
        self.set_context_timer(number);
    }

    /// The guest's side of a context that is yet to be made, and the other.
    fn process(&mut self, id: &str, key: StreamKey, maker: Maker) -> Result<(Process, Ends), Refusal> {
        let failed = |errno: Errno| {
            Refusal::new(GuestErrorCode::Internal, format!("context {id}: {}", reason(&errno.into())))
        };
        let (link, control) = Link::new().map_err(failed)?;
        let (stdout, stdout_write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
        let (stderr, stderr_write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
        for end in [&stdout, &stderr] {
            rustix::io::ioctl_fionbio(end, true).map_err(failed)?;
        }
        let source = Source::ContextControl(self.contexts.next);
        self.poller.add(&link.socket, source, Interest::Read).map_err(|error| {
            Refusal::new(GuestErrorCode::Internal, format!("context {id}: {}", reason(&error)))
        })?;
        let process = Process {
            link,
            outputs: [Output::new(stdout), Output::new(stderr)],
            identity: None,
            usage: Usage::default(),
            oom_before: self.oom.read(),
            fault: None,
            hung_up: None,
            doing: Doing::Starting { key, until: Instant::now() + START, maker },
        };
        Ok((process, vec![control, stdout_write, stderr_write]))
    }

    /// Branches a context.
    pub(in super::super) fn context_fork(
        &mut self,
        key: StreamKey,
        id: &str,
        new_id: String,
    ) -> Result<(), Refusal> {
        check_id("context id", &new_id)?;
        let parent = self.contexts.find(id)?;
        if let Some(context) = self.contexts.all.get(&parent) {
            context.check_idle()?;
        }
        self.contexts.make_room(&new_id)?;
        let (process, ends) = self.process(&new_id, key, Maker::Context)?;
        let Some(context) = self.contexts.all.get_mut(&parent) else { return Ok(()) };
        let branch = Context {
            id: new_id,
            terms: Rc::clone(&context.terms),
            version: context.version.clone(),
            forked_from: Some(id.to_owned()),
            state: State::Alive(Box::new(process)),
        };
        if let Some(process) = context.process() {
            process.link.tell(Tell::Fork(ends));
        }
        self.put(key, branch);
        self.send_to_context(parent);
        Ok(())
    }

    /// Ends a context's process and starts another in its place.
    pub(in super::super) fn context_reset(&mut self, key: StreamKey, id: &str) -> Result<(), Refusal> {
        let number = self.contexts.find(id)?;
        let Some(context) = self.contexts.all.remove(&number) else { return Ok(()) };
        let terms = Rc::clone(&context.terms);
        self.end_context(number, context, "was reset");
        self.begin(key, id, &terms).inspect_err(|refusal| {
            let state = State::Ended(refusal.message.clone());
            let context = Context {
                id: id.to_owned(),
                terms: Rc::clone(&terms),
                version: String::new(),
                forked_from: None,
                state,
            };
            self.contexts.all.insert(number, context);
        })
    }

    /// A context says something about its start; false when it does not belong there.
    pub(super) fn on_start(&mut self, number: u64, said: Said, sender: Option<i32>) -> bool {
        let Some(context) = self.contexts.all.get_mut(&number) else { return true };
        let (id, terms) = (context.id.clone(), Rc::clone(&context.terms));
        let State::Alive(process) = &mut context.state else { return true };
        let Doing::Starting { key, maker, .. } = process.doing else { return false };
        match (said, process.identity) {
            (Said::Hello(version), None) => {
                let Some(facts) = sender.and_then(tree::facts).filter(|facts| !facts.is_gone()) else {
                    self.give_up_start(number, GuestErrorCode::Internal, "its process ended at once");
                    return true;
                };
                let pid = facts.process.pid;
                // Nobody else's: whose process ends is told by its number.
                if self.by_pid.contains_key(&pid) {
                    return false;
                }
                process.identity = Some(facts.process);
                context.version = version;
                match maker {
                    Maker::Zygote(zygote) => {
                        if let Some(zygote) = self.contexts.zygotes.get_mut(&zygote) {
                            zygote.proven = true;
                        }
                        let memory = terms.memory_bytes.unwrap_or(0).to_string();
                        let secrets = terms.secrets.iter().flat_map(|(name, value)| [name, value]);
                        let fields: Vec<&[u8]> =
                            [&terms.cwd, &memory].into_iter().chain(secrets).map(String::as_bytes).collect();
                        process.link.tell(Tell::Terms(&fields));
                    }
                    Maker::Context => process.link.tell(Tell::Branch),
                }
                self.by_pid.insert(pid, Owner::Context(number));
                self.send_to_context(number);
                true
            }
            (Said::Opened, Some(identity)) => {
                process.usage = usage(identity.pid);
                process.doing = Doing::Idle { since: Instant::now() };
                let entry: ContextEntry = context.entry();
                self.set_context_timer(number);
                self.answer(key, &Reply::ContextOpened(entry));
                true
            }
            (Said::Failed(why), _) => {
                let code = if why.starts_with("no process") {
                    GuestErrorCode::LimitExceeded
                } else {
                    GuestErrorCode::Invalid
                };
                if let (Maker::Zygote(zygote), None, true) =
                    (maker, process.identity, why.starts_with("import"))
                {
                    // It ends; another try gets another one.
                    self.forget_zygote(zygote);
                }
                self.give_up_start(number, code, &format!("context {id}: {why}"));
                true
            }
            _ => false,
        }
    }

    /// Has another zygote make a context whose own was killed before it did.
    pub(super) fn begin_again(&mut self, number: u64) {
        let Some(context) = self.contexts.all.get(&number) else { return };
        let State::Alive(process) = &context.state else { return };
        let Doing::Starting { key, .. } = process.doing else { return };
        let (id, terms) = (context.id.clone(), Rc::clone(&context.terms));
        if let Some(context) = self.contexts.all.remove(&number) {
            self.end_context(number, context, "");
        }
        if let Err(refusal) = self.begin(key, &id, &terms) {
            self.refuse(key, refusal);
        }
    }

    /// Gives up a context that is not ready.
    pub(super) fn give_up_start(&mut self, number: u64, code: GuestErrorCode, why: &str) {
        let Some(context) = self.contexts.all.get(&number) else { return };
        let State::Alive(process) = &context.state else { return };
        let Doing::Starting { key, .. } = process.doing else { return };
        let start = format!("context {}: ", context.id);
        let message = if why.starts_with(&start) { why.to_owned() } else { format!("{start}{why}") };
        if let Some(context) = self.contexts.all.remove(&number) {
            self.end_context(number, context, "");
        }
        self.refuse(key, Refusal::new(code, message));
    }
}
