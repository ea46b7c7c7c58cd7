//! Everything that needs files, sockets or the whole crate.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "tests")]

mod config;
