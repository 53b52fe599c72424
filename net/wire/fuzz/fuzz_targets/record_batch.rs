//! Batches, one after the other, as Produce brings them and a log's file holds them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::RecordBatch;
use wire::record_batch::{BATCH_HEADER_BYTES, assign_log_append_time, assign_offset, batches};

fuzz_target!(|data: &[u8]| {
    let mut bytes_seen = 0;
    for batch in batches(data) {
        let Ok(batch) = batch else { break };
        bytes_seen += batch.bytes().len();
        let header = *batch.header();
        assert_eq!(batch.bytes()[..BATCH_HEADER_BYTES], header.encode());
        assert_eq!(
            batch.records_bytes().len() + BATCH_HEADER_BYTES,
            header.batch_bytes()
        );
        let _ = (
            header.next_offset(),
            header.last_sequence(),
            header.attributes.compression(),
        );
        let good = batch.verify_crc().is_ok();

        let mut copy = batch.bytes().to_vec();
        assign_offset(copy.first_chunk_mut().expect("a batch has a header"), 9, 8);
        let (numbered, _) = RecordBatch::parse(&copy).expect("still a batch");
        assert_eq!(numbered.header().base_offset, 9);
        assert_eq!(numbered.verify_crc().is_ok(), good);
        assign_log_append_time(&mut copy, 5).expect("a batch has a header");
        let (stamped, _) = RecordBatch::parse(&copy).expect("still a batch");
        assert!(stamped.verify_crc().is_ok());
    }
    assert!(bytes_seen <= data.len());
});
