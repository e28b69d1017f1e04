//! KMS: a dry run is answered here, by what the emulator says of the key; all else is the emulator's.

use serde_json::Value;

use super::call::Call;
use super::ec2::Ec2State;
use super::refusal::{Answer, Refusal};

/// `None` for a call that is to be carried out.
pub(super) fn answer(call: &Call, ec2: &Ec2State) -> Option<Answer> {
    let input = call.json();
    (input["DryRun"] == true).then(|| Err(dry_run(call, &input, ec2)))
}

/// A dry run never succeeds: its error says what would have been (KMS developer guide, "Testing your permissions").
fn dry_run(call: &Call, input: &Value, ec2: &Ec2State) -> Refusal {
    if call.operation == "Decrypt" && input["CiphertextBlob"].is_null() {
        let modifiers = input["DryRunModifiers"].as_array().into_iter().flatten();
        if !modifiers
            .into_iter()
            .any(|modifier| modifier == "IGNORE_CIPHERTEXT")
        {
            return Refusal::invalid("Value null at 'ciphertextBlob' failed to satisfy constraint");
        }
    }
    let key = input["KeyId"].as_str().unwrap_or_default();
    let Some(found) = ec2.key(&call.account, &call.region, key) else {
        return Refusal::new("NotFoundException", format!("Key '{key}' does not exist"));
    };
    let (arn, state) = (found["Arn"].to_string(), found["KeyState"].as_str());
    let wanted = match call.operation.as_str() {
        "Sign" | "Verify" => "SIGN_VERIFY",
        _ => "ENCRYPT_DECRYPT",
    };
    match state {
        Some("Enabled") => {}
        Some("Disabled") => {
            return Refusal::new("DisabledException", format!("{arn} is disabled."));
        }
        other => {
            let message = format!("{arn} is {}.", other.unwrap_or_default());
            return Refusal::new("KMSInvalidStateException", message);
        }
    }
    // Whoever makes a key without saying what for gets one that encrypts; the emulator leaves it open.
    let usage = found["KeyUsage"].as_str().unwrap_or("ENCRYPT_DECRYPT");
    if usage != wanted {
        let message = format!("{arn} key usage is {usage}");
        return Refusal::new("InvalidKeyUsageException", message);
    }
    Refusal {
        status: 412,
        ..Refusal::new(
            "DryRunOperationException",
            "The request would have succeeded, but the DryRun option is set.",
        )
    }
}
