//! The standard metrics of a process, from Linux's `/proc`; elsewhere there are none.

use std::fmt;
use std::fs;

use chrono::{DateTime, Utc};
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::family::{self, Value};

/// Clock ticks per second in `/proc/self/stat`: 100 on every architecture that Linux offers to user space.
const TICKS_PER_SECOND: f64 = 100.0;

/// What Linux says of this process; what it does not say is `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Process {
    cpu_seconds: Option<f64>,
    open_fds: Option<usize>,
    max_fds: Option<u64>,
    virtual_bytes: Option<u64>,
    resident_bytes: Option<u64>,
    threads: Option<u64>,
}

/// Reads what Linux says of this process; `None` where there is no `/proc`.
pub(super) fn read() -> Option<Process> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    // The listing itself holds one descriptor open.
    let open_fds = fs::read_dir("/proc/self/fd").ok().map(|it| it.count().saturating_sub(1));
    Some(Process { open_fds, ..parse(&stat, &status, &limits) })
}

/// Reads the contents of `/proc/self/{stat,status,limits}`.
fn parse(stat: &str, status: &str, limits: &str) -> Process {
    // The second field is the command in parentheses and may itself hold blanks and parentheses.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|it| it.parse::<u32>().ok()).map(f64::from);
    let kilobytes = |name| of_status(status, name).map(|it| it * 1024);
    Process {
        cpu_seconds: ticks(11).zip(ticks(12)).map(|(user, sys)| (user + sys) / TICKS_PER_SECOND),
        open_fds: None,
        max_fds: limits
            .lines()
            .find_map(|it| it.strip_prefix("Max open files"))
            .and_then(|it| it.split_whitespace().next()?.parse().ok()),
        virtual_bytes: kilobytes("VmSize:"),
        resident_bytes: kilobytes("VmRSS:"),
        threads: of_status(status, "Threads:"),
    }
}

fn of_status(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|it| it.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Writes the families about the process.
pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    process: &Process,
    started: DateTime<Utc>,
) -> fmt::Result {
    if let Some(seconds) = process.cpu_seconds {
        let help = "Total user and system CPU time spent in seconds";
        encoder
            .encode_descriptor("process_cpu", help, Some(&Unit::Seconds), MetricType::Counter)?
            .encode_counter::<NoLabelSet, f64, f64>(&seconds, None)?;
    }
    let gauges = [
        (
            ("process_open_fds", None),
            "Number of open file descriptors",
            process.open_fds.map(Value::count),
        ),
        (
            ("process_max_fds", None),
            "Maximum number of open file descriptors",
            process.max_fds.map(Value::count),
        ),
        (
            ("process_virtual_memory", Some(&Unit::Bytes)),
            "Virtual memory size in bytes",
            process.virtual_bytes.map(Value::count),
        ),
        (
            ("process_resident_memory", Some(&Unit::Bytes)),
            "Resident memory size in bytes",
            process.resident_bytes.map(Value::count),
        ),
        (("process_threads", None), "Number of OS threads", process.threads.map(Value::count)),
        (
            ("process_start_time", Some(&Unit::Seconds)),
            "Start time of the process since unix epoch in seconds",
            Some(Value::at(started)),
        ),
    ];
    for ((name, unit), help, value) in gauges {
        if let Some(value) = value {
            family::single(encoder, name, unit, help, value)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_blanks_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 900 0 0 0 150 50 0 0 20 0 4 0 100 1 1";
        let status = "VmSize:\t  2048 kB\nVmRSS:\t 1024 kB\nThreads:\t4\n";
        let limits = "Limit  Soft Hard Units\nMax open files            1024     524288    files\n";
        assert_eq!(
            parse(stat, status, limits),
            Process {
                cpu_seconds: Some(2.0),
                open_fds: None,
                max_fds: Some(1024),
                virtual_bytes: Some(2048 * 1024),
                resident_bytes: Some(1024 * 1024),
                threads: Some(4),
            }
        );
    }

    #[test]
    fn what_linux_does_not_say_is_absent() {
        assert_eq!(parse("", "", "Max open files unlimited unlimited files"), Process::default());
    }
}
