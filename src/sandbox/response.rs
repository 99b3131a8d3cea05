//! Responses in the formats of the gateway and of the object store.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response,
    header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderValue, LOCATION, RETRY_AFTER},
};
use serde_json::{Value, json};

const JSON: &str = "application/json;charset=utf-8";
const XML: &str = "application/xml";

/// JSON fields of a response.
pub(super) type Fields = Vec<(&'static str, Value)>;

/// An error response of the gateway or of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) status: u16,
    pub(super) code: Cow<'static, str>,
    pub(super) message: Cow<'static, str>,
    /// `x-acs-retry-after`, which is sent in milliseconds.
    pub(super) retry_after: Option<Duration>,
}

impl ApiError {
    pub(super) fn new(status: u16, code: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code: code.into(), message: message.into(), retry_after: None }
    }

    /// Throttled call: 403 as on the API's page, not the 400 of the gateway's page.
    pub(super) fn throttled(retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..Self::new(403, "Throttling.Api", "The API call was throttled.") }
    }

    /// Internal error, 500 as on the API's page.
    pub(super) fn internal_error() -> Self {
        Self::new(500, "InternalError", "An internal system error occurred. Contact technical support for assistance.")
    }
}

/// A response without the headers that the connection adds.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    /// `Code` in the body, for the journal.
    pub(super) code: String,
    pub(super) body: Bytes,
    content_type: &'static str,
    /// Other headers.
    headers: Vec<(&'static str, String)>,
    format: ErrorFormat,
    request_id: String,
    retry_after: Option<Duration>,
    /// Whether a proxy responds in place of the service.
    is_from_proxy: bool,
}

/// Builds the responses to one request.
#[derive(Debug, Clone)]
pub(super) struct Responder {
    pub(super) request_id: String,
    pub(super) host: String,
    pub(super) format: ErrorFormat,
}

/// Format of error responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorFormat {
    /// JSON of the gateway.
    Gateway,
    /// XML of the object store.
    ObjectStore,
}

impl Responder {
    pub(super) fn new(host: String, format: ErrorFormat) -> Self {
        Self { request_id: uuid::Uuid::new_v4().hyphenated().to_string().to_uppercase(), host, format }
    }

    /// `RequestId` and the action's fields, without a `Code`.
    pub(super) fn bare(&self, fields: Fields) -> Reply {
        self.json(json!({"RequestId": self.request_id}), fields)
    }

    /// XML body, possibly empty.
    pub(super) fn xml(&self, status: u16, xml: String) -> Reply {
        self.reply(status, "Success", xml, XML)
    }

    /// An object with its headers.
    pub(super) fn object(
        &self,
        headers: Vec<(&'static str, String)>,
        bytes: Bytes,
        content_type: &'static str,
    ) -> Reply {
        let is_part = headers.iter().any(|(name, _)| *name == "content-range");
        let status = if is_part { 206 } else { 200 };
        Reply { headers, body: bytes, ..self.reply(status, "Success", String::new(), content_type) }
    }

    /// `Code: Success` and the action's fields.
    pub(super) fn success(&self, fields: Fields) -> Reply {
        self.json(json!({"RequestId": self.request_id, "Code": "Success", "Message": "success"}), fields)
    }

    fn json(&self, mut body: Value, fields: Fields) -> Reply {
        if let Value::Object(map) = &mut body {
            map.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), value)));
        }
        self.reply(200, "Success", body.to_string(), JSON)
    }

    pub(super) fn error(&self, error: &ApiError) -> Reply {
        match self.format {
            ErrorFormat::Gateway => self.gateway_error(error),
            ErrorFormat::ObjectStore => {
                let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                let xml = format!(
                    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{}</Code><Message>{}</Message>\
                     <RequestId>{}</RequestId><HostId>{}</HostId></Error>",
                    escape(&error.code),
                    escape(&error.message),
                    self.request_id,
                    escape(&self.host),
                );
                self.reply(error.status, &error.code, xml, XML)
            }
        }
    }

    fn gateway_error(&self, error: &ApiError) -> Reply {
        let body = json!({
            "RequestId": self.request_id,
            "HostId": self.host,
            "Code": error.code,
            "Message": error.message,
            "Recommend": format!("https://api.alibabacloud.com/troubleshoot?q={}", error.code),
        });
        let reply = self.reply(error.status, &error.code, body.to_string(), JSON);
        Reply { retry_after: error.retry_after, ..reply }
    }

    /// HTML error page of a proxy in place of the service's response.
    pub(super) fn proxy_page(&self, status: u16, retry_after: Option<Duration>) -> Reply {
        let reason = hyper::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
        let title = format!("{status} {}", reason.unwrap_or_default());
        let page =
            format!("<html>\r\n<head><title>{title}</title></head>\r\n<body><h1>{title}</h1></body>\r\n</html>\r\n");
        Reply { retry_after, is_from_proxy: true, ..self.reply(status, "html", page, "text/html") }
    }

    /// 200 with a body that is not valid JSON.
    pub(super) fn unreadable(&self) -> Reply {
        self.reply(200, "unreadable", "{\"RequestId\":\"\u{0}}}}}".to_owned(), JSON)
    }

    fn reply(&self, status: u16, code: &str, body: String, content_type: &'static str) -> Reply {
        Reply {
            status,
            code: code.to_owned(),
            body: body.into(),
            content_type,
            headers: Vec::new(),
            format: self.format,
            request_id: self.request_id.clone(),
            retry_after: None,
            is_from_proxy: false,
        }
    }
}

impl Reply {
    /// Converts to a hyper response.
    pub(super) fn into_response(self, date: &str) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() =
            hyper::StatusCode::from_u16(self.status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        // Set here rather than by hyper, because the sandbox's clock may be wrong on purpose.
        if let Ok(date) = HeaderValue::from_str(date) {
            headers.insert(DATE, date);
        }
        if !self.is_from_proxy
            && let Ok(id) = HeaderValue::from_str(&self.request_id)
        {
            let name = match self.format {
                ErrorFormat::Gateway => "x-acs-request-id",
                ErrorFormat::ObjectStore => "x-oss-request-id",
            };
            headers.insert(name, id);
        }
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
        if self.is_from_proxy && (300..400).contains(&self.status) {
            headers.insert(LOCATION, HeaderValue::from_static("http://sign-in.invalid/"));
        }
        match self.retry_after {
            None => {}
            Some(wait) if self.is_from_proxy => drop(headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs()))),
            Some(wait) => {
                let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                headers.insert("x-acs-retry-after", HeaderValue::from(ms));
            }
        }
        response
    }

    /// Wire bytes of the response with half of its body; `Content-Length` announces all of it.
    pub(super) fn into_truncated_bytes(self, date: &str) -> Vec<u8> {
        let body = self.body.clone();
        let response = self.into_response(date);
        let mut bytes = format!("HTTP/1.1 {}\r\n", response.status()).into_bytes();
        for (name, value) in response.headers().iter().filter(|(name, _)| *name != CONTENT_LENGTH) {
            bytes.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        bytes.extend(format!("content-length: {}\r\n\r\n", body.len()).into_bytes());
        bytes.extend(&body[..body.len() / 2]);
        bytes
    }
}
