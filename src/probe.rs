//! Asks ECE; never fails.
