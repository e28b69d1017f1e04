use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::pids::{Held, Identity, Machine, judge};
use super::sockets::{Round, disagreements};
use super::threads::{Tasks, hidden as hidden_threads};
use super::{cgroups, covered, preload};
use crate::capture::sockets::{Family, text};
use crate::host::{Host, HostError};

/// A machine whose processes are told for each listing: what is listed, and what runs.
struct Told {
    /// Listed and running at each listing, the last for all that follow.
    moments: Vec<(Vec<i32>, Vec<i32>)>,
    threads: Vec<i32>,
    now: RefCell<usize>,
}

impl Told {
    fn moment(&self) -> &(Vec<i32>, Vec<i32>) {
        let now = (*self.now.borrow()).min(self.moments.len() - 1);
        &self.moments[now]
    }
}

impl Machine for Told {
    fn listed(&self) -> Result<BTreeSet<i32>, HostError> {
        *self.now.borrow_mut() += 1;
        Ok(self.moment().0.iter().copied().collect())
    }

    fn hold(&self, pid: i32) -> Identity {
        match () {
            () if self.threads.contains(&pid) => Identity::Thread,
            () if self.moment().1.contains(&pid) => Identity::Same(Held::Start(1)),
            () => Identity::Gone,
        }
    }

    fn still(&self, pid: i32, _: &Held) -> bool {
        self.moment().1.contains(&pid)
    }
}

fn hidden(moments: &[(&[i32], &[i32])], candidates: &[i32]) -> Vec<i32> {
    let moments = moments
        .iter()
        .map(|(listed, run)| (listed.to_vec(), run.to_vec()));
    let told = Told {
        moments: moments.collect(),
        threads: vec![50],
        now: RefCell::default(),
    };
    let found: BTreeMap<i32, &str> = judge(&told, candidates, || Ok(())).unwrap();
    found.into_keys().collect()
}

#[test]
fn only_what_runs_through_two_listings_and_is_in_neither_is_hidden() {
    let (all, without): (&[i32], &[i32]) = (&[1, 7], &[1]);
    // Each moment: what is listed, what runs. The first is when it is held.
    assert_eq!(
        hidden(&[(without, all), (without, all), (without, all)], &[7]),
        [7]
    );
    for (what, moments) in [
        ("listed now", [(without, all), (all, all), (all, all)]),
        (
            "listed at the second look",
            [(without, all), (without, all), (all, all)],
        ),
        (
            "ended while it was listed",
            [(without, all), (without, without), (without, without)],
        ),
        (
            "ended at the second look",
            [(without, all), (without, all), (without, without)],
        ),
        (
            "gone before it was held",
            [(without, without), (without, without), (without, without)],
        ),
    ] {
        assert!(hidden(&moments, &[7]).is_empty(), "{what}");
    }
    assert!(hidden(&[(without, &[1, 50])], &[50]).is_empty(), "a thread");
    let many: Vec<i32> = (1000..2000).collect();
    let found = hidden(&[(without, &many)], &many);
    assert_eq!(found, many, "more than are held at once");
}

/// A process whose threads are told for each of its lists: what is listed, and what runs.
impl Tasks for Told {
    fn listed(&self, _: i32) -> Result<BTreeSet<i32>, HostError> {
        Machine::listed(self)
    }

    fn has(&self, pid: i32, tid: i32) -> bool {
        pid == 1 && self.moment().1.contains(&tid)
    }
}

#[test]
fn a_thread_is_hidden_that_no_list_shows_while_it_runs() {
    let of = |moments: &[(&[i32], &[i32])], seen: &[i32]| -> Vec<i32> {
        let moments = moments
            .iter()
            .map(|(listed, run)| (listed.to_vec(), run.to_vec()));
        let told = Told {
            moments: moments.collect(),
            threads: Vec::new(),
            now: RefCell::default(),
        };
        let seen = seen.iter().copied().collect();
        hidden_threads(&told, 1, &seen)
            .unwrap()
            .into_iter()
            .collect()
    };
    let (all, without): (&[i32], &[i32]) = (&[1, 7], &[1]);
    assert_eq!(of(&[(without, all)], &[7]), [7]);
    for (what, moments) in [
        ("listed", vec![(all, all)]),
        ("ended", vec![(without, all), (without, without)]),
        (
            "listed later",
            vec![(without, all), (without, all), (all, all)],
        ),
        (
            "ended later",
            vec![
                (without, all),
                (without, all),
                (without, all),
                (without, without),
            ],
        ),
    ] {
        assert!(of(&moments, &[7]).is_empty(), "{what}");
    }
}

#[test]
fn cgroups_tell_numbers_and_leave_strangers_out() {
    let found: Vec<i32> = cgroups::numbers(b"1\n0\n-4\n77\nx\n99999999999\n8").collect();
    assert_eq!(found, [1, 77, 8]);
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let mountinfo = "30 1 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n31 1 0:28 / /data rw - ext4 /dev/a rw\n";
    write("proc/1/mountinfo", mountinfo);
    write("sys/fs/cgroup/cgroup.procs", "1\n2\n");
    write("sys/fs/cgroup/a.slice/b.scope/cgroup.procs", "31337\n");
    let host = Host::open(folder.path()).unwrap();
    let places = cgroups::places(&host);
    assert_eq!(places, [std::path::PathBuf::from("/sys/fs/cgroup")]);
    assert!(cgroups::lists(
        &host,
        "/sys/fs/cgroup/a.slice/b.scope",
        31337
    ));
    assert!(!cgroups::lists(&host, "/sys/fs/cgroup", 31337));
    assert!(!cgroups::lists(&host, "/no/such", 1));
}

#[test]
fn options_of_the_last_proc_are_told() {
    let plain = b"25 1 0:5 / /proc rw shared:1 - proc proc rw,hidepid=0\n";
    assert_eq!(covered::options(plain), None);
    let both = [
        &plain[..],
        b"26 25 0:6 / /proc rw - proc proc rw,gid=4,hidepid=invisible\n",
    ]
    .concat();
    assert_eq!(
        covered::options(&both).as_deref(),
        Some("gid=4,hidepid=invisible")
    );
    assert_eq!(covered::options(b"junk\n\xff"), None);
}

#[test]
fn variables_and_their_libraries_are_found() {
    let environ = b"HOME=/\0LD_PRELOAD=/tmp/x.so libm.so\0NOT_LD_PRELOAD=1\0LD_AUDIT=\0\xff\0";
    let found = preload::variables(environ);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        found,
        [
            pair("LD_PRELOAD", "/tmp/x.so libm.so"),
            pair("LD_AUDIT", "")
        ]
    );
    let maps = b"7f00-7f01 r-xp 0 08:01 7 /tmp/x.so\n";
    assert_eq!(preload::mapped("/tmp/x.so:/tmp/y.so", maps), ["/tmp/x.so"]);
}

/// A round with sockets of TCP by inode, as netlink and as the texts show them.
fn round(netlink: &[u64], texts: &[u64]) -> Round {
    let seen = |inodes: &[u64]| {
        let line = |inode: &u64| {
            format!("  0: 0100007F:1F90 00000000:0000 0A 0:0 0:0 0 0 0 {inode} 1\n")
                .replace("0:0 0:0", "00000000:00000000 00:00000000")
                .replace(" 0 0 0 ", " 00000000 0 0 ")
        };
        let lines: String = inodes.iter().map(line).collect();
        let parsed = text::parse(Family::Tcp, 5, format!("head\n{lines}").as_bytes(), 100);
        assert_eq!(parsed.malformed, 0, "{lines}");
        parsed
            .sockets
            .into_iter()
            .map(|socket| (socket.inode, socket))
            .collect()
    };
    Round {
        netlink: seen(netlink),
        texts: seen(texts),
        compared: BTreeSet::from([(5, Family::Tcp)]),
    }
}

#[test]
fn a_socket_is_hidden_when_one_view_never_shows_it() {
    let found = |rounds: &[Round]| -> Vec<(&str, u64)> {
        disagreements(rounds)
            .iter()
            .map(|(from, socket)| (*from, socket.inode))
            .collect()
    };
    let rounds = [round(&[1, 2], &[1, 3]), round(&[1, 2], &[1, 3])];
    assert_eq!(found(&rounds), [("/proc/net", 2), ("sock_diag", 3)]);
    assert!(
        found(&[round(&[1, 2], &[1]), round(&[1, 2], &[1, 2])]).is_empty(),
        "shown later"
    );
    assert!(
        found(&[round(&[1, 2], &[1]), round(&[1], &[1])]).is_empty(),
        "closed"
    );
    let mut blind = round(&[1, 2], &[1]);
    blind.compared.clear();
    assert!(found(&[blind]).is_empty(), "what could not be compared");
}
