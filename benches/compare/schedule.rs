//! The program itself, with many credentials at one probe a minute: whether it keeps up, and what that costs.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::nginx::{Nginx, free_port};
use crate::probe::write_config;
use crate::{Effort, Line, process};

/// Until the first probe of each credential is over and the schedule is steady.
const FIRST: Duration = Duration::from_secs(60);

/// How long the program may take to answer its first scrape.
const START_MAX: Duration = Duration::from_secs(30);

pub fn measure(effort: Effort) -> Vec<Line> {
    let nginx = Nginx::start();
    let idle = {
        let program = Program::start(&nginx, 1);
        thread::sleep(Duration::from_secs(3));
        program.resident()
    };
    let program = Program::start(&nginx, effort.credentials);
    let started = Instant::now();
    thread::sleep(FIRST);
    let first = program.look();
    thread::sleep(effort.schedule.saturating_sub(started.elapsed()));
    let last = program.look();

    let seconds = (last.at - first.at).as_secs_f64();
    let probes = last.probes - first.probes;
    let cpu = last.cpu - first.cpu;
    let due = credentials(effort) / 60.0;
    let per_second = probes / seconds;
    let each = (first.resident - idle) / credentials(effort);
    println!(
        "schedule: listening after {:.2} s; idle {:.0} MiB; after a minute {:.0} MiB, at the end, a scrape \
         later, {:.0} MiB; CPU {:.1} % of one core; failures {}",
        program.ready_after.as_secs_f64(),
        idle / 1024.0,
        first.resident / 1024.0,
        last.resident / 1024.0,
        100.0 * cpu / seconds,
        last.failures,
    );
    vec![
        Line {
            what: "10,000 credentials once a minute: runs missed after the first minute",
            ours: format!("{}", last.missed - first.missed),
            reference: format!("{} in it", first.missed),
            ratio: None,
            wanted: "0",
        },
        Line {
            what: "the same: probes a second; against what is due",
            ours: format!("{per_second:.1}"),
            reference: format!("{due:.1}"),
            ratio: Some(per_second / due),
            wanted: "1",
        },
        Line {
            what: "the same: CPU of the whole program for each probe, recorded on disk",
            ours: format!("{:.0} µs", cpu * 1e6 / probes),
            reference: "–".to_owned(),
            ratio: None,
            wanted: "–",
        },
        Line {
            what: "the same: resident memory for each credential",
            ours: format!("{each:.1} KiB"),
            reference: "–".to_owned(),
            ratio: None,
            wanted: "–",
        },
    ]
}

fn credentials(effort: Effort) -> f64 {
    f64::from(u32::try_from(effort.credentials).unwrap())
}

/// The program; dropping it ends it.
struct Program {
    process: Child,
    port: u16,
    ready_after: Duration,
}

/// What it shows at one moment.
struct Look {
    at: Instant,
    cpu: f64,
    /// Before the scrape, whose buffer counts otherwise.
    resident: f64,
    probes: f64,
    failures: f64,
    missed: f64,
}

impl Program {
    fn start(nginx: &Nginx, credentials: usize) -> Self {
        let folder = nginx.folder().join(format!("program-{credentials}"));
        let config = write_config(nginx, credentials, "global: {schedule: 1m}", &folder);
        let port = free_port();
        let log = File::create(folder.join("log")).unwrap();
        let started = Instant::now();
        let process = Command::new(env!("CARGO_BIN_EXE_ece-expiry-exporter"))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut program = Self { process, port, ready_after: Duration::ZERO };
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let is_alive = program.process.try_wait().unwrap().is_none();
            assert!(
                is_alive && started.elapsed() < START_MAX,
                "it does not listen:\n{}",
                fs::read_to_string(folder.join("log")).unwrap()
            );
            thread::sleep(Duration::from_millis(5));
        }
        program.ready_after = started.elapsed();
        program
    }

    fn id(&self) -> String {
        self.process.id().to_string()
    }

    fn resident(&self) -> f64 {
        process::resident(&self.id())
    }

    fn look(&self) -> Look {
        let (at, cpu, resident) =
            (Instant::now(), process::cpu(&self.id()), process::resident(&self.id()));
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        write!(socket, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut page = String::new();
        socket.read_to_string(&mut page).unwrap();
        let sum = |family: &str| -> f64 {
            let samples = page.lines().filter(|it| {
                it.strip_prefix(family).is_some_and(|rest| rest.starts_with(['{', ' ']))
            });
            samples.map(|it| it.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
        };
        Look {
            at,
            cpu,
            resident,
            probes: sum("ece_probes_total"),
            failures: sum("ece_probe_failures_total"),
            missed: sum("ece_expiry_exporter_scheduler_missed_runs_total"),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It is there, or has ended itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
