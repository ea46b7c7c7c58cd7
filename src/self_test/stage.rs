//! The pretend world of a part: a simulated ECE with its keys, mail servers and webhooks, and a folder with a
//! configuration; and the program as a child process in it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};

use super::tally::{NAME, Tally};
use crate::sim::{
    CertificateOptions, Certificates, Ece, EceOptions, Expires, Folder, Mailbox, MailboxOptions,
    SimKey, Sink, SinkOptions,
};

/// How many keys a platform has. A start spreads the first probes of a platform, so few of them are probed soon.
const KEYS_PER_PLATFORM: u32 = 5;

/// How long before its expiry a key is told; renewed keys live longer.
const STEP: TimeDelta = TimeDelta::days(30);

/// Nothing waits for anything else, so that each life has as much as possible on its way.
const ROUTE: &str = "route: {receiver: all, group_wait: 0s, group_interval: 1s}\n";

/// How many lines of its log say why a program ended by itself.
const LOG_LINES_MAX: usize = 5;

/// Who is to be told.
pub(super) struct Channels {
    /// At least one, and at most two.
    pub(super) mail_servers: usize,
    /// The recipients of each mail server, without the domain.
    pub(super) recipients: &'static [&'static str],
    pub(super) hooks: usize,
}

/// A key in the configuration.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    pub(super) name: String,
    pub(super) is_renewed: bool,
    platform: u32,
}

/// The pretend world of one part.
pub(super) struct Stage {
    program: PathBuf,
    folder: Folder,
    ece: Ece,
    mailboxes: Vec<Mailbox>,
    sink: Sink,
    receiver: String,
    targets: Vec<String>,
    watched: Vec<Watched>,
    /// How many keys there have been.
    count: u32,
}

/// The program while it runs; killed at the latest when this is dropped.
pub(super) struct Life {
    child: Child,
    log: PathBuf,
}

impl Life {
    /// Ends the program as a power cut would. Errors if it has ended by itself, with its last words.
    pub(super) fn kill(mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let log = std::fs::read(&self.log).unwrap_or_default();
            let log = String::from_utf8_lossy(&log).into_owned();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(LOG_LINES_MAX)..].join("\n");
            anyhow::bail!("the program ended by itself, {status}. Its last words:\n{last}");
        }
        self.child.kill().context("cannot kill the program")?;
        self.child.wait().context("cannot wait for the end of the program")?;
        Ok(())
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Stage {
    /// Starts the servers. Errors if a port or the folder cannot be had.
    pub(super) async fn set(
        name: &str,
        program: &Path,
        channels: &Channels,
    ) -> anyhow::Result<Self> {
        let folder = Folder::new(name)?;
        let certificates = Certificates::make(&CertificateOptions::default())?;
        folder.write("ca.pem", certificates.ca_pem())?;
        let ece =
            Ece::start(EceOptions { tls: Some(certificates), ..EceOptions::default() }).await?;
        let sink = Sink::start(SinkOptions::default()).await?;
        let (mut mailboxes, mut targets) = (Vec::new(), Vec::new());
        let mut receiver = "receivers:\n  - name: all\n    email_configs:\n".to_owned();
        let to: Vec<String> =
            channels.recipients.iter().map(|it| format!("{it}@example.org")).collect();
        for server in 0..channels.mail_servers {
            let mailbox = Mailbox::start(MailboxOptions::default()).await?;
            writeln!(
                receiver,
                "      - {{to: [{}], from: ece@example.org, smarthost: \"{}\", tls: none, timeout: 2s}}",
                to.join(", "),
                mailbox.addr()
            )?;
            mailboxes.push(mailbox);
            targets.extend(channels.recipients.iter().map(|it| format!("mail {server} to {it}")));
        }
        receiver.push_str("    webhook_configs:\n");
        for hook in 0..channels.hooks {
            folder.write(&format!("hook-{hook}"), &format!("{}/{hook}", sink.url()))?;
            writeln!(receiver, "      - {{url_file: hook-{hook}, timeout: 2s}}")?;
            targets.push(format!("webhook {hook}"));
        }
        let program = program.to_owned();
        let watched = Vec::new();
        Ok(Self { program, folder, ece, mailboxes, sink, receiver, targets, watched, count: 0 })
    }

    /// Everybody who is to be told.
    pub(super) fn targets(&self) -> Vec<String> {
        self.targets.clone()
    }

    /// The keys in the configuration.
    pub(super) fn watched(&self) -> &[Watched] {
        &self.watched
    }

    pub(super) fn mailbox(&self, server: usize) -> &Mailbox {
        &self.mailboxes[server]
    }

    pub(super) fn sink(&self) -> &Sink {
        &self.sink
    }

    /// A new key that crosses its step at this time; its name.
    pub(super) fn add(&mut self, crossing: DateTime<Utc>) -> anyhow::Result<String> {
        let name = format!("{NAME}{:05}", self.count);
        let key = SimKey::new("owner", &name, Expires::At(crossing + STEP));
        self.folder.write(&format!("key-{name}"), &self.ece.add_key(key))?;
        let platform = self.count / KEYS_PER_PLATFORM;
        self.watched.push(Watched { name: name.clone(), is_renewed: false, platform });
        self.count += 1;
        Ok(name)
    }

    /// Replaces a key by a new one, as its owner would.
    pub(super) fn renew(&mut self, name: &str) -> anyhow::Result<()> {
        let renewed = self.ece.renew(name)?;
        self.folder.write(&format!("key-{name}"), &renewed)?;
        for it in self.watched.iter_mut().filter(|it| it.name == name) {
            it.is_renewed = true;
        }
        Ok(())
    }

    /// Takes a key out of the configuration of the next start.
    pub(super) fn forget(&mut self, name: &str) {
        self.watched.retain(|it| it.name != name);
    }

    /// Writes the configuration and starts the program.
    pub(super) fn start(&self) -> anyhow::Result<Life> {
        self.folder.write("config.yml", &self.config())?;
        let log = self.folder.path().join("log");
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log)?;
        let child = Command::new(&self.program)
            .arg(format!("--config.file={}", self.folder.path().join("config.yml").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        Ok(Life { child, log })
    }

    /// Waits until a message arrives, or for this long.
    pub(super) async fn arrival(&self, patience: Duration) {
        // Whichever it is, and if none is, the patience has ended.
        let (first, last) = (self.mailbox(0), self.mailbox(self.mailboxes.len() - 1));
        tokio::select! {
            _ = self.sink.wait_for(1, patience) => {}
            _ = first.wait_for(1, patience) => {}
            _ = last.wait_for(1, patience) => {}
        }
    }

    /// Takes what has arrived into account.
    pub(super) fn collect(&self, tally: &mut Tally) {
        for (server, mailbox) in self.mailboxes.iter().enumerate() {
            mailbox.take().iter().for_each(|it| tally.mail(server, it));
        }
        self.sink.take().iter().for_each(|it| tally.hook(it));
    }

    /// Ends the servers and leaves the folder behind, for somebody to look into.
    pub(super) fn keep(self) -> PathBuf {
        self.folder.keep()
    }

    fn config(&self) -> String {
        let mut text = format!(
            "# Written by `ece-expiry-exporter self-test`.\nglobal: {{schedule: 1s}}\n\
             steps: [{{before: {}d, severity: info}}]\nplatforms:\n",
            STEP.num_days()
        );
        let mut platform = None;
        for it in &self.watched {
            if platform != Some(it.platform) {
                platform = Some(it.platform);
                let _ = write!(
                    text,
                    "  - name: p{}\n    urls: [\"{}\"]\n    tls_config: {{ca_file: ca.pem}}\n    credentials:\n",
                    it.platform,
                    self.ece.url()
                );
            }
            let _ = writeln!(text, "      - {{name: {0}, api_key_file: key-{0}}}", it.name);
        }
        text + ROUTE + "storage: {path: store}\n" + &self.receiver
    }
}
