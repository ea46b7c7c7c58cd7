//! What a whole HTTP answer of ECE means: status, error codes, body. Pure.
