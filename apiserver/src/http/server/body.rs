//! Bodies under limits: requests' by time and by memory, answers' by the server's life.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;

/// Why a request's body was not read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the body took too long")]
    TimedOut,
    #[error("too many bytes of requests are in memory")]
    Overloaded,
    #[error("{0}")]
    Broken(#[from] hyper::Error),
}

/// A request's body. What it has read counts until it is dropped.
pub(super) struct Bounded {
    inner: Incoming,
    deadline: Pin<Box<Sleep>>,
    memory: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

impl Bounded {
    pub(super) fn new(inner: Incoming, timeout: Duration, memory: Arc<Semaphore>) -> Self {
        Self { inner, deadline: Box::pin(tokio::time::sleep(timeout)), memory, held: None }
    }

    /// Notes that more bytes are in memory; false if there is no room.
    fn hold(&mut self, bytes: usize) -> bool {
        let Ok(bytes) = u32::try_from(bytes) else { return false };
        let Ok(more) = Arc::clone(&self.memory).try_acquire_many_owned(bytes) else { return false };
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        true
    }
}

impl http_body::Body for Bounded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            return Poll::Ready(match frame {
                Some(Ok(frame)) => {
                    let bytes = frame.data_ref().map_or(0, Bytes::len);
                    Some(if self.hold(bytes) { Ok(frame) } else { Err(BodyError::Overloaded) })
                }
                Some(Err(error)) => Some(Err(error.into())),
                None => None,
            });
        }
        ready!(self.deadline.as_mut().poll(cx));
        Poll::Ready(Some(Err(BodyError::TimedOut)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer's body: counts as a request under way until it is sent, and ends early where it would never end.
pub(super) struct Answer {
    inner: Body,
    /// For bodies without end: when the server stops.
    end: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    _permit: OwnedSemaphorePermit,
}

impl Answer {
    pub(super) fn new(inner: Body, end: Option<WaitForCancellationFutureOwned>, permit: OwnedSemaphorePermit) -> Self {
        Self { inner, end: end.map(Box::pin), _permit: permit }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        match &mut self.end {
            Some(end) => end.as_mut().poll(cx).map(|()| None),
            None => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
