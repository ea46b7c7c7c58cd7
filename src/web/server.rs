//! Accepts connections and ends them in time.
//!
//! The loop is our own because the framework's sets no deadline on request headers: a client that sends one byte a
//! minute would hold its connection forever.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::time;

/// Connections at once; more wait in the kernel's queue. A scrape per second from dozens of servers needs a few.
const CONNECTIONS_MAX: usize = 512;

/// How long `accept` rests after an error such as "too many open files", which only time can mend.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);

/// Bytes of request line and headers.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Deadlines of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServeOptions {
    /// For the headers of a request, and for a connection without one.
    pub header_timeout: Duration,
    /// After this age a connection ends with the request it is at: nobody holds a place forever.
    pub connection_age_max: Duration,
    /// For requests that are under way when the server stops or the connection is too old.
    pub drain_timeout: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            connection_age_max: Duration::from_secs(600),
            drain_timeout: Duration::from_secs(5),
        }
    }
}

/// Serves until `stop` is true or its sender is gone, then lets requests that are under way finish.
///
/// # Errors
///
/// When the address of `listener` cannot be told; errors of single connections end those only.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: watch::Receiver<bool>,
    options: ServeOptions,
) -> anyhow::Result<()> {
    let address = listener.local_addr().context("looking up the address served")?;
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut stopping = stop.clone();
    tokio::select! {
        () = accept(&listener, &router, &stop, &places, options) => {}
        _ = stopping.wait_for(|it| *it) => {}
    }
    // New clients are refused from here on instead of waiting for an answer that never comes.
    drop(listener);
    let everybody = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
    if timeout(options.drain_timeout, places.acquire_many(everybody)).await.is_err() {
        tracing::warn!(server.address = %address, "gave up requests that did not end in time");
    }
    Ok(())
}

/// Never returns.
async fn accept(
    listener: &TcpListener,
    router: &Router,
    stop: &watch::Receiver<bool>,
    places: &Arc<Semaphore>,
    options: ServeOptions,
) {
    loop {
        let Ok(place) = Arc::clone(places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (router, stop) = (router.clone(), stop.clone());
                tokio::spawn(async move {
                    connection(stream, router, stop, options).await;
                    drop(place);
                });
            }
            Err(why) => {
                tracing::warn!("cannot accept a connection: {why}");
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    router: Router,
    mut stop: watch::Receiver<bool>,
    options: ServeOptions,
) {
    // Small answers are sent at once. An error here only makes them slower.
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let served = async {
        tokio::select! {
            // How a client's connection ends is its own business: a cut is nothing to act on.
            _ = connection.as_mut() => Ended::Yes,
            _ = stop.wait_for(|it| *it) => Ended::No,
        }
    };
    match timeout(options.connection_age_max, served).await {
        Ok(Ended::Yes) => {}
        Ok(Ended::No) | Err(_) => {
            connection.as_mut().graceful_shutdown();
            let _ = timeout(options.drain_timeout, connection).await;
        }
    }
}

enum Ended {
    Yes,
    No,
}
