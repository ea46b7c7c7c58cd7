//! Any bytes as a list of keys: never a panic, the same however it is cut into pieces, and of a JSON text as many keys as
//! a parser of the whole finds.
#![no_main]

use ece_expiry_exporter::config::Filter;
use ece_expiry_exporter::observation::listing::{Lister, Listing};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fn list(text: &[u8], size: usize) -> Option<Listing> {
    let filter = Filter::default();
    let mut lister = Lister::new(&filter, 8, None, chrono::DateTime::UNIX_EPOCH);
    text.chunks(size).for_each(|it| lister.feed(it));
    lister.end()
}

fuzz_target!(|data: &[u8]| {
    let Some((size, text)) = data.split_first() else { return };
    let whole = list(text, text.len().max(1));
    assert_eq!(list(text, usize::from(*size).max(1)), whole);
    let Ok(json) = serde_json::from_slice::<Value>(text) else { return };
    // Of two members of one name, a parser of the whole keeps the last. An escaped name is none of ECE's.
    let names = String::from_utf8_lossy(text).matches("keys").count();
    let Some(keys) = json.get("keys").filter(|_| names == 1) else { return };
    match (keys.as_array(), whole) {
        (Some(keys), Some(listing)) => {
            assert_eq!(listing.listed + listing.unreadable, keys.len());
            assert!(listing.items.len() <= 8);
        }
        (Some(_), None) => panic!("a list that is in order is refused"),
        (None, listing) => assert_eq!(listing, None),
    }
});
