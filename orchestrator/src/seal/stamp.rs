//! The time stamp of a seal: asked once, stored as it came, and never taken for more than it says.

use std::time::Duration;

use evidence::sums::{self, SHA256SUMS};
use evidence::timestamp::{self, Nonce, TIME_STAMP, TimeStamp, TimeStampError};
use evidence::{Digest, Exit};
use time::OffsetDateTime;
use transport::Call;

use super::once;
use crate::aws;
use crate::custody::time_of;
use crate::failure::Failure;
use crate::run::Work;

/// Time for an authority's answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most that the authority's clock and ours may differ. AWS refuses what is signed by a clock that is more than
/// 15 minutes wrong (S3 user guide, "Authenticating requests"), so when it took the objects before, it is not ours that is.
const TOLERANCE: time::Duration = time::Duration::minutes(15);

/// The command that checks who signed a time stamp, for whoever has the objects.
pub(crate) fn command(certificates: Option<&std::path::Path>) -> String {
    let certificates = certificates.map_or_else(
        || "<the authority's certificates>".to_owned(),
        |path| path.display().to_string(),
    );
    format!("openssl ts -verify -in {TIME_STAMP} -data SHA256SUMS -CAfile {certificates}")
}

/// The time that the seal's time stamp states: of the one that is stored already, or of a new one where the configuration
/// names an authority.
///
/// # Errors
/// When what is stored is over something else, or the authority gives none that fits.
pub(super) async fn stamp(
    work: &Work<'_>,
    base: &str,
    sums: &[u8],
) -> Result<Option<String>, Failure> {
    let key = format!("{base}{TIME_STAMP}");
    if let Some(bytes) = work.bucket.read(&key, None, timestamp::MAX_BYTES).await? {
        let stored = TimeStamp::over(sums, &bytes).map_err(|error| {
            Failure::new(
                Exit::Altered,
                format!("{key} is there already, and is not this seal's: {error}"),
            )
        })?;
        return Ok(Some(stored.time));
    }
    let Some(address) = &work.config.seal.timestamp_url else {
        return Ok(None);
    };
    // A seal that was finished without one, and killed before its entry in the journal, stays as it is.
    let sums_key = format!("{base}{SHA256SUMS}");
    let limit = sums::MAX_BYTES;
    if work.bucket.read(&sums_key, None, limit).await?.is_some() {
        return Ok(None);
    }
    let (bytes, time) = ask(address, sums).await?;
    once(&work.bucket, &key, &bytes).await?;
    Ok(Some(time))
}

/// Asks the authority for a new one.
async fn ask(address: &str, sums: &[u8]) -> Result<(Vec<u8>, String), Failure> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(Failure::internal)?;
    let nonce = Nonce::new(random);
    let call = Call {
        address,
        content_type: "application/timestamp-query",
        body: timestamp::request(Digest::of(sums), nonce),
        limit: timestamp::MAX_BYTES as usize,
        patience: PATIENCE,
    };
    let answer = transport::post(&aws::way_out(), call)
        .await
        .map_err(|error| none(address, error))?;
    if answer.status != 200 {
        return Err(none(
            address,
            format!("it answers with HTTP status {}", answer.status),
        ));
    }
    let stamp = fitting(sums, nonce, &answer.body, crate::clock::now())
        .map_err(|why| none(address, why))?;
    Ok((answer.body, stamp.time))
}

/// The time stamp in an answer, if it is one to this request and of now.
fn fitting(
    sums: &[u8],
    nonce: Nonce,
    answer: &[u8],
    now: OffsetDateTime,
) -> Result<TimeStamp, String> {
    let text = |error: TimeStampError| error.to_string();
    let stamp = TimeStamp::over(sums, answer).map_err(text)?;
    stamp.answers(nonce).map_err(text)?;
    match time_of(&stamp.time) {
        Some(time) if (time - now).abs() <= TOLERANCE => Ok(stamp),
        _ => Err(format!(
            "it states the time {}, which is more than 15 minutes from this machine's",
            stamp.time
        )),
    }
}

fn none(address: &str, why: impl std::fmt::Display) -> Failure {
    Failure::new(
        Exit::NoTimeStamp,
        format!(
            "no time stamp from {address}: {why}; nothing is sealed yet: `exhibit seal` again, or take timestamp_url out of [seal] to seal without one"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What OpenSSL answered to a request over [`SUMS`].
    const ANSWER: &[u8] = include_bytes!("../../../evidence/vectors/time-stamp/granted.tsr");
    const QUERY: &[u8] = include_bytes!("../../../evidence/vectors/time-stamp/query.tsq");
    const SUMS: &[u8] = b"hello\n";

    #[test]
    fn an_answer_of_another_time_does_not_fit() {
        let stated = TimeStamp::parse(ANSWER).unwrap();
        let time = time_of(&stated.time).unwrap();
        let nonce = Nonce::new(QUERY[58..66].try_into().unwrap());
        let minutes = time::Duration::minutes;
        for (now, fits) in [
            (time, true),
            (time + minutes(14), true),
            (time - minutes(14), true),
            (time + minutes(16), false),
            (time - minutes(16), false),
        ] {
            assert_eq!(fitting(SUMS, nonce, ANSWER, now).is_ok(), fits, "{now}");
        }
        let other = Nonce::new([9; 8]);
        let why = fitting(SUMS, other, ANSWER, time).unwrap_err();
        assert!(why.contains("nonce"), "{why}");
        let why = fitting(b"other", nonce, ANSWER, time).unwrap_err();
        assert!(why.contains("is not over SHA256SUMS"), "{why}");
    }

    #[test]
    fn the_command_names_what_it_needs() {
        let text = command(Some(std::path::Path::new("/desk/tsa.pem")));
        let due = "openssl ts -verify -in SHA256SUMS.tsr -data SHA256SUMS -CAfile /desk/tsa.pem";
        assert_eq!(text, due);
    }
}
