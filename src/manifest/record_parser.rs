//! Parses the fields of one CSV record.

use csv::ByteRecord;

/// Splits a record into fields. A `csv::Reader` per record would cost more than the rest of the reading because of the
/// tables it builds; its underlying state machine can be reused.
pub(super) struct RecordParser {
    machine: csv_core::Reader,
    fields: Vec<u8>,
    ends: Vec<usize>,
    record: ByteRecord,
}

impl RecordParser {
    pub(super) fn new(delimiter: u8) -> Self {
        let machine = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
        Self { machine, fields: Vec::new(), ends: Vec::new(), record: ByteRecord::new() }
    }

    /// The record parsed last.
    pub(super) fn record(&self) -> &ByteRecord {
        &self.record
    }

    /// Parses one record. Its fields are never longer than the record, and at most one more than its bytes.
    pub(super) fn parse(&mut self, bytes: &[u8]) -> &ByteRecord {
        self.fields.resize(bytes.len().max(self.fields.len()), 0);
        self.ends.resize((bytes.len() + 1).max(self.ends.len()), 0);
        self.machine.reset();
        let (mut read, mut written, mut ended) = (0, 0, 0);
        loop {
            let (result, r, w, e) =
                self.machine.read_record(&bytes[read..], &mut self.fields[written..], &mut self.ends[ended..]);
            (read, written, ended) = (read + r, written + w, ended + e);
            // At the end of the input, the next call passes an empty slice, which means the end.
            if !matches!(result, csv_core::ReadRecordResult::InputEmpty) {
                break;
            }
        }
        self.record.clear();
        let mut from = 0;
        for &end in &self.ends[..ended] {
            self.record.push_field(&self.fields[from..end]);
            from = end;
        }
        &self.record
    }
}
