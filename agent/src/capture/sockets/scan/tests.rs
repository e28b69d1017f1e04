//! The running kernel is asked for sockets that the test opens.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc;

use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use nix::sys::stat::Mode;

use super::super::model::{Address, Handle, Owner};
use super::*;

fn live() -> Host {
    Host::open(Path::new("/")).unwrap()
}

fn inode(fd: &impl AsRawFd) -> u64 {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
    super::super::owners::number_in(link.as_os_str().as_bytes(), b"socket:[").unwrap()
}

/// The one socket with the inode of `fd`, which this process must own.
fn find<'a>(scan: &'a Scan, family: Family, fd: &impl AsRawFd) -> &'a Socket {
    let inode = inode(fd);
    let found: Vec<_> = scan
        .sockets()
        .filter(|socket| socket.inode == inode && socket.family == family)
        .collect();
    let [socket] = found.as_slice() else {
        panic!("{family:?} {inode}: {found:?}")
    };
    let pid = i32::try_from(std::process::id()).unwrap();
    let owner = Owner {
        pid,
        fd: u32::try_from(fd.as_raw_fd()).unwrap(),
    };
    assert!(
        scan.owners.of(inode).contains(&owner),
        "{:?}",
        scan.owners.of(inode)
    );
    socket
}

fn skipped(what: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "CI has to run all tests: {what}"
    );
    eprintln!("SKIPPED: {what}");
}

#[test]
fn own_sockets_are_found_by_inode_with_their_owner() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    let udp = UdpSocket::bind("[::1]:0")
        .or_else(|_| UdpSocket::bind("127.0.0.1:0"))
        .unwrap();
    let (one, other) = UnixStream::pair().unwrap();
    let bound = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )
    .unwrap();
    nix::sys::socket::bind(bound.as_raw_fd(), &nix::sys::socket::NetlinkAddr::new(0, 1)).unwrap();

    let scan = scan(&live());
    let uid = Some(nix::unistd::geteuid().as_raw());
    let listening = find(&scan, Family::Tcp, &listener);
    assert_eq!(
        (listening.state, listening.local(), listening.uid),
        ("listen", listener.local_addr().ok(), uid)
    );
    let connected = find(&scan, Family::Tcp, &client);
    assert_eq!(
        (connected.state, connected.remote()),
        ("established", listener.local_addr().ok())
    );
    assert_eq!(
        find(&scan, Family::Tcp, &server).remote(),
        client.local_addr().ok()
    );
    let family = if udp.local_addr().unwrap().is_ipv6() {
        Family::Udp6
    } else {
        Family::Udp
    };
    assert_eq!(find(&scan, family, &udp).local(), udp.local_addr().ok());
    let pair = find(&scan, Family::Unix, &one);
    assert_eq!(pair.state, "established");
    if pair.source == Source::SockDiag {
        assert_eq!(pair.peer_inode(), Some(inode(&other)));
    }
    let netlink = find(&scan, Family::Netlink, &bound);
    assert!(
        matches!(
            netlink.address,
            Address::Netlink {
                protocol: 0,
                groups: 1,
                ..
            }
        ),
        "{netlink:?}"
    );
    // Some sandboxes hide their first process even from root.
    let other = scan.failures.keys().find(|what| *what != "namespaces");
    assert_eq!(other, None, "{:?}", scan.failures);
}

#[test]
fn names_of_unix_sockets_are_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder
        .path()
        .join(std::ffi::OsStr::from_bytes(b"not-\xff\nutf8"));
    let bound = UnixListener::bind(&path).unwrap();
    let name = format!("exhibit test {}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let hidden = UnixListener::bind_addr(&address).unwrap();
    let scan = scan(&live());
    assert_eq!(
        find(&scan, Family::Unix, &bound).path(),
        Some(path.as_os_str().as_bytes())
    );
    assert_eq!(
        find(&scan, Family::Unix, &hidden).path(),
        Some([b"\0", name.as_bytes()].concat().as_slice())
    );
    assert_eq!(find(&scan, Family::Unix, &hidden).state, "listen");
}

#[test]
fn sniffers_are_found() {
    let raw = socket(
        AddressFamily::Inet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::Icmp,
    );
    let all = SockProtocol::EthAll;
    let packet = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        all,
    );
    let (Ok(raw), Ok(packet)) = (raw, packet) else {
        return skipped("raw and packet sockets need CAP_NET_RAW");
    };
    let scan = scan(&live());
    assert_eq!(find(&scan, Family::Raw, &raw).protocol(), Some(1));
    let sniffer = find(&scan, Family::Packet, &packet);
    assert_eq!(sniffer.protocol(), Some(3));
    assert!(
        matches!(
            sniffer.address,
            Address::Packet {
                running: Some(true),
                ..
            }
        ),
        "{sniffer:?}"
    );
}

/// Runs `job` while a thread of this process sits in a network namespace of its own, with a listener in it.
fn with_namespace(job: impl FnOnce(u64, &TcpListener, OwnedFd)) {
    let (ready, is_ready) = mpsc::channel();
    let (finish, finished) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        if unshare(CloneFlags::CLONE_NEWNET).is_err() {
            return;
        }
        let link = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let netns = super::super::owners::number_in(link.as_os_str().as_bytes(), b"net:[").unwrap();
        let held = open("/proc/thread-self/ns/net", OFlag::O_CLOEXEC, Mode::empty()).unwrap();
        let _ = ready.send((netns, TcpListener::bind("0.0.0.0:4711").unwrap(), held));
        let _ = finished.recv();
    });
    match is_ready.recv() {
        Ok((netns, listener, held)) => job(netns, &listener, held),
        Err(_) => skipped("a network namespace needs CAP_SYS_ADMIN"),
    }
    drop(finish);
    thread.join().unwrap();
}

#[test]
fn a_namespace_that_only_a_thread_lives_in_is_found() {
    with_namespace(|netns, listener, held| {
        drop(held);
        let scan = scan(&live());
        let found = find(&scan, Family::Tcp, listener);
        assert_eq!((found.netns, found.local().unwrap().port()), (netns, 4711));
        let namespace = scan
            .namespaces
            .iter()
            .find(|namespace| namespace.inode == netns)
            .unwrap();
        assert!(
            matches!(namespace.handle, Handle::Thread(..)),
            "{:?}",
            namespace.handle
        );
        assert_eq!(namespace.not_entered, None);
        assert!(
            scan.namespaces[0]
                .sockets
                .iter()
                .all(|socket| socket.netns != netns)
        );
    });
}

#[test]
fn a_namespace_that_only_a_descriptor_holds_is_found_and_so_are_its_texts() {
    let (send, receive) = mpsc::channel();
    // The descriptor stays when its thread has ended.
    with_namespace(|netns, listener, held| {
        send.send((netns, held, listener.try_clone().unwrap()))
            .unwrap();
    });
    let Ok((netns, held, listener)) = receive.try_recv() else {
        return;
    };
    let scan = scan(&live());
    assert_eq!(find(&scan, Family::Tcp, &listener).netns, netns);
    let namespace = scan
        .namespaces
        .iter()
        .find(|namespace| namespace.inode == netns)
        .unwrap();
    assert!(
        matches!(namespace.handle, Handle::Descriptor(_) | Handle::Thread(..)),
        "{:?}",
        namespace.handle
    );
    // A scan of another test may have a thread in it at this moment.
    let raw = &namespace.families["icmp"];
    assert_eq!(
        (raw.source, raw.error.as_deref()),
        (Some(Source::Proc), None),
        "there is no ping_diag: {raw:?}"
    );
    drop(held);
}

#[test]
fn netlink_and_texts_agree() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = live();
    let texts = host.own().and_then(|own| own.folder("net")).unwrap();
    let (families, from_texts) = Families::new(Some(texts.clone()), 7, None).read();
    assert!(
        families.values().all(|family| family.error.is_none()),
        "{families:?}"
    );
    let modules = Modules::read(&host);
    let (families, from_netlink) = Families::new(Some(texts), 7, Some(&modules)).read();
    assert!(
        families
            .values()
            .all(|family| family.error.is_none() && family.malformed == 0),
        "{families:?}"
    );
    let pick = |sockets: &[Socket]| {
        let socket = sockets
            .iter()
            .find(|socket| socket.inode == inode(&listener))
            .unwrap()
            .clone();
        (
            socket.family,
            socket.state,
            socket.uid,
            socket.address,
            socket.rx_queue,
            socket.tx_queue.is_some(),
        )
    };
    assert_eq!(pick(&from_texts), pick(&from_netlink));
}

#[test]
fn a_recorded_tree_is_read_without_asking_this_kernel() {
    let folder = tempfile::tempdir().unwrap();
    let net = folder.path().join("proc/net");
    std::fs::create_dir_all(&net).unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/proc-net");
    for name in ["tcp", "unix"] {
        std::fs::copy(fixtures.join(name), net.join(name)).unwrap();
    }
    let scan = scan(&Host::open(folder.path()).unwrap());
    let [namespace] = scan.namespaces.as_slice() else {
        panic!("{scan:?}")
    };
    assert_eq!((namespace.inode, namespace.sockets.len()), (0, 13));
    assert!(scan.sockets().all(|socket| socket.source == Source::Proc));
    assert_eq!(
        namespace.families["udp"].note.as_deref(),
        Some("not in this kernel")
    );
    assert!(
        namespace
            .families
            .values()
            .all(|family| family.error.is_none())
    );
}

/// Not a benchmark, but a limit that is far above what a scan takes.
#[test]
fn a_scan_of_a_few_hundred_sockets_is_quick() {
    let sockets: Vec<_> = (0..300)
        .map(|_| UdpSocket::bind("127.0.0.1:0").unwrap())
        .collect();
    let host = live();
    let started = Instant::now();
    let scan = scan(&host);
    let took = started.elapsed();
    assert!(scan.sockets().count() >= sockets.len());
    eprintln!("{} sockets in {took:?}", scan.sockets().count());
    assert!(took < Duration::from_secs(2), "{took:?}");
}
