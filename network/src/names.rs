//! What an instance's things are called on the host.

/// The names of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    /// What the names of its interfaces begin with.
    pub(crate) prefix: String,
    /// Its bridge.
    pub(crate) bridge: String,
    /// Its nftables table, the alias of its interfaces and the comment of its rules elsewhere.
    pub(crate) mark: String,
}

impl Names {
    pub(crate) fn new(instance: &str) -> Self {
        // An interface's name has at most 15 characters: 2 for `ls`, 6 for the id, 1 for `-`, 6 for a number.
        let plain = (1..=6).contains(&instance.len()) && instance.bytes().all(|b| b.is_ascii_alphanumeric());
        let id = if plain { instance.to_owned() } else { digest(instance, 6) };
        let prefix = format!("ls{id}-");
        Self { bridge: format!("{prefix}br"), prefix, mark: format!("longshore-{instance}") }
    }

    pub(crate) fn pod(&self, n: u32) -> String {
        format!("{}{n}", self.prefix)
    }
}

/// Characters that follow from a name (FNV-1a, in base 36), at most 12.
pub(crate) fn digest(name: &str, length: usize) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (0..length)
        .map(|_| {
            let digit = DIGITS[usize::try_from(hash % 36).unwrap_or_default()];
            hash /= 36;
            char::from(digit)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_differ() {
        let short = Names::new("a1");
        assert_eq!((short.bridge.as_str(), short.pod(7).as_str()), ("lsa1-br", "lsa1-7"));
        let long = Names::new("a-very-long-instance");
        assert!(long.pod(999_999).len() <= 15, "{}", long.pod(999_999));
        assert_ne!(long.bridge, Names::new("a-very-long-instancf").bridge);
        // Without the hyphen pod 23 of instance `1` and pod 3 of instance `12` would be one.
        assert_ne!(Names::new("1").pod(23), Names::new("12").pod(3));
    }
}
