//! One request to a service that is not AWS, with a limit on its answer and on the time that it takes.

use std::error::Error;
use std::time::Duration;

use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_runtime_api::client::http::HttpConnector;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;

use crate::{NetworkOptions, Resolver, trust};

/// What is sent where, and what the answer may cost.
#[derive(Debug)]
pub struct Call<'a> {
    /// `http://` or `https://`.
    pub address: &'a str,
    pub content_type: &'static str,
    pub body: Vec<u8>,
    /// Longest answer that is read, in bytes.
    pub limit: usize,
    /// Time for all of it, from the name's resolution to the last byte.
    pub patience: Duration,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    #[error("this is no address: {0}")]
    Address(String),
    #[error("no answer: {0}")]
    Failed(String),
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
}

/// Sends one POST on a connection of its own. Redirections are not followed, and nothing is tried twice.
///
/// # Errors
/// When there is no answer in time, or a longer one. Whatever status an answer has, it is one.
pub async fn post(options: &NetworkOptions, call: Call<'_>) -> Result<Answer, PostError> {
    let patience = call.patience;
    tokio::time::timeout(patience, exchange(options, call))
        .await
        .unwrap_or(Err(PostError::Late(patience)))
}

async fn exchange(options: &NetworkOptions, call: Call<'_>) -> Result<Answer, PostError> {
    let connector = Connector::builder()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(trust(options).map_err(PostError::Failed)?)
        .build_with_resolver(Resolver::new(options));
    let mut request = HttpRequest::new(SdkBody::from(call.body));
    request
        .set_method("POST")
        .and_then(|()| request.set_uri(call.address))
        .map_err(|error| PostError::Address(chain(&error)))?;
    request
        .headers_mut()
        .insert("content-type", call.content_type);
    let response = connector.call(request).await;
    let response = response.map_err(|error| PostError::Failed(chain(&error)))?;
    let status = response.status().as_u16();
    let (mut stream, mut body) = (ByteStream::new(response.into_body()), Vec::new());
    while let Some(piece) = stream
        .try_next()
        .await
        .map_err(|error| PostError::Failed(chain(&error)))?
    {
        if body.len() + piece.len() > call.limit {
            return Err(PostError::TooLong(call.limit));
        }
        body.extend_from_slice(&piece);
    }
    Ok(Answer { status, body })
}

/// The messages of an error and its causes.
fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    let mut messages: Vec<String> = causes.map(ToString::to_string).collect();
    messages.dedup();
    messages.join(": ")
}
