//! Any bytes as a configuration file of ecctl, read as the program does: never a panic, a key is one that the file
//! holds, and no message shows any of the file.
#![no_main]

mod file;

use ece_expiry_exporter::config::SecretSource;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let data = file::with_canary(data);
    let Some(secret) = file::read(SecretSource::Ecctl, &data) else { return };
    let file: serde_json::Value =
        serde_json::from_str(file::text(&data)).expect("a key was found in it");
    assert_eq!(file["api_key"].as_str().map(str::trim), Some(secret.expose()));
});
