//! A server on 127.0.0.1 that answers byte for byte what a test says, also what no decent server would.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// What the server does with one request.
pub enum Reply {
    /// Sends this and keeps the connection.
    Send(Vec<u8>),
    /// Sends this and closes the connection.
    SendAndClose(Vec<u8>),
    /// Sends this and resets the connection.
    SendAndReset(Vec<u8>),
    /// Never answers.
    Silence,
}

/// A running server; it ends with the runtime of its test.
pub struct Coordinator {
    pub addr: SocketAddr,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    connections: usize,
    requests: Vec<String>,
}

impl Coordinator {
    /// Serves plain HTTP.
    pub async fn http(reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve(None, reply).await
    }

    /// Serves HTTPS.
    pub async fn https(
        config: rustls::ServerConfig,
        reply: impl Fn(&str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::serve(Some(TlsAcceptor::from(Arc::new(config))), reply).await
    }

    async fn serve(
        tls: Option<TlsAcceptor>,
        reply: impl Fn(&str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Log::default()));
        let reply = Arc::new(reply);
        tokio::spawn({
            let log = Arc::clone(&log);
            async move {
                loop {
                    let (socket, _) = listener.accept().await.unwrap();
                    log.lock().unwrap().connections += 1;
                    let (log, reply) = (Arc::clone(&log), Arc::clone(&reply));
                    match tls.clone() {
                        None => tokio::spawn(async move {
                            let end = converse(socket, &log, &*reply).await;
                            if let End::Reset(socket) = end {
                                reset(&socket);
                            }
                        }),
                        Some(tls) => tokio::spawn(async move {
                            if let Ok(stream) = tls.accept(socket).await {
                                let _ = converse(stream, &log, &*reply).await;
                            }
                        }),
                    };
                }
            }
        });
        Self { addr, log }
    }

    /// The base URL with `127.0.0.1` as its host.
    pub fn http_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The base URL with `host`, which has to resolve to 127.0.0.1.
    pub fn https_url(&self, host: &str) -> String {
        format!("https://{host}:{}", self.addr.port())
    }

    /// The heads of the requests so far, request line first.
    pub fn requests(&self) -> Vec<String> {
        self.log.lock().unwrap().requests.clone()
    }

    /// How many connections were opened so far.
    pub fn connections(&self) -> usize {
        self.log.lock().unwrap().connections
    }
}

enum End<S> {
    Closed,
    Reset(S),
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    log: &Mutex<Log>,
    reply: &(impl Fn(&str) -> Reply + ?Sized),
) -> End<S> {
    loop {
        let Some(request) = read_head(&mut stream).await else { return End::Closed };
        log.lock().unwrap().requests.push(request.clone());
        match reply(&request) {
            Reply::Send(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return End::Closed;
                }
                let _ = stream.flush().await;
            }
            Reply::SendAndClose(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                return End::Closed;
            }
            Reply::SendAndReset(bytes) => {
                let _ = stream.write_all(&bytes).await;
                return End::Reset(stream);
            }
            Reply::Silence => std::future::pending().await,
        }
    }
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// Lets the drop of the socket send RST instead of FIN.
fn reset(socket: &TcpStream) {
    socket.set_zero_linger().unwrap();
}

/// An answer with `status` (`200 OK`), extra header lines and a body whose length is told.
pub fn answer(status: &str, headers: &[&str], body: &str) -> Reply {
    let mut text = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n", body.len());
    for line in headers {
        text.push_str(line);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text.push_str(body);
    Reply::Send(text.into_bytes())
}
