//! `--account` and `--region`: where the suspects are.

use clap::Args;

use crate::config::{self, Account, Config};
use crate::failure::Failure;

/// What each command that asks suspects takes.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Place {
    /// The account, by its name in the configuration
    #[arg(long, value_name = "NAME")]
    pub(super) account: Option<String>,
    /// Region of the instances, if not the account's in the configuration
    #[arg(long, value_name = "REGION")]
    pub(super) region: Option<String>,
}

impl Place {
    /// The account that is meant: its name, and its entry with the region that is meant. From here on `config` has this
    /// region too, so that whatever is asked for is asked for there.
    ///
    /// # Errors
    /// When there is no such account, the choice is open, or the region can not be one.
    pub(super) fn choose(&self, config: &mut Config) -> Result<(String, Account), Failure> {
        let name = config.account(self.account.as_deref())?.0.to_owned();
        if let Some(region) = &self.region {
            config::region(region).map_err(|why| Failure::usage(format!("--region: {why}")))?;
            if let Some(account) = config.accounts.get_mut(&name) {
                account.region.clone_from(region);
            }
        }
        let account = config.account(Some(&name))?.1.clone();
        Ok((name, account))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_of_the_command_line_is_that_of_the_account_from_then_on() {
        let mut config = Config::parse(config::TEMPLATE).unwrap();
        let place = Place {
            region: Some("us-east-1".into()),
            ..Place::default()
        };
        let (name, account) = place.choose(&mut config).unwrap();
        assert_eq!(
            (name.as_str(), account.region.as_str()),
            ("production", "us-east-1")
        );
        assert_eq!(config.account(None).unwrap().1.region, "us-east-1");
        assert_eq!(config.evidence.region, "eu-central-1");
        let (_, account) = Place::default().choose(&mut config).unwrap();
        assert_eq!(account.region, "us-east-1");
        for (account, region) in [(None, Some("us-east-1a")), (Some("nobody"), None)] {
            let place = Place {
                account: account.map(str::to_owned),
                region: region.map(str::to_owned),
            };
            let failure = place.choose(&mut config).unwrap_err();
            assert_eq!(failure.exit, evidence::Exit::Usage, "{failure}");
        }
    }
}
