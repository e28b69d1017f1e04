//! Texts of a real kernel (Linux 6.18, x86-64; `agent/tests/fixtures/proc-net`), whole, cut and spoiled.
#![cfg(target_endian = "little")]

use super::*;

macro_rules! text {
    ($name:literal) => {
        include_bytes!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/proc-net/",
            $name
        ))
        .as_slice()
    };
}

const TEXTS: &[(Family, &[u8], usize)] = &[
    (Family::Tcp, text!("tcp"), 5),
    (Family::Tcp6, text!("tcp6"), 3),
    (Family::Udp, text!("udp"), 2),
    (Family::Udp6, text!("udp6"), 1),
    (Family::UdpLite, text!("udplite"), 1),
    (Family::UdpLite6, text!("udplite6"), 1),
    (Family::Raw, text!("raw"), 1),
    (Family::Raw6, text!("raw6"), 1),
    (Family::Icmp, text!("icmp"), 1),
    (Family::Icmp6, text!("icmp6"), 2),
    (Family::Unix, text!("unix"), 8),
    (Family::Packet, text!("packet"), 1),
    (Family::Netlink, text!("netlink"), 9),
];

fn sockets(family: Family) -> Vec<Socket> {
    let (_, text, _) = TEXTS.iter().find(|(of, ..)| *of == family).unwrap();
    parse(family, 9, text, usize::MAX).sockets
}

#[test]
fn every_line_of_every_text_is_understood() {
    for (family, text, count) in TEXTS {
        let parsed = parse(*family, 9, text, usize::MAX);
        assert_eq!(
            (parsed.sockets.len(), parsed.malformed, parsed.truncated),
            (*count, 0, false),
            "{family:?}"
        );
        assert!(
            parsed
                .sockets
                .iter()
                .all(|socket| socket.netns == 9 && socket.source == Source::Proc)
        );
        let one = parse(*family, 9, text, 1);
        assert_eq!(
            (one.sockets.len(), one.truncated),
            (1, *count > 1),
            "{family:?}"
        );
    }
}

#[test]
fn addresses_states_queues_and_timers_are_read() {
    let tcp = sockets(Family::Tcp);
    let local = |at: usize| tcp[at].local().unwrap().to_string();
    assert_eq!(
        (local(1), tcp[1].state, tcp[1].inode),
        ("127.0.0.1:8080".to_owned(), "listen", 246_021)
    );
    assert_eq!(tcp[2].remote().unwrap().to_string(), "127.0.0.1:8080");
    assert_eq!(
        (tcp[4].rx_queue, tcp[4].tx_queue, tcp[4].uid),
        (Some(5), Some(0), Some(0))
    );
    let timer = Timer {
        kind: "time_wait",
        expires_ms: 59_930,
        retransmits: 0,
    };
    assert_eq!(
        (tcp[3].timer, tcp[3].state, tcp[3].uid),
        (Some(timer), "time_wait", None)
    );
    assert_eq!(
        sockets(Family::Tcp6)[1].local().unwrap().to_string(),
        "[::1]:8081"
    );
    let raw = &sockets(Family::Raw)[0];
    assert_eq!(
        (raw.protocol(), raw.local().unwrap().to_string()),
        (Some(1), "0.0.0.0:0".to_owned())
    );
    assert_eq!(sockets(Family::Icmp)[0].local().unwrap().port(), 4711);
    let packet = &sockets(Family::Packet)[0];
    assert_eq!(
        (packet.protocol(), packet.interface, packet.inode),
        (Some(3), Some(1), 246_070)
    );
    let netlink = sockets(Family::Netlink);
    let want = Address::Netlink {
        protocol: 0,
        port_id: 0x1267,
        groups: 5,
    };
    assert!(netlink.iter().any(|socket| socket.address == want));
}

#[test]
fn names_of_unix_sockets_keep_their_bytes() {
    let unix = sockets(Family::Unix);
    let names: Vec<_> = unix.iter().filter_map(Socket::path).collect();
    let want: [&[u8]; 4] = [
        b"/tmp/fixture.sock",
        b"/tmp/not-\xff-utf8",
        b"/tmp/two\nlines",
        b"\0exhibit abstract",
    ];
    assert_eq!(names, want);
    assert!(
        unix.iter()
            .all(|socket| (socket.state == "listen") == socket.path().is_some())
    );
}

#[test]
fn other_kernels_texts_are_understood() {
    let old = b"sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode\nffff8800 9 -4131 00000001 0 0 0 2 0 77\n";
    let port_id = (-4131_i32).cast_unsigned();
    let parsed = parse(Family::Netlink, 0, old, 9);
    assert_eq!(
        parsed.sockets[0].address,
        Address::Netlink {
            protocol: 9,
            port_id,
            groups: 1
        }
    );
    // A port of an interface, and spaces in a path.
    let unix = b"Num\nffff8800: 00000002 00000000 00010000 0001 01 12 /tmp/a  b \n";
    assert_eq!(
        parse(Family::Unix, 0, unix, 9).sockets[0].path(),
        Some(&b"/tmp/a  b "[..])
    );
}

#[test]
fn lines_that_make_no_sense_are_counted() {
    for line in [
        "0: 0100007F:1F90",
        "0: 0100007:1F90 00000000:0000 0A 0:0 00:0 0 0 0 1",
        "0: 0100007F1:1F90 00000000:0000 0A 0:0 00:0 0 0 0 1",
        "0: 0100007F:1F90 00000000:0000 0A00 0:0 00:0 0 0 0 1",
        "0: 0100007F:+1F9 00000000:0000 0A 0:0 00:0 0 0 0 1",
        "0: 0100007F:1F90 00000000:0000 0A 0:0 00:0 0 -1 0 1",
        "0: 0100007F:1F90 00000000:0000 0A 0:0 00:0 0 0 0 99999999999999999999",
        "x",
        "\u{e4}\u{e4}\u{e4}\u{e4}: \u{e4}:1 \u{e4}:2 0A 0:0 00:0 0 0 0 1",
    ] {
        let parsed = parse(Family::Tcp, 0, format!("head\n{line}\n").as_bytes(), 9);
        assert_eq!((parsed.sockets.len(), parsed.malformed), (0, 1), "{line}");
    }
    let parsed = parse(Family::Unix, 0, b"head\nno socket came before\n", 9);
    assert_eq!(parsed.malformed, 1);
}

#[test]
fn no_text_is_worth_a_panic() {
    for (family, text, _) in TEXTS {
        for cut in 0..text.len() {
            let _ = parse(*family, 0, &text[..cut], 9);
        }
        for at in 0..text.len() {
            for value in [0, b' ', b':', b'\n', b'@', b'F', 0xFF] {
                let mut spoiled = text.to_vec();
                spoiled[at] = value;
                let _ = parse(*family, 0, &spoiled, 99);
            }
        }
    }
}
