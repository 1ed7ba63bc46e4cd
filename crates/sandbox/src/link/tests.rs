//! A link against a peer that plays the guest, well and badly.

use std::time::Duration;

use hothouse_guest::frame::{self, Channel, Decoder, INITIAL_CREDIT, Kind};
use hothouse_guest::message::{self, Hello, MAGIC, Reply, Request, VERSION};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_util::task::TaskTracker;

use std::sync::Arc;

use super::*;

/// The other end of a link.
struct Peer {
    socket: UnixStream,
    decoder: Decoder,
}

type Said = (Kind, Channel, Vec<u8>);
type Seen = (Kind, u32, Channel, Vec<u8>);

impl Peer {
    async fn frame(&mut self) -> Option<Seen> {
        loop {
            if let Some(f) = self.decoder.next_frame().unwrap() {
                return Some((f.kind, f.stream, f.channel, f.payload.to_vec()));
            }
            let mut bytes = vec![0; 4096];
            match self.socket.read(&mut bytes).await.unwrap() {
                0 => return None,
                n => self.decoder.push(&bytes[..n]),
            }
        }
    }

    async fn say(&mut self, frames: &[(Kind, u32, Channel, &[u8])]) {
        let mut out = Vec::new();
        for (kind, stream, channel, payload) in frames {
            frame::encode(&mut out, *kind, *stream, *channel, payload);
        }
        self.socket.write_all(&out).await.unwrap();
    }

    async fn greet(&mut self) {
        self.say(&[(Kind::Hello, 0, Channel::None, &message::encode(&Hello::new()))]).await;
        assert_eq!(self.frame().await.unwrap().0, Kind::Hello);
    }

    async fn opened(&mut self) -> u32 {
        let (kind, stream, ..) = self.frame().await.unwrap();
        assert_eq!(kind, Kind::Open);
        stream
    }
}

fn pair() -> (Arc<Link>, Peer) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Link::start(ours, &TaskTracker::new(), Arc::default()), Peer { socket: theirs, decoder: Decoder::new() })
}

fn open(link: &Arc<Link>, wake_when: WakeWhen) -> LinkStream {
    link.open(&message::encode(&Request::Info), wake_when).unwrap()
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("it happens within 20 s")
}

async fn lost(stream: &mut LinkStream) -> String {
    loop {
        match soon(stream.next()).await {
            Ok(Some(_)) => {}
            Err(LinkError::Lost(reason)) => return reason,
            other => panic!("{other:?}"),
        }
    }
}

fn reply(reply: &Reply) -> Vec<u8> {
    message::encode(reply)
}

#[tokio::test]
async fn the_first_request_goes_out_with_the_hello_and_the_answer_comes_back() {
    let (link, mut peer) = pair();
    let mut stream = open(&link, WakeWhen::Over);
    let mut first = vec![0; 4096];
    let n = peer.socket.read(&mut first).await.unwrap();
    peer.decoder.push(&first[..n]);
    assert_eq!(peer.decoder.next_frame().unwrap().unwrap().kind, Kind::Hello);
    let id = {
        let second = peer.decoder.next_frame().unwrap().unwrap();
        assert_eq!(second.kind, Kind::Open);
        second.stream
    };
    peer.say(&[
        (Kind::Hello, 0, Channel::None, &message::encode(&Hello::new())),
        (Kind::Reply, id, Channel::None, &reply(&Reply::Started { replayed: false })),
        (Kind::Data, id, Channel::Stdout, b"hi"),
        (Kind::Reply, id, Channel::None, &reply(&Reply::Done)),
        (Kind::Close, id, Channel::None, &[]),
    ])
    .await;
    let mut got = Vec::new();
    while let Some(event) = soon(stream.next()).await.unwrap() {
        got.push(event);
    }
    assert_eq!(
        got,
        [
            Event::Reply(Box::new(Reply::Started { replayed: false })),
            Event::Data(Channel::Stdout, b"hi".as_slice().into()),
            Event::Reply(Box::new(Reply::Done)),
        ]
    );
}

#[tokio::test]
async fn a_guest_of_another_version_is_refused_by_name() {
    let (link, mut peer) = pair();
    let mut stream = open(&link, WakeWhen::Any);
    let hello = Hello { magic: MAGIC, version: VERSION + 1 };
    peer.say(&[(Kind::Hello, 0, Channel::None, &message::encode(&hello))]).await;
    let reason = lost(&mut stream).await;
    assert!(reason.contains(&format!("protocol {}", VERSION + 1)), "{reason}");
    assert!(link.has_ended());
    assert!(matches!(link.open(&[], WakeWhen::Any), Err(LinkError::Closed)));
}

#[tokio::test]
async fn every_kind_of_nonsense_ends_the_link_and_fails_its_streams() {
    let hello = message::encode(&Hello::new());
    let cases: Vec<(&str, Vec<Said>)> = vec![
        ("no hello", vec![(Kind::Reply, Channel::None, reply(&Reply::Done))]),
        (
            "two hellos",
            vec![(Kind::Hello, Channel::None, hello.clone()), (Kind::Hello, Channel::None, hello.clone())],
        ),
        ("a request", vec![(Kind::Hello, Channel::None, hello.clone()), (Kind::Open, Channel::None, vec![])]),
        (
            "a reply that is none",
            vec![(Kind::Hello, Channel::None, hello.clone()), (Kind::Reply, Channel::None, vec![0xff; 9])],
        ),
        (
            "more data than granted",
            std::iter::once((Kind::Hello, Channel::None, hello.clone()))
                .chain((0..5).map(|_| (Kind::Data, Channel::Stdout, vec![0; frame::MAX_DATA])))
                .collect(),
        ),
    ];
    for (name, frames) in cases {
        let (link, mut peer) = pair();
        let (mut one, mut other) = (open(&link, WakeWhen::Over), open(&link, WakeWhen::Any));
        peer.frame().await;
        let id = peer.opened().await;
        let mut out = Vec::new();
        for (kind, channel, payload) in &frames {
            // A second hello is on a stream that exists, so that it is not taken for a late frame.
            frame::encode(&mut out, *kind, id, *channel, payload);
        }
        // The link may hang up before it has read all.
        let (written, reason) = tokio::join!(peer.socket.write_all(&out), lost(&mut other));
        drop(written);
        assert!(!reason.is_empty(), "{name}");
        assert_eq!(lost(&mut one).await, reason, "{name}");
        assert!(link.has_ended(), "{name}");
    }
}

#[tokio::test]
async fn the_end_of_the_connection_fails_what_is_under_way() {
    let (link, mut peer) = pair();
    let mut stream = open(&link, WakeWhen::Over);
    peer.greet().await;
    drop(peer);
    assert_eq!(lost(&mut stream).await, "the guest closed the connection");
}

#[tokio::test]
async fn who_leaves_says_so_and_late_frames_harm_nobody() {
    let (link, mut peer) = pair();
    let stream = open(&link, WakeWhen::Any);
    peer.greet().await;
    let id = peer.opened().await;
    drop(stream);
    assert_eq!(soon(peer.frame()).await.unwrap(), (Kind::Close, id, Channel::None, vec![]));
    peer.say(&[(Kind::Data, id, Channel::Stdout, b"late"), (Kind::Close, id, Channel::None, &[])]).await;
    let mut next = open(&link, WakeWhen::Any);
    let id = peer.opened().await;
    peer.say(&[(Kind::Reply, id, Channel::None, &reply(&Reply::Done))]).await;
    assert_eq!(soon(next.next()).await.unwrap(), Some(Event::Reply(Box::new(Reply::Done))));
}

#[tokio::test]
async fn a_reader_that_does_not_read_holds_up_nobody_else_and_gets_credit_when_it_does() {
    let (link, mut peer) = pair();
    let (mut slow, mut quick) = (open(&link, WakeWhen::Any), open(&link, WakeWhen::Any));
    peer.greet().await;
    let (slow_id, quick_id) = (peer.opened().await, peer.opened().await);
    let piece = vec![7; frame::MAX_DATA];
    for _ in 0..INITIAL_CREDIT as usize / frame::MAX_DATA {
        peer.say(&[(Kind::Data, slow_id, Channel::Stdout, &piece)]).await;
    }
    peer.say(&[(Kind::Data, quick_id, Channel::Stdout, b"quick")]).await;
    assert_eq!(
        soon(quick.next()).await.unwrap(),
        Some(Event::Data(Channel::Stdout, b"quick".as_slice().into()))
    );
    let (event, credit) = tokio::join!(slow.next(), soon(peer.frame()));
    assert_eq!(event.unwrap(), Some(Event::Data(Channel::Stdout, piece.as_slice().into())));
    let (kind, stream, _, bytes) = credit.unwrap();
    assert_eq!((kind, stream), (Kind::Credit, slow_id));
    assert_eq!(u32::from_le_bytes(bytes.try_into().unwrap()) as usize, piece.len());
}

#[tokio::test]
async fn content_waits_for_credit_and_arrives_whole() {
    let (link, mut peer) = pair();
    let mut stream = open(&link, WakeWhen::Any);
    peer.greet().await;
    let id = peer.opened().await;
    let content: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let receive = async {
        let (mut got, mut window) = (Vec::new(), INITIAL_CREDIT as usize);
        while got.len() < content.len() {
            let (kind, _, channel, bytes) = peer.frame().await.unwrap();
            assert_eq!((kind, channel), (Kind::Data, Channel::File));
            window = window.checked_sub(bytes.len()).expect("no more than was granted");
            got.extend_from_slice(&bytes);
            if window < 100_000 {
                window += 200_000;
                peer.say(&[(Kind::Credit, id, Channel::None, &200_000_u32.to_le_bytes())]).await;
            }
        }
        got
    };
    let send = stream.send(Channel::File, &content, StopAt::AnyReply);
    let (sent, got) = soon(async { tokio::join!(send, receive) }).await;
    assert_eq!(sent.unwrap(), Sent::All);
    assert!(got == content);
}

#[tokio::test]
async fn an_early_answer_stops_the_sending() {
    let (link, mut peer) = pair();
    let mut stream = open(&link, WakeWhen::Any);
    peer.greet().await;
    let id = peer.opened().await;
    let content = vec![0; INITIAL_CREDIT as usize * 2];
    let refuse = async {
        peer.say(&[
            (Kind::Reply, id, Channel::None, &reply(&Reply::Done)),
            (Kind::Close, id, Channel::None, &[]),
        ])
        .await;
    };
    let (sent, ()) =
        soon(async { tokio::join!(stream.send(Channel::File, &content, StopAt::AnyReply), refuse) }).await;
    assert_eq!(sent.unwrap(), Sent::Answered);
    assert_eq!(stream.next().await.unwrap(), Some(Event::Reply(Box::new(Reply::Done))));
}

#[tokio::test]
async fn a_peer_that_reads_late_gets_everything() {
    let (link, mut peer) = pair();
    // Far more than a socket's buffer, without credit: requests.
    let request = vec![1; 300_000];
    let streams: Vec<_> = (0..20).map(|_| link.open(&request, WakeWhen::Any).unwrap()).collect();
    peer.greet().await;
    for _ in &streams {
        let (kind, _, _, bytes) = soon(peer.frame()).await.unwrap();
        assert!(kind == Kind::Open && bytes == request);
    }
}

#[tokio::test]
async fn too_many_streams_at_once_are_refused() {
    let (link, _peer) = pair();
    let mut streams: Vec<_> = (0..MAX_STREAMS).map(|_| open(&link, WakeWhen::Any)).collect();
    assert!(matches!(link.open(&[], WakeWhen::Any), Err(LinkError::TooManyStreams)));
    streams.pop();
    open(&link, WakeWhen::Any);
}

#[tokio::test]
async fn a_sweep_closes_idle_links_only() {
    let cache = LinkCache::default();
    let (busy, mut busy_peer) = pair();
    let (idle, mut idle_peer) = pair();
    let _stream = open(&busy, WakeWhen::Any);
    let places: Vec<LinkPlace> =
        [busy, idle].into_iter().map(|link| Arc::new(std::sync::Mutex::new(Some(link)))).collect();
    places.iter().for_each(|place| cache.add(place));
    cache.sweep(10_000);
    assert!(places.iter().all(|place| locked(place).is_some()));
    cache.sweep(0);
    assert!(locked(&places[0]).is_some());
    assert!(locked(&places[1]).is_none());
    assert_eq!(
        soon(idle_peer.frame()).await.map(|f| f.0),
        None,
        "the connection is closed, nothing was sent"
    );
    assert_eq!(soon(busy_peer.frame()).await.map(|f| f.0), Some(Kind::Hello));
}

#[tokio::test]
async fn a_guest_that_says_nothing_is_asked_and_counted() {
    let (link, mut peer) = pair();
    link.look();
    assert_eq!(link.silent_looks(), 0, "nobody waits for anything");
    let _stream = open(&link, WakeWhen::Any);
    peer.greet().await;
    let waiting = peer.opened().await;
    assert_eq!(soon(async { heard(&link).await }).await, 0, "the hello counts");
    for looks in 1..=3 {
        link.look();
        assert_eq!(link.silent_looks(), looks);
        // Asked for a word, and not waited for.
        let asked = peer.opened().await;
        assert_ne!(asked, waiting);
        assert_eq!(peer.frame().await.map(|f| (f.0, f.1)), Some((Kind::Close, asked)));
    }
    peer.say(&[(Kind::Credit, waiting, Channel::None, &1_u32.to_le_bytes())]).await;
    assert_eq!(soon(async { heard(&link).await }).await, 0, "any word will do");
    link.look();
    link.excuse();
    link.look();
    assert_eq!(link.silent_looks(), 0);
}

/// Looks until something was heard; what was silence before does not count then.
async fn heard(link: &Arc<Link>) -> u32 {
    while !link.has_heard() {
        tokio::task::yield_now().await;
    }
    link.look();
    link.silent_looks()
}
