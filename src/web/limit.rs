//! How many requests of one kind are answered at once.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Web, text};

/// Bytes of an answer that are handed to the connection at once.
const PIECE_BYTES: usize = 64 * 1024;

/// `router` with at most `max` answers at once, counted until the last byte is handed over: a slow reader holds
/// megabytes.
pub(super) fn limited(router: Router<Arc<Web>>, max: usize) -> Router<Arc<Web>> {
    router.layer(middleware::from_fn_with_state(Arc::new(Semaphore::new(max)), limit))
}

async fn limit(State(slots): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    let Ok(slot) = slots.try_acquire_owned() else {
        let message = "503: too many requests are being answered; try again later";
        return text(StatusCode::SERVICE_UNAVAILABLE, message);
    };
    next.run(request).await.map(|body| Body::new(Held { body, rest: Bytes::new(), _slot: slot }))
}

/// A body that holds its slot until all but the last pieces are sent, or it is dropped.
struct Held {
    body: Body,
    /// What of the last frame is not handed over yet.
    rest: Bytes,
    _slot: OwnedSemaphorePermit,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    /// Hands over pieces: the connection asks for the next when it has sent the last, but it would take a whole
    /// exposition into its buffer at once.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                other => return other,
            }
        }
        let piece = self.rest.len().min(PIECE_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let hint = self.body.size_hint();
        let mut whole = SizeHint::new();
        if let Some(upper) = hint.upper() {
            whole.set_upper(upper.saturating_add(rest));
        }
        whole.set_lower(hint.lower().saturating_add(rest));
        whole
    }
}
