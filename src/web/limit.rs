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
    next.run(request).await.map(|body| Body::new(Held { body, _slot: slot }))
}

/// A body that holds its slot until it is sent or dropped.
struct Held {
    body: Body,
    _slot: OwnedSemaphorePermit,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
