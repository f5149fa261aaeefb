//! Slots on real zones, and properties against a clock that is read second by second.

use alula_model::Timestamp;
use alula_model::trigger::ScheduleSource;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use proptest::prelude::*;

use super::{Plan, PlanError, Slots, describe, from_jiff, rfc3339};

fn cron(pattern: &str, zone: &str) -> ScheduleSource {
    ScheduleSource { cron: Some(pattern.into()), zone: Some(zone.into()), ..stated() }
}

fn every(text: &str) -> ScheduleSource {
    ScheduleSource { every: Some(text.into()), ..stated() }
}

fn at(text: &str) -> ScheduleSource {
    ScheduleSource { at: Some(text.into()), ..stated() }
}

fn stated() -> ScheduleSource {
    serde_json::from_str("{}").unwrap()
}

fn moment(text: &str) -> Timestamp {
    from_jiff(text.parse().unwrap())
}

/// The slots after `from` and up to `to`, as the zone's clock shows them with its offset.
fn shown(pattern: &str, zone: &str, from: &str, to: &str) -> Vec<String> {
    let plan = Plan::parse(&cron(pattern, zone)).unwrap();
    let (from, to) = (moment(from), moment(to));
    let upcoming: Vec<_> = plan.upcoming(from).take_while(|slot| *slot <= to).collect();
    assert_eq!(plan.slots(from, to, 10_000), Slots { slots: upcoming.clone(), has_older: false });
    let zone = TimeZoneDatabase::bundled().get(zone).unwrap();
    upcoming.into_iter().map(|slot| show(slot, &zone)).collect()
}

fn show(slot: Timestamp, zone: &TimeZone) -> String {
    let zoned = jiff::Timestamp::from_millisecond(slot.as_millis()).unwrap().to_zoned(zone.clone());
    zoned.strftime("%d %H:%M:%S%:z").to_string()
}

#[test]
fn a_fixed_time_in_the_gap_fires_right_after_it() {
    // Berlin goes from 02:00 to 03:00 on 31 March 2024.
    assert_eq!(
        shown("30 2 * * *", "Europe/Berlin", "2024-03-29T23:00:00Z", "2024-04-01T22:00:00Z"),
        ["30 02:30:00+01:00", "31 03:00:00+02:00", "01 02:30:00+02:00"]
    );
    assert_eq!(
        shown("0,15,30,45 2 * * *", "Europe/Berlin", "2024-03-30T23:00:00Z", "2024-03-31T22:00:00Z"),
        ["31 03:00:00+02:00"],
        "what falls into one gap is one slot"
    );
    assert_eq!(
        shown("0 1,2,3 * * *", "Europe/Berlin", "2024-03-30T23:00:00Z", "2024-03-31T22:00:00Z"),
        ["31 01:00:00+01:00", "31 03:00:00+02:00"],
        "the slot of the gap and the one behind it are the same moment"
    );
    assert_eq!(
        shown("5 2 * * *", "America/New_York", "2024-03-10T04:00:00Z", "2024-03-11T04:00:00Z"),
        ["10 03:00:00-04:00"]
    );
}

#[test]
fn a_fixed_time_that_happens_twice_fires_the_first_time() {
    // New York goes from 02:00 back to 01:00 on 3 November 2024.
    assert_eq!(
        shown("30 1 * * *", "America/New_York", "2024-11-02T04:00:00Z", "2024-11-05T04:00:00Z"),
        ["02 01:30:00-04:00", "03 01:30:00-04:00", "04 01:30:00-05:00"]
    );
    let plan = Plan::parse(&cron("30 1 * * *", "America/New_York")).unwrap();
    let in_the_second_hour = moment("2024-11-03T01:10:00-05:00");
    assert_eq!(plan.last(in_the_second_hour), Some(moment("2024-11-03T01:30:00-04:00")));
    assert_eq!(plan.next(in_the_second_hour), Some(moment("2024-11-04T01:30:00-05:00")));
}

#[test]
fn a_wildcard_follows_the_clock_on_the_wall() {
    assert_eq!(
        shown("0 * * * *", "Europe/Berlin", "2024-03-31T00:00:00Z", "2024-03-31T02:00:00Z"),
        ["31 03:00:00+02:00", "31 04:00:00+02:00"],
        "the skipped hour is skipped"
    );
    assert_eq!(
        shown("*/30 2 * * *", "Europe/Berlin", "2024-10-26T23:00:00Z", "2024-10-27T10:00:00Z"),
        ["27 02:00:00+02:00", "27 02:30:00+02:00", "27 02:00:00+01:00", "27 02:30:00+01:00"],
        "the repeated hour counts twice"
    );
    assert_eq!(
        shown("*/20 * * * *", "America/New_York", "2024-11-03T05:30:00Z", "2024-11-03T07:00:00Z"),
        [
            "03 01:40:00-04:00",
            "03 01:00:00-05:00",
            "03 01:20:00-05:00",
            "03 01:40:00-05:00",
            "03 02:00:00-05:00"
        ]
    );
}

#[test]
fn half_an_hour_is_a_change_as_well() {
    // Lord Howe goes from 02:00 to 02:30 on 6 October 2024 and from 02:00 back to 01:30 on 7 April 2024.
    let zone = "Australia/Lord_Howe";
    assert_eq!(
        shown("10 2 * * *", zone, "2024-10-05T12:00:00Z", "2024-10-06T12:00:00Z"),
        ["06 02:30:00+11:00"]
    );
    assert_eq!(
        shown("45 1 * * *", zone, "2024-04-06T12:00:00Z", "2024-04-07T12:00:00Z"),
        ["07 01:45:00+11:00"]
    );
    assert_eq!(
        shown("*/15 1 * * *", zone, "2024-04-06T12:00:00Z", "2024-04-07T12:00:00Z"),
        [
            "07 01:00:00+11:00",
            "07 01:15:00+11:00",
            "07 01:30:00+11:00",
            "07 01:45:00+11:00",
            "07 01:30:00+10:30",
            "07 01:45:00+10:30"
        ]
    );
}

#[test]
fn a_day_that_a_zone_skips_is_a_gap_like_any_other() {
    // Apia went from the end of 29 December 2011 to the beginning of the 31st.
    let (from, to) = ("2011-12-29T00:00:00-10:00", "2012-01-01T00:00:00+14:00");
    assert_eq!(
        shown("0 9 * * *", "Pacific/Apia", from, to),
        ["29 09:00:00-10:00", "31 00:00:00+14:00", "31 09:00:00+14:00"]
    );
    assert_eq!(shown("0 9 30 12 *", "Pacific/Apia", from, to), ["31 00:00:00+14:00"]);
    assert_eq!(shown("0 */12 30 12 *", "Pacific/Apia", from, to), [""; 0]);
    assert_eq!(
        shown("0 */12 * * *", "Pacific/Apia", from, to),
        ["29 12:00:00-10:00", "31 00:00:00+14:00", "31 12:00:00+14:00", "01 00:00:00+14:00"]
    );
}

#[test]
fn all_of_the_usual_language_is_understood() {
    let first = |pattern: &str| {
        let plan = Plan::parse(&cron(pattern, "UTC")).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        rfc3339(plan.next(moment("2026-01-01T00:00:00Z")).unwrap())
    };
    for (pattern, expected) in [
        ("*/5 * * * *", "2026-01-01T00:05:00Z"),
        ("*/10 * * * * *", "2026-01-01T00:00:10Z"),
        ("0 0 12 1 1 * 2028", "2028-01-01T12:00:00Z"),
        ("0 9 * * MON-FRI", "2026-01-01T09:00:00Z"),
        ("0 9 * * mon", "2026-01-05T09:00:00Z"),
        ("0 9 * JUN,jul *", "2026-06-01T09:00:00Z"),
        ("0 0 L * *", "2026-01-31T00:00:00Z"),
        ("0 0 15W 2 *", "2026-02-16T00:00:00Z"),
        ("0 0 LW 2 *", "2026-02-27T00:00:00Z"),
        ("0 0 * * FRI#2", "2026-01-09T00:00:00Z"),
        ("0 0 * * FRIL", "2026-01-30T00:00:00Z"),
        ("0 0 13 * +FRI", "2026-02-13T00:00:00Z"),
        ("0 0 13 * FRI", "2026-01-02T00:00:00Z"),
        ("0 0 29 2 *", "2028-02-29T00:00:00Z"),
        ("0 0 29 2 +SUN", "2032-02-29T00:00:00Z"),
        ("0 0 ? * 7", "2026-01-04T00:00:00Z"),
        ("@hourly", "2026-01-01T01:00:00Z"),
        ("@daily", "2026-01-02T00:00:00Z"),
        ("@midnight", "2026-01-02T00:00:00Z"),
        ("@weekly", "2026-01-04T00:00:00Z"),
        ("@monthly", "2026-02-01T00:00:00Z"),
        ("@Yearly", "2027-01-01T00:00:00Z"),
    ] {
        assert_eq!(first(pattern), expected, "{pattern}");
    }
}

#[test]
fn what_is_wrong_is_named_with_its_remedy() {
    let long = format!("0 0 1{} * *", ",1".repeat(1_000));
    for (source, field, expected) in [
        (cron("61 * * * *", "UTC"), "cron", "write five fields"),
        (cron("", "UTC"), "cron", "write five fields"),
        (cron("* * *", "UTC"), "cron", "write five fields"),
        (cron("* * * * * * * *", "UTC"), "cron", "write five fields"),
        (cron("@reboot", "UTC"), "cron", "@daily"),
        (cron("0 0 \u{0} * *", "UTC"), "cron", "write five fields"),
        (cron("5-1 * * * *", "UTC"), "cron", "write five fields"),
        (cron("*/0 * * * *", "UTC"), "cron", "write five fields"),
        (cron("0 0 30 2 *", "UTC"), "cron", "never comes"),
        (cron(&long, "UTC"), "cron", "at most 1024"),
        (cron("0 0 * * *", "Europe/Bärlin"), "zone", "Europe/Berlin"),
        (cron("0 0 * * *", "../../etc/passwd"), "zone", "IANA"),
        (cron("0 0 * * *", ""), "zone", "IANA"),
        (every("soon"), "every", "90s"),
        (every(""), "every", "90s"),
        (every("1 month"), "every", "use cron"),
        (every("0s"), "every", "1s to 366d"),
        (every("999ms"), "every", "1s to 366d"),
        (every("-5m"), "every", "1s to 366d"),
        (every("367d"), "every", "1s to 366d"),
        (every("1s 500us"), "every", "whole milliseconds"),
        (at("tomorrow"), "at", "2030-01-31T08:00:00Z"),
        (at("2030-01-31 08:00"), "at", "2030-01-31T08:00:00Z"),
        (stated(), "cron", "one of cron, every and at"),
    ] {
        let PlanError { field: named, reason } = Plan::parse(&source).unwrap_err();
        assert_eq!(named, field, "{source:?}: {reason}");
        assert!(reason.contains(expected), "{source:?}: {reason}");
    }
}

#[test]
fn distances_count_from_the_epoch_and_single_moments_come_once() {
    let plan = Plan::parse(&every("1h 30m")).unwrap();
    assert_eq!(plan.next(Timestamp(0)), Some(Timestamp(5_400_000)));
    assert_eq!(plan.next(Timestamp(5_399_999)), Some(Timestamp(5_400_000)));
    assert_eq!(plan.last(Timestamp(5_400_000)), Some(Timestamp(5_400_000)));
    assert_eq!(plan.last(Timestamp(-1)), Some(Timestamp(-5_400_000)));
    assert_eq!(plan.next(Timestamp(i64::MAX)), None);
    let plan = Plan::parse(&at("2030-01-31T08:00:00+01:00")).unwrap();
    let slot = moment("2030-01-31T07:00:00Z");
    assert_eq!((plan.next(slot.plus_millis(-1)), plan.next(slot)), (Some(slot), None));
    assert_eq!((plan.last(slot), plan.last(slot.plus_millis(-1))), (Some(slot), None));
}

#[test]
fn of_a_long_interval_only_the_newest_are_computed() {
    let plan = Plan::parse(&cron("* * * * * *", "Europe/Berlin")).unwrap();
    let (from, to) = (moment("1990-01-01T00:00:00Z"), moment("2026-01-01T00:00:00Z"));
    let Slots { slots, has_older } = plan.slots(from, to, 3);
    assert!(has_older);
    assert_eq!(slots, [to.plus_millis(-2_000), to.plus_millis(-1_000), to]);
    let exact = plan.slots(to.plus_millis(-2_000), to, 2);
    assert_eq!((exact.slots.len(), exact.has_older), (2, false));
}

#[test]
fn a_pattern_whose_years_are_over_has_no_next_slot() {
    let plan = Plan::parse(&cron("0 0 0 1 1 * 2020", "Asia/Tokyo")).unwrap();
    assert_eq!(plan.next(moment("2026-01-01T00:00:00Z")), None);
    assert_eq!(plan.last(moment("2026-01-01T00:00:00Z")), Some(moment("2020-01-01T00:00:00+09:00")));
}

#[test]
fn in_words() {
    for (source, words) in [
        (cron("0 3 * * *", "Europe/Berlin"), "at 03:00, Europe/Berlin"),
        (every("90s"), "every 1m 30s"),
        (at("2030-01-31T08:00:00+01:00"), "once at 2030-01-31T07:00:00Z"),
    ] {
        assert_eq!(describe(&source).unwrap(), words);
    }
}

const ZONES: [&str; 6] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Africa/Casablanca",
];

fn pattern() -> impl Strategy<Value = (String, bool)> {
    let number = |max: u32| (0..=max).prop_map(|n| n.to_string());
    let second = prop_oneof![Just("0".to_owned()), number(59)];
    let minute =
        prop_oneof![Just("*/20".to_owned()), Just("*".to_owned()), number(59), Just("0,30".to_owned())];
    let hour = prop_oneof![Just("*".to_owned()), Just("*/2".to_owned()), number(23), Just("1-3".to_owned())];
    let day = prop_oneof![4 => Just("*".to_owned()), 1 => (1..=28_u32).prop_map(|n| n.to_string())];
    (second, minute, hour, day).prop_map(|(second, minute, hour, day)| {
        let is_wildcard = minute.contains('*') || hour.contains('*');
        (format!("{second} {minute} {hour} {day} * *"), is_wildcard)
    })
}

/// Reads the zone's clock second by second: the slots after `from` and up to `until`, by the rules as they are written.
fn by_the_clock(pattern: &str, is_wildcard: bool, zone: &TimeZone, from: i64, until: i64) -> Vec<i64> {
    let pattern = croner::parser::CronParser::new().parse(pattern).unwrap();
    let shown = |second: i64| zone.to_datetime(jiff::Timestamp::from_second(second).unwrap());
    let matches = |shown: jiff::civil::DateTime| pattern.is_time_matching(&shown).unwrap();
    let mut slots = Vec::new();
    // What the clock has shown or passed over already; some hours before the interval may be repeated in it.
    let mut furthest = shown(from - 7_200);
    for second in from - 7_199..=until {
        let now = shown(second);
        let fires = if is_wildcard {
            matches(now)
        } else {
            let mut passed = false;
            while furthest < now {
                furthest = furthest.checked_add(jiff::SignedDuration::from_secs(1)).unwrap();
                passed |= matches(furthest);
            }
            passed
        };
        if fires && second > from {
            slots.push(second);
        }
    }
    slots
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn no_slot_is_missed_added_or_repeated(
        (pattern, is_wildcard) in pattern(),
        zone in proptest::sample::select(&ZONES[..]),
        change in 0_usize..8,
        before in 0_i64..30_000,
        length in 0_i64..50_000,
    ) {
        let tz = TimeZoneDatabase::bundled().get(zone).unwrap();
        let begin: jiff::Timestamp = "2015-01-01T00:00:00Z".parse().unwrap();
        let changes = tz.following(begin).nth(change).map_or(begin, |change| change.timestamp());
        let from = changes.as_second() - before;
        let expected = by_the_clock(&pattern, is_wildcard, &tz, from, from + length);

        let plan = Plan::parse(&cron(&pattern, zone)).unwrap();
        let (from, until) = (Timestamp(from * 1_000), Timestamp((from + length) * 1_000));
        let upcoming: Vec<i64> =
            plan.upcoming(from).take_while(|slot| *slot <= until).map(|slot| slot.as_millis() / 1_000).collect();
        prop_assert_eq!(&upcoming, &expected, "{} in {}", pattern, zone);
        let back: Vec<i64> =
            plan.slots(from, until, usize::MAX).slots.iter().map(|slot| slot.as_millis() / 1_000).collect();
        prop_assert_eq!(back, expected, "backwards: {} in {}", pattern, zone);
    }

    #[test]
    fn from_any_moment_the_next_slot_is_the_first_ahead(
        (pattern, _) in pattern(),
        zone in proptest::sample::select(&ZONES[..]),
        begin in 0_i64..4_000_000_000_000,
        part in 0.0_f64..1.0,
    ) {
        let plan = Plan::parse(&cron(&pattern, zone)).unwrap();
        let begin = Timestamp(begin);
        let slot = plan.next(begin).unwrap();
        prop_assert!(slot > begin);
        // From anywhere before it, it is the next; at it, it is the last.
        let between = begin.plus_millis(((slot.as_millis() - begin.as_millis() - 1) as f64 * part) as i64);
        prop_assert_eq!(plan.next(between), Some(slot));
        prop_assert_eq!(plan.last(slot), Some(slot));
        prop_assert!(plan.last(between).is_none_or(|last| last <= begin));
        prop_assert!(plan.next(slot).is_none_or(|next| next > slot));
    }

    #[test]
    fn no_text_makes_it_panic(cron_text in ".{0,40}", fields in "[0-9*,/#LW+?@A-Z -]{0,30}", zone in ".{0,20}") {
        for text in [&cron_text, &fields] {
            let _ = Plan::parse(&cron(text, "UTC")).map(|plan| plan.next(Timestamp(0)));
            let _ = Plan::parse(&every(text));
            let _ = Plan::parse(&at(text));
        }
        let _ = Plan::parse(&cron("0 0 * * *", &zone));
    }
}
