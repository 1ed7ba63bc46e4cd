//! The caller's end of one stream.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hothouse_guest::frame::{Channel, Kind, MAX_DATA};

use super::LinkError;
use super::inbox::{Event, Taken};
use super::pump::{Link, Slot};

/// One request under way. Dropping it tells the guest that nothing more of it is wanted.
#[derive(Debug)]
pub(crate) struct LinkStream {
    link: Arc<Link>,
    id: u32,
    slot: Arc<Slot>,
}

/// What stopped sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Nothing: all is on its way.
    All,
    /// The guest has answered already, or the stream is over; what it said can be taken.
    Answered,
}

impl LinkStream {
    pub(super) fn new(link: Arc<Link>, id: u32, slot: Arc<Slot>) -> Self {
        Self { link, id, slot }
    }

    /// The next event; `None` when the guest has closed the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, LinkError> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`next`](Self::next).
    pub(crate) fn poll_next(&mut self, cx: &Context<'_>) -> Poll<Result<Option<Event>, LinkError>> {
        let taken = {
            let mut inbox = self.slot.inbox();
            let taken = inbox.take();
            if matches!(taken, Taken::Empty) {
                inbox.set_reader(cx.waker());
                return Poll::Pending;
            }
            taken
        };
        Poll::Ready(match taken {
            Taken::Event(event, grant) => {
                if grant > 0 {
                    self.link.write(Kind::Credit, self.id, Channel::None, &grant.to_le_bytes());
                }
                if matches!(event, Event::Reply(_)) {
                    self.slot.drained.notify_one();
                }
                Ok(Some(event))
            }
            Taken::Over | Taken::Empty => Ok(None),
            Taken::Failed(error) => Err(error),
        })
    }

    /// Sends bytes on a channel, waiting for credit; stops early when the guest answers.
    pub(crate) async fn send(
        &mut self,
        channel: Channel,
        bytes: &[u8],
        stop: StopAt,
    ) -> Result<Sent, LinkError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let sent = poll_fn(|cx| self.poll_send(cx, channel, rest, stop)).await;
            let Some(sent) = sent else { return Ok(Sent::Answered) };
            rest = &rest[sent..];
        }
        Ok(Sent::All)
    }

    /// Sends as many of these bytes as there is credit and room for; waits for both. `None` when sending has become
    /// pointless.
    pub(crate) fn poll_send(
        &mut self,
        cx: &Context<'_>,
        channel: Channel,
        bytes: &[u8],
        stop: StopAt,
    ) -> Poll<Option<usize>> {
        ready!(self.link.poll_roomy(cx));
        let piece = {
            let mut inbox = self.slot.inbox();
            if inbox.is_over() || (stop == StopAt::AnyReply && inbox.has_reply()) {
                return Poll::Ready(None);
            }
            if inbox.credit == 0 {
                inbox.set_writer(cx.waker());
                return Poll::Pending;
            }
            let piece = &bytes[..bytes.len().min(inbox.credit as usize).min(MAX_DATA)];
            inbox.credit -= u32::try_from(piece.len()).expect("a piece is at most MAX_DATA");
            piece
        };
        self.link.write(Kind::Data, self.id, channel, piece);
        Poll::Ready(Some(piece.len()))
    }

    /// Ends a channel.
    pub(crate) fn end(&self, channel: Channel) {
        self.link.write(Kind::End, self.id, channel, &[]);
    }

    /// True when the guest sends no more on it.
    pub(crate) fn is_over(&self) -> bool {
        self.slot.inbox().is_over()
    }
}

/// When sending content stops before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopAt {
    /// When any reply waits: the request has one answer, and it came early.
    AnyReply,
    /// When the stream is over.
    Over,
}

impl Drop for LinkStream {
    fn drop(&mut self) {
        self.link.forget(self.id, &self.slot);
    }
}
