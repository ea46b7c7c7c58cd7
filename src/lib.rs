//! Watches when credentials of Elastic Cloud Enterprise expire, shows it, and tells people in time.
//!
//! The program is three loops and a server around one store. The modules below stand in the order in which data flows,
//! which is also the order of dependency and of reading: a module imports only from modules above it
//! (`tests/it/tidy.rs` checks it).

/// The only clock and the only sleep.
pub mod time;
/// Commit points at which a test build can be killed.
pub mod failpoint;
/// When a credential is probed: an interval or a cron expression. Pure.
pub mod schedule;
/// The configuration file, parsed so that it cannot hold nonsense.
pub mod config;
/// What one probe showed: header forms, answers, failures. Pure.
pub mod observation;
/// TLS settings of clients and servers.
pub mod tls;
/// Asks ECE; never fails.
pub mod probe;
/// When somebody must know, and of what. Pure.
pub mod alert;
/// Finds out step by step why a credential cannot be watched, and explains it.
pub mod doctor;
/// What is owed to whom, and what becomes of an attempt. Pure.
pub mod delivery;
/// The read model that metrics and pages show. Pure.
pub mod status;
/// The exporter's own counters, and the exposition formats.
pub mod metrics;
/// The embedded store: states and the ledger of deliveries.
pub mod store;
/// Loop 1: schedule, probe, decide, record.
pub mod monitor;
/// Words and wire formats of messages, and sending them.
pub mod notify;
/// Loop 2: compose, commit, send, commit.
pub mod outbox;
/// Loop 3: Alertmanagers hold what fires.
pub mod mirror;
/// Tells a dead man's switch that the loops run.
pub mod heartbeat;
/// Metrics, pages and the probe endpoint over HTTP.
pub mod web;
/// Builds, runs, reloads and stops the whole.
pub mod app;
/// A simulated ECE, a mailbox and a webhook sink: for the demo and for tests.
pub mod sim;
/// The demonstration: the simulator and the real program side by side.
pub mod demo;
/// Proves on the user's machine that no alert is lost.
pub mod self_test;
/// The command line.
pub mod cli;
