//! One field of a schedule: lists, ranges, steps and names.

use super::{ParseError, number};

/// Set where a field says that any value will do.
pub(super) const STAR: u64 = 1 << 63;

/// What a field may hold.
pub(super) struct Bounds {
    min: u64,
    max: u64,
    /// Names of values, from `min` on.
    names: &'static [&'static str],
}

pub(super) const MINUTE: Bounds = Bounds { min: 0, max: 59, names: &[] };
pub(super) const HOUR: Bounds = Bounds { min: 0, max: 23, names: &[] };
pub(super) const DAY: Bounds = Bounds { min: 1, max: 31, names: &[] };
pub(super) const MONTH: Bounds = Bounds {
    min: 1,
    max: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
pub(super) const WEEKDAY: Bounds = Bounds { min: 0, max: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

impl Bounds {
    /// The values that a field means, one bit each.
    pub(super) fn read(&self, text: &str) -> Result<u64, ParseError> {
        text.split(',').filter(|range| !range.is_empty()).try_fold(0, |bits, range| Ok(bits | self.range(range)?))
    }

    fn range(&self, text: &str) -> Result<u64, ParseError> {
        let wrong = |what: String| Err(ParseError(format!("{what}: {text}")));
        let parts: Vec<&str> = text.split('/').collect();
        let ends: Vec<&str> = parts[0].split('-').collect();
        let (start, mut end, mut star) = match ends[..] {
            ["*" | "?", ..] => (self.min, self.max, STAR),
            [only] => {
                let only = self.value(only)?;
                (only, only, 0)
            }
            [start, end] => (self.value(start)?, self.value(end)?, 0),
            [start, ..] => {
                self.value(start)?;
                return wrong("too many hyphens".to_owned());
            }
            [] => unreachable!("splitting a text gives at least one part"),
        };
        let step = match parts[..] {
            [_] => 1,
            [_, step] => {
                let step = number(step)?;
                // A single value with a step goes on to the end.
                if ends.len() == 1 {
                    end = self.max;
                }
                if step > 1 {
                    star = 0;
                }
                step
            }
            _ => return wrong("too many slashes".to_owned()),
        };
        if start < self.min {
            return wrong(format!("beginning of range ({start}) below minimum ({})", self.min));
        }
        if end > self.max {
            return wrong(format!("end of range ({end}) above maximum ({})", self.max));
        }
        if start > end {
            return wrong(format!("beginning of range ({start}) beyond end of range ({end})"));
        }
        let Ok(step) = usize::try_from(step) else { return Ok(1 << start | star) };
        if step == 0 {
            return wrong("step of range should be a positive number".to_owned());
        }
        Ok((start..=end).step_by(step).fold(star, |bits, value| bits | 1 << value))
    }

    fn value(&self, text: &str) -> Result<u64, ParseError> {
        let name = text.to_lowercase();
        let named = (self.min..).zip(self.names).find(|(_, known)| **known == name);
        named.map_or_else(|| number(text), |(value, _)| Ok(value))
    }
}
