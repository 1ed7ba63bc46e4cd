//! One connection that never blocks: bytes out, whole messages in.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with, sockopt,
};

use super::frames::{Kind, Sender, encode, parse};

/// How long a server may be silent when it owes an answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// What is spoken on a connection now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    /// Answers with a length.
    Http,
    /// Frames.
    WebSocket,
}

/// A connection of a session.
#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    language: Language,
    // What came and is no whole message yet; mostly empty.
    rest: Vec<u8>,
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received<T> {
    /// Nothing whole.
    Nothing,
    /// A message, or what was made of it.
    Message(T),
    /// The server has ended the connection.
    End,
}

/// A message of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message<'a> {
    /// The status of an HTTP answer; of a WebSocket's message none.
    pub(super) status: Option<u16>,
    /// The message, or the body of the answer.
    pub(super) body: &'a [u8],
}

/// What lies at the start of some bytes.
enum Piece {
    Part,
    Message { status: Option<u16>, body: std::ops::Range<usize> },
    Ping(std::ops::Range<usize>),
    Other(usize),
    Close(usize),
}

impl Connection {
    /// Begins to connect. It can be written to when it is connected.
    ///
    /// # Errors
    /// When the machine refuses at once.
    pub(super) fn begin(address: SocketAddr) -> anyhow::Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, None).context("making a socket")?;
        sockopt::set_tcp_nodelay(&socket, true).context("setting TCP_NODELAY")?;
        match connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => {
                Ok(Self { socket, language: Language::Http, rest: Vec::new() })
            }
            Err(error) => Err(anyhow!(error).context(format!("connecting to {address}"))),
        }
    }

    /// Whether the connection has come about, once it can be written to.
    ///
    /// # Errors
    /// When it has not.
    pub(super) fn is_connected(&self) -> anyhow::Result<()> {
        sockopt::socket_error(&self.socket).context("asking for a socket's error")?.context("connecting")
    }

    /// From now on frames come.
    pub(super) fn speaks(&mut self, language: Language) {
        self.language = language;
    }

    /// Sends all of it. Mostly it fits into the socket's buffer; if not, this waits.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(super) fn send(&self, mut bytes: &[u8]) -> anyhow::Result<()> {
        while !bytes.is_empty() {
            match send(&self.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(Errno::AGAIN) => self.wait_for_room()?,
                Err(Errno::INTR) => {}
                Err(error) => return Err(anyhow!(error).context("sending")),
            }
        }
        Ok(())
    }

    fn wait_for_room(&self) -> anyhow::Result<()> {
        let patience = Timespec::try_from(PATIENCE).context("a timeout")?;
        match poll(&mut [PollFd::new(&self.socket, PollFlags::OUT)], Some(&patience)) {
            Ok(0) => bail!("the server has read nothing for {} s", PATIENCE.as_secs()),
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(anyhow!(error).context("waiting until more can be sent")),
        }
    }

    /// Takes what has come. A message is shown to `look`, which borrows it from where it was received.
    ///
    /// # Errors
    /// When the connection is broken, or what came is not in its language.
    pub(super) fn receive<T>(
        &mut self,
        scratch: &mut [u8],
        look: impl FnOnce(Message<'_>) -> T,
    ) -> anyhow::Result<Received<T>> {
        let length = match recv(&self.socket, &mut *scratch, RecvFlags::empty()) {
            Ok((0, _)) | Err(Errno::CONNRESET) => return Ok(Received::End),
            Ok((length, _)) => length,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Received::Nothing),
            Err(error) => return Err(anyhow!(error).context("receiving")),
        };
        // Nearly always one whole message and nothing else: then nothing is copied.
        if self.rest.is_empty() {
            let (found, used) = self.take(&scratch[..length], look)?;
            self.rest.extend_from_slice(&scratch[used..length]);
            return Ok(found);
        }
        let mut rest = std::mem::take(&mut self.rest);
        rest.extend_from_slice(&scratch[..length]);
        let (found, used) = self.take(&rest, look)?;
        rest.drain(..used);
        self.rest = rest;
        Ok(found)
    }

    /// The first message in `bytes`, and how much was used; pings are answered.
    fn take<T>(
        &self,
        bytes: &[u8],
        look: impl FnOnce(Message<'_>) -> T,
    ) -> anyhow::Result<(Received<T>, usize)> {
        let mut used = 0;
        loop {
            let bytes = &bytes[used..];
            let piece = match self.language {
                Language::Http => answer(bytes)?,
                Language::WebSocket => frame(bytes)?,
            };
            match piece {
                Piece::Part => return Ok((Received::Nothing, used)),
                Piece::Message { status, body } => {
                    let end = used + body.end;
                    return Ok((Received::Message(look(Message { status, body: &bytes[body] })), end));
                }
                Piece::Ping(payload) => {
                    used += payload.end;
                    self.send(&encode(Sender::Client, Kind::Pong, &bytes[payload]))?;
                }
                Piece::Other(end) => used += end,
                Piece::Close(end) => return Ok((Received::End, used + end)),
            }
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn frame(bytes: &[u8]) -> anyhow::Result<Piece> {
    let Some(frame) = parse(bytes, Sender::Server)? else { return Ok(Piece::Part) };
    Ok(match frame.kind {
        Kind::Text | Kind::Binary => Piece::Message { status: None, body: frame.payload },
        Kind::Ping => Piece::Ping(frame.payload),
        Kind::Pong => Piece::Other(frame.payload.end),
        Kind::Close => Piece::Close(frame.payload.end),
    })
}

/// An HTTP answer with the length of its body, or to an upgrade.
fn answer(bytes: &[u8]) -> anyhow::Result<Piece> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(from) = head.parse(bytes).context("an answer that is not HTTP")? else {
        return Ok(Piece::Part);
    };
    let status = head.code;
    if status == Some(101) {
        return Ok(Piece::Message { status, body: from..from });
    }
    let mut length = None;
    for header in head.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).context("a length that is not text")?;
            length = Some(text.trim().parse::<usize>().context("a length that is no number")?);
        }
    }
    let length = length.context("an HTTP answer without a length, which this client does not read")?;
    let end = from.checked_add(length).context("an HTTP answer of impossible length")?;
    Ok(if bytes.len() >= end { Piece::Message { status, body: from..end } } else { Piece::Part })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpListener;

    use super::*;

    /// What a client takes of what a server writes in these pieces, one at a time.
    fn taken(language: Language, pieces: &[&[u8]]) -> Vec<Received<Vec<u8>>> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = Connection::begin(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.speaks(language);
        let mut scratch = vec![0; 4096];
        let mut all = Vec::new();
        for piece in pieces {
            server.write_all(piece).unwrap();
            poll(&mut [PollFd::new(&client.socket, PollFlags::IN)], None).unwrap();
            all.push(client.receive(&mut scratch, |message| message.body.to_vec()).unwrap());
        }
        all
    }

    #[test]
    fn messages_come_whole_whatever_the_pieces() {
        use Received::{Message, Nothing};
        let frame = encode(Sender::Server, Kind::Text, b"{}");
        let ping = encode(Sender::Server, Kind::Ping, b"?");
        assert_eq!(taken(Language::WebSocket, &[&frame]), [Message(b"{}".to_vec())]);
        assert_eq!(
            taken(Language::WebSocket, &[&frame[..1], &frame[1..3], &frame[3..]]),
            [Nothing, Nothing, Message(b"{}".to_vec())]
        );
        let both = [&ping[..], &frame[..], &ping[..2]].concat();
        assert_eq!(
            taken(Language::WebSocket, &[&both, &ping[2..], &frame]),
            [Message(b"{}".to_vec()), Nothing, Message(b"{}".to_vec())]
        );
        let close = encode(Sender::Server, Kind::Close, &[]);
        assert_eq!(taken(Language::WebSocket, &[&close]), [Received::End]);
        let answer = b"HTTP/1.1 200 OK\r\nCONTENT-LENGTH: 2\r\n\r\n{}";
        assert_eq!(
            taken(Language::Http, &[&answer[..20], &answer[20..], answer]),
            [Nothing, Message(b"{}".to_vec()), Message(b"{}".to_vec())]
        );
    }

    #[test]
    fn an_answer_of_unknown_length_is_refused() {
        assert!(answer(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(answer(b"SSH-2.0-OpenSSH\r\n\r\n").is_err());
    }
}
