//! What has arrived on one stream and was not taken yet. Pure: no I/O, no clock.

use std::collections::VecDeque;
use std::task::Waker;

use bytes::BytesMut;
use hothouse_guest::frame::{Channel, INITIAL_CREDIT, MAX_DATA};
use hothouse_guest::message::Reply;

use super::LinkError;

/// Replies need no credit; above so many unread bytes of them the link stops reading until its caller catches up.
const REPLIES_HIGH_WATER: usize = 1 << 20;
/// Above so many unread events, pieces of the same channel are joined even when another channel's lie between.
const EVENTS_HIGH_WATER: usize = 1024;
/// Grant credit when so many bytes were taken since the last grant.
const GRANT_AT: u32 = INITIAL_CREDIT / 4;

/// Something that arrived on a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A reply.
    Reply(Box<Reply>),
    /// Bytes of a channel.
    Data(Channel, BytesMut),
    /// A channel has ended.
    End(Channel),
}

/// When the caller of a stream is woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WakeWhen {
    /// By every event.
    Any,
    /// When the stream is over, or when so much is unread that the guest may soon have to wait: for a caller that wants the
    /// whole answer, so that it is woken once.
    Over,
}

/// A guest that breaks the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Breach {
    /// More data than was granted.
    #[error("sent {sent} bytes on a stream with credit for {credit}")]
    OverCredit { sent: usize, credit: u32 },
    /// Something after the end of a channel.
    #[error("sent bytes or a second end after a channel's end")]
    AfterEnd,
}

/// Whether the pump may go on reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intake {
    Open,
    /// Too many replies are unread.
    Full,
}

/// What [`Inbox::take`] found.
#[derive(Debug)]
pub(crate) enum Taken {
    /// An event, and credit to grant to the guest when not 0.
    Event(Event, u32),
    /// Nothing yet.
    Empty,
    /// The guest has closed the stream and all was taken.
    Over,
    /// It failed.
    Failed(LinkError),
}

/// Who is to be woken: they may be two tasks.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct Wakers {
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Wakers {
    /// Wakes them; call it with no lock held.
    pub(crate) fn wake(self) {
        for waker in [self.reader, self.writer].into_iter().flatten() {
            waker.wake();
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Inbox {
    events: VecDeque<Event>,
    /// Bytes of data in `events`.
    unread: u32,
    /// Bytes of replies in `events`.
    unread_replies: usize,
    /// Bytes of data that the guest may still send.
    granted: u32,
    /// Bytes taken since the last grant.
    taken: u32,
    /// Bytes of data that we may still send.
    pub(crate) credit: u32,
    ended: u8,
    answered: bool,
    over: bool,
    failed: Option<LinkError>,
    wake_when: WakeWhen,
    /// Who waits for what arrives.
    reader: Option<Waker>,
    /// Who waits to send.
    writer: Option<Waker>,
}

impl Inbox {
    pub(crate) fn new(wake_when: WakeWhen) -> Self {
        Self {
            events: VecDeque::new(),
            unread: 0,
            unread_replies: 0,
            granted: INITIAL_CREDIT,
            taken: 0,
            credit: INITIAL_CREDIT,
            ended: 0,
            answered: false,
            over: false,
            failed: None,
            wake_when,
            reader: None,
            writer: None,
        }
    }

    /// True once the guest has sent anything on this stream.
    pub(crate) fn answered(&self) -> bool {
        self.answered
    }

    /// True when nothing more will arrive.
    pub(crate) fn is_over(&self) -> bool {
        self.over || self.failed.is_some()
    }

    /// Wakes this task when there is something to take.
    pub(crate) fn set_reader(&mut self, waker: &Waker) {
        set(&mut self.reader, waker);
    }

    /// Wakes this task when there is credit, or sending has become pointless.
    pub(crate) fn set_writer(&mut self, waker: &Waker) {
        set(&mut self.writer, waker);
    }

    /// Who reads, if it is to be woken now.
    fn reader(&mut self) -> Option<Waker> {
        let due = match self.wake_when {
            WakeWhen::Any => true,
            WakeWhen::Over => {
                self.is_over()
                    || self.unread >= GRANT_AT
                    || self.unread_replies > REPLIES_HIGH_WATER
                    // An error ends the request early: who still sends must hear of it.
                    || matches!(self.events.back(), Some(Event::Reply(r)) if matches!(**r, Reply::Error { .. }))
            }
        };
        if due { self.reader.take() } else { None }
    }

    /// Both, if they are to be woken now.
    fn both(&mut self) -> Wakers {
        Wakers { reader: self.reader(), writer: self.writer.take() }
    }

    pub(crate) fn data(&mut self, channel: Channel, payload: &[u8]) -> Result<Wakers, Breach> {
        self.answered = true;
        if self.ended & (1 << channel as u8) != 0 {
            return Err(Breach::AfterEnd);
        }
        let sent = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        if sent > self.granted {
            return Err(Breach::OverCredit { sent: payload.len(), credit: self.granted });
        }
        // Empty pieces cost no credit, so they must cost no memory.
        if sent == 0 {
            return Ok(Wakers::default());
        }
        self.granted -= sent;
        self.unread += sent;
        let reach = if self.events.len() > EVENTS_HIGH_WATER { 4 } else { 1 };
        let joined = self
            .events
            .iter_mut()
            .rev()
            .take(reach)
            .take_while(|event| matches!(event, Event::Data(..)))
            .find_map(|event| match event {
                Event::Data(of, bytes) if *of == channel && bytes.len() + payload.len() <= MAX_DATA => {
                    Some(bytes)
                }
                Event::Data(..) | Event::Reply(_) | Event::End(_) => None,
            });
        match joined {
            Some(bytes) => bytes.extend_from_slice(payload),
            None => self.events.push_back(Event::Data(channel, BytesMut::from(payload))),
        }
        Ok(Wakers { reader: self.reader(), writer: None })
    }

    pub(crate) fn end(&mut self, channel: Channel) -> Result<Wakers, Breach> {
        self.answered = true;
        if self.ended & (1 << channel as u8) != 0 {
            return Err(Breach::AfterEnd);
        }
        self.ended |= 1 << channel as u8;
        self.events.push_back(Event::End(channel));
        Ok(Wakers { reader: self.reader(), writer: None })
    }

    pub(crate) fn reply(&mut self, reply: Reply, payload_len: usize) -> (Wakers, Intake) {
        self.answered = true;
        self.unread_replies += payload_len.max(64);
        self.events.push_back(Event::Reply(Box::new(reply)));
        let intake = if self.unread_replies > REPLIES_HIGH_WATER { Intake::Full } else { Intake::Open };
        (self.both(), intake)
    }

    /// True while so many replies are unread that the link must not read on.
    pub(crate) fn is_full(&self) -> bool {
        self.unread_replies > REPLIES_HIGH_WATER && !self.is_over()
    }

    pub(crate) fn add_credit(&mut self, more: u32) -> Wakers {
        self.answered = true;
        self.credit = self.credit.saturating_add(more);
        Wakers { reader: None, writer: self.writer.take() }
    }

    pub(crate) fn close(&mut self) -> Wakers {
        self.answered = true;
        self.over = true;
        self.both()
    }

    /// What arrived before the failure can still be taken.
    pub(crate) fn fail(&mut self, error: LinkError) -> Wakers {
        if !self.over && self.failed.is_none() {
            self.failed = Some(error);
        }
        self.both()
    }

    pub(crate) fn take(&mut self) -> Taken {
        let Some(event) = self.events.pop_front() else {
            return match (&self.failed, self.over) {
                (Some(error), _) => Taken::Failed(error.clone()),
                (None, true) => Taken::Over,
                (None, false) => Taken::Empty,
            };
        };
        let mut grant = 0;
        match &event {
            Event::Data(_, bytes) => {
                let bytes = u32::try_from(bytes.len()).expect("an inbox holds less than its credit");
                self.unread -= bytes;
                self.taken += bytes;
                if self.taken >= GRANT_AT && !self.is_over() {
                    grant = std::mem::take(&mut self.taken);
                    self.granted += grant;
                }
            }
            // Exact sizes are not kept per event; an empty queue is what matters.
            Event::Reply(_) if !self.events.iter().any(|e| matches!(e, Event::Reply(_))) => {
                self.unread_replies = 0
            }
            Event::Reply(_) | Event::End(_) => {}
        }
        Taken::Event(event, grant)
    }

    /// True when a reply of failure waits: who still sends content should look.
    pub(crate) fn has_reply(&self) -> bool {
        self.events.iter().any(|event| matches!(event, Event::Reply(_)))
    }
}

fn set(place: &mut Option<Waker>, waker: &Waker) {
    if !place.as_ref().is_some_and(|old| old.will_wake(waker)) {
        *place = Some(waker.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use hothouse_guest::message::GuestErrorCode;
    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn woken(inbox: &mut Inbox, arrive: impl FnOnce(&mut Inbox) -> Wakers) -> bool {
        let count = Arc::new(Count::default());
        inbox.set_reader(&Waker::from(Arc::clone(&count)));
        arrive(inbox).wake();
        count.0.load(Ordering::Relaxed) == 1
    }

    #[test]
    fn who_waits_to_send_is_woken_by_credit_and_by_the_end_and_not_by_what_arrives() {
        let mut inbox = Inbox::new(WakeWhen::Any);
        let mut writer = |arrive: &dyn Fn(&mut Inbox) -> Wakers| {
            let count = Arc::new(Count::default());
            inbox.set_writer(&Waker::from(Arc::clone(&count)));
            arrive(&mut inbox).wake();
            count.0.load(Ordering::Relaxed) == 1
        };
        assert!(!writer(&|i| i.data(Channel::Socket, b"x").unwrap()));
        assert!(writer(&|i| i.add_credit(1)));
        assert!(writer(&|i| i.reply(Reply::Done, 1).0));
        assert!(writer(&Inbox::close));
    }

    #[test]
    fn who_wants_the_whole_answer_is_woken_once() {
        let mut inbox = Inbox::new(WakeWhen::Over);
        assert!(!woken(&mut inbox, |i| i.reply(Reply::Started { replayed: false }, 2).0));
        assert!(!woken(&mut inbox, |i| i.data(Channel::Stdout, b"out").unwrap()));
        assert!(woken(&mut inbox, Inbox::close));
    }

    #[test]
    fn who_wants_the_whole_answer_is_woken_before_the_guest_has_to_wait_and_by_an_error() {
        let mut inbox = Inbox::new(WakeWhen::Over);
        assert!(woken(&mut inbox, |i| i.data(Channel::Stdout, &vec![0; GRANT_AT as usize]).unwrap()));
        let error = Reply::Error { code: GuestErrorCode::NoSpace, message: String::new() };
        assert!(woken(&mut inbox, |i| i.reply(error, 3).0));
    }

    #[test]
    fn more_data_than_granted_is_a_breach() {
        let mut inbox = Inbox::new(WakeWhen::Any);
        inbox.data(Channel::Stdout, &vec![0; INITIAL_CREDIT as usize]).unwrap().wake();
        assert_eq!(inbox.data(Channel::Stderr, b"x").unwrap_err(), Breach::OverCredit { sent: 1, credit: 0 });
    }

    #[test]
    fn nothing_comes_after_the_end_of_a_channel() {
        let mut inbox = Inbox::new(WakeWhen::Any);
        inbox.end(Channel::Stdout).unwrap().wake();
        assert_eq!(inbox.data(Channel::Stdout, b"x").unwrap_err(), Breach::AfterEnd);
        assert_eq!(inbox.end(Channel::Stdout).unwrap_err(), Breach::AfterEnd);
        inbox.data(Channel::Stderr, b"x").unwrap().wake();
    }

    #[test]
    fn what_arrived_before_a_failure_is_still_there() {
        let mut inbox = Inbox::new(WakeWhen::Any);
        inbox.data(Channel::Stdout, b"x").unwrap().wake();
        inbox.fail(LinkError::Lost("gone".to_owned())).wake();
        assert!(matches!(inbox.take(), Taken::Event(Event::Data(..), 0)));
        assert!(matches!(inbox.take(), Taken::Failed(LinkError::Lost(_))));
    }

    #[test]
    fn unread_replies_stop_the_intake_until_they_are_taken() {
        let mut inbox = Inbox::new(WakeWhen::Any);
        let mut sent = 0;
        while inbox.reply(Reply::Listing(Vec::new()), 1 << 16).1 == Intake::Open {
            sent += 1;
            assert!(sent < 100, "replies are bounded");
        }
        assert!(inbox.is_full());
        while let Taken::Event(..) = inbox.take() {}
        assert!(!inbox.is_full());
    }

    #[test]
    fn tiny_pieces_of_two_channels_cost_few_events() {
        let mut inbox = Inbox::new(WakeWhen::Any);
        for _ in 0..INITIAL_CREDIT / 2 {
            inbox.data(Channel::Stdout, b"o").unwrap().wake();
            inbox.data(Channel::Stderr, b"e").unwrap().wake();
        }
        assert!(inbox.events.len() <= EVENTS_HIGH_WATER + 8, "{} events", inbox.events.len());
    }

    proptest! {
        /// A guest that spends all its credit again and again gets everything through, in order, within the bound.
        #[test]
        fn bytes_come_out_as_they_went_in(
            pieces in prop::collection::vec((any::<bool>(), 0_usize..MAX_DATA, any::<u8>()), 1..60),
            takes in prop::collection::vec(0_usize..4, 1..60),
        ) {
            let mut inbox = Inbox::new(WakeWhen::Any);
            let (mut credit, mut most) = (INITIAL_CREDIT as usize, 0);
            let (mut sent, mut got) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
            let mut drain = |inbox: &mut Inbox, count: usize, credit: &mut usize| {
                for _ in 0..count {
                    let Taken::Event(Event::Data(channel, bytes), grant) = inbox.take() else { return };
                    got[usize::from(channel == Channel::Stderr)].extend_from_slice(&bytes);
                    *credit += grant as usize;
                }
            };
            for ((err, len, fill), count) in pieces.into_iter().zip(takes.into_iter().cycle()) {
                let piece = vec![fill; len.min(credit)];
                credit -= piece.len();
                inbox.data(if err { Channel::Stderr } else { Channel::Stdout }, &piece).unwrap().wake();
                sent[usize::from(err)].extend_from_slice(&piece);
                most = most.max(inbox.unread);
                drain(&mut inbox, count, &mut credit);
            }
            drain(&mut inbox, usize::MAX, &mut credit);
            prop_assert!(most <= INITIAL_CREDIT);
            prop_assert_eq!(sent, got);
        }
    }
}
