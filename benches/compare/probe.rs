//! CPU of one probe with 64 in flight over kept TLS connections, against wrk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ece_expiry_exporter::config::{Config, Platform};
use ece_expiry_exporter::probe::Prober;
use ece_expiry_exporter::time;
use tokio::runtime;
use tokio::task::JoinSet;

use crate::nginx::Nginx;
use crate::{Effort, Line, median, process};

/// How many probes are in flight.
const IN_FLIGHT: usize = 64;

/// A key of the known form, `id:secret` in Base64.
pub const KEY: &str = "essu_dW5rbm93bjpVVGhXYm5oU1RHUlVPVTV3V25OWWMzWm1UbEU2";

pub fn measure(effort: Effort) -> Line {
    let nginx = Nginx::start();
    let config = write_config(&nginx, IN_FLIGHT, "", &nginx.folder().join("probe"));
    let config = Config::load(&config).unwrap();
    let platform = &config.platforms[0];
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        theirs.push(wrk(&nginx, effort.probes));
        ours.push(probes(platform, effort.probes));
    }
    let (ours, theirs) = (median(ours), median(theirs));
    Line {
        what: "CPU of a probe, 64 in flight, TLS kept, key read from its file; against a request of wrk -c64",
        ours: format!("{ours:.1} µs"),
        reference: format!("{theirs:.1} µs"),
        ratio: Some(ours / theirs),
        wanted: "≤ 2",
    }
}

/// Probes as the program does: from one thread, each credential from the file of its key to its observation.
fn probes(platform: &Arc<Platform>, during: Duration) -> f64 {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let prober = Arc::new(Prober::new(platform, Duration::from_secs(10)).unwrap());
    let before = process::cpu("self");
    let started = Instant::now();
    let done: u32 = runtime.block_on(async {
        let mut flying = JoinSet::new();
        for credential in &platform.credentials {
            let (prober, credential) = (prober.clone(), credential.clone());
            flying.spawn(async move {
                let mut done = 0;
                while started.elapsed() < during {
                    let observation = prober.probe(&credential, time::now).await;
                    assert!(observation.result.is_ok(), "{observation:?}");
                    done += 1;
                }
                done
            });
        }
        flying.join_all().await.into_iter().sum()
    });
    (process::cpu("self") - before) * 1e6 / f64::from(done)
}

fn wrk(nginx: &Nginx, during: Duration) -> f64 {
    let before = process::cpu_of_children();
    let output = Command::new("wrk")
        .args(["-t1", &format!("-c{IN_FLIGHT}"), &format!("-d{}s", during.as_secs().max(1))])
        .args(["-H", &format!("Authorization: ApiKey {KEY}")])
        .arg(format!("{}/api/v1/user", nginx.url()))
        .output()
        .unwrap();
    let cpu = process::cpu_of_children() - before;
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(!said.contains("Non-2xx"), "{said}");
    let line = said.lines().find(|it| it.contains(" requests in ")).unwrap();
    let requests: f64 = line.split_whitespace().next().unwrap().parse().unwrap();
    cpu * 1e6 / requests
}

/// Writes a configuration with one platform and a file for each key; `top` goes before the platform.
pub fn write_config(nginx: &Nginx, credentials: usize, top: &str, folder: &Path) -> PathBuf {
    use std::fmt::Write as _;

    fs::create_dir_all(folder.join("keys")).unwrap();
    let mut text = format!(
        "{top}\nstorage:\n  path: {}\nplatforms:\n  - name: bench\n    urls: [{}]\n    tls_config: {{ca_file: {}}}\n    \
         credentials:\n",
        folder.join("state").display(),
        nginx.url(),
        nginx.ca_file().display()
    );
    for at in 0..credentials {
        fs::write(folder.join(format!("keys/{at}")), KEY).unwrap();
        write!(text, "      - name: key-{at:05}\n        api_key_file: keys/{at}\n        team: team-{}\n        used_by: Pipelines of team {}\n", at % 50, at % 50).unwrap();
    }
    let file = folder.join("config.yml");
    fs::write(&file, text).unwrap();
    file
}
