//! Whether the caller may do what `exhibit` does, asked with calls that change nothing: EC2's and KMS's `DryRun`, and
//! questions to SSM and CloudTrail. What can not be asked so is not asked: SSM has no dry run.

pub(crate) mod disks;

use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use evidence::Exit;

use super::{Account, Refusal};
use crate::failure::Failure;

/// A command id that SSM never gave.
const NO_COMMAND: &str = "00000000-0000-4000-8000-000000000000";
/// An instance id that EC2 never gave.
const NO_INSTANCE: &str = "i-00000000000000000";
/// How EC2 and KMS say that the call would have been carried out.
const WOULD_SUCCEED: [&str; 2] = ["DryRunOperation", "DryRunOperationException"];

/// What SSM does for `exhibit` and can not be asked without doing it.
pub(crate) const NOT_ASKED: &str =
    "ssm:SendCommand, ssm:CancelCommand, ssm:PutParameter, ssm:DeleteParameter";

/// What came of asking.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Allowed,
    Denied(Failure),
    /// Neither: what AWS said instead.
    Open(Failure),
}

/// An action, as in a policy, and whether the caller may do it.
#[derive(Clone, Debug)]
pub(crate) struct Permission {
    pub(crate) action: &'static str,
    pub(crate) answer: Answer,
}

impl Permission {
    /// From what came of a call; `known` are the codes that only whoever may do it is answered.
    pub(super) fn of<T, E, R>(
        result: Result<T, SdkError<E, R>>,
        action: &'static str,
        resource: &str,
        known: &[&str],
    ) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        R: std::fmt::Debug + 'static,
    {
        let answer = match result {
            Ok(_) => Answer::Allowed,
            Err(error) => answer(Refusal::of(&error, action, resource), known),
        };
        Self { action, answer }
    }
}

fn answer(refusal: Refusal, known: &[&str]) -> Answer {
    let code = refusal.code.as_str();
    if WOULD_SUCCEED.contains(&code) || known.contains(&code) {
        return Answer::Allowed;
    }
    match refusal.failure.exit {
        Exit::Denied => Answer::Denied(refusal.failure),
        _ => Answer::Open(refusal.failure),
    }
}

/// What `collect` asks of EC2 and SSM.
pub(crate) async fn to_collect(account: &Account) -> Vec<Permission> {
    let ec2 = aws_sdk_ec2::Client::new(&account.config);
    let ssm = aws_sdk_ssm::Client::new(&account.config);
    vec![
        Permission::of(
            ec2.describe_instances().dry_run(true).send().await,
            "ec2:DescribeInstances",
            "*",
            &[],
        ),
        Permission::of(
            ec2.describe_instance_types().dry_run(true).send().await,
            "ec2:DescribeInstanceTypes",
            "*",
            &[],
        ),
        Permission::of(
            ssm.describe_instance_information()
                .max_results(5)
                .send()
                .await,
            "ssm:DescribeInstanceInformation",
            "*",
            &[],
        ),
        Permission::of(
            ssm.list_commands().max_results(1).send().await,
            "ssm:ListCommands",
            "*",
            &[],
        ),
        Permission::of(
            ssm.list_command_invocations().max_results(1).send().await,
            "ssm:ListCommandInvocations",
            "*",
            &[],
        ),
        Permission::of(
            ssm.get_command_invocation()
                .command_id(NO_COMMAND)
                .instance_id(NO_INSTANCE)
                .send()
                .await,
            "ssm:GetCommandInvocation",
            "*",
            &["InvocationDoesNotExist", "InvalidCommandId"],
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: &str, exit: Exit) -> Refusal {
        Refusal {
            code: code.to_owned(),
            answered: true,
            failure: Failure::new(exit, code),
        }
    }

    #[test]
    fn only_a_dry_run_that_would_succeed_is_a_yes() {
        let ask = |code: &str, exit| answer(refusal(code, exit), &["InvocationDoesNotExist"]);
        assert!(matches!(ask("DryRunOperation", Exit::Aws), Answer::Allowed));
        assert!(matches!(
            ask("DryRunOperationException", Exit::Aws),
            Answer::Allowed
        ));
        assert!(matches!(
            ask("InvocationDoesNotExist", Exit::Aws),
            Answer::Allowed
        ));
        assert!(matches!(
            ask("UnauthorizedOperation", Exit::Denied),
            Answer::Denied(_)
        ));
        assert!(matches!(
            ask("InvalidSnapshot.NotFound", Exit::Aws),
            Answer::Open(_)
        ));
        assert!(matches!(ask("", Exit::Unreachable), Answer::Open(_)));
    }
}
