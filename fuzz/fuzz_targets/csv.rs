//! Any bytes as a CSV file with a key, read as the program does: never a panic, a key is made of what the file holds,
//! and no message shows any of the file.
#![no_main]

mod file;

use ece_expiry_exporter::config::SecretSource;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let data = file::with_canary(data);
    let Some(secret) = file::read(SecretSource::Csv, &data) else { return };
    // Doubled quotes are the only characters that reading drops inside of a cell.
    let bare = |text: &str| text.replace('"', "");
    assert!(bare(file::text(&data)).contains(&bare(secret.expose())), "{}", secret.expose());
});
