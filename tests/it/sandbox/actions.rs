//! Actions as described by their API pages.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD};
use face_enroll::sandbox::{Groups, Sandbox, Settings};
use sha2::{Digest, Sha256};

use super::client::{GROUP, JPEG, Request};

async fn open() -> Sandbox {
    Sandbox::start(Settings::default()).await.unwrap()
}

#[tokio::test]
async fn added_record_has_digest_and_is_queryable() {
    let sandbox = open().await;
    let response = Request::add(&sandbox, "u1").send(&sandbox).await;
    let json = response.json();
    assert_eq!(
        (response.status, json["Code"].as_str(), json["Message"].as_str()),
        (200, Some("Success"), Some("success"))
    );
    assert_eq!(json["Result"]["Passed"], "Y");
    assert_eq!(json["Result"]["ExtFaceInfo"], r#"{"faceQuality":"HIGH"}"#);

    let records = sandbox.records();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].picture.unwrap().to_string(), hex::encode(Sha256::digest(JPEG)));
    assert_eq!(records[0].picture_bytes, Some(JPEG.len() as u64));
    let found = Request::find(&sandbox, "u1").send(&sandbox).await.json();
    let item = &found["Items"][0];
    assert_eq!(
        (&found["TotalCount"], &item["Id"], &item["MerchantUserId"]),
        (&1.into(), &records[0].id.into(), &"u1".into())
    );
    assert_eq!(item["RegistrationType"], "MANUAL");
    let created: jiff::Timestamp = item["GmtCreate"].as_str().unwrap().parse().unwrap();
    assert_eq!(created.as_second(), records[0].created.as_second());
}

#[tokio::test]
async fn portrait_arrives_byte_for_byte() {
    let sandbox = open().await;
    let portrait = include_bytes!("../../photos/portrait.jpg");
    let request = Request::add(&sandbox, "u1").form("FacePicture", &STANDARD.encode(portrait));
    assert_eq!(request.send(&sandbox).await.status, 200);
    assert_eq!(sandbox.records()[0].picture.unwrap().to_string(), hex::encode(Sha256::digest(portrait)));
    assert_eq!(sandbox.journal()[0].picture, sandbox.records()[0].picture);
}

#[tokio::test]
async fn second_call_creates_a_second_record() {
    let sandbox = open().await;
    for _ in 0..2 {
        assert_eq!(Request::add(&sandbox, "u1").send(&sandbox).await.code(), "Success");
    }
    assert_eq!(Request::find(&sandbox, "u1").send(&sandbox).await.total(), 2);
}

#[tokio::test]
async fn ids_of_any_script_round_trip() {
    let sandbox = open().await;
    for user in ["张 三", "a+b/c=~*&%", "é!'()", "x  y", &"张".repeat(32)] {
        assert_eq!(Request::add(&sandbox, user).send(&sandbox).await.status, 200, "{user}");
        let found = Request::find(&sandbox, user).send(&sandbox).await.json();
        assert_eq!(found["Items"][0]["MerchantUserId"], user);
        assert_eq!(found["TotalCount"], 1, "{user}");
    }
}

#[tokio::test]
async fn photo_url_is_recorded_but_not_fetched() {
    let sandbox = open().await;
    let request =
        Request::add(&sandbox, "u1").form("FacePicture", "").form("FacePictureUrl", "http://127.0.0.1:1/a.jpg?x=1");
    assert_eq!(request.send(&sandbox).await.status, 200);
    assert_eq!((sandbox.records()[0].picture, sandbox.records()[0].picture_bytes), (None, None));
}

#[tokio::test]
async fn pages_cover_every_record_once() {
    let sandbox = open().await;
    for n in 0..7 {
        sandbox.insert_record(GROUP, &format!("u{n}"), jiff::Timestamp::UNIX_EPOCH).unwrap();
    }
    let mut seen = Vec::new();
    for number in 1..=4 {
        let page = Request::page(&sandbox, number, 3).send(&sandbox).await.json();
        assert_eq!((page["TotalCount"].as_u64(), page["TotalPage"].as_u64()), (Some(7), Some(3)));
        assert_eq!((page["CurrentPage"].as_u64(), page["PageSize"].as_u64()), (Some(u64::from(number)), Some(3)));
        seen.extend(page["Items"].as_array().unwrap().iter().map(|item| item["Id"].as_i64().unwrap()));
    }
    let ids: Vec<i64> = sandbox.records().iter().map(|record| record.id).collect();
    assert_eq!(seen, ids);
}

#[tokio::test]
async fn query_filters_by_face_and_registration_type() {
    let sandbox = open().await;
    for user in ["u1", "u2"] {
        sandbox.insert_record(GROUP, user, jiff::Timestamp::UNIX_EPOCH).unwrap();
    }
    let face = sandbox.records()[1].face_id.clone();
    let mut request = Request::page(&sandbox, 1, 10).query("FaceId", &face);
    request.method = "GET";
    let found = request.send(&sandbox).await.json();
    assert_eq!((&found["TotalCount"], &found["Items"][0]["MerchantUserId"]), (&1.into(), &"u2".into()));
    assert_eq!(Request::page(&sandbox, 1, 10).query("RegistrationType", "MANUAL").send(&sandbox).await.total(), 2);
    assert_eq!(Request::page(&sandbox, 1, 10).query("RegistrationType", "AUTO").send(&sandbox).await.total(), 0);
}

#[tokio::test]
async fn group_query_lists_existing_groups() {
    let settings = Settings { groups: Groups::only(["g1", "g2"]), ..Settings::default() };
    let sandbox = Sandbox::start(settings).await.unwrap();
    let request =
        |sandbox: &Sandbox| Request::new(sandbox, "QueryFaceGroup").query("CurrentPage", "1").query("PageSize", "10");
    let codes = |json: serde_json::Value| {
        json["Items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["Code"].as_str().unwrap().to_owned())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(codes(request(&sandbox).send(&sandbox).await.json()), BTreeSet::from(["g1".into(), "g2".into()]));
    let one = request(&sandbox).query("GroupCode", "g2").send(&sandbox).await.json();
    assert_eq!((&one["TotalCount"], &one["Items"][0]["Code"]), (&1.into(), &"g2".into()));
    assert_eq!(request(&sandbox).query("GroupCode", "g3").send(&sandbox).await.total(), 0);
    sandbox.set_groups(Groups::only(["g1"]));
    assert_eq!(request(&sandbox).query("GroupCode", "g2").send(&sandbox).await.total(), 0);
}

#[tokio::test]
async fn record_is_deleted_by_id_once() {
    let sandbox = open().await;
    let id = sandbox.insert_record(GROUP, "u1", jiff::Timestamp::UNIX_EPOCH).unwrap();
    for deleted in [1, 0] {
        let request = Request::new(&sandbox, "DeleteFaceRecord").form("Id", &id.to_string());
        assert_eq!(request.send(&sandbox).await.json()["Data"], deleted);
    }
    assert!(sandbox.records().is_empty());
}

#[tokio::test]
async fn delete_without_group_deletes_everywhere() {
    let sandbox = open().await;
    for (group, user) in [("g1", "u1"), ("g1", "u2"), ("g2", "u1"), ("g3", "u1")] {
        sandbox.insert_record(group, user, jiff::Timestamp::UNIX_EPOCH).unwrap();
    }
    let delete = |group: &str| {
        Request::new(&sandbox, "DeleteFaceRecordV2").query("MerchantUserId", "u1").query("FaceGroupCode", group)
    };
    let result = |response: super::client::Response| response.json()["Result"].clone();
    let one = result(delete("g1").send(&sandbox).await);
    assert_eq!((&one["Deleted"], &one["DeletedGroupCodes"]), (&"Y".into(), &"g1".into()));
    let rest = result(delete("").send(&sandbox).await);
    assert_eq!((&rest["Deleted"], &rest["DeletedGroupCodes"]), (&"Y".into(), &"g2,g3".into()));
    assert_eq!(result(delete("").send(&sandbox).await)["Deleted"], "N");
    assert_eq!(sandbox.records().iter().map(|record| record.user.as_str()).collect::<Vec<_>>(), ["u2"]);
}
