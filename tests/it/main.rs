//! Tests over real parts: sockets, files, and the tools that read what we write.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "tests")]

mod metrics;
mod web;
