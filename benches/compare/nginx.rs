//! The server that is asked: nginx with TLS on the loopback interface, answering as ECE does. It is not ours, so both
//! sides of a comparison have the same to do.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use ece_expiry_exporter::sim::{CertificateOptions, Certificates};
use tempfile::TempDir;

/// How long nginx may take to listen.
const START_MAX: Duration = Duration::from_secs(10);

/// A running nginx; dropping it ends it.
pub struct Nginx {
    process: Child,
    folder: TempDir,
    port: u16,
}

impl Nginx {
    /// Starts one process with an ECDSA P-256 chain, keep-alive without end, and an expiry a year from now.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let certificates = Certificates::make(&CertificateOptions::default()).unwrap();
        fs::write(at("ca.pem"), certificates.ca_pem()).unwrap();
        fs::write(at("chain.pem"), certificates.chain_pem()).unwrap();
        fs::write(at("key.pem"), certificates.key_pem()).unwrap();
        let port = free_port();
        fs::write(at("nginx.conf"), configuration(folder.path(), port)).unwrap();
        let process = Command::new("nginx")
            .arg("-c")
            .arg(at("nginx.conf"))
            .arg("-e")
            .arg(at("error.log"))
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let nginx = Self { process, folder, port };
        let started = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(started.elapsed() < START_MAX, "nginx does not listen");
            thread::yield_now();
        }
        nginx
    }

    /// The base URL.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The file with the authority to trust.
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A folder that is gone with the server.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It is there, or has ended itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether a program can be started; says so if not.
pub fn is_there(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("-v").stdout(Stdio::null()).stderr(Stdio::null());
    let is_there = command.status().is_ok();
    if !is_there {
        println!("{program} is not installed: left out what needs it");
    }
    is_there
}

/// A port that nobody uses.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn configuration(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    let expires = ece_expiry_exporter::time::now() + chrono::TimeDelta::days(365);
    let expires = expires.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    format!(
        r#"
daemon off;
master_process off;
worker_rlimit_nofile 4096;
pid {folder}/nginx.pid;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000;
    keepalive_timeout 300s;
    server {{
        listen 127.0.0.1:{port} ssl backlog=1024;
        ssl_certificate {folder}/chain.pem;
        ssl_certificate_key {folder}/key.pem;
        ssl_protocols TLSv1.2 TLSv1.3;
        location = /api/v1/user {{
            default_type application/json;
            add_header X-Elastic-Api-Key-Expiration "{expires}";
            return 200 '{{"user_name":"ci-bot"}}';
        }}
    }}
}}
"#
    )
}
