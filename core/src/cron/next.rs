//! The next time of a schedule: field after field is moved on until it matches, and a field that wraps around starts the
//! search anew, as the finer ones may match otherwise then.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::Fields;
use super::field::STAR;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;

/// The first matching second after `after`; `None` if there is none within five years.
pub(super) fn next(fields: &Fields, after: i64) -> Option<i64> {
    let zone = &fields.zone;
    let mut at = after + 1;
    let last_year = local(zone, at)?.year() + 5;
    // Whether the finer fields stand at their beginning, because a coarser one was moved on.
    let mut moved = false;
    'anew: loop {
        if local(zone, at)?.year() > last_year {
            return None;
        }
        loop {
            let now = local(zone, at)?;
            if has(fields.month, now.month()) {
                break;
            }
            let from = if moved { now } else { now.date().first_of_month().at(0, 0, 0, 0) };
            moved = true;
            let next = from.date().first_of_month().checked_add(jiff::Span::new().months(1)).ok()?;
            at = instant(zone, next.to_datetime(from.time()))?;
            if local(zone, at)?.month() == 1 {
                continue 'anew;
            }
        }
        loop {
            let now = local(zone, at)?;
            if day_matches(fields, now) {
                break;
            }
            let from = if moved { now } else { now.date().at(0, 0, 0, 0) };
            moved = true;
            let next = from.date().tomorrow().ok()?;
            at = instant(zone, next.to_datetime(from.time()))?;
            // Where a day has no midnight, its first hour is another one.
            match i64::from(local(zone, at)?.hour()) {
                0 => {}
                hour @ 13.. => at += (24 - hour) * HOUR,
                hour => at -= hour * HOUR,
            }
            if local(zone, at)?.day() == 1 {
                continue 'anew;
            }
        }
        loop {
            let now = local(zone, at)?;
            if has(fields.hour, now.hour()) {
                break;
            }
            if !moved {
                moved = true;
                at = instant(zone, now.date().at(now.hour(), 0, 0, 0))?;
            }
            at += HOUR;
            if local(zone, at)?.hour() == 0 {
                continue 'anew;
            }
        }
        loop {
            if has(fields.minute, local(zone, at)?.minute()) {
                break;
            }
            if !moved {
                moved = true;
                at -= at.rem_euclid(MINUTE);
            }
            at += MINUTE;
            if local(zone, at)?.minute() == 0 {
                continue 'anew;
            }
        }
        // Schedules of five fields are for the full minute.
        if local(zone, at)?.second() != 0 {
            moved = true;
            at += MINUTE - i64::from(local(zone, at)?.second());
            if local(zone, at)?.second() == 0 {
                continue 'anew;
            }
        }
        return Some(at);
    }
}

fn has(bits: u64, value: i8) -> bool {
    bits & (1 << value) != 0
}

/// Both days must match where one of them is a star, else either.
fn day_matches(fields: &Fields, now: DateTime) -> bool {
    let day = has(fields.day, now.day());
    let weekday = has(fields.weekday, now.weekday().to_sunday_zero_offset());
    if (fields.day | fields.weekday) & STAR != 0 { day && weekday } else { day || weekday }
}

fn local(zone: &TimeZone, at: i64) -> Option<DateTime> {
    Some(zone.to_datetime(Timestamp::from_second(at).ok()?))
}

fn offset(zone: &TimeZone, at: i64) -> Option<i64> {
    Some(i64::from(zone.to_offset(Timestamp::from_second(at).ok()?).seconds()))
}

/// The moment of a local time; one that a change of clocks skips or repeats is resolved as Go does.
fn instant(zone: &TimeZone, local: DateTime) -> Option<i64> {
    let as_utc = local.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second();
    Some(match offset(zone, as_utc)? {
        0 => as_utc,
        first => as_utc - offset(zone, as_utc - first)?,
    })
}
