//! Durations, sizes and points in time for people, and the way back from what people type.
//!
//! Machine-readable output never passes through here.

use alula_model::Timestamp;

const KIB: u64 = 1024;

/// A size in bytes with three significant digits: `812 B`, `1.4 KB`, `35 MB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KB", "MB", "GB", "TB", "PB"];
    if count < KIB {
        return format!("{count} B");
    }
    let mut value = count as f64 / KIB as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= KIB as f64;
        unit += 1;
    }
    let digits = usize::from(value < 9.95);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A duration in microseconds: `85 us`, `4.2 ms`, `1.3 s`, `2m05s`.
pub(crate) fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..10_000 => format!("{:.1} ms", us as f64 / 1e3),
        10_000..1_000_000 => format!("{} ms", us / 1_000),
        1_000_000..60_000_000 => format!("{:.1} s", us as f64 / 1e6),
        _ => seconds(us / 1_000_000),
    }
}

/// A duration in milliseconds.
pub(crate) fn millis(ms: u64) -> String {
    micros(ms.saturating_mul(1_000))
}

/// Whole seconds: `45s`, `2m05s`, `3h10m`, `5d04h`.
pub(crate) fn seconds(seconds: u64) -> String {
    let (minute, hour, day) = (60, 3_600, 86_400);
    match seconds {
        s if s < minute => format!("{s}s"),
        s if s < hour => format!("{}m{:02}s", s / minute, s % minute),
        s if s < day => format!("{}h{:02}m", s / hour, s % hour / minute),
        s => format!("{}d{:02}h", s / day, s % day / hour),
    }
}

/// How long ago `at` was: `12s ago`, `3h10m ago`.
pub(crate) fn age(now: Timestamp, at: Timestamp) -> String {
    match now.millis_since(at) / 1_000 {
        0 => "just now".to_owned(),
        passed => format!("{} ago", seconds(passed)),
    }
}

/// Date and time of day to the millisecond, UTC, in RFC 3339.
pub(crate) fn moment(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.as_millis())
        .map(|moment| format!("{moment:.3}"))
        .unwrap_or_else(|_| at.as_millis().to_string())
}

/// The time of day in the user's time zone, to the millisecond.
pub(crate) fn time_of_day(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.as_millis())
        .map(|moment| moment.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S%.3f").to_string())
        .unwrap_or_else(|_| at.as_millis().to_string())
}

/// A point in time as typed: a duration back from `now` (`10m`, `2h30m`, `1d`) or an RFC 3339 timestamp.
pub(crate) fn parse_moment(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        return Ok(Timestamp(moment.as_millisecond()));
    }
    let ms = parse_duration_ms(text).ok_or_else(|| {
        format!("{text:?} is neither a duration (30s, 10m, 2h30m, 1d) nor a time (2026-01-31T08:00:00Z)")
    })?;
    Ok(now.plus_millis(-ms))
}

/// A duration as typed: `500ms`, `30s`, `2h30m`, `1d`.
pub(crate) fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    let millis = parse_duration_ms(text).and_then(|millis| u64::try_from(millis).ok());
    millis
        .map(std::time::Duration::from_millis)
        .ok_or_else(|| format!("{text:?} is not a duration (500ms, 30s, 2h30m, 1d)"))
}

fn parse_duration_ms(text: &str) -> Option<i64> {
    let mut total = 0_i64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_len = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit_ms = match &rest[..unit_len] {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(unit_ms)?)?;
        rest = &rest[unit_len..];
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let check = |count, expect: &str| assert_eq!(bytes(count), expect);
        check(0, "0 B");
        check(1023, "1023 B");
        check(1024, "1.0 KB");
        check(10 * KIB, "10 KB");
        check(KIB * KIB - 1, "1.0 MB");
        check(u64::MAX, "16384 PB");
    }

    #[test]
    fn durations() {
        let check = |us, expect: &str| assert_eq!(micros(us), expect);
        check(85, "85 us");
        check(4_200, "4.2 ms");
        check(38_999, "38 ms");
        check(1_340_000, "1.3 s");
        check(125_000_000, "2m05s");
        assert_eq!(seconds(90_061), "1d01h");
    }

    #[test]
    fn moments_as_typed() {
        let now = Timestamp(1_000_000_000_000);
        let check = |text, expect| assert_eq!(parse_moment(text, now).ok(), expect, "{text}");
        check("10m", Some(now.plus_millis(-600_000)));
        check("2h30m", Some(now.plus_millis(-9_000_000)));
        check("500ms", Some(now.plus_millis(-500)));
        check("2001-09-09T01:46:40Z", Some(now));
        for bad in ["", "10", "m", "10x", "yesterday", "99999999999999999d", "-5m"] {
            check(bad, None);
        }
    }

    #[test]
    fn moments_for_people() {
        assert_eq!(moment(Timestamp(1_000_000_000_123)), "2001-09-09T01:46:40.123Z");
        assert_eq!(age(Timestamp(70_000), Timestamp(5_000)), "1m05s ago");
        assert_eq!(age(Timestamp(5_000), Timestamp(70_000)), "just now");
    }
}
