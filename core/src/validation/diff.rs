//! What differs between two objects, for people.

use std::fmt::Write as _;

use serde::Serialize;

/// Lines shown before and after a change.
const CONTEXT: usize = 3;
/// Most cells of the table that finds common lines; beyond that the whole changed part is shown as replaced.
const TABLE_MAX: usize = 1 << 20;

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Both,
    Old,
    New,
}

/// The differences of two values, printed as JSON, in the unified format. Empty if there are none.
pub(crate) fn diff(old: &impl Serialize, new: &impl Serialize) -> String {
    let text = |value: serde_json::Result<String>| value.unwrap_or_default();
    unified(&text(serde_json::to_string_pretty(old)), &text(serde_json::to_string_pretty(new)))
}

fn unified(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let script = script(&old, &new);
    let changed: Vec<usize> = (0..script.len()).filter(|&at| script[at].0 != Side::Both).collect();
    let mut out = String::new();
    let mut rest = changed.as_slice();
    while let Some(&first) = rest.first() {
        // Changes whose surroundings touch share a hunk.
        let together = rest.windows(2).take_while(|pair| pair[1] - pair[0] <= 2 * CONTEXT).count() + 1;
        let last = rest[together - 1];
        rest = &rest[together..];
        hunk(&script, first.saturating_sub(CONTEXT), (last + CONTEXT + 1).min(script.len()), &mut out);
    }
    out
}

fn hunk(script: &[(Side, &str)], start: usize, end: usize, out: &mut String) {
    let count = |lines: &[(Side, &str)], not: Side| lines.iter().filter(|(side, _)| *side != not).count();
    let (before, lines) = (&script[..start], &script[start..end]);
    let place = |not: Side| format!("{},{}", count(before, not) + 1, count(lines, not));
    writeln!(out, "@@ -{} +{} @@", place(Side::New), place(Side::Old)).expect("writing to a string cannot fail");
    for (side, line) in lines {
        let mark = match side {
            Side::Both => ' ',
            Side::Old => '-',
            Side::New => '+',
        };
        writeln!(out, "{mark}{line}").expect("writing to a string cannot fail");
    }
}

/// Every line of both texts, in order, with the side it is from.
fn script<'t>(old: &[&'t str], new: &[&'t str]) -> Vec<(Side, &'t str)> {
    let same = |pair: &(&&str, &&str)| pair.0 == pair.1;
    let head = old.iter().zip(new).take_while(same).count();
    let (old_rest, new_rest) = (&old[head..], &new[head..]);
    let tail = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(same).count();
    let middle = (&old_rest[..old_rest.len() - tail], &new_rest[..new_rest.len() - tail]);
    let both = |lines: &[&'t str]| lines.iter().map(|line| (Side::Both, *line)).collect::<Vec<_>>();
    let mut script = both(&old[..head]);
    changes(middle.0, middle.1, &mut script);
    script.extend(both(&old_rest[old_rest.len() - tail..]));
    script
}

fn changes<'t>(old: &[&'t str], new: &[&'t str], script: &mut Vec<(Side, &'t str)>) {
    let width = new.len() + 1;
    let (mut i, mut j) = (0, 0);
    if (old.len() + 1).saturating_mul(width) <= TABLE_MAX {
        // The longest common subsequence of what is left from (i, j) on.
        let mut longest = vec![0_u32; (old.len() + 1) * width];
        for i in (0..old.len()).rev() {
            for j in (0..new.len()).rev() {
                longest[i * width + j] = if old[i] == new[j] {
                    longest[(i + 1) * width + j + 1] + 1
                } else {
                    longest[(i + 1) * width + j].max(longest[i * width + j + 1])
                };
            }
        }
        while i < old.len() && j < new.len() {
            if old[i] == new[j] {
                script.push((Side::Both, old[i]));
                (i, j) = (i + 1, j + 1);
            } else if longest[(i + 1) * width + j] >= longest[i * width + j + 1] {
                script.push((Side::Old, old[i]));
                i += 1;
            } else {
                script.push((Side::New, new[j]));
                j += 1;
            }
        }
    }
    script.extend(old[i..].iter().map(|line| (Side::Old, *line)));
    script.extend(new[j..].iter().map(|line| (Side::New, *line)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_shown() {
        assert_eq!(unified("a\nb", "a\nb"), "");
        assert_eq!(unified("1\n2\n3\n4\n5\n6", "1\n2\n3\n4\nx\n6"), "@@ -2,5 +2,5 @@\n 2\n 3\n 4\n-5\n+x\n 6\n");
        assert_eq!(unified("a\nb\nc", "b\nc\nd"), "@@ -1,3 +1,3 @@\n-a\n b\n c\n+d\n");
    }

    #[test]
    fn changes_far_apart_have_hunks_of_their_own() {
        let lines = |first: &str, last: &str| format!("{first}\n{}{last}", "-\n".repeat(20));
        assert_eq!(unified(&lines("a", "b"), &lines("c", "d")).matches("@@ -").count(), 2);
    }
}
