//! What S3 answered, as a failure that a responder can act on.

use std::error::Error;
use std::fmt;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::s3::S3Options;
use super::{Kind, ShipError};

/// The error code of an answer, where there was one.
pub(super) enum Answer<'a> {
    Code(&'a str),
    None,
}

/// The code that the service gave.
pub(super) fn answer<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Answer<'_> {
    error
        .as_service_error()
        .and_then(ProvideErrorMetadata::code)
        .map_or(Answer::None, Answer::Code)
}

/// What kind of failure it is, and what to do.
pub(super) fn classify<E>(
    error: &SdkError<E, HttpResponse>,
    options: &S3Options,
    doing: &str,
) -> ShipError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let chain = chain(error);
    let (kind, what) = match error {
        SdkError::ServiceError(service) => of_service(service.err(), service.raw(), options),
        _ if has_credentials_error(error) => (
            Kind::Credentials,
            "no usable credentials were found: give --credentials-file, or set AWS_ACCESS_KEY_ID and the others".to_owned(),
        ),
        SdkError::TimeoutError(_) => (Kind::Unreachable, "the store does not answer: check the network path to S3".to_owned()),
        SdkError::DispatchFailure(_) if chain.contains("certificate") || chain.contains("InvalidCertificate") => {
            (Kind::Tls, "its TLS certificate is not trusted: give --ca-bundle if it is your own authority's".to_owned())
        }
        SdkError::DispatchFailure(_) => (Kind::Unreachable, unreachable(options, &chain)),
        _ => (Kind::StoreFailed, "the request failed".to_owned()),
    };
    let bucket = &options.bucket;
    ShipError::new(
        kind,
        format!("can not {doing} in bucket {bucket}: {what} ({chain})"),
    )
}

fn unreachable(options: &S3Options, chain: &str) -> String {
    let place = options.endpoint_url.as_deref().unwrap_or("the S3 endpoint");
    let advice = if chain.contains("resolve") {
        "give --nameserver or --endpoint-url"
    } else {
        "check the network path"
    };
    format!("{place} can not be reached: {advice}")
}

fn of_service(
    error: &impl ProvideErrorMetadata,
    response: &HttpResponse,
    options: &S3Options,
) -> (Kind, String) {
    let status = response.status().as_u16();
    let right_region = response.headers().get("x-amz-bucket-region");
    let code = error.code().unwrap_or_default();
    match code {
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "ExpiredToken"
        | "InvalidToken"
        | "TokenRefreshRequired"
        | "RequestTimeTooSkewed" => (
            Kind::Credentials,
            format!("the credentials are refused ({code}): give valid ones"),
        ),
        "AccessDenied" => (
            Kind::Credentials,
            "access is denied: the credentials need s3:PutObject on this prefix".to_owned(),
        ),
        "PermanentRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException" => {
            let region =
                right_region.map_or_else(String::new, |region| format!("; it is in {region}"));
            (
                Kind::Region,
                format!("the bucket is in another region{region}: give --region"),
            )
        }
        _ if status == 301 || status == 307 => {
            let region =
                right_region.map_or_else(String::new, |region| format!("; it is in {region}"));
            (
                Kind::Region,
                format!("the bucket is in another region{region}: give --region"),
            )
        }
        "NoSuchBucket" => (
            Kind::Refused,
            format!("there is no bucket {}: check --to", options.bucket),
        ),
        "InvalidRequest"
            if error
                .message()
                .is_some_and(|text| text.contains("Object Lock")) =>
        {
            (
                Kind::Unlocked,
                "the bucket has no Object Lock: leave --retain-until and --legal-hold away"
                    .to_owned(),
            )
        }
        _ if status == 403 => (Kind::Credentials, format!("access is denied ({code})")),
        _ if status >= 500 || status == 429 => (
            Kind::StoreFailed,
            format!("the store fails with {status} {code}"),
        ),
        _ => (
            Kind::Refused,
            format!("the store refuses with {status} {code}"),
        ),
    }
}

fn has_credentials_error(error: &(dyn Error + 'static)) -> bool {
    sources(error).any(|error| error.is::<CredentialsError>())
}

/// All messages from the error to its first cause, each said once.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut messages: Vec<String> = Vec::new();
    for message in sources(error).map(ToString::to_string) {
        if messages.last().is_none_or(|last| !last.contains(&message)) {
            messages.push(message);
        }
    }
    let text = messages.join(": ");
    text.chars().filter(|c| !c.is_control()).take(600).collect()
}

fn sources<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

impl fmt::Debug for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => f.write_str(code),
            Self::None => f.write_str("none"),
        }
    }
}
