//! No answer makes the classification panic, and only one that says so plainly is a success.
#![no_main]

use face_enroll::{
    api::{Classification, RawResponse, classify},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, &[u8])| {
    let (status, body) = input;
    let answer = RawResponse { status, body: Some(bytes::Bytes::copy_from_slice(body)), ..RawResponse::default() };
    if let Classification::Response(Ok(_)) = classify(&answer) {
        let text = std::str::from_utf8(body).expect("JSON is UTF-8");
        assert!((200..300).contains(&status) && text.contains("Success") && text.contains('Y'));
    }
});
