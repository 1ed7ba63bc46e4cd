//! The caller's end of one stream.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

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
        let taken = poll_fn(|cx| {
            let mut inbox = self.slot.inbox();
            match inbox.take() {
                Taken::Empty => {
                    inbox.set_waker(cx.waker());
                    Poll::Pending
                }
                taken @ (Taken::Event(..) | Taken::Over | Taken::Failed(_)) => Poll::Ready(taken),
            }
        })
        .await;
        match taken {
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
        }
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
            let Some(credit) = self.credit(stop).await else { return Ok(Sent::Answered) };
            let (piece, after) = rest.split_at(rest.len().min(credit as usize).min(MAX_DATA));
            self.slot.inbox().credit -= u32::try_from(piece.len()).expect("a piece is at most MAX_DATA");
            self.link.roomy().await;
            self.link.write(Kind::Data, self.id, channel, piece);
            rest = after;
        }
        Ok(Sent::All)
    }

    /// Waits for credit; `None` when sending has become pointless.
    async fn credit(&self, stop: StopAt) -> Option<u32> {
        poll_fn(|cx| {
            let mut inbox = self.slot.inbox();
            if inbox.is_over() || (stop == StopAt::AnyReply && inbox.has_reply()) {
                return Poll::Ready(None);
            }
            if inbox.credit > 0 {
                return Poll::Ready(Some(inbox.credit));
            }
            inbox.set_waker(cx.waker());
            Poll::Pending
        })
        .await
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
