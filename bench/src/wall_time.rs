//! Dates, for reports.
//!
//! Pure.

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;
/// The last millisecond of the year 9999.
const LAST_MS: i64 = 253_402_300_799_999;

/// The date and time of day (UTC) of so many milliseconds since 1970: year, month, day, hour, minute, second,
/// millisecond. Before 1970 and after the year 9999 it gives these ends.
pub(crate) fn utc(wall_clock_ms: i64) -> [i64; 7] {
    let wall_clock_ms = wall_clock_ms.clamp(0, LAST_MS);
    let (mut days, ms) = (wall_clock_ms / DAY_MS, wall_clock_ms % DAY_MS);
    let is_leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let mut year = 1970;
    while days >= 365 + i64::from(is_leap(year)) {
        days -= 365 + i64::from(is_leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [
        31,
        28 + i64::from(is_leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    [
        year,
        month,
        days + 1,
        ms / 3_600_000,
        ms / 60_000 % 60,
        ms / 1_000 % 60,
        ms % 1_000,
    ]
}

/// To the second: `2026-11-28 19:33:14 UTC`.
pub(crate) fn shown(wall_clock_ms: i64) -> String {
    let [year, month, day, hour, minute, second, _] = utc(wall_clock_ms);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // date -u -d @N
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_709_251_199, "2024-02-29 23:59:59 UTC"),
            (1_735_689_599, "2024-12-31 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
            (-1, "1970-01-01 00:00:00 UTC"),
        ] {
            assert_eq!(shown(seconds * 1_000), expected);
        }
        assert_eq!(utc(i64::MAX)[0], 9999);
    }
}
