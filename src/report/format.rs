//! Numbers, sizes and times for people.

use std::time::Duration;

use indicatif::HumanCount;

/// `1234567` as `1,234,567`.
pub fn group_digits(n: u64) -> String {
    HumanCount(n).to_string()
}

/// `1 row`, `1,234 rows`, `2 queries`.
pub fn plural(n: u64, what: &str) -> String {
    match what.strip_suffix('y') {
        _ if n == 1 => format!("1 {what}"),
        Some(stem) => format!("{} {stem}ies", group_digits(n)),
        None => format!("{} {what}s", group_digits(n)),
    }
}

/// `1 row is`, `1,234 rows are`.
pub fn plural_is(n: u64, what: &str) -> String {
    format!("{} {}", plural(n, what), if n == 1 { "is" } else { "are" })
}

/// `999 B`, `38 KB`, `1.2 MB`, `9,641 MB`: decimal units, like the service's limits.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} KB", bytes / 1_000),
        1_000_000..100_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        100_000_000.. => format!("{} MB", group_digits(bytes / 1_000_000)),
    }
}

/// Two units at most: `3.4s`, `2m 05s`, `3h 20m`, `2d 04h`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{:.1}s", duration.as_secs_f64()),
        60..3_600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {:02}m", seconds / 3_600, seconds / 60 % 60),
        86_400.. => format!("{}d {:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// Rounds to one decimal.
pub(super) fn one_decimal(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// UTC time in seconds, from milliseconds since 1970.
pub(super) fn utc(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_sizes_and_times_are_formatted() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(group_digits), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([1, 2].map(|n| plural(n, "query")), ["1 query", "2 queries"]);
        assert_eq!([1, 1_234].map(|n| plural_is(n, "row")), ["1 row is", "1,234 rows are"]);
        assert_eq!([999, 38_400, 1_240_000, 9_641_000_000].map(bytes), ["999 B", "38 KB", "1.2 MB", "9,641 MB"]);
        let shown = [3.44, 125.0, 12_000.0, 187_200.0].map(|seconds| duration(Duration::from_secs_f64(seconds)));
        assert_eq!(shown, ["3.4s", "2m 05s", "3h 20m", "2d 04h"]);
    }
}
