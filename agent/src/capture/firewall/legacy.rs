//! Tables of iptables, ip6tables and arptables, asked by getsockopt(2) as their programs do.
//!
//! A question for a table that is not there loads its module, or makes the table. So only those are asked for that
//! `/proc/net/*_tables_names` of the namespace has.

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use serde::Serialize;
use std::os::fd::{AsFd, BorrowedFd};

use super::Failures;
use super::entries::{Layout, NAME, Rule, rules};
use crate::capture::sockets::word;
use crate::capture::{Halt, Sink};
use crate::host::{Folder, SMALL, socket_option};

/// How often a table is asked for that changes between the question for its size and the one for its rules.
const TRIES: usize = 3;
/// Most bytes of the tables of a namespace.
const MAX_BYTES: usize = 32 << 20;

/// The tables of a namespace, and what could not be asked for.
#[derive(Default)]
pub struct Answer {
    pub tables: Vec<Table>,
    pub failures: Failures,
}

/// A table as the kernel gave it: `struct ipt_getinfo`, and the entries.
pub struct Table {
    layout: &'static Layout,
    name: String,
    info: Vec<u8>,
    entries: Vec<u8>,
}

/// A table's head, as the kernel gave it: where its chains begin and end.
#[derive(Serialize)]
struct Head<'a> {
    netns: u64,
    family: &'static str,
    table: &'a str,
    /// In hex.
    raw: String,
}

#[derive(Serialize)]
struct Record<'a> {
    netns: u64,
    family: &'static str,
    table: &'a str,
    #[serde(flatten)]
    rule: &'a Rule,
}

/// Asks in the network namespace of this thread, whose texts are in `net`.
pub fn ask(net: Option<&Folder>) -> Answer {
    let mut answer = Answer::default();
    let Some(net) = net else {
        answer.failures.push(("iptables", "NoTexts".to_owned()));
        return answer;
    };
    let mut room = MAX_BYTES;
    for layout in Layout::ALL {
        let names = match net.read(layout.names, SMALL) {
            Ok(names) => names,
            // The kernel has no such tables; opening a socket of IPv6 would load IPv6.
            Err(error) if error.is_gone() => continue,
            Err(error) => {
                answer.failures.push((layout.family, word(&error)));
                continue;
            }
        };
        for name in String::from_utf8_lossy(&names.bytes).split_whitespace() {
            match table(layout, name, room) {
                Ok(table) => {
                    room -= table.entries.len();
                    answer.tables.push(table);
                }
                Err(errno) => answer.failures.push((layout.family, format!("{errno:?}"))),
            }
        }
    }
    answer
}

fn table(layout: &'static Layout, name: &str, room: usize) -> Result<Table, Errno> {
    let family = match layout.level {
        libc::IPPROTO_IPV6 => AddressFamily::Inet6,
        _ => AddressFamily::Inet,
    };
    let socket = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut last = Errno::EAGAIN;
    for _ in 0..TRIES {
        match read(layout, name, room, socket.as_fd()) {
            // The size is another one by now.
            Err(Errno::EAGAIN) => {}
            Err(errno) => {
                last = errno;
                break;
            }
            Ok((info, entries)) => {
                return Ok(Table {
                    layout,
                    name: name.to_owned(),
                    info,
                    entries,
                });
            }
        }
    }
    Err(last)
}

/// `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES`: both take the name of the table, the second its size, too.
fn read(
    layout: &Layout,
    name: &str,
    room: usize,
    socket: BorrowedFd<'_>,
) -> Result<(Vec<u8>, Vec<u8>), Errno> {
    let mut info = vec![0; layout.info_bytes()];
    let place = info.get_mut(..name.len());
    let place = place.filter(|place| place.len() < NAME);
    let place = place.ok_or(Errno::ENAMETOOLONG)?;
    place.copy_from_slice(name.as_bytes());
    let mut entries: Vec<u8> = info.iter().take(NAME).copied().collect();
    socket_option(socket, layout.level, layout.get_info, &mut info)?;
    let size = layout.size(&info).ok_or(Errno::EBADMSG)?;
    if size > room {
        return Err(Errno::EFBIG);
    }
    // `struct ipt_get_entries`: the entries are aligned to 8 bytes.
    entries.extend(u32::try_from(size).map_err(|_| Errno::EFBIG)?.to_ne_bytes());
    let head = entries.len().next_multiple_of(8);
    entries.resize(head + size, 0);
    socket_option(socket, layout.level, layout.get_info + 1, &mut entries)?;
    Ok((info, entries.split_off(head)))
}

/// Records what a namespace answered.
///
/// # Errors
/// When the artifact has to end.
pub fn records(netns: u64, answer: &Answer, sink: &mut Sink<'_>) -> Result<(), Halt> {
    for table in &answer.tables {
        let (family, table_name) = (table.layout.family, table.name.as_str());
        let head = Head {
            netns,
            family,
            table: table_name,
            raw: hex::encode(&table.info),
        };
        sink.record("network/iptables_tables", &head)?;
        let mut record = |rule: &Rule| {
            let record = Record {
                netns,
                family,
                table: table_name,
                rule,
            };
            sink.record("network/iptables", &record)
        };
        if !rules(table.layout, &table.info, &table.entries, &mut record)? {
            sink.loss(&format!("failed:malformed:{}", table.layout.family));
        }
    }
    Ok(())
}
