//! Which segments have been kept for long enough, by time and by size: Kafka's `retention.ms` and `retention.bytes`.
//! Pure: what is known of the segments goes in, the log's new start comes out.

/// For how long, and how much of it, a log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retention {
    /// In milliseconds; none: for ever.
    pub(crate) ms: Option<u64>,
    /// In bytes; none: all.
    pub(crate) bytes: Option<u64>,
}

/// What matters of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeptSegment {
    /// The offset after its last.
    pub(crate) end_offset: i64,
    pub(crate) bytes: u32,
    /// The largest of its records, in milliseconds since 1970; -1 without any.
    pub(crate) max_timestamp_ms: i64,
    /// When the newest of its batches was appended, in milliseconds since 1970.
    pub(crate) appended_ms: i64,
}

impl KeptSegment {
    /// From when on it grows old.
    fn age_from_ms(&self, now_ms: i64) -> i64 {
        age_from_ms(self.max_timestamp_ms, self.appended_ms, now_ms)
    }
}

/// From when on something grows old: its timestamp, as in Kafka. Without one, or with one that is in the future, the time of
/// its append; one that is not is believed, even if the clock was behind at the append.
pub(crate) fn age_from_ms(timestamp_ms: i64, appended_ms: i64, now_ms: i64) -> i64 {
    match timestamp_ms {
        timestamp_ms if (0..=now_ms).contains(&timestamp_ms) => timestamp_ms,
        _ => appended_ms,
    }
}

impl Retention {
    /// Where the log begins when all that need not be kept is gone, if that is later than `log_start`. `segments` are
    /// all of the log, oldest first. The oldest go first: while the log without one is still as large as it may be, and
    /// then while each is too old. What is not durable stays.
    pub(crate) fn new_start(
        &self,
        segments: impl Iterator<Item = KeptSegment> + Clone,
        log_start: i64,
        high_watermark: i64,
        now_ms: i64,
    ) -> Option<i64> {
        // Deleted, and its file not removed yet.
        let kept = segments.skip_while(|segment| segment.end_offset <= log_start);
        let mut excess = self.bytes.and_then(|most| {
            let all: u64 = kept.clone().map(|segment| u64::from(segment.bytes)).sum();
            all.checked_sub(most)
        });
        let mut start = None;
        for segment in kept.take_while(|segment| segment.end_offset <= high_watermark) {
            excess = excess.and_then(|excess| excess.checked_sub(u64::from(segment.bytes)));
            let age_ms = now_ms
                .saturating_sub(segment.age_from_ms(now_ms))
                .max(0)
                .unsigned_abs();
            if excess.is_none() && self.ms.is_none_or(|most| age_ms <= most) {
                break;
            }
            start = Some(segment.end_offset);
        }
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;
    const FUTURE: i64 = NOW + 1_000_000_000;

    /// Segments of 100 bytes and 10 offsets: how old their largest timestamp and their newest append are.
    fn segments(ages: &[(i64, i64)]) -> Vec<KeptSegment> {
        (1..)
            .zip(ages)
            .map(|(number, &(timestamp, appended))| KeptSegment {
                end_offset: number * 10,
                bytes: 100,
                max_timestamp_ms: if timestamp == NOW { -1 } else { NOW - timestamp },
                appended_ms: NOW - appended,
            })
            .collect()
    }

    /// The new start of the log with everything durable.
    fn start(ms: Option<u64>, bytes: Option<u64>, ages: &[(i64, i64)], log_start: i64) -> Option<i64> {
        let segments = segments(ages);
        let end = segments.last().map_or(0, |last| last.end_offset);
        let retention = Retention { ms, bytes };
        retention.new_start(segments.iter().copied(), log_start, end, NOW)
    }

    #[test]
    fn by_time() {
        const NONE: i64 = NOW; // no timestamp
        for (ages, new_start) in [
            (&[][..], None),
            (&[(51, 51), (50, 50)], Some(10)),
            // All of it: the last one as well.
            (&[(51, 51), (51, 51)], Some(20)),
            (&[(50, 50)], None),
            // An old record is old, whenever it was appended; a future one is as old as its append.
            (&[(900, 1)], Some(10)),
            // A clock that was behind at the append makes a young record no older.
            (&[(1, 900)], None),
            (&[(50, 51)], None),
            (&[(NOW - FUTURE, 51)], Some(10)),
            (&[(NOW - FUTURE, 50)], None),
            (&[(NONE, 51)], Some(10)),
            (&[(NONE, 50)], None),
            // Only a prefix.
            (&[(10, 10), (99, 99)], None),
            (&[(99, 99), (10, 10), (99, 99)], Some(10)),
        ] {
            assert_eq!(start(Some(50), None, ages, 0), new_start, "{ages:?}");
            assert_eq!(start(None, None, ages, 0), None, "{ages:?} for ever");
        }
        assert_eq!(start(Some(0), None, &[(0, 0)], 0), None, "not older than 0 ms");
        assert_eq!(start(Some(u64::MAX), None, &[(NOW - 1, NOW)], 0), None);
    }

    #[test]
    fn by_size() {
        let four = [(1, 1); 4];
        for (bytes, new_start) in [
            (500, None),
            (400, None),
            (301, None),
            (300, Some(10)),
            (299, Some(10)),
            (101, Some(20)),
            (100, Some(30)),
            (1, Some(30)),
            (0, Some(40)),
        ] {
            assert_eq!(start(None, Some(bytes), &four, 0), new_start, "{bytes} bytes");
        }
    }

    #[test]
    fn what_is_deleted_already_does_not_count() {
        let four = [(60, 60), (60, 60), (1, 1), (1, 1)];
        assert_eq!(start(None, Some(300), &four, 10), None, "300 bytes are left");
        assert_eq!(start(None, Some(200), &four, 10), Some(20));
        assert_eq!(start(Some(50), None, &four, 20), None);
        // Deleted in part: it counts whole, and goes whole.
        assert_eq!(start(None, Some(300), &four, 5), Some(10));
        assert_eq!(start(Some(50), None, &four, 15), Some(20));
    }

    #[test]
    fn size_goes_before_time_and_time_goes_on_where_size_ends() {
        let ages = [(1, 1), (60, 60), (60, 60), (1, 1)];
        assert_eq!(start(Some(50), Some(300), &ages, 0), Some(30));
        assert_eq!(
            start(Some(50), Some(400), &ages, 0),
            None,
            "the first one is young and fits"
        );
        assert_eq!(start(Some(50), Some(250), &ages, 0), Some(30));
    }

    #[test]
    fn what_is_not_durable_stays() {
        let all = segments(&[(60, 60), (60, 60)]);
        for (high_watermark, new_start) in [(20, Some(20)), (19, Some(10)), (10, Some(10)), (9, None)] {
            for retention in [
                Retention {
                    ms: Some(50),
                    bytes: None,
                },
                Retention {
                    ms: None,
                    bytes: Some(0),
                },
            ] {
                let found = retention.new_start(all.iter().copied(), 0, high_watermark, NOW);
                assert_eq!(found, new_start, "{retention:?}, durable up to {high_watermark}");
            }
        }
    }
}
