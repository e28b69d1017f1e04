//! What the SDK is told, and asked, beside its requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aws_runtime::auth::PayloadSigningOverride;
use aws_sdk_s3::config::interceptors::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextMut,
};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use evidence::digest::Digest;

/// Signs a body by the hash that its segment was sealed with: the SDK would compute the same one again, on the suspect's
/// processors (`x-amz-content-sha256`, AWS Signature Version 4).
#[derive(Debug)]
pub(super) struct SignedAs(pub(super) Digest);

impl Intercept for SignedAs {
    fn name(&self) -> &'static str {
        "SignedAs"
    }

    fn modify_before_signing(
        &self,
        _: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let signed = PayloadSigningOverride::Precomputed(self.0.to_string());
        config.interceptor_state().store_put(signed);
        Ok(())
    }
}

/// Reads the `Date` header of an answer: over TLS, the store's clock is one that the suspect does not set.
#[derive(Clone, Debug)]
pub(super) struct ReadDate(pub(super) Arc<AtomicI64>);

impl Intercept for ReadDate {
    fn name(&self) -> &'static str {
        "ReadDate"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|text| DateTime::from_str(text, DateTimeFormat::HttpDate).ok());
        self.0.store(
            date.map_or(0, |date| date.secs().saturating_mul(1_000_000_000)),
            Ordering::Relaxed,
        );
        Ok(())
    }
}
