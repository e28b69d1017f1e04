//! Which EC2 instance this is, as SSM's agent and the instance metadata service say. The store's policy decides whether it
//! is believed: the credentials of an instance reach its own prefix alone.

use aws_config::imds::Client;
use aws_config::provider_config::ProviderConfig;

use super::{Kind, ShipError};

/// Variable that the SSM agent sets for a command (amazon-ssm-agent, `agent/executers/executers.go`).
const SSM_INSTANCE: &str = "AWS_SSM_INSTANCE_ID";
/// Path below the metadata service (EC2 user guide, "Instance metadata categories").
const METADATA_PATH: &str = "/latest/meta-data/instance-id";

/// The id.
///
/// # Errors
/// When neither knows it.
pub fn instance_id() -> Result<String, ShipError> {
    if let Ok(id) = std::env::var(SSM_INSTANCE) {
        return Ok(id);
    }
    let failed = |why: &dyn std::fmt::Display| {
        ShipError::new(
            Kind::Unreachable,
            format!(
                "the instance id is not known: {SSM_INSTANCE} is not set, and the instance metadata service does not tell ({why}); give --instance"
            ),
        )
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(&error))?;
    let network = transport::NetworkOptions::default();
    let (http, _) = transport::client(&network).map_err(|error| failed(&error))?;
    let provider = ProviderConfig::without_region().with_http_client(http);
    let client = Client::builder().configure(&provider).build();
    let answer = runtime.block_on(client.get(METADATA_PATH));
    answer.map(String::from).map_err(|error| failed(&error))
}
