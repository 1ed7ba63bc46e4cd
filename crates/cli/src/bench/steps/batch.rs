//! Many sessions on one connection, all stepped by one message (`hothouse.env.v1`).

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use memchr::memmem::{Finder, find};
use serde_json::{Value, json};

use super::connection::PATIENCE;
use super::frames::{Kind, Sender, encode, parse};
use super::lane::{Tally, cpu_of_this_thread};
use super::target::{BATCHES, Target};

/// A connection with many sessions of `grid_world`.
#[derive(Debug)]
pub(super) struct Batch {
    stream: TcpStream,
    inbox: Vec<u8>,
    /// Which episodes are over: their next action is none, which resets them.
    over: Vec<bool>,
    rounds: usize,
    request: Vec<u8>,
}

/// What was measured: latencies are those of whole messages.
#[derive(Debug, Default)]
pub(super) struct Batched {
    /// The messages.
    pub(super) tally: Tally,
    /// Steps of environments in them.
    pub(super) steps: usize,
    /// Episodes that ended and were begun anew in them.
    pub(super) resets: usize,
}

/// Both ways lead to the goal, so that episodes end.
const ACTIONS: [&[u8]; 2] = [br#"{"action":"RIGHT"}"#, br#"{"action":"DOWN"}"#];
static DONE: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(br#""done":"#));

impl Batch {
    /// Connects, opens so many sessions and resets them.
    ///
    /// # Errors
    /// When the server does not know batches, or refuses.
    pub(super) fn open(target: &Target, sessions: usize) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(target.address).context("connecting")?;
        stream.set_nodelay(true).context("setting TCP_NODELAY")?;
        stream.set_read_timeout(Some(PATIENCE)).context("setting a timeout")?;
        let mut batch = Self {
            stream,
            inbox: Vec::with_capacity(1 << 20),
            over: vec![false; sessions],
            rounds: 0,
            request: Vec::with_capacity(64 << 10),
        };
        batch.upgrade(target)?;
        let opened = batch.ask(&json!({ "type": "open", "count": sessions }))?;
        if opened["data"]["sessions"].as_array().map(Vec::len) != Some(sessions) {
            bail!("asked to open {sessions} sessions, the server answered {}", short(&opened.to_string()));
        }
        let reset = batch.ask(&json!({ "type": "reset_batch", "data": { "seed": 1 } }))?;
        if reset["data"].as_array().map(Vec::len) != Some(sessions) {
            bail!("asked to reset {sessions} sessions, the server answered {}", short(&reset.to_string()));
        }
        Ok(batch)
    }

    /// Steps all sessions with each message, one message after the other, for so long.
    ///
    /// # Errors
    /// When the connection breaks, or an answer is not an observation of each session.
    pub(super) fn step(&mut self, time: Duration) -> anyhow::Result<Batched> {
        let used = cpu_of_this_thread();
        let mut done = Batched::default();
        let start = Instant::now();
        while start.elapsed() < time {
            let resets = self.over.iter().filter(|over| **over).count();
            self.write_request();
            let sent = Instant::now();
            self.stream.write_all(&encode(Sender::Client, Kind::Text, &self.request)).context("sending")?;
            self.message(read_done)??;
            done.tally.latencies.push(sent.elapsed());
            done.resets += resets;
            done.steps += self.over.len() - resets;
        }
        done.tally.elapsed = start.elapsed();
        done.tally.cpu = cpu_of_this_thread().saturating_sub(used);
        Ok(done)
    }

    fn write_request(&mut self) {
        self.request.clear();
        self.request.extend_from_slice(br#"{"type":"step_batch","data":["#);
        for (at, over) in self.over.iter().enumerate() {
            if at > 0 {
                self.request.push(b',');
            }
            let action = ACTIONS[(at + self.rounds) % ACTIONS.len()];
            self.request.extend_from_slice(if *over { b"null" } else { action });
        }
        self.request.extend_from_slice(b"]}");
        self.rounds += 1;
    }

    fn upgrade(&mut self, target: &Target) -> anyhow::Result<()> {
        self.stream.write_all(&target.upgrade(Some(BATCHES))).context("asking for a WebSocket")?;
        loop {
            let mut headers = [httparse::EMPTY_HEADER; 32];
            let mut head = httparse::Response::new(&mut headers);
            if let httparse::Status::Complete(used) = head.parse(&self.inbox).context("reading an answer")? {
                let knows = head.headers.iter().any(|header| {
                    header.name.eq_ignore_ascii_case("sec-websocket-protocol")
                        && header.value == BATCHES.as_bytes()
                });
                if head.code != Some(101) || !knows {
                    bail!("the server does not know batches ({BATCHES}); status {:?}", head.code);
                }
                self.inbox.drain(..used);
                return Ok(());
            }
            self.read()?;
        }
    }

    fn ask(&mut self, request: &Value) -> anyhow::Result<Value> {
        let frame = encode(Sender::Client, Kind::Text, request.to_string().as_bytes());
        self.stream.write_all(&frame).context("sending")?;
        self.message(|answer, _| serde_json::from_slice(answer).context("an answer that is not JSON"))?
    }

    /// Waits for a whole message and shows it.
    fn message<T>(&mut self, look: impl FnOnce(&[u8], &mut [bool]) -> T) -> anyhow::Result<T> {
        loop {
            if let Some(frame) = parse(&self.inbox, Sender::Server)? {
                let end = frame.payload.end;
                match frame.kind {
                    Kind::Text => {
                        let seen = look(&self.inbox[frame.payload], &mut self.over);
                        self.inbox.drain(..end);
                        return Ok(seen);
                    }
                    Kind::Ping => {
                        let pong = encode(Sender::Client, Kind::Pong, &self.inbox[frame.payload]);
                        self.stream.write_all(&pong).context("answering a ping")?;
                    }
                    Kind::Pong => {}
                    Kind::Close | Kind::Binary => bail!("the server sent a frame of kind {:?}", frame.kind),
                }
                self.inbox.drain(..end);
                continue;
            }
            self.read()?;
        }
    }

    fn read(&mut self) -> anyhow::Result<()> {
        let spare = rustix::buffer::spare_capacity(&mut self.inbox);
        match rustix::io::read(&self.stream, spare) {
            Ok(0) => bail!("the server ended the connection"),
            Ok(_) if self.inbox.len() == self.inbox.capacity() => {
                self.inbox.reserve(self.inbox.capacity());
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(rustix::io::Errno::AGAIN) => {
                bail!("the server has said nothing for {} s", PATIENCE.as_secs())
            }
            Err(error) => Err(error).context("receiving"),
        }
    }
}

/// Which episodes an answer says are over, in the order of the sessions. Not read as JSON: that would cost more than the
/// steps themselves.
fn read_done(answer: &[u8], over: &mut [bool]) -> anyhow::Result<()> {
    if !answer.starts_with(br#"{"type":"observations""#) || find(answer, br#""error":"#).is_some() {
        bail!("observations were wanted, the server answered {}", short(&String::from_utf8_lossy(answer)));
    }
    let mut at = 0;
    for found in DONE.find_iter(answer) {
        let done = answer.get(found + DONE.needle().len()) == Some(&b't');
        *over.get_mut(at).context("an answer of more sessions than there are")? = done;
        at += 1;
    }
    if at != over.len() {
        bail!("an answer of {at} sessions, where {} are open", over.len());
    }
    Ok(())
}

fn short(text: &str) -> String {
    text.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use hothouse_env::Catalogue;
    use hothouse_server::dialects::openenv::{Openenv, Settings};
    use hothouse_server::{EnvServer, EnvServerOptions, ServerLimits};
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[test]
    fn a_server_of_our_own_steps_a_batch_and_begins_what_is_over_anew() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let environment = Catalogue::with_builtins().find("grid_world").unwrap();
        let openenv = Openenv::only(environment, Settings::default());
        let listen = "127.0.0.1:0".parse().unwrap();
        let options = EnvServerOptions { listen, insecure: false, limits: ServerLimits::default() };
        let server = runtime.block_on(EnvServer::bind(openenv, options)).unwrap();
        let target = Target::at(server.local_addr());
        let shutdown = CancellationToken::new();
        let _cancelled = shutdown.clone().drop_guard();
        let serving = runtime.handle().spawn(server.serve(shutdown));

        let mut batch = Batch::open(&target, 20).unwrap();
        let done = batch.step(Duration::from_millis(200)).unwrap();
        // Eight steps lead to the goal, and an action of none from there.
        let messages = done.tally.latencies.len();
        assert_eq!(done.steps + done.resets, messages * 20);
        assert_eq!(done.resets, messages / 9 * 20);
        drop(batch);
        serving.abort();
    }

    #[test]
    fn each_session_is_told_whether_its_episode_is_over() {
        let mut over = [false; 3];
        let answer = br#"{"type":"observations","data":[{"observation":{"x":0,"y":1,"message":"\"done\":true"},"reward":-0.1,"done":false},{"observation":{},"reward":1.0,"done":true},{"observation":{},"reward":null,"done":false}]}"#;
        read_done(answer, &mut over).unwrap();
        assert_eq!(over, [false, true, false]);
        assert!(read_done(answer, &mut [false; 2]).is_err());
        assert!(read_done(answer, &mut [false; 4]).is_err());
        let failed = br#"{"type":"observations","data":[{"error":{"message":"no"}}]}"#;
        assert!(read_done(failed, &mut [false; 1]).is_err());
        assert!(read_done(br#"{"type":"error","data":{}}"#, &mut []).is_err());
    }
}
