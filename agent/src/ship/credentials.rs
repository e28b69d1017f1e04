//! Credentials: from the SDK's chain, from a file or from standard input; never from the command line.

use std::path::PathBuf;
use std::time::SystemTime;

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future;
use aws_sdk_s3::config::Credentials;
use aws_sdk_s3::config::ProvideCredentials;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Where the credentials come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Environment, profile, container, instance role: the SDK's own order.
    Chain,
    /// A file in the form of the SDK's process credentials; read again when they are about to expire.
    File(PathBuf),
    /// The same text, already read from standard input.
    Given(String),
    /// The same text in a SecureString parameter of SSM, which the instance's own role may read.
    Parameter(String),
}

/// The form that `credential_process` of the AWS SDKs has.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Text {
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    expiration: Option<String>,
}

/// Why a credentials text can not be used. It never quotes the text.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    #[error(
        "the credentials are not JSON with AccessKeyId, SecretAccessKey and, if temporary, SessionToken and Expiration"
    )]
    Json,
    #[error("Expiration of the credentials is not an RFC 3339 time")]
    Expiration,
    #[error("the credentials file {0} can not be read: {1}")]
    Read(PathBuf, #[source] std::io::Error),
}

/// Provides credentials from a [`Source::File`] or [`Source::Given`].
#[derive(Debug)]
pub(super) struct Provider(pub(super) Source);

impl Provider {
    /// The credentials as they are now.
    pub(super) fn load(&self) -> Result<Credentials, TextError> {
        match &self.0 {
            Source::File(path) => parse(&read(path)?),
            Source::Given(text) => parse(text),
            Source::Chain | Source::Parameter(_) => Err(TextError::Json),
        }
    }
}

impl ProvideCredentials for Provider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(self.load().map_err(CredentialsError::provider_error))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a file of the operator, not of the host's evidence"
)]
fn read(path: &PathBuf) -> Result<String, TextError> {
    std::fs::read_to_string(path).map_err(|error| TextError::Read(path.clone(), error))
}

pub(super) fn parse(text: &str) -> Result<Credentials, TextError> {
    let text: Text = serde_json::from_str(text).map_err(|_| TextError::Json)?;
    let expiry = text
        .expiration
        .map(|time| OffsetDateTime::parse(&time, &Rfc3339))
        .transpose();
    let expiry = expiry
        .map_err(|_| TextError::Expiration)?
        .map(SystemTime::from);
    Ok(Credentials::new(
        text.access_key_id,
        text.secret_access_key,
        text.session_token,
        expiry,
        "credentials-file",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_credentials_keep_their_expiry_and_errors_keep_the_secret() {
        let text = r#"{"Version":1,"AccessKeyId":"AKIA1","SecretAccessKey":"hush","SessionToken":"t","Expiration":"2030-01-01T00:00:00Z"}"#;
        let credentials = parse(text).unwrap();
        assert_eq!(
            (credentials.access_key_id(), credentials.session_token()),
            ("AKIA1", Some("t"))
        );
        assert!(credentials.expiry().is_some());
        for wrong in [
            r#"{"AccessKeyId":"AKIA1","secret":"hush"}"#,
            &text.replace("2030-01", "hush"),
        ] {
            assert!(!parse(wrong).unwrap_err().to_string().contains("hush"));
        }
    }
}
