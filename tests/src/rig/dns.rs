//! A name server that knows a few names and writes down who asked for what.
//!
//! It shows that a static agent resolves names by itself, with no file of the host and no plugin of its C library.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// The record type of IPv4 addresses.
pub const A: u16 = 1;
/// The record type of IPv6 addresses.
pub const AAAA: u16 = 28;

/// A question that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The name in lower case, without the final dot.
    pub name: String,
    /// The record type.
    pub kind: u16,
}

/// A running name server; it ends with the value.
#[derive(Debug)]
pub struct Dns {
    address: SocketAddr,
    queries: Arc<Mutex<Vec<Query>>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Dns {
    /// Starts on a free port of 127.0.0.1. The names get the address 127.0.0.1; `*.name` stands for all below it.
    ///
    /// # Errors
    /// When no socket can be had.
    pub fn start(names: &[&str]) -> io::Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), names)
    }

    /// Starts at this address: `/etc/resolv.conf` knows no ports, so what reads it needs port 53 of, say,
    /// 127.0.0.53.
    ///
    /// # Errors
    /// When the address is taken or not allowed.
    pub fn start_at(address: SocketAddr, names: &[&str]) -> io::Result<Self> {
        let socket = UdpSocket::bind(address)?;
        let address = socket.local_addr()?;
        let names: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        let (queries, stopping) = (Arc::default(), Arc::default());
        let thread = thread::spawn({
            let (queries, stopping) = (Arc::clone(&queries), Arc::clone(&stopping));
            move || serve(&socket, &names, &queries, &stopping)
        });
        Ok(Self {
            address,
            queries,
            stopping,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The questions so far, in order.
    pub fn queries(&self) -> Vec<Query> {
        self.queries.lock().unwrap().clone()
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let woken = UdpSocket::bind((self.address.ip(), 0))
            .and_then(|socket| socket.send_to(&[], self.address));
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, names: &[String], queries: &Mutex<Vec<Query>>, stopping: &AtomicBool) {
    let mut packet = [0; 1500];
    while let Ok((length, client)) = socket.recv_from(&mut packet) {
        if stopping.load(Ordering::SeqCst) {
            return;
        }
        if let Some((query, answer)) = answer(&packet[..length], names) {
            queries.lock().unwrap().push(query);
            let _ = socket.send_to(&answer, client);
        }
    }
}

/// The answer to a packet with one question (RFC 1035, section 4); `None` when it is not one.
fn answer(packet: &[u8], names: &[String]) -> Option<(Query, Vec<u8>)> {
    let mut labels = Vec::new();
    let mut at = 12;
    while packet.get(at).is_some_and(|length| *length > 0) {
        let length = usize::from(packet[at]);
        labels.push(
            String::from_utf8_lossy(packet.get(at + 1..at + 1 + length)?).to_ascii_lowercase(),
        );
        at += 1 + length;
    }
    let question = packet.get(12..at + 5)?;
    let kind = u16::from_be_bytes([packet[at + 1], packet[at + 2]]);
    let name = labels.join(".");

    let known = names.iter().any(|known| {
        known.strip_prefix('*').map_or(*known == name, |below| {
            name.ends_with(below) && name.len() > below.len()
        })
    });
    let records = u8::from(known && kind == A);
    let code = if known { 0 } else { 3 };
    let mut answer = packet[..2].to_vec();
    answer.extend([0x85, 0x80 | code, 0, 1, 0, records, 0, 0, 0, 0]);
    answer.extend(question);
    if records > 0 {
        // A pointer to the name in the question, type A, class IN, 60 seconds, 4 bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    Some((Query { name, kind }, answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The response code and the addresses that the server gives.
    fn ask(dns: &Dns, name: &str, kind: u16) -> (u8, Option<[u8; 4]>) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut packet = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            packet.push(u8::try_from(label.len()).unwrap());
            packet.extend(label.as_bytes());
        }
        packet.push(0);
        packet.extend(kind.to_be_bytes());
        packet.extend([0, 1]);
        socket.send_to(&packet, dns.address()).unwrap();
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer).unwrap();
        assert_eq!(&answer[..2], [0xab, 0xcd]);
        let address = (answer[7] > 0).then(|| answer[length - 4..length].try_into().unwrap());
        (answer[3] & 15, address)
    }

    #[test]
    fn known_names_resolve_and_every_question_is_written_down() {
        let dns = Dns::start(&["s3.example", "*.buckets.example"]).unwrap();
        assert_eq!(ask(&dns, "S3.example", A), (0, Some([127, 0, 0, 1])));
        assert_eq!(ask(&dns, "s3.example", AAAA), (0, None));
        assert_eq!(
            ask(&dns, "one.buckets.example", A),
            (0, Some([127, 0, 0, 1]))
        );
        assert_eq!(ask(&dns, "other.example", A), (3, None));
        let asked: Vec<_> = dns
            .queries()
            .into_iter()
            .map(|query| (query.name, query.kind))
            .collect();
        let name = String::from;
        assert_eq!(
            asked,
            [
                (name("s3.example"), A),
                (name("s3.example"), AAAA),
                (name("one.buckets.example"), A),
                (name("other.example"), A)
            ]
        );
    }

    #[test]
    fn what_is_no_question_is_ignored() {
        assert!(answer(&[0; 5], &[]).is_none());
        assert!(answer(&[0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 63, b'a'], &[]).is_none());
    }
}
