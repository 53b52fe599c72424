//! Records of `__consumer_offsets`: any bytes as key and value. What is read is written again, and reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::group_record::GroupRecord;

fuzz_target!(|data: &[u8]| {
    let Some((&split, bytes)) = data.split_first() else {
        return;
    };
    let (key, value) = bytes.split_at(usize::from(split).min(bytes.len()));
    for value in [Some(value), None] {
        let Ok(Some(record)) = GroupRecord::decode(key, value) else {
            continue;
        };
        let (key, value) = record.encode();
        let Ok(Some(again)) = GroupRecord::decode(&key, value.as_deref()) else {
            panic!("what was written cannot be read");
        };
        let (key_again, value_again) = again.encode();
        assert_eq!((&key, &value), (&key_again, &value_again));
    }
});
