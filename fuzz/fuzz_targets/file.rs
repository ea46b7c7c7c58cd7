//! A secret file in memory, for the targets that read one: the program's readers are private, files are their door.

use std::path::PathBuf;
use std::sync::LazyLock;

use ece_expiry_exporter::config::{Secret, SecretSource};

/// What no message may show; every `$` of the input becomes it.
const CANARY: &str = "CANARY7";

static PATH: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let dir = if memory.is_dir() { memory } else { std::env::temp_dir() };
    dir.join(format!("ece-expiry-exporter-fuzz-{}", std::process::id()))
});

pub fn with_canary(data: &[u8]) -> Vec<u8> {
    let canary = |it: &u8| if *it == b'$' { CANARY.as_bytes().to_vec() } else { vec![*it] };
    data.iter().flat_map(canary).collect()
}

/// The text of a file in which a secret was found.
pub fn text(data: &[u8]) -> &str {
    let text = std::str::from_utf8(data).expect("a secret was found, so it is text");
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// The secret in a file with these bytes; `None` when the program refuses it, which it says without the content.
pub fn read(source: fn(PathBuf) -> SecretSource, data: &[u8]) -> Option<Secret> {
    std::fs::write(&*PATH, data).expect("a file in memory can be written");
    match source(PATH.clone()).read() {
        Ok(secret) => {
            let text = secret.expose();
            assert!(!text.is_empty() && text == text.trim(), "{text:?}");
            Some(secret)
        }
        Err(error) => {
            let said = format!("{error} {error:?}");
            assert!(!said.contains(CANARY), "{said}");
            None
        }
    }
}
