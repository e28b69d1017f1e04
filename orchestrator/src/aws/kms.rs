//! KMS: the signature of the seal, by a key that never leaves it; and the key that the bucket is under.

use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{DataKeySpec, DryRunModifierType, MessageType, SigningAlgorithmSpec};
use evidence::Digest;

use super::permission::Permission;
use super::{Account, Refusal};
use crate::failure::Failure;

/// Longest message that KMS signs as it is (KMS API reference, Sign, Message).
const MAX_RAW: usize = 4096;

/// The key of EBS in an account whose administrators never chose one: EC2 shares no snapshot that is under it.
pub(crate) const DEFAULT_OF_EBS: &str = "alias/aws/ebs";

/// The public half of `key`, DER.
///
/// # Errors
/// When KMS refuses.
pub(crate) async fn public_key(account: &Account, key: &str) -> Result<Vec<u8>, Failure> {
    let answer = Client::new(&account.config)
        .get_public_key()
        .key_id(key)
        .send()
        .await;
    let answer =
        answer.map_err(|error| Failure::from(Refusal::of(&error, "kms:GetPublicKey", key)))?;
    Ok(answer
        .public_key()
        .map(|blob| blob.clone().into_inner())
        .unwrap_or_default())
}

/// ECDSA over the SHA-256 of `message`, in DER.
///
/// # Errors
/// When KMS refuses.
pub(crate) async fn sign(account: &Account, key: &str, message: &[u8]) -> Result<Vec<u8>, Failure> {
    let (kind, bytes) = match message.len() {
        0..=MAX_RAW => (MessageType::Raw, message.to_vec()),
        _ => (MessageType::Digest, Digest::of(message).as_bytes().to_vec()),
    };
    let request = Client::new(&account.config)
        .sign()
        .key_id(key)
        .message_type(kind)
        .message(Blob::new(bytes))
        .signing_algorithm(SigningAlgorithmSpec::EcdsaSha256);
    let answer = request
        .send()
        .await
        .map_err(|error| Failure::from(Refusal::of(&error, "kms:Sign", key)))?;
    Ok(answer
        .signature()
        .map(|blob| blob.clone().into_inner())
        .unwrap_or_default())
}

/// A key as KMS describes it.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) arn: String,
    /// `Enabled`, `Disabled`, `PendingDeletion`, ...
    pub(crate) state: String,
    /// One that AWS made for a service: only through that service can anybody use it, and no other account can.
    pub(crate) of_aws: bool,
}

/// What `key` (id, ARN or alias) is.
///
/// # Errors
/// When there is none, or KMS refuses.
pub(crate) async fn describe(account: &Account, key: &str) -> Result<Key, Refusal> {
    let answer = Client::new(&account.config)
        .describe_key()
        .key_id(key)
        .send()
        .await;
    let answer = answer.map_err(|error| Refusal::of(&error, "kms:DescribeKey", key))?;
    let found = answer.key_metadata();
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    Ok(Key {
        arn: text(found.and_then(|key| key.arn())),
        state: text(
            found
                .and_then(|key| key.key_state())
                .map(|state| state.as_str()),
        ),
        of_aws: found
            .and_then(|key| key.key_manager())
            .is_some_and(|manager| manager.as_str() == "AWS"),
    })
}

/// Whether the caller may sign with `key`; nothing is signed.
pub(crate) async fn may_sign(account: &Account, key: &str) -> Permission {
    let result = Client::new(&account.config)
        .sign()
        .key_id(key)
        .message_type(MessageType::Digest)
        .message(Blob::new(Digest::of(b"").as_bytes().to_vec()))
        .signing_algorithm(SigningAlgorithmSpec::EcdsaSha256)
        .dry_run(true)
        .send()
        .await;
    Permission::of(result, "kms:Sign", key, &[])
}

/// Whether the caller may encrypt and decrypt under `key`, as S3 does in its name; nothing is.
pub(crate) async fn may_encrypt(account: &Account, key: &str) -> [Permission; 2] {
    let client = Client::new(&account.config);
    let data_key = client
        .generate_data_key()
        .key_id(key)
        .key_spec(DataKeySpec::Aes256)
        .dry_run(true)
        .send()
        .await;
    let decrypt = client
        .decrypt()
        .key_id(key)
        .dry_run(true)
        .dry_run_modifiers(DryRunModifierType::IgnoreCiphertext)
        .send()
        .await;
    [
        Permission::of(data_key, "kms:GenerateDataKey", key, &[]),
        Permission::of(decrypt, "kms:Decrypt", key, &[]),
    ]
}

/// The ARN of a key by its alias; none when there is no such key.
///
/// # Errors
/// When KMS refuses.
pub(crate) async fn arn_of(account: &Account, alias: &str) -> Result<Option<String>, Refusal> {
    let answer = Client::new(&account.config)
        .describe_key()
        .key_id(alias)
        .send()
        .await;
    match answer.map_err(|error| Refusal::of(&error, "kms:DescribeKey", "*")) {
        Ok(answer) => Ok(answer
            .key_metadata()
            .and_then(|key| key.arn())
            .map(str::to_owned)),
        Err(refusal) if refusal.is_missing() => Ok(None),
        Err(refusal) => Err(refusal),
    }
}
