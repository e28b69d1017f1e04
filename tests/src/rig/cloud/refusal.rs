//! Errors in the shape of each protocol, and answers.

use serde_json::{Value, json};

use super::super::http::Response;
use super::call::Protocol;

/// An error that the caller is answered.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) message: String,
}

/// What an operation gives.
pub(super) type Answer = Result<Response, Refusal>;

impl Refusal {
    /// The caller's mistake.
    pub(super) fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            status: 400,
            code: code.into(),
            message: message.into(),
        }
    }

    /// A parameter out of its bounds.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new("ValidationException", message)
    }

    /// Too many requests, as each service says it.
    pub(super) fn throttled(protocol: Protocol) -> Self {
        let (status, code, message) = match protocol {
            Protocol::Json => (400, "ThrottlingException", "Rate exceeded"),
            Protocol::Ec2 => (503, "RequestLimitExceeded", "Request limit exceeded."),
            Protocol::Query => (400, "Throttling", "Rate exceeded"),
            Protocol::S3 => (503, "SlowDown", "Please reduce your request rate."),
        };
        Self {
            status,
            ..Self::new(code, message)
        }
    }

    /// The answer that a client of this protocol understands.
    pub(super) fn response(&self, protocol: Protocol) -> Response {
        let (code, message) = (escape(&self.code), escape(&self.message));
        let text = match protocol {
            Protocol::Json => {
                let body = json!({"__type": self.code, "message": self.message});
                return json_response(self.status, &body);
            }
            Protocol::Ec2 => format!(
                "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>\
                 <RequestID>{REQUEST_ID}</RequestID></Response>"
            ),
            Protocol::Query => {
                let side = if self.status < 500 {
                    "Sender"
                } else {
                    "Receiver"
                };
                format!(
                    "<ErrorResponse><Error><Type>{side}</Type><Code>{code}</Code><Message>{message}</Message></Error>\
                     <RequestId>{REQUEST_ID}</RequestId></ErrorResponse>"
                )
            }
            Protocol::S3 => format!(
                "<Error><Code>{code}</Code><Message>{message}</Message><RequestId>{REQUEST_ID}</RequestId></Error>"
            ),
        };
        xml_response(self.status, text)
    }
}

/// Requests are told apart by the log, not by their ids.
pub(super) const REQUEST_ID: &str = "00000000-0000-4000-8000-000000000000";

pub(super) fn json_response(status: u16, body: &Value) -> Response {
    answer(status, "application/x-amz-json-1.1", body.to_string())
}

pub(super) fn xml_response(status: u16, body: String) -> Response {
    answer(status, "text/xml;charset=UTF-8", body)
}

fn answer(status: u16, kind: &str, body: String) -> Response {
    let headers = [("content-type", kind), ("x-amzn-requestid", REQUEST_ID)];
    Response {
        status,
        headers: headers
            .map(|(name, value)| (name.into(), value.into()))
            .into(),
        body: body.into_bytes(),
    }
}

/// Text between tags.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
