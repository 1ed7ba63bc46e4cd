//! Connections into the sandbox: both directions, their ends, and what goes wrong with them.

#![allow(
    clippy::print_stdout,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "the whole file is a test"
)]

mod driver;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use driver::{Answer, Driver, Guest, PATIENCE, wait_for};
use hothouse_guest::frame::{Channel, INITIAL_CREDIT, Kind, MAX_DATA};
use hothouse_guest::message::{DialTarget, GuestErrorCode, GuestInfo, Reply, Request};

fn path(path: &str, wait_ms: u64) -> Request {
    Request::Dial { target: DialTarget::Path(path.to_owned()), wait_ms }
}

fn port(port: u16, wait_ms: u64) -> Request {
    Request::Dial { target: DialTarget::Port(port), wait_ms }
}

fn dialed(driver: &mut Driver, request: &Request) -> u32 {
    let stream = driver.open(request);
    assert_eq!(driver.reply_of(stream), Reply::Dialed);
    stream
}

fn unix(guest: &Guest, driver: &mut Driver) -> (u32, UnixStream) {
    let name = guest.path("s");
    drop(std::fs::remove_file(&name));
    let listener = UnixListener::bind(&name).unwrap();
    let stream = dialed(driver, &path(&name, 0));
    (stream, listener.accept().unwrap().0)
}

fn tcp(driver: &mut Driver) -> (u32, TcpStream) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let stream = dialed(driver, &port(listener.local_addr().unwrap().port(), 0));
    (stream, listener.accept().unwrap().0)
}

fn info(driver: &mut Driver) -> GuestInfo {
    match driver.request(&Request::Info).last() {
        Reply::Info(info) => info.clone(),
        other => panic!("{other:?}"),
    }
}

fn wait_until_none_is_left(driver: &mut Driver) {
    wait_for("no connection is left", || info(driver).dials == 0);
}

fn content(bytes: usize) -> Vec<u8> {
    (0..u32::MAX).flat_map(u32::to_le_bytes).take(bytes).collect()
}

/// Echoes until the end, then says goodbye and ends too.
fn echo(mut socket: impl Read + Write + Send + 'static, end: impl FnOnce() + Send + 'static) {
    thread::spawn(move || {
        let mut buffer = vec![0; 65536];
        loop {
            match socket.read(&mut buffer).unwrap() {
                0 => break,
                count => socket.write_all(&buffer[..count]).unwrap(),
            }
        }
        socket.write_all(b"goodbye").unwrap();
        end();
    });
}

/// Sends content while it takes what comes; gives all that came until the stream closes.
fn exchange(driver: &mut Driver, stream: u32, content: &[u8]) -> Answer {
    let mut credit = INITIAL_CREDIT as usize;
    let (mut at, mut answer) = (0, Answer::default());
    loop {
        while at < content.len() && credit > 0 {
            let length = credit.min(MAX_DATA).min(content.len() - at);
            driver.send(Kind::Data, stream, Channel::Socket, &content[at..at + length]);
            (at, credit) = (at + length, credit - length);
            if at == content.len() {
                driver.send(Kind::End, stream, Channel::Socket, &[]);
            }
        }
        let frame = driver.frame_of(stream);
        match frame.kind {
            Kind::Close => return answer,
            Kind::Credit => credit += u32::from_le_bytes(frame.payload.try_into().unwrap()) as usize,
            Kind::Data => answer.file.extend(frame.payload),
            Kind::End => {}
            Kind::Reply => {
                answer.replies.push(hothouse_guest::message::decode("reply", &frame.payload).unwrap())
            }
            other => panic!("unexpected {other:?}"),
        }
    }
}

#[test]
fn bytes_go_both_ways_and_each_side_ends_for_itself() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let content = content(5_000_001);
    let expected = [content.as_slice(), b"goodbye"].concat();
    let (stream, socket) = unix(&guest, &mut driver);
    let end = socket.try_clone().unwrap();
    echo(socket, move || end.shutdown(Shutdown::Both).unwrap());
    let answer = exchange(&mut driver, stream, &content);
    assert!(answer.file == expected && answer.replies.is_empty());

    let (stream, socket) = tcp(&mut driver);
    let end = socket.try_clone().unwrap();
    echo(socket, move || end.shutdown(Shutdown::Write).unwrap());
    let answer = exchange(&mut driver, stream, &content);
    assert!(answer.file == expected && answer.replies.is_empty());
    wait_until_none_is_left(&mut driver);
}

#[test]
fn what_listens_may_end_first_and_still_be_written_to() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    for kind in ["unix", "tcp"] {
        let (stream, received) = if kind == "unix" {
            let (stream, mut socket) = unix(&guest, &mut driver);
            socket.write_all(b"first").unwrap();
            socket.shutdown(Shutdown::Write).unwrap();
            (stream, thread::spawn(move || read_all(&mut socket)))
        } else {
            let (stream, mut socket) = tcp(&mut driver);
            socket.write_all(b"first").unwrap();
            socket.shutdown(Shutdown::Write).unwrap();
            (stream, thread::spawn(move || read_all(&mut socket)))
        };
        assert_eq!(driver.frame_of(stream).payload, b"first");
        assert_eq!(driver.frame_of(stream).kind, Kind::End);
        driver.send(Kind::Data, stream, Channel::Socket, b"last");
        driver.send(Kind::End, stream, Channel::Socket, &[]);
        assert_eq!(driver.frame_of(stream).kind, Kind::Close, "{kind}");
        assert_eq!(received.join().unwrap().unwrap(), b"last", "{kind}");
    }
}

fn read_all(socket: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut got = Vec::new();
    socket.read_to_end(&mut got).map(|_| got)
}

#[test]
fn what_is_sent_before_the_answer_arrives_too() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let name = guest.path("late");
    let stream = driver.open(&path(&name, 60_000));
    driver.send(Kind::Data, stream, Channel::Socket, b"early");
    driver.send(Kind::End, stream, Channel::Socket, &[]);
    assert_eq!(info(&mut driver).dials, 1);
    let listener = UnixListener::bind(&name).unwrap();
    let mut socket = listener.accept().unwrap().0;
    assert_eq!(read_all(&mut socket).unwrap(), b"early");
    drop(socket);
    assert_eq!(driver.reply_of(stream), Reply::Dialed);
    assert_eq!(driver.frame_of(stream).kind, Kind::End);
    assert_eq!(driver.frame_of(stream).kind, Kind::Close);
}

#[test]
fn a_port_of_the_other_loopback_is_found() {
    let Ok(listener) = TcpListener::bind(("::1", 0)) else {
        return println!("a_port_of_the_other_loopback_is_found: skipped, this machine has no IPv6");
    };
    let guest = Guest::start();
    let mut driver = guest.connect();
    let stream = dialed(&mut driver, &port(listener.local_addr().unwrap().port(), 0));
    listener.accept().unwrap().0.write_all(b"six").unwrap();
    assert_eq!(driver.frame_of(stream).payload, b"six");
}

#[test]
fn what_cannot_be_dialled_says_why() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let stale = guest.path("stale");
    drop(UnixListener::bind(&stale).unwrap());
    let datagram = guest.path("datagram");
    let _datagram = UnixDatagram::bind(&datagram).unwrap();
    let file = guest.path("file");
    std::fs::write(&file, "").unwrap();
    let link = guest.path("loop");
    std::os::unix::fs::symlink(&link, &link).unwrap();
    let free = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    use GuestErrorCode::{FileNotFound, FileRefused, Invalid, NotListening};
    let cases = [
        (path(&guest.path("none"), 0), FileNotFound, "none: no such file or directory"),
        (path(&guest.path("none/s"), 0), FileNotFound, "no such file or directory"),
        (path(&format!("{file}/s"), 0), FileRefused, "not a directory"),
        (path(&stale, 0), NotListening, "stale: nothing listens there"),
        (path(&file, 0), FileRefused, "file: is a file, not a socket"),
        (path("/", 0), FileRefused, "/: is a directory, not a socket"),
        (path("/dev/null", 0), FileRefused, "/dev/null: is not a socket"),
        (path(&link, 0), FileRefused, "too many symbolic links"),
        (path(&datagram, 0), FileRefused, "is a socket, but not a stream"),
        (path("relative", 0), Invalid, "not absolute"),
        (path(&format!("/{}", "a".repeat(5000)), 0), Invalid, "at most"),
        (path("/a\0b", 0), Invalid, "NUL"),
        (path("/a", 600_001), Invalid, "at most 600000"),
        (port(0, 0), Invalid, "port 0: not one of 1 to 65535"),
        (port(free, 0), NotListening, "nothing listens there"),
        (port(free, 30), NotListening, "nothing listens there, after 0.0 s"),
    ];
    for (request, code, words) in cases {
        let (got, message) = driver.request(&request).error();
        assert!(got == code && message.contains(words), "{request:?}: {got:?} {message}");
    }
    assert_eq!(info(&mut driver).dials, 0);
}

#[test]
fn a_long_path_and_one_behind_a_link_are_reached() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let long = guest.path(&"d".repeat(200));
    std::fs::create_dir(&long).unwrap();
    let short = guest.path("short");
    std::os::unix::fs::symlink(&long, &short).unwrap();
    // The kernel takes no longer path to bind to.
    let listener = UnixListener::bind(format!("{short}/s")).unwrap();
    for name in [format!("{long}/s"), format!("{short}/s")] {
        let stream = dialed(&mut driver, &path(&name, 0));
        listener.accept().unwrap().0.write_all(b"here").unwrap();
        assert_eq!(driver.frame_of(stream).payload, b"here");
    }
}

#[test]
fn a_dial_waits_until_somebody_listens_or_its_time_is_up() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let since = Instant::now();
    let (code, message) = driver.request(&path(&guest.path("never"), 200)).error();
    assert_eq!(code, GuestErrorCode::FileNotFound);
    assert!(message.ends_with("no such file or directory, after 0.2 s"), "{message}");
    assert!(since.elapsed() >= Duration::from_millis(200));

    let name = guest.path("later");
    let by_path = driver.open(&path(&name, 60_000));
    let reserved = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let by_port = driver.open(&port(reserved.port(), 60_000));
    assert_eq!(info(&mut driver).dials, 2);
    // First it is there and takes nothing, then it listens.
    drop(UnixListener::bind(&name).unwrap());
    assert_eq!(info(&mut driver).dials, 2);
    std::fs::remove_file(&name).unwrap();
    let _unix = UnixListener::bind(&name).unwrap();
    let _tcp = TcpListener::bind(reserved).unwrap();
    assert_eq!(driver.reply_of(by_path), Reply::Dialed);
    assert_eq!(driver.reply_of(by_port), Reply::Dialed);
}

#[test]
fn a_wait_can_be_given_up() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let stream = driver.open(&path(&guest.path("never"), 600_000));
    assert_eq!(info(&mut driver).dials, 1);
    driver.send(Kind::Close, stream, Channel::None, &[]);
    assert_eq!(info(&mut driver).dials, 0);
    let mut other = guest.connect();
    other.open(&path(&guest.path("never"), 600_000));
    assert_eq!(info(&mut other).dials, 1);
    drop(other);
    wait_until_none_is_left(&mut driver);
}

#[test]
fn a_listener_without_room_is_waited_for() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let name = guest.path("busy");
    let listener = UnixListener::bind(&name).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let first = dialed(&mut driver, &path(&name, 0));
    let second = driver.open(&path(&name, 0));
    assert_eq!(info(&mut driver).dials, 2, "it is not refused");
    drop(listener.accept().unwrap());
    assert_eq!(driver.reply_of(second), Reply::Dialed);
    assert_eq!(driver.frame_of(first).kind, Kind::End);
}

#[test]
fn who_reads_late_holds_up_nobody_and_gets_everything() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    driver.grants = false;
    let (stream, mut socket) = unix(&guest, &mut driver);
    let sent = content(3_000_000);
    let content = sent.clone();
    let writer = thread::spawn(move || socket.write_all(&sent).map(|()| socket));
    // All that was granted comes, and no more, though the other end has more.
    let mut got = Vec::new();
    while got.len() < INITIAL_CREDIT as usize {
        got.extend(driver.frame_of(stream).payload);
    }
    assert_eq!(got.len(), INITIAL_CREDIT as usize);
    let before = std::fs::read_to_string(format!("/proc/{}/statm", guest.pid())).unwrap();
    for _ in 0..100 {
        assert_eq!(info(&mut driver).dials, 1);
    }
    let after = std::fs::read_to_string(format!("/proc/{}/statm", guest.pid())).unwrap();
    let pages = |text: &str| text.split(' ').nth(1).unwrap().parse::<u64>().unwrap();
    assert!(pages(&after) < pages(&before) + 64, "{before} {after}");
    driver.grants = true;
    driver.grant(stream, 100_000);
    while got.len() < content.len() {
        got.extend(driver.frame_of(stream).payload);
    }
    assert!(got == content);
    drop(writer.join().unwrap().unwrap());
    assert_eq!(driver.frame_of(stream).kind, Kind::End);
    assert_eq!(driver.frame_of(stream).kind, Kind::Close, "nobody is left to write to");
}

#[test]
fn what_listens_without_reading_gets_no_more_than_was_granted() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let (stream, mut socket) = unix(&guest, &mut driver);
    let piece = vec![7; MAX_DATA];
    let (mut credit, mut sent) = (INITIAL_CREDIT as usize, 0);
    // What its socket holds is granted again, the rest is not.
    loop {
        while credit >= MAX_DATA {
            driver.send(Kind::Data, stream, Channel::Socket, &piece);
            (credit, sent) = (credit - MAX_DATA, sent + MAX_DATA);
        }
        let question = driver.open(&Request::Info);
        let frame = driver.frame().unwrap();
        if frame.stream == question {
            break;
        }
        driver.drain(question);
        assert_eq!(frame.kind, Kind::Credit);
        credit += u32::from_le_bytes(frame.payload.try_into().unwrap()) as usize;
    }
    assert!(sent < 4 << 20, "{sent} bytes were granted to what nobody reads");
    // One byte more than granted is no honest driver's.
    let mut dishonest = guest.connect();
    let (other, _held) = unix(&guest, &mut dishonest);
    for _ in 0..=64 {
        dishonest.send_if_possible(Kind::Data, other, Channel::Socket, &piece);
    }
    dishonest.until_closed();

    driver.send(Kind::End, stream, Channel::Socket, &[]);
    driver.send(Kind::Close, stream, Channel::None, &[]);
    let got = read_all(&mut socket).unwrap();
    assert_eq!(got.len(), sent, "what was sent before the end arrives, although the driver has left");
    wait_until_none_is_left(&mut driver);
}

#[test]
fn a_driver_that_leaves_before_the_end_breaks_it_off() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let (stream, mut socket) = tcp(&mut driver);
    driver.send(Kind::Data, stream, Channel::Socket, b"half");
    driver.send(Kind::Close, stream, Channel::None, &[]);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let end = read_all(&mut socket);
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let (_, mut socket) = unix(&guest, &mut driver);
    drop(driver);
    assert_eq!(read_all(&mut socket).unwrap(), b"", "its connection was all");
    wait_until_none_is_left(&mut guest.connect());
}

#[test]
fn an_end_that_breaks_off_is_told_after_what_came_before() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    // It was sent something that it never read.
    let (stream, mut socket) = tcp(&mut driver);
    driver.send(Kind::Data, stream, Channel::Socket, b"unread");
    socket.write_all(b"some").unwrap();
    assert_eq!(driver.frame_of(stream).payload, b"some");
    let mut seen = [0; 1];
    socket.peek(&mut seen).unwrap();
    drop(socket);
    let (code, message) = driver.drain(stream).error();
    assert_eq!(code, GuestErrorCode::DialBroken);
    assert!(message.contains("port ") && message.contains("reset"), "{message}");

    // It closes while more waits for it.
    let (stream, socket) = unix(&guest, &mut driver);
    for _ in 0..4 {
        driver.send(Kind::Data, stream, Channel::Socket, &vec![0; MAX_DATA]);
    }
    driver.send(Kind::End, stream, Channel::Socket, &[]);
    info(&mut driver);
    drop(socket);
    assert_eq!(driver.drain(stream).error().0, GuestErrorCode::DialBroken);
    wait_until_none_is_left(&mut driver);
}

#[test]
fn connections_are_bounded_and_given_back() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let name = guest.path("never");
    let streams: Vec<u32> = (0..1024).map(|_| driver.open(&path(&name, 600_000))).collect();
    assert_eq!(info(&mut driver).dials, 1024);
    let (code, message) = driver.request(&path(&name, 600_000)).error();
    assert_eq!(code, GuestErrorCode::LimitExceeded);
    assert!(message.contains("1024"), "{message}");
    for stream in streams {
        driver.send(Kind::Close, stream, Channel::None, &[]);
    }
    assert_eq!(info(&mut driver).dials, 0);
}

#[test]
fn many_connections_at_once_keep_their_bytes_apart() {
    let guest = Guest::start();
    let mut driver = guest.connect();
    let name = guest.path("s");
    let listener = UnixListener::bind(&name).unwrap();
    rustix::net::listen(&listener, 4096).unwrap();
    let echoes = thread::spawn(move || {
        for _ in 0..200 {
            let (socket, _) = listener.accept().unwrap();
            let end = socket.try_clone().unwrap();
            echo(socket, move || end.shutdown(Shutdown::Both).unwrap());
        }
    });
    let streams: Vec<u32> = (0..200).map(|_| dialed(&mut driver, &path(&name, 0))).collect();
    for stream in &streams {
        driver.send(Kind::Data, *stream, Channel::Socket, stream.to_string().as_bytes());
        driver.send(Kind::End, *stream, Channel::Socket, &[]);
    }
    for stream in streams {
        let answer = driver.drain(stream);
        assert_eq!(String::from_utf8(answer.file).unwrap(), format!("{stream}goodbye"));
    }
    echoes.join().unwrap();
    wait_until_none_is_left(&mut driver);
}
