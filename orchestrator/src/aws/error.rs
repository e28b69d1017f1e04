//! What AWS refuses, in our words: the exit code, and the policy statement that would allow it.

use std::error::Error;

use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::ErrorMetadata;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use evidence::Exit;
use serde_json::json;

use crate::failure::Failure;

/// A request that failed for good.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    /// The code that AWS gave, such as `ThrottlingException`; empty when there was no answer.
    pub(crate) code: String,
    /// Whether AWS answered: without an answer the request may have been carried out.
    pub(crate) answered: bool,
    pub(crate) failure: Failure,
}

impl Refusal {
    /// From an error of the SDK in a call that needs `action` (as in a policy) on `resource`.
    pub(crate) fn of<E, R>(error: &SdkError<E, R>, action: &str, resource: &str) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
        R: std::fmt::Debug + 'static,
    {
        let code = error.code().unwrap_or_default().to_owned();
        let message = error.message().unwrap_or_default();
        let answered = matches!(error, SdkError::ServiceError(_));
        let failure = match error {
            SdkError::ServiceError(_) => service(&code, message, action, resource),
            // The request that was refused may be the one that asked for credentials.
            other => match refused_before(other) {
                Some((code, message)) => service(&code, &message, action, resource),
                None => no_answer(&chain(other), action),
            },
        };
        Self {
            code,
            answered,
            failure,
        }
    }

    /// For what fails on this side, before or after AWS.
    pub(super) fn internal(error: &dyn std::fmt::Display) -> Self {
        Self {
            code: String::new(),
            answered: true,
            failure: Failure::internal(error),
        }
    }

    /// Whether the code says that what was named is not there.
    pub(crate) fn is_missing(&self) -> bool {
        self.code.contains("NotFound")
            || self.code.contains("NoSuch")
            || self.code.contains("DoesNotExist")
    }

    /// Whether it is certain that the request was not carried out: there was an answer, and it is no fault of the service's
    /// own, which can come after the deed.
    pub(crate) fn is_certain(&self) -> bool {
        const FAULTS: [&str; 6] = [
            "InternalError",
            "InternalFailure",
            "InternalServerError",
            "ServiceUnavailable",
            "ServiceUnavailableException",
            "Unavailable",
        ];
        self.answered && !FAULTS.contains(&self.code.as_str())
    }

    /// Whether AWS asks for fewer requests.
    pub(crate) fn is_throttling(&self) -> bool {
        const CODES: [&str; 6] = [
            "ThrottlingException",
            "Throttling",
            "RequestLimitExceeded",
            "TooManyRequestsException",
            "SlowDown",
            "RateExceeded",
        ];
        CODES.contains(&self.code.as_str())
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        refusal.failure
    }
}

/// What a service answered when credentials were asked of it.
fn refused_before(error: &(dyn Error + 'static)) -> Option<(String, String)> {
    let answer = sources(error)
        .filter_map(|error| error.downcast_ref::<ErrorMetadata>())
        .last()?;
    let message = answer.message().unwrap_or_default().to_owned();
    Some((answer.code()?.to_owned(), message))
}

/// An error and its causes.
fn sources<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The messages of an error and its causes, without what only developers read.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut messages: Vec<String> = sources(error).map(ToString::to_string).collect();
    messages.dedup();
    messages.join(": ")
}

fn service(code: &str, message: &str, action: &str, resource: &str) -> Failure {
    const DENIED: [&str; 5] = [
        "AccessDenied",
        "AccessDeniedException",
        "UnauthorizedOperation",
        "AuthFailure",
        "Forbidden",
    ];
    const STALE: [&str; 8] = [
        "ExpiredToken",
        "ExpiredTokenException",
        "RequestExpired",
        "InvalidClientTokenId",
        "UnrecognizedClientException",
        "InvalidAccessKeyId",
        "TokenRefreshRequired",
        "InvalidToken",
    ];
    const SKEW: [&str; 2] = ["RequestTimeTooSkewed", "RequestInTheFuture"];
    let skewed = SKEW.contains(&code)
        || (["SignatureDoesNotMatch", "InvalidSignatureException"].contains(&code)
            && (message.contains("Signature expired") || message.contains("not yet current")));
    if skewed {
        return Failure::new(
            Exit::ClockSkew,
            format!(
                "AWS refuses {action} because the clock of this machine is wrong ({message}): set it and try again"
            ),
        );
    }
    if DENIED.contains(&code) {
        let (action, resource) = stated(message).unwrap_or((action, resource));
        return Failure::new(
            Exit::Denied,
            format!(
                "{action} on {resource} is denied; this statement allows it: {}",
                statement(action, resource)
            ),
        );
    }
    if STALE.contains(&code) {
        return Failure::new(
            Exit::Credentials,
            format!(
                "AWS does not accept the credentials for {action} ({code}): log in again, or name another profile with AWS_PROFILE"
            ),
        );
    }
    Failure::new(
        Exit::Aws,
        format!("{action} on {resource}: {code}: {message}"),
    )
}

/// The action and the resource that IAM's own message names: they are more exact than what we asked for.
fn stated(message: &str) -> Option<(&str, &str)> {
    let (_, rest) = message.split_once("not authorized to perform: ")?;
    let (action, rest) = rest.split_once(" on resource: ")?;
    let resource = rest.split_whitespace().next()?;
    Some((action, resource.trim_end_matches(['.', ','])))
}

fn statement(action: &str, resource: &str) -> String {
    json!({"Effect": "Allow", "Action": action, "Resource": resource}).to_string()
}

fn no_answer(context: &str, action: &str) -> Failure {
    let credentials = [
        "no credentials",
        "CredentialsNotLoaded",
        "failed to load",
        "ProviderError",
        "credentials provider",
    ];
    if credentials.iter().any(|text| context.contains(text)) {
        return Failure::new(
            Exit::Credentials,
            format!(
                "there are no usable AWS credentials for {action}: log in, or set AWS_PROFILE ({context})"
            ),
        );
    }
    Failure::new(
        Exit::Unreachable,
        format!("{action} gets no answer: check the network path to AWS ({context})"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_prints_the_statement_that_iam_asks_for() {
        let message = "User: arn:aws:sts::1:x is not authorized to perform: ssm:SendCommand on resource: arn:aws:ssm:r:1:document/D because no identity-based policy allows it";
        let failure = service("AccessDeniedException", message, "ssm:Send", "*");
        assert_eq!(failure.exit, Exit::Denied);
        let statement = r#"{"Action":"ssm:SendCommand","Effect":"Allow","Resource":"arn:aws:ssm:r:1:document/D"}"#;
        assert!(failure.message.ends_with(statement), "{failure}");
        let failure = service(
            "UnauthorizedOperation",
            "You are not.",
            "ec2:CreateSnapshots",
            "*",
        );
        assert!(failure.message.contains("\"ec2:CreateSnapshots\""));
    }

    #[test]
    fn a_fault_of_the_service_may_come_after_the_deed() {
        let refusal = |code: &str, answered| Refusal {
            code: code.to_owned(),
            answered,
            failure: service(code, "", "ec2:CreateSnapshots", "*"),
        };
        assert!(refusal("InvalidParameterValue", true).is_certain());
        for uncertain in [refusal("InternalError", true), refusal("", false)] {
            assert!(!uncertain.is_certain(), "{uncertain:?}");
        }
    }

    #[test]
    fn each_kind_has_its_own_code() {
        for (code, message, exit) in [
            ("ExpiredToken", "", Exit::Credentials),
            ("RequestTimeTooSkewed", "", Exit::ClockSkew),
            (
                "InvalidSignatureException",
                "Signature expired: 1 is now earlier than 2",
                Exit::ClockSkew,
            ),
            ("SignatureDoesNotMatch", "", Exit::Aws),
            ("InvalidDocument", "", Exit::Aws),
        ] {
            assert_eq!(service(code, message, "a:B", "*").exit, exit, "{code}");
        }
        assert_eq!(
            no_answer("dispatch failure: no credentials in chain", "a:B").exit,
            Exit::Credentials
        );
        assert_eq!(
            no_answer("connection refused", "a:B").exit,
            Exit::Unreachable
        );
    }
}
