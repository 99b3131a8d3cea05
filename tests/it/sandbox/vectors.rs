//! Requests exactly as sent by the official Python SDK, to a sandbox whose clock is set to their time.

use face_enroll::sandbox::{Credentials, Sandbox, Settings};
use jiff::Timestamp;
use serde_json::Value;

use super::client::exchange;

const PYTHON: &str = include_str!("../../vectors/py_vectors.json");

/// A sandbox with the time and the key of this vector.
async fn open_for(vector: &Value) -> Sandbox {
    let text = |name: &str| vector[name].as_str().unwrap().to_owned();
    let date: Timestamp = text("date").parse().unwrap();
    let settings = Settings {
        clock_offset: date.duration_since(Timestamp::now()),
        credentials: Credentials {
            access_key_id: text("access_key_id"),
            access_key_secret: text("access_key_secret"),
            security_token: vector["security_token"].as_str().map(str::to_owned),
        },
        ..Settings::default()
    };
    Sandbox::start(settings).await.unwrap()
}

#[tokio::test]
async fn gateway_accepts_official_requests_once() {
    for vector in serde_json::from_str::<Vec<Value>>(PYTHON).unwrap() {
        let sandbox = open_for(&vector).await;
        let (head, body) = (vector["wire_head"].as_str().unwrap(), vector["body"].as_str().unwrap());
        let wire = |head: &str, body: &str| format!("{head}\r\n\r\n{body}");

        let damaged = [
            wire(&head.replace("x-acs-version: 2022", "x-acs-version: 2023").replace("2019-12", "2018-12"), body),
            wire(&head.replace("accept: application/json", "accept: application/jsoo"), body),
            wire(&head.replace("x-acs-signature-nonce: 3", "x-acs-signature-nonce: 2"), body),
            wire(&head.replace("/?", "/?A=1&").replace("POST / ", "POST /?A=1 "), body),
            wire(head, &body.replace("FACE_ENROLL", "FACE_ENROLM")),
        ];
        for copy in damaged.iter().filter(|copy| **copy != wire(head, body)) {
            let response = exchange(sandbox.address(), copy.as_bytes()).await.unwrap();
            assert_eq!(response.code(), "SignatureDoesNotMatch", "{}: {copy}", vector["name"]);
        }

        // Some vectors have the text 'hello' as their photo: they pass the gateway, but the action rejects them.
        let expected = match vector["name"].as_str().unwrap().split(' ').next().unwrap() {
            "V1" | "V3" => "UnqualifiedPhoto",
            "V2" => "InvalidParameter",
            _ => "Success",
        };
        let response = exchange(sandbox.address(), wire(head, body).as_bytes()).await.unwrap();
        assert_eq!(response.code(), expected, "{}", vector["name"]);
        let again = exchange(sandbox.address(), wire(head, body).as_bytes()).await.unwrap();
        assert_eq!(again.code(), "SignatureNonceUsed", "{}", vector["name"]);
    }
}
