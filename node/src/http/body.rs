//! Bodies: a request's, read piece by piece under limits; an answer's, pulled as the client reads.

use super::door::{Answered, Door, RequestPermit};
use super::figures;
use super::pulse::{Pulse, StreamPulse};
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// The largest frame of an answer, so that a slow reader's progress shows and one answer does not crowd out others.
const FRAME_BYTES_MAX: usize = 64 * 1024;

/// Why a body ended early. Each maps to one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Larger than the limit, in bytes: 413.
    #[error("the body is larger than {0} bytes")]
    TooLarge(u64),
    /// Slower than the limit, or cut off: 408, connection closed.
    #[error("the body did not arrive in time")]
    TimedOut,
    /// The client broke off.
    #[error("the client closed the connection")]
    Closed,
}

/// What became of a request's body, as the connection sees it.
#[derive(Clone, Default)]
pub(super) struct BodyFate(Rc<Cell<Option<BodyError>>>);

impl BodyFate {
    /// The error it ended with, when it did.
    pub(super) fn error(&self) -> Option<BodyError> {
        self.0.get()
    }
}

enum Source {
    Wire {
        incoming: Incoming,
        door: Arc<Door>,
        fate: BodyFate,
    },
    Memory(Option<Bytes>),
}

/// A request's body, read piece by piece so that it is never whole in memory.
pub struct RequestBody {
    source: Source,
    announced: Option<u64>,
    bytes: u64,
    ended: Option<BodyError>,
    window: Window,
}

/// Time spent waiting for the client, and what came of it. The handler's own pauses do not count.
#[derive(Default)]
struct Window {
    waited: Duration,
    bytes: u64,
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl RequestBody {
    pub(super) fn new(incoming: Incoming, door: Arc<Door>) -> (RequestBody, BodyFate) {
        let fate = BodyFate::default();
        let announced = incoming.size_hint().exact();
        let source = Source::Wire {
            incoming,
            door,
            fate: fate.clone(),
        };
        let body = RequestBody {
            source,
            announced,
            bytes: 0,
            ended: None,
            window: Window::default(),
        };
        (body, fate)
    }

    /// A body that is already in memory, for tests of handlers.
    pub fn from_bytes(bytes: Bytes) -> RequestBody {
        RequestBody {
            announced: Some(bytes.len() as u64),
            source: Source::Memory(Some(bytes)),
            bytes: 0,
            ended: None,
            window: Window::default(),
        }
    }

    /// The next bytes, `None` at the end. After an error only that error.
    pub async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        if let Some(error) = self.ended {
            return Some(Err(error));
        }
        let began = Cell::new(None);
        self.window.timer = None;
        let next = poll_fn(|context| self.poll_next(context, &began)).await;
        self.window.timer = None;
        if let Some(began) = began.get() {
            self.window.waited += Instant::elapsed(&began);
        }
        if let Some(Err(error)) = &next {
            self.end(*error);
        }
        next
    }

    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        began: &Cell<Option<Instant>>,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        let (incoming, door) = match &mut self.source {
            Source::Wire { incoming, door, .. } => (incoming, door),
            Source::Memory(bytes) => return Poll::Ready(bytes.take().filter(|bytes| !bytes.is_empty()).map(Ok)),
        };
        let limits = door.limits();
        loop {
            match Pin::new(&mut *incoming).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers carry nothing we use.
                    let Ok(bytes) = frame.into_data() else { continue };
                    if bytes.is_empty() {
                        continue;
                    }
                    self.bytes += bytes.len() as u64;
                    if self.bytes > limits.body_bytes_max {
                        return Poll::Ready(Some(Err(BodyError::TooLarge(limits.body_bytes_max))));
                    }
                    self.window.bytes += bytes.len() as u64;
                    if self.window.bytes >= limits.progress_bytes_min {
                        self.window = Window::default();
                        began.set(None);
                    }
                    return Poll::Ready(Some(Ok(bytes)));
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Some(Err(BodyError::Closed))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => break,
            }
        }
        if began.get().is_none() {
            began.set(Some(Instant::now()));
        }
        let left = Duration::from_millis(limits.body_progress_ms_max).saturating_sub(self.window.waited);
        let timer = self
            .window
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(left)));
        timer.as_mut().poll(context).map(|()| Some(Err(BodyError::TimedOut)))
    }

    fn end(&mut self, error: BodyError) {
        self.ended = Some(error);
        if let Source::Wire { door, fate, .. } = &self.source {
            fate.0.set(Some(error));
            match error {
                BodyError::TooLarge(_) => figures::count(&door.figures().refused_body),
                BodyError::TimedOut => figures::count(&door.figures().slow_body),
                BodyError::Closed => {}
            }
        }
    }

    /// The whole body when it is at most `bytes_max`.
    ///
    /// # Errors
    /// `TooLarge(bytes_max)` as soon as the announced length or what has come exceeds it; then as [`next`](Self::next).
    pub async fn collect(mut self, bytes_max: usize) -> Result<Bytes, BodyError> {
        let too_large = BodyError::TooLarge(bytes_max as u64);
        if self.announced.is_some_and(|announced| announced > bytes_max as u64) {
            self.end(too_large);
            return Err(too_large);
        }
        let Some(first) = self.next().await.transpose()? else {
            return Ok(Bytes::new());
        };
        if first.len() > bytes_max {
            self.end(too_large);
            return Err(too_large);
        }
        // Most small bodies come in one piece, and are not copied.
        let Some(second) = self.next().await.transpose()? else {
            return Ok(first);
        };
        let mut whole = BytesMut::from(first);
        let mut piece = Some(second);
        while let Some(bytes) = piece {
            if whole.len() + bytes.len() > bytes_max {
                self.end(too_large);
                return Err(too_large);
            }
            whole.extend_from_slice(&bytes);
            piece = self.next().await.transpose()?;
        }
        Ok(whole.freeze())
    }

    /// Reads and drops up to `bytes_max` of what a refused client still sends, so that one that sends first and reads
    /// afterwards sees the refusal instead of a broken connection.
    pub async fn drain(&mut self, bytes_max: usize) {
        let mut read_bytes = 0;
        while read_bytes < bytes_max {
            match self.next().await {
                Some(Ok(bytes)) => read_bytes += bytes.len(),
                Some(Err(_)) | None => return,
            }
        }
    }

    /// The announced length, when there is one: 0 for a request without a body.
    pub fn announced_bytes(&self) -> Option<u64> {
        self.announced
    }
}

/// An answer's body.
pub enum ResponseBody {
    /// Nothing.
    Empty,
    /// All of it.
    Full(Bytes),
    /// Piece by piece, pulled as the client reads; `bytes` in all.
    Stream {
        /// Content-Length.
        bytes: u64,
        /// The pieces. An error, or another sum than `bytes`, breaks the connection off, so that a client never
        /// takes a part for the whole.
        pieces: Pin<Box<dyn PieceStream>>,
    },
}

/// The next piece on its way.
pub type NextPiece<'a> = Pin<Box<dyn Future<Output = Option<Result<Bytes, io::Error>>> + 'a>>;

/// Pieces of a streamed answer.
pub trait PieceStream: Unpin {
    /// The next piece, `None` after the last. At most some 256 KiB each: one is in memory per connection.
    fn next(&mut self) -> NextPiece<'_>;
}

impl ResponseBody {
    /// Its length in bytes.
    pub fn len_bytes(&self) -> u64 {
        match self {
            ResponseBody::Empty => 0,
            ResponseBody::Full(bytes) => bytes.len() as u64,
            ResponseBody::Stream { bytes, .. } => *bytes,
        }
    }
}

type Pieces = Pin<Box<dyn PieceStream>>;
type Pulled = (Pieces, Option<Result<Bytes, io::Error>>);

enum Supply {
    Done,
    Full(Bytes),
    Stream(Pieces),
    Pulling(Pin<Box<dyn Future<Output = Pulled>>>),
}

/// The account of one request: told to the observer when it is dropped, whatever way it ended.
pub(super) struct Account {
    pub(super) door: Arc<Door>,
    pub(super) pulse: Rc<Pulse>,
    pub(super) permit: Option<RequestPermit>,
    pub(super) began: Instant,
    pub(super) answered: Answered,
}

impl Drop for Account {
    fn drop(&mut self) {
        self.permit = None;
        self.answered.micros = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        figures::add(&self.door.figures().bytes_out, self.answered.bytes_out);
        self.pulse.request_ended();
        self.door.tell(&self.answered);
    }
}

/// An answer's body on its way out.
pub(super) struct WireBody {
    supply: Supply,
    remaining: u64,
    stream: Option<Rc<StreamPulse>>,
    account: Account,
}

impl WireBody {
    /// `stream` watches the reader of an HTTP/2 stream, whose stall the socket does not show.
    pub(super) fn new(body: ResponseBody, account: Account, stream: Option<Rc<StreamPulse>>) -> WireBody {
        let remaining = body.len_bytes();
        let supply = match body {
            ResponseBody::Empty => Supply::Done,
            ResponseBody::Full(bytes) if bytes.is_empty() => Supply::Done,
            ResponseBody::Full(bytes) => Supply::Full(bytes),
            ResponseBody::Stream { pieces, .. } => Supply::Stream(pieces),
        };
        WireBody {
            supply,
            remaining,
            stream,
            account,
        }
    }

    fn sent(&mut self, bytes: Bytes) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.remaining -= bytes.len() as u64;
        self.account.answered.bytes_out += bytes.len() as u64;
        if let Some(stream) = &self.stream {
            stream.handed_over();
        }
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

impl Body for WireBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(stream) = &self.stream {
            stream.asked();
        }
        loop {
            match std::mem::replace(&mut self.supply, Supply::Done) {
                Supply::Done => return Poll::Ready(None),
                Supply::Full(mut bytes) => {
                    let frame = bytes.split_to(bytes.len().min(FRAME_BYTES_MAX));
                    if !bytes.is_empty() {
                        self.supply = Supply::Full(bytes);
                    }
                    return self.sent(frame);
                }
                Supply::Stream(_) if self.remaining == 0 => return Poll::Ready(None),
                Supply::Stream(mut pieces) => {
                    self.supply = Supply::Pulling(Box::pin(async move {
                        let next = pieces.next().await;
                        (pieces, next)
                    }));
                }
                Supply::Pulling(mut pull) => {
                    let Poll::Ready((pieces, next)) = pull.as_mut().poll(context) else {
                        self.supply = Supply::Pulling(pull);
                        return Poll::Pending;
                    };
                    match next {
                        Some(Ok(bytes)) if bytes.is_empty() => self.supply = Supply::Stream(pieces),
                        Some(Ok(bytes)) if bytes.len() as u64 <= self.remaining => {
                            self.supply = Supply::Stream(pieces);
                            return self.sent(bytes);
                        }
                        Some(Ok(_)) => return Poll::Ready(Some(Err(io::ErrorKind::InvalidData.into()))),
                        Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                        None => return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}
