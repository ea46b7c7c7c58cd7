//! Tests over real sockets: one binary, one module for each part of the program.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "tests")]

mod coordinator;
mod probe;
mod tls;
