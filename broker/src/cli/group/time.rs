//! Times as people write them. Pure.

/// Milliseconds since 1970 of an RFC 3339 time (`2026-11-25T20:00:00Z`, `2026-11-25T21:00:00.5+01:00`), or of a number
/// of milliseconds.
///
/// # Errors
/// If it is neither; the text says what to give.
pub(super) fn timestamp_ms(text: &str) -> Result<i64, String> {
    let parsed = match text.parse::<i64>() {
        Ok(ms) => Some(ms).filter(|ms| *ms >= 0),
        Err(_) => rfc3339_ms(text).filter(|ms| *ms >= 0),
    };
    parsed.ok_or_else(|| "give a time since 1970 as 2026-11-25T20:00:00Z, or in milliseconds".to_owned())
}

fn rfc3339_ms(text: &str) -> Option<i64> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = rest.split_at(zone_at);
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let days_of_month = match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    };
    // A leap second is the next minute's first.
    let is_time = (1..=12).contains(&month)
        && (1..=days_of_month).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60
        && !fraction.is_empty()
        && fraction.bytes().all(|byte| byte.is_ascii_digit());
    if !is_time {
        return None;
    }
    let milliseconds: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let east_minutes = match zone {
        "Z" | "z" => 0,
        zone => {
            let sign = if zone.starts_with('-') { -1 } else { 1 };
            let [hours, minutes] = numbers(zone.get(1..)?, ':', [2, 2])?;
            if hours > 23 || minutes > 59 {
                return None;
            }
            sign * (hours * 60 + minutes)
        }
    };
    let seconds =
        days_since_1970(year, month, day) * 86_400 + (hour * 60 + minute - east_minutes) * 60 + second;
    Some(seconds * 1_000 + milliseconds)
}

/// Numbers of so many digits.
fn numbers<const COUNT: usize>(text: &str, separator: char, digits: [usize; COUNT]) -> Option<[i64; COUNT]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; COUNT];
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = parts.next()?;
        if part.len() != digits || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

/// Days of the Gregorian calendar. Years are counted from March, so that the leap day is a year's last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let years = if month > 2 { year } else { year - 1 };
    let leap_days = years.div_euclid(4) - years.div_euclid(100) + years.div_euclid(400);
    let months_since_march = (month + 9) % 12;
    let day_of_year = (153 * months_since_march + 2) / 5 + day - 1;
    // 1 March of year 0 is so many days before 1970.
    years * 365 + leap_days + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, expected) in [
            ("0", 0),
            ("1764100800000", 1_764_100_800_000),
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00.25z", 951_825_600_250),
            ("2025-11-25T20:00:00Z", 1_764_100_800_000),
            ("2025-11-25T21:30:00.0019+01:30", 1_764_100_800_001),
            ("2025-11-25 15:00:00-05:00", 1_764_100_800_000),
            ("2024-12-31T23:59:60Z", 1_735_689_600_000),
        ] {
            assert_eq!(timestamp_ms(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "-1",
            "yesterday",
            "2025-11-25",
            "2025-11-25T20:00:00",
            "2025-13-01T00:00:00Z",
            "2025-02-29T00:00:00Z",
            "2025-11-25T24:00:00Z",
            "2025-11-25T20:00:00.Z",
            "2025-11-25T20:00:00+1",
            "1969-12-31T23:59:59Z",
            "2025-11-25T20:00:00Zx",
        ] {
            assert!(timestamp_ms(text).is_err(), "{text}");
        }
    }
}
