//! The floor: a server on one thread that does nothing but answer. What it reaches is what this machine, and the load
//! itself, can reach.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use anyhow::{Context as _, anyhow};
use memchr::{memchr, memmem};
use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, listen, recv, send};
use rustix::thread::{Pid, gettid};

use super::frames::{Kind, Sender, encode, mask, parse};
use super::place::Placement;

/// Writes what is answered to a text.
pub(super) type Echo = fn(&[u8], &mut Vec<u8>);

/// A server on one thread of this process.
#[derive(Debug)]
pub(super) struct Floor {
    address: SocketAddr,
    thread: Pid,
    stop: Arc<OwnedFd>,
    worker: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Floor {
    /// Starts it.
    ///
    /// # Errors
    /// When the machine has no port or thread for it.
    pub(super) fn start(placement: &Placement, echo: Echo) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening")?;
        // As many as the kernel lets wait.
        listen(&listener, i32::from(i16::MAX)).context("letting many wait")?;
        listener.set_nonblocking(true).context("listening without blocking")?;
        let address = listener.local_addr().context("asking for the own address")?;
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).context("making an eventfd")?);
        let (tell, told) = sync_channel(1);
        let (placement, stopped) = (placement.clone(), Arc::clone(&stop));
        let worker = std::thread::Builder::new()
            .name("floor".to_owned())
            .spawn(move || {
                placement.keep_server()?;
                tell.send(gettid()).context("telling the thread's id")?;
                Server::new(listener, echo)?.serve(&stopped)
            })
            .context("starting a thread")?;
        let thread = told.recv().context("the floor's thread has ended at once")?;
        Ok(Self { address, thread, stop, worker: Some(worker) })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its thread.
    pub(super) fn thread(&self) -> Pid {
        self.thread
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // Its end is all that matters now: what it failed at has shown in a measurement.
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

/// Echoes.
pub(super) fn echo(text: &[u8], answer: &mut Vec<u8>) {
    answer.extend_from_slice(br#"{"observation":{"metadata":{},"echoed_message":""#);
    answer.extend_from_slice(text);
    answer.extend_from_slice(br#"","message_length":9},"reward":0.9,"done":false}"#);
}

struct Server {
    listener: TcpListener,
    epoll: OwnedFd,
    echo: Echo,
    clients: Vec<Option<Client>>,
}

struct Client {
    stream: TcpStream,
    language: Language,
    inbox: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    Http,
    WebSocket,
}

/// Whether a client is served further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Stay,
    Leave,
}

const LISTENER: u64 = u64::MAX;
const STOP: u64 = u64::MAX - 1;

impl Server {
    fn new(listener: TcpListener, echo: Echo) -> anyhow::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("making an epoll")?;
        Ok(Self { listener, epoll, echo, clients: Vec::new() })
    }

    fn serve(&mut self, stop: &OwnedFd) -> anyhow::Result<()> {
        for (source, data) in [(self.listener.as_fd(), LISTENER), (stop.as_fd(), STOP)] {
            let data = epoll::EventData::new_u64(data);
            epoll::add(&self.epoll, source, data, epoll::EventFlags::IN).context("joining an epoll")?;
        }
        let mut events: Vec<epoll::Event> = Vec::with_capacity(1024);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(anyhow!(error).context("waiting for clients")),
            }
            for event in &events {
                let data = event.data;
                match data.u64() {
                    STOP => return Ok(()),
                    LISTENER => self.accept()?,
                    at => self.serve_one(usize::try_from(at).context("a client's number")?),
                }
            }
        }
    }

    fn accept(&mut self) -> anyhow::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("accepting a client"),
            };
            stream.set_nonblocking(true).context("a client's socket")?;
            stream.set_nodelay(true).context("setting TCP_NODELAY")?;
            let at = self.clients.iter().position(Option::is_none).unwrap_or(self.clients.len());
            let data = epoll::EventData::new_u64(at as u64);
            epoll::add(&self.epoll, &stream, data, epoll::EventFlags::IN).context("joining an epoll")?;
            let client = Client { stream, language: Language::Http, inbox: Vec::with_capacity(INBOX) };
            match self.clients.get_mut(at) {
                Some(free) => *free = Some(client),
                None => self.clients.push(Some(client)),
            }
        }
    }

    fn serve_one(&mut self, at: usize) {
        let Some(place) = self.clients.get_mut(at) else { return };
        let Some(client) = place else { return };
        // A client that talks nonsense sees that it is left.
        if client.serve(self.echo).unwrap_or(Next::Leave) == Next::Leave {
            *place = None;
        }
    }
}

/// Longer than any request of this load.
const INBOX: usize = 4096;

impl Client {
    fn serve(&mut self, echo: Echo) -> anyhow::Result<Next> {
        match recv(&self.stream, spare_capacity(&mut self.inbox), RecvFlags::empty()) {
            Ok((_, 0)) => return Ok(Next::Leave),
            Ok(_) => {}
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Next::Stay),
            Err(error) => return Err(anyhow!(error).context("receiving")),
        }
        loop {
            let (used, answer, next) = match self.language {
                Language::Http => self.http(echo)?,
                Language::WebSocket => self.frame(echo)?,
            };
            if used == 0 {
                return Ok(next);
            }
            send(&self.stream, &answer, SendFlags::NOSIGNAL).context("sending")?;
            self.inbox.drain(..used);
            if next == Next::Leave {
                return Ok(next);
            }
        }
    }

    /// How much of the inbox was a request, and its answer.
    fn http(&mut self, echo: Echo) -> anyhow::Result<(usize, Vec<u8>, Next)> {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut head = httparse::Request::new(&mut headers);
        let httparse::Status::Complete(from) = head.parse(&self.inbox).context("a request")? else {
            return Ok((0, Vec::new(), Next::Stay));
        };
        if head.method == Some("GET") {
            self.language = Language::WebSocket;
            let upgraded =
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
            return Ok((from, upgraded.to_vec(), Next::Stay));
        }
        let mut length = 0;
        for header in head.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("content-length"))
        {
            length = std::str::from_utf8(header.value).context("a length")?.parse().context("a length")?;
        }
        let Some(body) = self.inbox.get(from..from + length) else {
            return Ok((0, Vec::new(), Next::Stay));
        };
        let mut text = Vec::with_capacity(256);
        echo(message_in(body), &mut text);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", text.len());
        Ok((from + length, [head.as_bytes(), &text].concat(), Next::Stay))
    }

    fn frame(&mut self, echo: Echo) -> anyhow::Result<(usize, Vec<u8>, Next)> {
        let Some(frame) = parse(&self.inbox, Sender::Client)? else {
            return Ok((0, Vec::new(), Next::Stay));
        };
        let payload = &mut self.inbox[frame.payload.clone()];
        mask(payload, frame.mask);
        if frame.kind == Kind::Close {
            return Ok((frame.payload.end, encode(Sender::Server, Kind::Close, payload), Next::Leave));
        }
        let mut text = Vec::with_capacity(256);
        text.extend_from_slice(br#"{"type":"observation","data":"#);
        echo(message_in(payload), &mut text);
        text.push(b'}');
        Ok((frame.payload.end, encode(Sender::Server, Kind::Text, &text), Next::Stay))
    }
}

/// The text to echo; of a reset none.
fn message_in(payload: &[u8]) -> &[u8] {
    const BEFORE: &[u8] = br#""message":""#;
    let Some(at) = memmem::find(payload, BEFORE) else { return &[] };
    let text = &payload[at + BEFORE.len()..];
    &text[..memchr(b'"', text).unwrap_or(text.len())]
}
