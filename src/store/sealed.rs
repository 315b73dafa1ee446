//! JSON whose last entry is the hash of everything before it: what was cut, or in which a bit has changed, is told from
//! what is whole.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::hash;

/// What precedes the hash at the end.
const CHECK: &str = ",\n  \"check\": \"";

/// Writes a table that is not empty, with its hash.
pub fn to_bytes<T: Serialize>(value: &T) -> Vec<u8> {
    let text = serde_json::to_string_pretty(value).expect("what is sealed is plain data");
    let body = text.strip_suffix("\n}").expect("what is sealed is a table that is not empty");
    let check = hash::bytes(body.as_bytes()).to_hex();
    format!("{body}{CHECK}{check}\"\n}}\n").into_bytes()
}

/// Reads it back; `None` where it is not what was written.
pub fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let text = str::from_utf8(bytes).ok()?;
    let (body, check) = text.rsplit_once(CHECK)?;
    let whole = check == format!("{}\"\n}}\n", hash::bytes(body.as_bytes()).to_hex());
    whole.then(|| serde_json::from_str(text).ok()).flatten()
}
