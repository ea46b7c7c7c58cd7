//! The integration tests: one binary, real sockets, real processes; `tidy` checks the source itself.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "tests")]

mod alerts;
mod cli;
mod config;
mod coordinator;
#[cfg(feature = "failpoints")]
mod crash;
mod dashboards;
mod demo;
mod deployments;
mod doctor;
mod docs;
mod ech;
mod faults;
mod flow;
mod formats;
mod heartbeat;
mod inventory;
mod keys;
mod kinds;
mod metrics;
mod mirror;
mod model;
mod monitor;
mod notifications;
mod notify;
mod plan;
mod platform;
mod probe;
mod prometheus;
mod reference;
mod reload;
mod promql;
mod routes;
mod scenes;
mod secrets;
mod self_test;
mod serve;
mod sim;
mod spec;
mod store;
mod telling;
mod tidy;
mod tls;
mod web;
mod world;
