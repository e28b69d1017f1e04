//! *firewall*: rules of nftables and of iptables, and the connections that are tracked, in every network namespace, as the
//! kernel has them.
//!
//! Only what is in the kernel already is asked for: asking loads it otherwise. Nothing is set, and counters stay.

mod connections;
mod entries;
mod extensions;
mod legacy;
mod nfnetlink;
mod nftables;
mod packet;
pub mod tree;

pub use connections::connection;
pub use entries::{Layout, rules};

use super::sockets::namespaces;
use super::sockets::{self, Modules};
use super::{Artifact, CaptureError, Sink, Spec, Volatility};
use crate::host::{Folder, Host};

/// Rules of the firewall.
pub struct Firewall;

static SPEC: Spec = Spec {
    name: "firewall",
    volatility: Volatility::Network,
    what: "tables, chains, rules and sets of nftables, and rules of the older iptables, ip6tables and arptables, and \
           tracked connections, in every network namespace, decoded and as they are",
    why: "a rule can redirect, hide or let in traffic, and ends with the next boot; a translated connection shows nowhere else",
    deadline_s: 60,
    max_bytes: 256 << 20,
};

/// What could not be asked for, and why.
type Failures = Vec<(&'static str, String)>;

impl Artifact for Firewall {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn capture(&self, host: &Host, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
        if !host.is_live() {
            return Err(CaptureError::Absent(
                "a recorded tree has no firewall".to_owned(),
            ));
        }
        let modules = Modules::read(host);
        let missing = modules.missing(host, nftables::MODULES);
        let (all, _) = namespaces::all(host).map_err(CaptureError::host("/proc"))?;
        let own = host.own().ok();
        let is_there = missing.is_none();
        let rules = |texts: Option<Folder>| {
            let own = own.clone();
            move || {
                // What a process shows may be of another namespace by now.
                let texts = own
                    .and_then(|own| namespaces::texts_of_this_thread(&own))
                    .or(texts);
                let nftables = is_there.then(nftables::ask).unwrap_or_default();
                (nftables, legacy::ask(texts.as_ref()))
            }
        };
        sockets::each_namespace(
            host,
            &all,
            sink,
            rules,
            |netns, (nftables, legacy), sink| {
                nftables::records(netns, &nftables, sink)?;
                legacy::records(netns, &legacy, sink)?;
                sockets::lost_answers(&nftables.failures, sink);
                sockets::lost_answers(&legacy.failures, sink);
                Ok(())
            },
        )?;
        // After all rules: there may be any number of connections.
        if modules.missing(host, connections::MODULES).is_none() {
            sockets::each_namespace(
                host,
                &all,
                sink,
                |_| connections::ask,
                |netns, answer, sink| {
                    connections::records(netns, &answer, sink)?;
                    sockets::lost_answers(&answer.failures, sink);
                    Ok(())
                },
            )?;
        }
        let nothing = sink.tally().items == 0 && sink.tally().losses.is_empty();
        match missing {
            Some(missing) if nothing => Err(CaptureError::Absent(format!(
                "{missing} not in the kernel, nor a table of iptables: there are no rules, and asking would load it"
            ))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "fixtures are files of the tests, not of the host"
)]
mod tests;
