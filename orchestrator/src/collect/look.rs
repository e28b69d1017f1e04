//! Looking: what SSM says of the instances, then what the bucket has. In this order, so that a run which SSM says has
//! ended has put all that it will ever put.

use crate::aws::ssm;
use crate::case::{Arrival, Batch, Invocation};
use crate::failure::Failure;
use crate::run::Work;

/// Looks at all instances of a request, after a pause when that was done before. Requests grow with pages, not with hosts.
///
/// # Errors
/// When SSM or S3 refuses.
pub(crate) async fn look(work: &mut Work<'_>, request: &str) -> Result<(), Failure> {
    work.seen.looked.insert(request.to_owned());
    work.pause(request).await;
    let account = work.suspects_of(request).await?;
    let commands: Vec<String> = work
        .requested(request)?
        .batches
        .iter()
        .filter_map(sent)
        .collect();
    for command in commands {
        for found in ssm::invocations(&account, &command).await? {
            let seen = Invocation {
                status: found.status,
                code: found.code,
                output: found.output,
            };
            let key = (request.to_owned(), found.instance);
            let asked = work.seen.outputs.contains(&key);
            match work.seen.invocations.get_mut(&key) {
                // The whole output that was asked for is not to be lost to the clipped one.
                Some(known) if asked => known.status = seen.status,
                _ => {
                    work.seen.invocations.insert(key, seen);
                }
            }
        }
    }
    arrivals(work, request).await?;
    work.progress
        .arrived(work.journal.case(), &work.seen, request);
    Ok(())
}

fn sent(batch: &Batch) -> Option<String> {
    match batch {
        Batch::Sent(command) => Some(command.clone()),
        _ => None,
    }
}

async fn arrivals(work: &mut Work<'_>, request: &str) -> Result<(), Failure> {
    let requested = work.requested(request)?;
    let one = match requested.request.instances.as_slice() {
        [instance] => format!(
            "{}/",
            work.journal.case().prefix(&requested.request, instance)
        ),
        _ => format!("{}/", work.id),
    };
    let base = work.config.key("");
    let now = crate::clock::now();
    for (prefix, arrived) in work.bucket.arrived(&work.config.key(&one), &base).await? {
        let known = work.seen.arrived.get(&prefix);
        let same = known.filter(|known| {
            (known.segments, known.manifest) == (arrived.segments, arrived.manifest)
        });
        let arrival = Arrival {
            segments: arrived.segments,
            bytes: arrived.bytes,
            manifest: arrived.manifest,
            changed: same.map_or(now, |known| known.changed),
        };
        work.seen.arrived.insert(prefix, arrival);
    }
    Ok(())
}

/// Asks for the whole output of an instance whose receipt SSM's list has cut.
///
/// # Errors
/// When SSM refuses.
pub(crate) async fn output(
    work: &mut Work<'_>,
    request: &str,
    instance: &str,
    command: &str,
) -> Result<(), Failure> {
    let account = work.suspects_of(request).await?;
    let output = ssm::output(&account, command, instance).await?;
    let key = (request.to_owned(), instance.to_owned());
    work.seen.outputs.insert(key.clone());
    if let (Some(output), Some(seen)) = (output, work.seen.invocations.get_mut(&key)) {
        seen.output = output;
    }
    Ok(())
}
