#!/bin/sh
# Compares what a clean development build of this crate costs with that of an empty axum program: CPU seconds, user and
# system, and the number of crates. Both are built now, one after the other, into folders that are removed again.
#
# Needs the crates in cargo's cache (`cargo fetch`), or a network.
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

# What this crate asks of the two, so that the empty program has the same to begin with.
wanted=$(grep -E '^(axum|tokio) = ' "$here/Cargo.toml")

mkdir -p "$work/empty/src"
cat > "$work/empty/Cargo.toml" <<EOF
[package]
name = "empty"
version = "0.0.0"
edition = "2024"

[dependencies]
$wanted

[profile.dev]
debug = "line-tables-only"

[profile.dev.package."*"]
debug = false
EOF
cat > "$work/empty/src/main.rs" <<'EOF'
#[tokio::main]
async fn main() {
    let app = axum::Router::new().route("/", axum::routing::get(|| async { "hello" }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    axum::serve(listener, app).await.unwrap();
}
EOF
# The same versions for both.
cp "$here/Cargo.lock" "$work/empty/Cargo.lock"

# Prints the CPU seconds of a build of the folder $1 into $2.
cpu_of_build() {
    CARGO_INCREMENTAL=0 CARGO_TARGET_DIR="$2" bash -c '
        TIMEFORMAT="%U %S"
        cd "$1"
        { time cargo build --quiet --bins >&2; } 2>&1 | tail -n 1
    ' build "$1" | awk '{ printf "%.1f\n", $1 + $2 }'
}

# Prints how many crates a build of the folder $1 compiles, itself included.
crates_of() {
    (cd "$1" && cargo tree --edges normal,build --prefix none --format '{p}' | sed 's/ (\*)$//; s/ (.*//' | sort -u | wc -l)
}

empty=$(cpu_of_build "$work/empty" "$work/target-empty")
ours=$(cpu_of_build "$here" "$work/target-ours")
empty_crates=$(crates_of "$work/empty")
our_crates=$(crates_of "$here")

awk -v ours="$ours" -v empty="$empty" -v our_crates="$our_crates" -v empty_crates="$empty_crates" 'BEGIN {
    print "| what | this crate | empty axum program | ratio | wanted |"
    print "| --- | --- | --- | --- | --- |"
    printf "| clean development build, CPU seconds | %s | %s | %.2f | ≤ 5 |\n", ours, empty, ours / empty
    printf "| crates | %d | %d | %.2f | – |\n", our_crates, empty_crates, our_crates / empty_crates
}'
