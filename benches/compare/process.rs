//! What a process has used, from `/proc`.

use std::fs;

/// Linux tells CPU times in hundredths of a second, whatever the kernel counts in.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds, user and system, of a process; `self` is this one. Threads that have ended count.
pub fn cpu(process: &str) -> f64 {
    ticks(process, 11) + ticks(process, 12)
}

/// CPU seconds of the children of this process that have ended and were waited for.
pub fn cpu_of_children() -> f64 {
    ticks("self", 13) + ticks("self", 14)
}

/// Resident memory of a process in KiB.
pub fn resident(process: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A field of `stat`, counted from the state, which stands after the name in brackets.
fn ticks(process: &str, field: usize) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields = &stat[stat.rfind(')').unwrap() + 2..];
    let ticks: f64 = fields.split(' ').nth(field).unwrap().parse().unwrap();
    ticks / TICKS_PER_SECOND
}
