//! The answer to ListObjectsV2.

use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::ObjectError;

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    /// Key of the object.
    pub key: String,
    /// Size in bytes.
    pub size: u64,
    /// ETag, in quotes; changes with the content.
    pub etag: String,
}

/// One page of a listing, in the order of the keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectPage {
    /// Objects of the page.
    pub objects: Vec<ListedObject>,
    /// Token of the next page; `None` on the last one.
    pub next: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ListBucketResult {
    #[serde(rename = "EncodingType")]
    encoding: Option<String>,
    #[serde(rename = "IsTruncated")]
    is_truncated: bool,
    #[serde(rename = "NextContinuationToken")]
    next: Option<String>,
    #[serde(rename = "Contents", default)]
    contents: Vec<Contents>,
}

#[derive(Debug, Deserialize)]
struct Contents {
    #[serde(rename = "Key")]
    key: String,
    #[serde(rename = "ETag")]
    etag: String,
    #[serde(rename = "Size")]
    size: u64,
}

impl ObjectPage {
    pub(super) fn parse(body: &[u8]) -> Result<Self, ObjectError> {
        let unreadable = |why: &str| ObjectError::failed(format!("unreadable listing of object storage: {why}"));
        let text = str::from_utf8(body).map_err(|_| unreadable("not UTF-8"))?;
        // A page of a proxy must not count as an empty bucket.
        if !text.contains("<ListBucketResult") {
            return Err(unreadable("not a listing"));
        }
        let result: ListBucketResult = quick_xml::de::from_str(text).map_err(|error| unreadable(&error.to_string()))?;
        if result.encoding.as_deref() != Some("url") {
            return Err(unreadable("its keys are not encoded as asked"));
        }
        let next = result.next.filter(|token| !token.is_empty());
        if result.is_truncated && next.is_none() {
            return Err(unreadable("it goes on but does not say where"));
        }
        let decode = |Contents { key, etag, size }| {
            let key = percent_decode_str(&key).decode_utf8().map_err(|_| unreadable("a key is not UTF-8"))?;
            Ok(ListedObject { key: key.into_owned(), size, etag })
        };
        let objects = result.contents.into_iter().map(decode).collect::<Result<_, ObjectError>>()?;
        Ok(Self { objects, next: next.filter(|_| result.is_truncated) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_is_parsed_with_decoded_keys() {
        let xml = r#"<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://doc.oss-cn-hangzhou.aliyuncs.com">
  <Name>faces</Name><Prefix>a%2F</Prefix><MaxKeys>2</MaxKeys><EncodingType>url</EncodingType>
  <IsTruncated>true</IsTruncated><NextContinuationToken>CgJ+/==</NextContinuationToken>
  <Contents><Key>a%2Fb+c%20%E5%BC%A0%26.jpg</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>
    <ETag>"5B3C1A2E053D763E1B002CC607C5A0FE"</ETag><Type>Normal</Type><Size>344606</Size>
    <StorageClass>Standard</StorageClass></Contents>
  <Contents><Key>a%2Fd</Key><ETag>&quot;X-2&quot;</ETag><Size>0</Size></Contents>
  <KeyCount>2</KeyCount>
</ListBucketResult>"#;
        let page = ObjectPage::parse(xml.as_bytes()).unwrap();
        let object = |key: &str, size, etag: &str| ListedObject { key: key.into(), size, etag: etag.into() };
        assert_eq!(
            page.objects,
            [object("a/b+c 张&.jpg", 344_606, "\"5B3C1A2E053D763E1B002CC607C5A0FE\""), object("a/d", 0, "\"X-2\"")]
        );
        assert_eq!(page.next.as_deref(), Some("CgJ+/=="));
    }

    #[test]
    fn page_of_a_proxy_is_no_empty_bucket() {
        for page in [
            "",
            "<html>sign in</html>",
            "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>",
            "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated></ListBucketResult>",
            "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>false",
        ] {
            assert!(matches!(ObjectPage::parse(page.as_bytes()), Err(ObjectError::Failed(_))), "{page}");
        }
    }
}
