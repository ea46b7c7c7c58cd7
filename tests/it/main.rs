//! Tests over real sockets: the program's parts against simulated servers.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "tests")]

mod sim;
