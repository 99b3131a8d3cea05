//! No JSON Lines and no JSON make the reader panic, go on for ever, or give a row that is not in the file.
#![no_main]

use face_enroll::manifest::{Compression, Format, FileFormat};
use libfuzzer_sys::fuzz_target;

mod rows;

fuzz_target!(|bytes: &[u8]| {
    rows::check(bytes, FileFormat { format: Format::JsonLines, compression: Compression::None });
    rows::check(bytes, FileFormat { format: Format::Json, compression: Compression::None });
});
