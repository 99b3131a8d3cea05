//! No workbook makes the reader panic, go on for ever, or give a row that is out of order.
#![no_main]

use face_enroll::manifest::{Compression, Format, FileFormat};
use libfuzzer_sys::fuzz_target;

mod rows;

fuzz_target!(|bytes: &[u8]| rows::check(bytes, FileFormat { format: Format::Sheet, compression: Compression::None }));
