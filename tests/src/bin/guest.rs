//! What a test's guest runs beside the agent: memory of known content, and memory that the kernel itself cannot read.
//!
//! `guest plant PAGES STEP FILE` fills so many pages, each so many pages after the one before, writes where they lie to
//! FILE, and sleeps.
//! `guest kcore` reads all of memory and `guest discard FILE` a file or FIFO: what reading alone costs.
//! `guest watch PATH KEY` has writes to a file audited, as `auditctl -w PATH -p wa -k KEY` does.
//! `guest thread FILE` writes the number of a second thread of its to FILE, and sleeps.
//! `guest secretmem MEBIBYTES FILE` maps secret memory, fills it, says so in FILE, and sleeps.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: it should stop loudly, at the place where it broke"
)]

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::thread;
use std::time::Duration;

use exhibit_tests::rig::vm::plant::{PAGE, page};
use nix::sys::mman::{MlockAllFlags, mlockall};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["plant", pages, step, file] => {
            plant(pages.parse().unwrap(), step.parse().unwrap(), file);
        }
        ["kcore"] => kcore(),
        ["discard", file] => {
            let mut file = File::open(file).unwrap();
            let mut piece = vec![0; 1 << 20];
            while file.read(&mut piece).unwrap() > 0 {}
        }
        ["watch", path, key] => watch(path, key),
        ["thread", file] => second_thread(file),
        ["secretmem", mebibytes, file] => secretmem(mebibytes.parse().unwrap(), file),
        _ => panic!(
            "guest plant PAGES STEP FILE | guest kcore | guest discard FILE | guest watch PATH KEY | guest thread FILE | guest secretmem MEBIBYTES FILE"
        ),
    }
}

fn second_thread(file: &str) {
    let file = file.to_owned();
    let second = thread::spawn(move || {
        fs::write(file, nix::unistd::gettid().to_string()).unwrap();
        thread::sleep(Duration::from_secs(3600));
    });
    second.join().unwrap();
}

/// Adds a rule to the kernel's: `struct audit_rule_data` behind the header of a netlink message, AUDIT_ADD_RULE (1011).
fn watch(path: &str, key: &str) {
    let lengths = [path, key].map(|text| u32::try_from(text.len()).unwrap());
    let padded = |values: [u32; 3]| (0..64).map(move |at| values.get(at).copied().unwrap_or(0));
    // On the list of exits, always, for all system calls: a path, its permissions, a key; all compared with `=`.
    let mut words = vec![4, 2, 3];
    words.extend([u32::MAX; 64]);
    words.extend(padded([105, 106, 210]));
    words.extend(padded([lengths[0], 6, lengths[1]]));
    words.extend(padded([0x4000_0000; 3]));
    words.push(lengths[0] + lengths[1]);
    let mut rule: Vec<u8> = words
        .iter()
        .flat_map(|word: &u32| word.to_ne_bytes())
        .collect();
    rule.extend(path.bytes().chain(key.bytes()));
    let length = u32::try_from(16 + rule.len()).unwrap();
    // A request that wants an answer.
    let head = [length, 5 << 16 | 1011, 1, 0];
    let message: Vec<u8> = head
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .chain(rule)
        .collect();
    let socket = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Netlink,
        nix::sys::socket::SockType::Raw,
        nix::sys::socket::SockFlag::empty(),
        nix::sys::socket::SockProtocol::NetlinkAudit,
    )
    .unwrap();
    let kernel = nix::sys::socket::NetlinkAddr::new(0, 0);
    let flags = nix::sys::socket::MsgFlags::empty();
    nix::sys::socket::sendto(socket.as_raw_fd(), &message, &kernel, flags).unwrap();
    let mut answer = [0; 64];
    nix::sys::socket::recv(socket.as_raw_fd(), &mut answer, flags).unwrap();
    // NLMSG_ERROR with 0 is an acknowledgement.
    assert_eq!(answer[16..20], [0; 4], "the rule is refused");
}

/// Writes `pid index address` for each page, and `moved` later, should one not stay where it was.
fn plant(pages: usize, step: usize, file: &str) {
    // A huge page is made by moving small ones.
    nix::sys::prctl::set_thp_disable(true).unwrap();
    mlockall(MlockAllFlags::all()).unwrap();
    let stride = step * PAGE;
    let mut memory = vec![0; pages * stride + PAGE];
    let start = memory.as_ptr().align_offset(PAGE);
    let pid = std::process::id();
    for (index, area) in memory[start..].chunks_exact_mut(stride).enumerate() {
        // Pages between are touched too, so that the planted ones lie far from each other.
        area.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
        area[..PAGE].copy_from_slice(&page(pid, index));
    }
    let places = || -> Vec<u64> {
        let first = memory[start..].as_ptr().addr();
        (0..pages)
            .map(|index| physical(first + index * stride))
            .collect()
    };
    let begun = places();
    let line = |(index, address): (usize, &u64)| format!("{pid} {index} {address:x}\n");
    let text: String = begun.iter().enumerate().map(line).collect();
    write(file, &text);
    while places() == begun {
        thread::sleep(Duration::from_secs(1));
    }
    write(file, &(text + "moved\n"));
}

/// Reads each segment of `/proc/kcore` that has a physical address and lies in the direct map.
fn kcore() {
    let file = File::open("/proc/kcore").unwrap();
    let mut head = vec![0; 4096];
    file.read_exact_at(&mut head, 0).unwrap();
    let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap());
    let mut piece = vec![0; 1 << 20];
    for header in (64..).step_by(56).take(usize::from(head[56])) {
        let [offset, address, physical, size] = [8, 16, 24, 32].map(|at| number(header + at));
        if physical == u64::MAX || address >= 0xffff_ffff_8000_0000 || head[header] != 1 {
            continue;
        }
        let mut done = 0;
        while done < size {
            let want = usize::try_from(size - done).unwrap().min(piece.len());
            file.read_exact_at(&mut piece[..want], offset + done)
                .unwrap();
            done += want as u64;
        }
    }
}

/// The physical address of a page of this process: proc(5), `/proc/pid/pagemap`.
fn physical(address: usize) -> u64 {
    let mut entry = [0; 8];
    let map = File::open("/proc/self/pagemap").unwrap();
    map.read_exact_at(&mut entry, (address / PAGE * 8) as u64)
        .unwrap();
    let entry = u64::from_le_bytes(entry);
    let frame = entry & ((1 << 55) - 1);
    assert!(
        entry >> 63 == 1 && frame != 0,
        "the page is not there, or we are not root"
    );
    frame * PAGE as u64
}

/// Memory of `memfd_secret(2)`, which is taken out of the kernel's own map: a module that reads it without care
/// crashes the kernel.
fn secretmem(mebibytes: usize, file: &str) {
    let size = mebibytes << 20;
    let fd = memfd_secret();
    nix::unistd::ftruncate(&fd, size as i64).unwrap();
    assert_eq!(
        File::from(fd.try_clone().unwrap())
            .metadata()
            .unwrap()
            .size(),
        size as u64
    );
    let memory = map(&fd, size);
    for (index, target) in memory.chunks_exact_mut(PAGE).enumerate() {
        target.copy_from_slice(&page(std::process::id(), index));
    }
    write(file, &format!("{} pages are secret\n", size / PAGE));
    loop {
        thread::sleep(Duration::from_secs(60));
        std::hint::black_box(&memory);
    }
}

#[expect(unsafe_code, reason = "neither std nor nix knows memfd_secret(2)")]
fn memfd_secret() -> OwnedFd {
    // SAFETY: the call takes flags and no pointer; a descriptor that it gives is ours alone.
    unsafe {
        let fd = libc::syscall(libc::SYS_memfd_secret, 0);
        assert!(fd >= 0, "memfd_secret: {}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(i32::try_from(fd).unwrap())
    }
}

#[expect(unsafe_code, reason = "a mapping is a raw pointer")]
fn map(fd: &OwnedFd, size: usize) -> &'static mut [u8] {
    let (read_write, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
    // SAFETY: a fresh mapping of `size` bytes at a place of the kernel's choice, never unmapped, of a file that
    // nobody else has and that has this size.
    unsafe {
        let at = libc::mmap(
            std::ptr::null_mut(),
            size,
            read_write,
            shared,
            fd.as_raw_fd(),
            0,
        );
        assert!(
            at != libc::MAP_FAILED,
            "mmap: {}",
            std::io::Error::last_os_error()
        );
        std::slice::from_raw_parts_mut(at.cast(), size)
    }
}

/// The whole text at once, so that nobody reads half of it.
fn write(file: &str, text: &str) {
    let new = format!("{file}.new");
    fs::write(&new, text).unwrap();
    fs::rename(new, file).unwrap();
}
