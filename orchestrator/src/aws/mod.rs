//! AWS: who we are in which account, and one small file for each service. Nothing outside this folder names a type of
//! the SDK, and nothing in it decides.

pub(crate) mod ebs;
pub(crate) mod ec2;
mod error;
pub(crate) mod inventory;
pub(crate) mod kms;
pub(crate) mod network;
pub(crate) mod permission;
pub(crate) mod s3;
pub(crate) mod ssm;
pub(crate) mod sts;
pub(crate) mod trail;

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use evidence::Exit;
use transport::NetworkOptions;

pub(crate) use error::Refusal;

use crate::failure::Failure;

/// Attempts for each request. The SDK waits between them with jitter, longer each time.
const ATTEMPTS: u32 = 8;
const MAX_BACKOFF: Duration = Duration::from_secs(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Where the name servers of this machine stand.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// How this machine reaches anybody: its own name servers, bundled roots.
pub(crate) fn way_out() -> NetworkOptions {
    let resolv_conf = std::fs::read_to_string(RESOLV_CONF).unwrap_or_default();
    let nameservers = transport::nameservers(&resolv_conf).map(|ip| (ip, 53).into());
    NetworkOptions {
        nameservers: nameservers.collect(),
        ca_bundle: None,
    }
}

/// The caller's own credentials, and the roles that they open.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    base: SdkConfig,
}

impl Caller {
    /// Reads the SDK's own configuration: environment, profiles, SSO.
    pub(crate) async fn load() -> Result<Self, Failure> {
        let (http, _) = transport::client(&way_out()).map_err(Failure::internal)?;
        let retries = RetryConfig::standard()
            .with_max_attempts(ATTEMPTS)
            .with_max_backoff(MAX_BACKOFF);
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .build();
        let base = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            .retry_config(retries)
            .timeout_config(timeouts)
            .load()
            .await;
        Ok(Self { base })
    }

    /// The caller in `region`, as `role` if one is given, once it is certain that this is `account`.
    ///
    /// # Errors
    /// When there are no credentials, the role can not be assumed, or they belong to another account.
    pub(crate) async fn account(
        &self,
        account: &str,
        role: Option<&str>,
        region: &str,
    ) -> Result<Account, Failure> {
        let name = region;
        let region = Region::new(region.to_owned());
        let base = self.base.to_builder().region(region.clone()).build();
        let config = match role {
            None => base,
            Some(role) => {
                let provider = AssumeRoleProvider::builder(role)
                    .session_name("exhibit")
                    .configure(&base)
                    .region(region)
                    .build()
                    .await;
                let shared =
                    aws_credential_types::provider::SharedCredentialsProvider::new(provider);
                base.to_builder().credentials_provider(shared).build()
            }
        };
        let account = Account {
            config,
            id: account.to_owned(),
        };
        match account.check(role).await {
            Ok(()) => Ok(account),
            Err(failure) => Err(in_region(failure, name)),
        }
    }
}

/// A region that does not exist has no address, and one that is off for an account knows none of its credentials
/// (AWS account management guide, "Enable or disable AWS Regions"): neither answer says so.
fn in_region(mut failure: Failure, region: &str) -> Failure {
    if matches!(failure.exit, Exit::Unreachable | Exit::Credentials) {
        failure.message += &format!(
            "; the region is {region}: check that there is such a region, and that it is on for the account"
        );
    }
    failure
}

/// Credentials in one account and region, known to belong there.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    config: SdkConfig,
    pub(crate) id: String,
}

impl Account {
    async fn check(&self, role: Option<&str>) -> Result<(), Failure> {
        let identity = sts::identity(self, role).await?;
        if identity.account == self.id {
            return Ok(());
        }
        Err(Failure::new(
            Exit::WrongAccount,
            format!(
                "the credentials ({}) belong to account {}, the configuration says {}: use others, or mend exhibit.toml",
                identity.arn, identity.account, self.id
            ),
        ))
    }

    /// The same in another region.
    pub(crate) fn in_region(&self, region: &str) -> Self {
        Self {
            config: self
                .config
                .to_builder()
                .region(Region::new(region.to_owned()))
                .build(),
            id: self.id.clone(),
        }
    }
}
