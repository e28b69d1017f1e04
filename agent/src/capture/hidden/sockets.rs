//! Sockets that netlink tells of and `/proc/net` does not, or the other way round.
//!
//! Both are asked three times in turn, as a listing may skip what stands where others come and go. A socket is hidden from
//! one view when the other shows it each time and this one never does.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Finding, ViewRecord, record};
use crate::capture::sockets::{self, Family, NamespaceScan, Socket, Source, asked};
use crate::capture::{CaptureError, Halt, Sink};
use crate::host::Host;
use evidence::inventory::Name;

/// How often both are asked.
const ROUNDS: usize = 3;
/// A state that netlink tells of since Linux 6.8, and the texts never.
const NEVER_IN_TEXTS: &str = "bound_inactive";

/// A family in a namespace.
type Place = (u64, Family);

/// Sockets by inode, each with where it is.
pub(super) type Seen = BTreeMap<u64, Socket>;

/// What the two views show in one round.
#[derive(Default)]
pub(super) struct Round {
    pub netlink: Seen,
    pub texts: Seen,
    /// What both could be asked for.
    pub compared: BTreeSet<Place>,
}

#[derive(Serialize)]
struct HiddenSocket {
    hidden_from: &'static str,
    family: &'static str,
    netns: u64,
    inode: u64,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    local: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unix: Option<Name>,
    /// Processes that hold it: pid and descriptor.
    holders: Vec<sockets::Owner>,
}

/// Compares the views of all namespaces.
///
/// # Errors
/// When the namespaces can not be listed, or the artifact has to end.
pub(super) fn capture(host: &Host, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
    if !host.is_live() {
        return Ok(());
    }
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        sink.check()?;
        rounds.push(round(host)?);
        if disagreements(&rounds).is_empty() {
            break;
        }
    }
    views(&rounds, sink)?;
    let found = disagreements(&rounds);
    if found.is_empty() {
        return Ok(());
    }
    let owners = sockets::owners(host);
    for (hidden_from, socket) in found {
        let told = HiddenSocket {
            hidden_from,
            family: socket.family.name(),
            netns: socket.netns,
            inode: socket.inode,
            state: socket.state,
            uid: socket.uid,
            local: socket.local().map(|end| end.to_string()),
            remote: socket.remote().map(|end| end.to_string()),
            unix: socket.path().map(Name::of),
            holders: owners.of(socket.inode).to_vec(),
        };
        sink.record("hidden/sockets", &told)?;
        let ends = [&told.local, &told.remote].map(|end| end.clone().unwrap_or_default());
        sink.finding(&Finding {
            rule: "hidden-socket",
            technique: "T1014",
            reason: format!(
                "a {} socket ({}, inode {}) does not show in {hidden_from}",
                told.family,
                ends.join(" to "),
                told.inode
            ),
            known_benign: "none known",
            pid: told.holders.first().map(|holder| holder.pid),
            path: None,
        })?;
    }
    Ok(())
}

fn views(rounds: &[Round], sink: &mut Sink<'_>) -> Result<(), Halt> {
    let Some(last) = rounds.last() else {
        return Ok(());
    };
    let families: BTreeSet<&str> = last
        .compared
        .iter()
        .map(|(_, family)| family.name())
        .collect();
    let families: Vec<&str> = families.into_iter().collect();
    let note = format!("{} rounds; compared: {}", rounds.len(), families.join(" "));
    for (view, seen) in [("sock_diag", &last.netlink), ("proc_net", &last.texts)] {
        let (found, note) = (Some(seen.len() as u64), Some(note.clone()));
        record(
            sink,
            &ViewRecord {
                view,
                found,
                note,
                ..ViewRecord::default()
            },
        )?;
    }
    Ok(())
}

fn round(host: &Host) -> Result<Round, CaptureError> {
    let scans = asked(host).map_err(CaptureError::host("/proc"))?;
    let texts = sockets::told(host, &scans);
    let mut round = Round::default();
    for (scan, (families, told)) in scans.into_iter().zip(texts) {
        let whole = |family: Family, wanted, families: &BTreeMap<&str, sockets::FamilyScan>| {
            families.get(family.name()).is_some_and(|scan| {
                scan.source == Some(wanted) && !scan.truncated && scan.malformed == 0
            })
        };
        for family in Family::ALL.iter().copied() {
            if whole(family, Source::SockDiag, &scan.families)
                && whole(family, Source::Proc, &families)
            {
                round.compared.insert((scan.inode, family));
            }
        }
        let NamespaceScan { sockets, .. } = scan;
        round
            .netlink
            .extend(sockets.into_iter().map(|socket| (socket.inode, socket)));
        round
            .texts
            .extend(told.into_iter().map(|socket| (socket.inode, socket)));
    }
    let compared = round.compared.clone();
    // Without an inode a socket has no name: those of connections that wait for their end, and the kernel's own.
    let named = |inode: &u64, socket: &mut Socket| {
        *inode != 0 && compared.contains(&(socket.netns, socket.family))
    };
    round.netlink.retain(named);
    round.texts.retain(named);
    Ok(round)
}

/// What one view shows in all rounds and the other in none, with the name of the view that hides it.
pub(super) fn disagreements(rounds: &[Round]) -> Vec<(&'static str, Socket)> {
    let Some(first) = rounds.first() else {
        return Vec::new();
    };
    let only = |shown: fn(&Round) -> &Seen, hiding: fn(&Round) -> &Seen| {
        let always = move |inode: &u64, socket: &Socket| {
            rounds.iter().all(|round| {
                let place = (socket.netns, socket.family);
                round.compared.contains(&place)
                    && shown(round).contains_key(inode)
                    && !hiding(round).contains_key(inode)
            })
        };
        let sockets = shown(first).iter();
        sockets
            .filter(move |(inode, socket)| always(inode, socket))
            .map(|(_, socket)| socket.clone())
    };
    let from_texts = only(|round| &round.netlink, |round| &round.texts)
        .filter(|socket| socket.state != NEVER_IN_TEXTS)
        .map(|socket| ("/proc/net", socket));
    let from_netlink =
        only(|round| &round.texts, |round| &round.netlink).map(|socket| ("sock_diag", socket));
    from_texts.chain(from_netlink).collect()
}
