//! KMS: the signature of the seal, by a key that never leaves it.

use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{MessageType, SigningAlgorithmSpec};

use super::{Account, Refusal};
use crate::failure::Failure;

/// Longest message that KMS signs as it is (KMS API reference, Sign, Message).
const MAX_RAW: usize = 4096;

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
        _ => (
            MessageType::Digest,
            evidence::digest::Digest::of(message).as_bytes().to_vec(),
        ),
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
    match answer.map_err(|error| Refusal::of(&error, "kms:DescribeKey", alias)) {
        Ok(answer) => Ok(answer
            .key_metadata()
            .and_then(|key| key.arn())
            .map(str::to_owned)),
        Err(refusal) if refusal.is_missing() => Ok(None),
        Err(refusal) => Err(refusal),
    }
}
