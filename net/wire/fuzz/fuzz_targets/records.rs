//! The records inside a batch: the first byte is their count.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::{BatchBuilder, Compression, NewRecord, RecordBatch, records};

fuzz_target!(|data: &[u8]| {
    let [count, section @ ..] = data else { return };
    let count = i32::from(*count as i8);
    let mut read = Vec::new();
    for record in records(section, count) {
        let Ok(record) = record else { return };
        assert_eq!(record.headers.iter().count(), record.headers.len());
        read.push(record);
    }
    assert_eq!(read.len(), count as usize);
    if read.is_empty() {
        return;
    }
    // What was read can be built again.
    let mut builder = BatchBuilder::new(Compression::None);
    for record in &read {
        let headers: Vec<_> = record.headers.iter().collect();
        builder.push(&NewRecord {
            timestamp_ms: record.timestamp_delta_ms,
            key: record.key,
            value: record.value,
            headers: &headers,
        });
    }
    let bytes = builder.build();
    let (batch, rest) = RecordBatch::parse(&bytes).expect("our own batch");
    assert!(rest.is_empty() && batch.verify_crc().is_ok());
    let again = records(batch.records_bytes(), batch.header().record_count);
    for (record, again) in read.iter().zip(again) {
        let again = again.expect("our own record");
        assert_eq!((record.key, record.value), (again.key, again.value));
        assert!(record.headers.iter().eq(again.headers.iter()));
        assert_eq!(
            record.timestamp_delta_ms,
            batch
                .header()
                .base_timestamp_ms
                .wrapping_add(again.timestamp_delta_ms)
        );
    }
});
