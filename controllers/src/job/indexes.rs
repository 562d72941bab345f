//! Sets of indexes as they stand in a job's status: `1,3-5`.

use std::collections::BTreeSet;

/// Reads a set; what cannot be read is left out, as is what is not below `limit`.
pub(super) fn parse(text: &str, limit: i32) -> BTreeSet<i32> {
    let mut indexes = BTreeSet::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) {
            indexes.extend(first.max(0)..=last.min(limit - 1));
        }
    }
    indexes
}

/// Writes a set; two neighbours are listed, three or more become a range.
pub(super) fn format(indexes: &BTreeSet<i32>) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut all = indexes.iter().copied().peekable();
    while let Some(first) = all.next() {
        let mut last = first;
        while let Some(next) = all.next_if(|next| *next == last + 1) {
            last = next;
        }
        parts.push(match last - first {
            0 => first.to_string(),
            1 => format!("{first},{last}"),
            _ => format!("{first}-{last}"),
        });
    }
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        for text in ["", "0", "1,3-5", "0,1,3,4,7-100"] {
            assert_eq!(format(&parse(text, 200)), text);
        }
        assert_eq!(parse("0-9", 3), [0, 1, 2].into());
        assert_eq!(parse("x,2,-1", 9), [2].into());
    }
}
