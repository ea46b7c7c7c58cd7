//! Listens, and runs one task for each connection. Knows nothing of what is spoken, but for the HTTP part at the end.
//!
//! A handshake runs in the task of its connection, so a client that never shakes hands holds up nobody else.
//! Dropping a [`Listener`] closes the port at once; connections get a moment to finish what they are doing.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The most connections at once; the next one waits in the kernel's queue. Far above what a test or the demo needs.
const CONNECTIONS_MAX: usize = 4096;

/// How long a handshake may take before the connection is closed.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// How long connections may go on after the stop; a hanging one never ends by itself.
const GRACE_MAX: Duration = Duration::from_secs(1);

/// How long to wait when the kernel refuses a connection, mostly because files have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A running listener; dropping it stops it.
#[derive(Debug)]
pub(super) struct Listener {
    addr: SocketAddr,
    count: Arc<Count>,
    _stop: watch::Sender<()>,
}

/// How many connections came, and how many are open.
#[derive(Debug, Default)]
struct Count {
    accepted: AtomicU64,
    open: AtomicUsize,
}

/// Resolves when the listener is dropped.
#[derive(Debug, Clone)]
pub(super) struct Stop(watch::Receiver<()>);

impl Stop {
    pub(super) async fn wait(&mut self) {
        // Nothing is ever sent; the only event is that the sender is gone.
        let _ = self.0.changed().await;
    }
}

impl Listener {
    /// Binds `bind` and runs `converse` for each connection.
    pub(super) async fn start<F, T>(bind: SocketAddr, converse: F) -> anyhow::Result<Self>
    where
        F: Fn(Wire, Stop) -> T + Send + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        let listener =
            TcpListener::bind(bind).await.with_context(|| format!("cannot listen on {bind}"))?;
        let addr = listener.local_addr()?;
        let count = Arc::new(Count::default());
        let (stop, stopping) = watch::channel(());
        tokio::spawn(accept(listener, converse, Stop(stopping), count.clone()));
        Ok(Self { addr, count, _stop: stop })
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) fn accepted(&self) -> u64 {
        self.count.accepted.load(Ordering::Relaxed)
    }

    pub(super) fn open(&self) -> usize {
        self.count.open.load(Ordering::Relaxed)
    }
}

async fn accept<F, T>(listener: TcpListener, converse: F, mut stop: Stop, count: Arc<Count>)
where
    F: Fn(Wire, Stop) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    let mut stopping = stop.clone();
    loop {
        tokio::select! {
            () = stop.wait() => break,
            Some(_) = tasks.join_next() => count.open.store(tasks.len(), Ordering::Relaxed),
            accepted = listener.accept(), if tasks.len() < CONNECTIONS_MAX => match accepted {
                Ok((tcp, _)) => {
                    // An answer is one small write; waiting to fill a packet only adds delay.
                    let _ = tcp.set_nodelay(true);
                    tasks.spawn(converse(Wire::new(tcp), stopping.clone()));
                    count.accepted.fetch_add(1, Ordering::Relaxed);
                    count.open.store(tasks.len(), Ordering::Relaxed);
                }
                Err(_) => {
                    tokio::select! { () = crate::time::sleep(ACCEPT_PAUSE) => {}, () = stopping.wait() => break }
                }
            },
        }
    }
    drop(listener);
    let _ = timeout(GRACE_MAX, async { while tasks.join_next().await.is_some() {} }).await;
}

/// A TCP connection that can be made to end with a reset instead of a farewell.
#[derive(Debug)]
pub(super) struct Wire {
    tcp: TcpStream,
    reset: Reset,
}

/// The switch of a [`Wire`]: once set, the connection ends with a TCP reset.
#[derive(Debug, Clone, Default)]
pub(super) struct Reset(Arc<AtomicBool>);

impl Reset {
    /// The error to end the conversation with, after the switch is set.
    pub(super) fn now(&self) -> io::Error {
        self.0.store(true, Ordering::Relaxed);
        io::ErrorKind::ConnectionReset.into()
    }
}

impl Wire {
    fn new(tcp: TcpStream) -> Self {
        Self { tcp, reset: Reset::default() }
    }

    pub(super) fn reset(&self) -> Reset {
        self.reset.clone()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.reset.0.load(Ordering::Relaxed) {
            // With a linger time of zero the kernel drops what is unsent and sends a reset.
            let _ = self.tcp.set_zero_linger();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.reset.0.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// Serves HTTP/1.1 on one connection, with TLS if there are settings for it, until the client leaves or `stop` comes.
///
/// An error of `answer` ends the connection without an answer.
pub(super) async fn serve_http<F, T>(
    wire: Wire,
    tls: Option<Arc<ServerConfig>>,
    stop: Stop,
    answer: F,
) where
    F: Fn(Request<Incoming>) -> T,
    T: Future<Output = io::Result<Response<Body>>>,
{
    match tls {
        None => converse(wire, stop, answer).await,
        Some(config) => {
            if let Ok(stream) = shake_hands(wire, config).await {
                converse(stream, stop, answer).await;
            }
        }
    }
}

/// The TLS side of a connection; an error if the client breaks off or takes too long.
pub(super) async fn shake_hands(
    wire: Wire,
    config: Arc<ServerConfig>,
) -> io::Result<tokio_rustls::server::TlsStream<Wire>> {
    timeout(HANDSHAKE_MAX, tokio_rustls::TlsAcceptor::from(config).accept(wire)).await?
}

async fn converse<S, F, T>(stream: S, mut stop: Stop, answer: F)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Fn(Request<Incoming>) -> T,
    T: Future<Output = io::Result<Response<Body>>>,
{
    let connection =
        http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop.wait() => connection.as_mut().graceful_shutdown(),
    }
    // What goes wrong on a connection is the client's to see; a simulator has nobody to tell.
    let _ = connection.await;
}
