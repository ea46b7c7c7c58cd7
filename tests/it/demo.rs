//! The demonstration: that it shows everything, and that its keys set off the rules of a real Prometheus, through a
//! real Alertmanager.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use ece_expiry_exporter::sim::{Sink, SinkOptions};

use crate::prometheus::{Alertmanager, Prometheus};
use crate::world::{fetch, wait, wait_until};

/// The running demonstration and what it says at its start.
struct Demo {
    child: Child,
    greeting: String,
    dir: tempfile::TempDir,
}

impl Demo {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_ece-expiry-exporter"))
            .args(["demo", "--web.listen-address=127.0.0.1:0"])
            .env("TMPDIR", dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let greeting = tokio::task::spawn_blocking(move || {
            let mut greeting = String::new();
            for line in stdout.lines().map_while(Result::ok) {
                writeln!(greeting, "{line}").unwrap();
                if line.contains("Ctrl-C") {
                    break;
                }
            }
            greeting
        })
        .await
        .unwrap();
        Self { child, greeting, dir }
    }

    /// The address after a word of the greeting.
    fn url(&self, word: &str) -> String {
        let line = self.greeting.lines().find_map(|it| it.trim().strip_prefix(word));
        let line = line.unwrap_or_else(|| panic!("no {word} in {}", self.greeting));
        line.trim().trim_end_matches('/').to_owned()
    }

    /// How many things lie in the folder for temporary files.
    fn left_behind(&self) -> usize {
        std::fs::read_dir(self.dir.path()).unwrap().count()
    }

    async fn interrupt(&mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        wait("the demonstration to end", || self.child.try_wait().unwrap()).await
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn the_demonstration_shows_everything_and_leaves_nothing_behind() {
    let mut demo = Demo::start().await;
    let (page, metrics, desk) = (demo.url("Status page"), demo.url("Metrics"), demo.url("Mailbox"));
    assert!(fetch(&page).await.1.contains("terraform"), "the page shows the credentials");
    assert!(fetch(&metrics).await.1.contains("ece_credential_info{"), "metrics are there");
    wait_until("a mail and a webhook on the desk", async || {
        let text = fetch(&desk).await.1;
        text.contains("on-call@example.org") && text.contains("credential.expiring")
    })
    .await;
    assert_eq!(demo.left_behind(), 1, "the demonstration's folder");
    assert_eq!(demo.interrupt().await.code(), Some(0));
    assert_eq!(demo.left_behind(), 0, "its folder is gone");
}

/// What the keys of the demonstration set off.
const TOLD: [&str; 8] = [
    "ECECredentialExpiring/critical terraform",
    "ECECredentialExpiring/warning billing-report",
    "ECECredentialExpiring/warning certificate-endpoint",
    "ECECredentialForbidden viewer",
    "ECECredentialNeverExpires break-glass",
    "ECECredentialRejected old-laptop",
    "ECEPlatformUnreachable remote",
    "ECECredentialExpiryUnknown gateway",
];

/// The key that expires while somebody watches, a minute after the start.
const EXPIRES: &str = "hotfix";

/// Whose failing probes an alert of `TOLD` or the expiry explains.
const EXPLAINED: [&str; 4] = [EXPIRES, "old-laptop", "viewer", "mirror"];

#[tokio::test]
async fn its_keys_set_off_the_rules_and_a_real_alertmanager_tells_each_cause_once() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::start(SinkOptions::default()).await.unwrap();
    let config = dir.path().join("alertmanager.yml");
    std::fs::write(&config, alertmanager_config(&sink.url())).unwrap();
    let demo = Demo::start().await;
    let alertmanager = Alertmanager::start(&config).await;
    let metrics = demo.url("Metrics");
    let exporter = metrics.strip_prefix("http://").unwrap().split('/').next().unwrap();
    let prometheus = Prometheus::alerting(exporter, &hasty_rules(), alertmanager.addr).await;

    let told = || alerts_in(&sink);
    let is_told = async |expected: &str| {
        wait(&format!("{expected} to be told"), || told().contains(expected).then_some(())).await;
    };
    for expected in TOLD {
        is_told(expected).await;
    }
    for left in ["30", "0"] {
        let series = "platform_credential:ece_credential_remaining_seconds:min";
        let query = format!("{series}{{credential=\"{EXPIRES}\"}} <= {left}");
        prometheus.await_series(&query, 1).await;
    }
    is_told(&format!("ECECredentialExpired {EXPIRES}")).await;
    for credential in EXPLAINED {
        let explained = "platform_credential:ece_probe_success:explained";
        let query = format!("{explained}{{credential=\"{credential}\"}}");
        prometheus.await_series(&query, 1).await;
    }
    // What another alert explains is not told, nor does it fire.
    let told = told();
    let failing = told.iter().filter(|it| {
        it.starts_with("ECEProbeFailing") || it.starts_with("ECECredentialExpiryUnknown")
    });
    assert_eq!(failing.collect::<Vec<_>>(), ["ECECredentialExpiryUnknown gateway"]);
}

/// The longest that a rule waits here, in seconds: long enough for the exporter to find a platform unreachable.
const HASTE_MAX: u64 = 20;

/// The rules of the program, which wait for seconds.
fn hasty_rules() -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_ece-expiry-exporter")).arg("rules").output();
    let rules = String::from_utf8(output.unwrap().stdout).unwrap();
    let mut hasty = String::new();
    let mut waits = 0;
    for line in rules.lines() {
        let hurried = match line.trim_start().split(' ').next().unwrap() {
            "for:" => {
                waits += 1;
                let hold = line.trim().trim_start_matches("for: ");
                let (number, scale) = match hold.strip_suffix('h') {
                    Some(hours) => (hours, 60),
                    None => (hold.trim_end_matches('m'), 1),
                };
                let minutes = number.parse::<u64>().unwrap() * scale;
                let seconds = (minutes * 2 / 3).min(HASTE_MAX);
                line.replace(line.trim_start(), &format!("for: {seconds}s"))
            }
            "keep_firing_for:" => line.replace(line.trim_start(), "keep_firing_for: 0s"),
            _ => line.to_owned(),
        };
        writeln!(hasty, "{hurried}").unwrap();
    }
    assert!(10 < waits, "only {waits} rules wait");
    hasty
}

/// The inhibition rules of the example, and one receiver for everything.
fn alertmanager_config(sink: &str) -> String {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("alerts/alertmanager.example.yml");
    let example = std::fs::read_to_string(example).unwrap();
    let inhibition = &example[example.find("inhibit_rules:").unwrap()..];
    let inhibition = &inhibition[..inhibition.find("\nreceivers:").unwrap()];
    // Long enough for the cause to arrive before what it explains is told.
    format!(
        "route: {{receiver: sink, group_by: ['...'], group_wait: 5s, group_interval: 5s}}\n{inhibition}\n\
         receivers:\n  - name: sink\n    webhook_configs: [{{url: '{sink}'}}]\n"
    )
}

/// The firing alerts that arrived: name (with the severity of an expiring one) and subject.
fn alerts_in(sink: &Sink) -> BTreeSet<String> {
    let mut told = BTreeSet::new();
    for hook in sink.hooks() {
        let body = hook.json().unwrap();
        let alerts = body["alerts"].as_array().unwrap().iter();
        for alert in alerts.filter(|it| it["status"] == "firing") {
            let labels = &alert["labels"];
            let name = match text(labels, "alertname") {
                it @ "ECECredentialExpiring" => format!("{it}/{}", text(labels, "severity")),
                it => it.to_owned(),
            };
            let subject = match text(labels, "credential") {
                "" => text(labels, "platform"),
                it => it,
            };
            told.insert(format!("{name} {subject}"));
        }
    }
    told
}

fn text<'a>(labels: &'a serde_json::Value, name: &str) -> &'a str {
    labels[name].as_str().unwrap_or_default()
}
