//! Credentials in a SecureString parameter of SSM: read with the instance's own role, and again before they expire.
//!
//! The orchestrator puts them there, renews them during a long run and deletes them at the end.

use aws_config::SdkConfig;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future;
use aws_sdk_s3::config::{Credentials, ProvideCredentials};
use aws_sdk_ssm::Client;
use aws_smithy_types::error::display::DisplayErrorContext;

use super::credentials;
/// Region in which the SSM agent runs a command (amazon-ssm-agent, `agent/executers/executers.go`).
const SSM_REGION: &str = "AWS_SSM_REGION_NAME";

/// Provides what the parameter holds when it is asked.
#[derive(Debug)]
pub(super) struct Parameter {
    client: Client,
    name: String,
}

impl Parameter {
    /// The parameter `name`, asked for with the credentials of `shared`: the instance's own.
    pub(super) fn new(shared: &SdkConfig, name: &str) -> Self {
        let mut config = aws_sdk_ssm::config::Builder::from(shared);
        if let Ok(region) = std::env::var(SSM_REGION) {
            config = config.region(aws_sdk_ssm::config::Region::new(region));
        }
        Self {
            client: Client::from_conf(config.build()),
            name: name.to_owned(),
        }
    }

    /// The credentials as they are now.
    pub(super) async fn load(&self) -> Result<Credentials, String> {
        let name = &self.name;
        let request = self.client.get_parameter().name(name).with_decryption(true);
        let answer = request.send().await.map_err(|error| {
            let why = DisplayErrorContext(&error);
            format!("the parameter {name} can not be read ({why}): the instance's role needs ssm:GetParameter on it")
        })?;
        let value = answer.parameter().and_then(|parameter| parameter.value());
        credentials::parse(value.unwrap_or_default())
            .map_err(|error| format!("the parameter {name}: {error}"))
    }
}

impl ProvideCredentials for Parameter {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            self.load().await.map_err(CredentialsError::provider_error)
        })
    }
}
