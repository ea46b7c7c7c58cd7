//! Tells systemd how the service is: ready, reloading, stopping, alive. Nothing where there is no systemd.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use crate::metrics::Telemetry;
use crate::time;

/// The scheduler ticks at least once a minute; a tick older than this is a loop that hangs.
const TICK_AGE_MAX_SECONDS: i64 = 150;

/// Sends one state line to the service manager, if there is one.
pub(super) fn notify(state: &str) {
    let Ok(path) = std::env::var("NOTIFY_SOCKET") else { return };
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let sent = address.and_then(|address| {
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.send(state.as_bytes())
    });
    if let Err(error) = sent {
        tracing::warn!("cannot tell systemd {state}: {error}");
    }
}

/// Feeds the watchdog of systemd while the scheduler really ticks.
pub(super) async fn watchdog(telemetry: Arc<Telemetry>) {
    let Some(limit) = std::env::var("WATCHDOG_USEC").ok().and_then(|it| it.parse().ok()) else {
        return;
    };
    loop {
        let age = telemetry.last_tick().map_or(0, |tick| (time::now() - tick).num_seconds());
        if age <= TICK_AGE_MAX_SECONDS {
            notify("WATCHDOG=1");
        } else {
            tracing::error!(
                "the scheduler has not ticked for {age} s, letting systemd restart the service"
            );
        }
        time::sleep(Duration::from_micros(limit) / 2).await;
    }
}
