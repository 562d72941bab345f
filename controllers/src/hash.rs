//! Short hashes for names and labels.

use serde::Serialize;

/// Characters that upstream takes for generated names: no vowels, so that no words come out.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// FNV-1a, 32 bits.
fn fnv32a(bytes: impl IntoIterator<Item = u8>) -> u32 {
    bytes.into_iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// A text whose characters can stand in names and labels, as upstream's `SafeEncodeString`.
fn safe_encode(text: &str) -> String {
    text.bytes().map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()])).collect()
}

/// The hash of what an object says, told apart by the number of collisions so far. It stays the same as long as the
/// object's JSON does, so fields added to its type later do not change it while nobody sets them.
pub(crate) fn hash(object: &impl Serialize, collisions: Option<i32>) -> String {
    let text = serde_json::to_vec(object).expect("API objects have string keys and no failing serializers");
    let salt = collisions.map(|count| u64::from(count.unsigned_abs()).to_le_bytes());
    safe_encode(&fnv32a(text.into_iter().chain(salt.into_iter().flatten())).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        // From the FNV reference vectors.
        assert_eq!(fnv32a(*b""), 0x811c_9dc5);
        assert_eq!(fnv32a(*b"a"), 0xe40c_292c);
        assert_eq!(fnv32a(*b"foobar"), 0xbf9c_f968);
        // Digits become the same characters as in the names of upstream's replica sets.
        assert_eq!(safe_encode("0123456789"), "456789bcdf");
    }

    #[test]
    fn collisions_change_it() {
        assert_eq!(hash(&"x", None), hash(&"x", None));
        assert_ne!(hash(&"x", None), hash(&"x", Some(0)));
        assert_ne!(hash(&"x", Some(1)), hash(&"x", Some(2)));
    }
}
