//! Answers as the gateway writes them.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response,
    header::{CONTENT_TYPE, DATE, HeaderValue, LOCATION, RETRY_AFTER},
};
use serde_json::{Value, json};

const JSON: &str = "application/json;charset=utf-8";
const XML: &str = "application/xml";

/// The gateway, or the service behind it, says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: Cow<'static, str>,
    pub(super) message: Cow<'static, str>,
    /// `x-acs-retry-after`, in milliseconds on the wire.
    pub(super) retry_after: Option<Duration>,
}

impl Refusal {
    pub(super) fn new(status: u16, code: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code: code.into(), message: message.into(), retry_after: None }
    }

    /// Too many calls. 403 as the API's page has it, not the 400 of the gateway's page.
    pub(super) fn throttled(retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..Self::new(403, "Throttling.Api", "The API call was throttled.") }
    }

    /// The API's page, 500.
    pub(super) fn internal_error() -> Self {
        Self::new(500, "InternalError", "An internal system error occurred. Contact technical support for assistance.")
    }
}

/// One answer, complete but for what the connection adds.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    /// The `Code` in the body, for the journal.
    pub(super) code: String,
    pub(super) body: Bytes,
    content_type: &'static str,
    request_id: String,
    retry_after: Option<Duration>,
    /// Something on the way answers in the service's place.
    is_foreign: bool,
}

/// The two things that every body repeats of its request.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) request_id: String,
    pub(super) host: String,
    pub(super) dialect: ErrorFormat,
}

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorFormat {
    /// JSON.
    Gateway,
    /// XML.
    ObjectStore,
}

impl Caller {
    pub(super) fn new(host: String, dialect: ErrorFormat) -> Self {
        Self { request_id: uuid::Uuid::new_v4().hyphenated().to_string().to_uppercase(), host, dialect }
    }

    /// The action's own fields alone.
    pub(super) fn give(&self, fields: Vec<(&'static str, Value)>) -> Reply {
        let mut body = json!({"RequestId": self.request_id});
        if let Value::Object(map) = &mut body {
            map.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), value)));
        }
        self.reply(200, "Success", body.to_string(), JSON)
    }

    /// XML, or nothing.
    pub(super) fn page(&self, status: u16, xml: String) -> Reply {
        self.reply(status, "Success", xml, XML)
    }

    /// `Code: Success` and the action's own fields.
    pub(super) fn succeed(&self, fields: Vec<(&'static str, Value)>) -> Reply {
        let mut body = json!({"RequestId": self.request_id, "Code": "Success", "Message": "success"});
        if let Value::Object(map) = &mut body {
            map.extend(fields.into_iter().map(|(name, value)| (name.to_owned(), value)));
        }
        self.reply(200, "Success", body.to_string(), JSON)
    }

    pub(super) fn refuse(&self, refusal: &Refusal) -> Reply {
        match self.dialect {
            ErrorFormat::Gateway => self.refuse_as_gateway(refusal),
            ErrorFormat::ObjectStore => {
                let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                let xml = format!(
                    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{}</Code><Message>{}</Message>\
                     <RequestId>{}</RequestId><HostId>{}</HostId></Error>",
                    escape(&refusal.code),
                    escape(&refusal.message),
                    self.request_id,
                    escape(&self.host),
                );
                self.reply(refusal.status, &refusal.code, xml, XML)
            }
        }
    }

    fn refuse_as_gateway(&self, refusal: &Refusal) -> Reply {
        let body = json!({
            "RequestId": self.request_id,
            "HostId": self.host,
            "Code": refusal.code,
            "Message": refusal.message,
            "Recommend": format!("https://api.alibabacloud.com/troubleshoot?q={}", refusal.code),
        });
        let reply = self.reply(refusal.status, &refusal.code, body.to_string(), JSON);
        Reply { retry_after: refusal.retry_after, ..reply }
    }

    /// What a proxy on the way says in the service's place.
    pub(super) fn foreign_page(&self, status: u16, retry_after: Option<Duration>) -> Reply {
        let reason = hyper::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
        let title = format!("{status} {}", reason.unwrap_or_default());
        let page =
            format!("<html>\r\n<head><title>{title}</title></head>\r\n<body><h1>{title}</h1></body>\r\n</html>\r\n");
        Reply { retry_after, is_foreign: true, ..self.reply(status, "html", page, "text/html") }
    }

    /// 200, and a body that no JSON reader takes.
    pub(super) fn garbage(&self) -> Reply {
        self.reply(200, "unreadable", "{\"RequestId\":\"\u{0}}}}}".to_owned(), JSON)
    }

    fn reply(&self, status: u16, code: &str, body: String, content_type: &'static str) -> Reply {
        Reply {
            status,
            code: code.to_owned(),
            body: body.into(),
            content_type,
            request_id: self.request_id.clone(),
            retry_after: None,
            is_foreign: false,
        }
    }
}

impl Reply {
    /// As hyper sends it.
    pub(super) fn into_response(self, date: &str) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() =
            hyper::StatusCode::from_u16(self.status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        // Ours and not hyper's: the sandbox's clock may be wrong on purpose.
        let mut own = vec![(DATE.as_str(), date)];
        if !self.is_foreign {
            own.push(("x-acs-request-id", &self.request_id));
        }
        if self.is_foreign && (300..400).contains(&self.status) {
            own.push((LOCATION.as_str(), "http://sign-in.invalid/"));
        }
        for (name, value) in own {
            if let (Ok(name), Ok(value)) = (hyper::header::HeaderName::try_from(name), HeaderValue::from_str(value)) {
                headers.insert(name, value);
            }
        }
        match self.retry_after {
            None => {}
            Some(wait) if self.is_foreign => drop(headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs()))),
            Some(wait) => {
                let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                headers.insert("x-acs-retry-after", HeaderValue::from(ms));
            }
        }
        response
    }

    /// The same with half of its body, as bytes on the wire: `Content-Length` promises the whole.
    pub(super) fn into_cut_bytes(self, date: &str) -> Vec<u8> {
        let head = format!(
            "HTTP/1.1 {} OK\r\nContent-Type: {}\r\nDate: {date}\r\nContent-Length: {}\r\n\r\n",
            self.status,
            self.content_type,
            self.body.len()
        );
        [head.as_bytes(), &self.body[..self.body.len() / 2]].concat()
    }
}
