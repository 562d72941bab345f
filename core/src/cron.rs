//! Schedules in cron's five fields, as upstream's CronJob takes them (`github.com/robfig/cron/v3`): when is the next time?

mod field;
mod next;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::{go_duration, go_format};

/// When a job is to run.
///
/// ```
/// use longshore_core::cron::Schedule;
///
/// let schedule = Schedule::parse("30 6 * * mon-fri")?;
/// let after = "2024-01-05T06:30:00Z".parse().unwrap();
/// assert_eq!(schedule.next(after).unwrap().to_string(), "2024-01-08T06:30:00Z");
/// # Ok::<(), longshore_core::cron::ParseError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule(Kind);

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Fields(Fields),
    /// Always so many seconds later.
    Every(i64),
}

/// A bit for each value that matches.
#[derive(Debug, Clone, PartialEq)]
struct Fields {
    minute: u64,
    hour: u64,
    day: u64,
    month: u64,
    weekday: u64,
    zone: TimeZone,
}

/// Why a text is no schedule, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(String);

impl Schedule {
    /// Reads a schedule whose times are in UTC, unless it begins with a zone of its own (`CRON_TZ=Asia/Tokyo 0 6 * * *`).
    ///
    /// # Errors
    /// The text is no schedule, or names a zone that this machine does not know.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Self::parse_in(text, TimeZone::UTC)
    }

    /// Reads a schedule whose times are in `zone`, unless it begins with a zone of its own.
    ///
    /// # Errors
    /// The text is no schedule, or names a zone that this machine does not know.
    pub fn parse_in(text: &str, zone: TimeZone) -> Result<Self, ParseError> {
        if text.is_empty() {
            return Err(ParseError("empty spec string".to_owned()));
        }
        let named = text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ="));
        match named.map(|rest| rest.split_once(' ').unwrap_or((rest, ""))) {
            Some((name, rest)) => Self::read(rest.trim(), find_zone(name)?),
            None => Self::read(text, zone),
        }
    }

    fn read(text: &str, zone: TimeZone) -> Result<Self, ParseError> {
        if text.starts_with('@') {
            return Self::descriptor(text, zone);
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            let found = format!("found {}: [{}]", fields.len(), fields.join(" "));
            return Err(ParseError(format!("expected exactly 5 fields, {found}")));
        };
        Ok(Self(Kind::Fields(Fields {
            minute: field::MINUTE.read(minute)?,
            hour: field::HOUR.read(hour)?,
            day: field::DAY.read(day)?,
            month: field::MONTH.read(month)?,
            weekday: field::WEEKDAY.read(weekday)?,
            zone,
        })))
    }

    fn descriptor(text: &str, zone: TimeZone) -> Result<Self, ParseError> {
        let fields = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            _ => {
                let Some(duration) = text.strip_prefix("@every ") else {
                    return Err(ParseError(format!("unrecognized descriptor: {text}")));
                };
                let nanos = go_duration::parse(duration)
                    .map_err(|error| ParseError(format!("failed to parse duration {text}: {error}")))?;
                return Ok(Self(Kind::Every((nanos / 1_000_000_000).max(1))));
            }
        };
        Self::read(fields, zone)
    }

    /// The first time after `after`; `None` if there is none within five years.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let seconds = match &self.0 {
            Kind::Fields(fields) => next::next(fields, after.as_second())?,
            Kind::Every(delay) => after.as_second().checked_add(*delay)?,
        };
        Timestamp::from_second(seconds).ok()
    }
}

fn find_zone(name: &str) -> Result<TimeZone, ParseError> {
    if matches!(name, "" | "UTC") {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(name).map_err(|_| ParseError(format!("provided bad location {name}: unknown time zone {name}")))
}

/// A number as upstream reads it.
fn number(text: &str) -> Result<u64, ParseError> {
    let number =
        go_format::atoi(text).map_err(|wrong| ParseError(format!("failed to parse int from {text}: {wrong}")))?;
    u64::try_from(number).map_err(|_| ParseError(format!("negative number ({number}) not allowed: {text}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(text: &str, after: &str) -> String {
        let schedule = Schedule::parse(text).unwrap();
        schedule.next(after.parse().unwrap()).map_or_else(|| "never".to_owned(), |time| time.to_string())
    }

    #[test]
    fn times_are_found() {
        assert_eq!(next("0 0 29 2 *", "2024-03-01T00:00:00Z"), "2028-02-29T00:00:00Z");
        assert_eq!(next("0 0 30 2 *", "2024-03-01T00:00:00Z"), "never");
        assert_eq!(next("@every 90m", "2024-01-01T00:00:00Z"), "2024-01-01T01:30:00Z");
        // Either day matches where neither is a star.
        assert_eq!(next("0 0 13 * fri", "2024-01-12T00:00:00Z"), "2024-01-13T00:00:00Z");
    }

    #[test]
    fn clocks_that_are_put_forward_skip_and_put_back_repeat() {
        let zone = TimeZone::posix("EST5EDT,M3.2.0,M11.1.0").unwrap();
        let schedule = Schedule::parse_in("30 2 * * *", zone).unwrap();
        let next = |after: &str| schedule.next(after.parse().unwrap()).unwrap().to_string();
        assert_eq!(next("2024-03-09T12:00:00Z"), "2024-03-11T06:30:00Z");
        assert_eq!(next("2024-11-02T12:00:00Z"), "2024-11-03T07:30:00Z");
    }

    #[test]
    fn errors_are_upstreams() {
        let error = |text: &str| Schedule::parse(text).unwrap_err().to_string();
        assert_eq!(error("*/0 * * * *"), "step of range should be a positive number: */0");
        assert_eq!(error("@every 5"), "failed to parse duration @every 5: time: missing unit in duration \"5\"");
        assert_eq!(error("TZ=Nowhere * * * * *"), "provided bad location Nowhere: unknown time zone Nowhere");
        assert_eq!(error("1-2-3 * * * *"), "too many hyphens: 1-2-3");
    }
}
