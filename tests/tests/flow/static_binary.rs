//! The binary stands alone: no dynamic section, nothing of the host loaded or run, nothing written.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use exhibit_tests::rig::agent::Agent;
use exhibit_tests::rig::dns::Dns;
use exhibit_tests::rig::proxy::{ACCESS_KEY, Proxy};
use exhibit_tests::rig::{skip_or_fail, tool};
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::UtimensatFlags::NoFollowSymlink;
use nix::sys::stat::utimensat;
use nix::sys::time::TimeSpec;

use super::{BUCKET, Bucket, DISKS, Ended, REGION, SMALL, run};

/// Program headers of types PT_DYNAMIC (2) and PT_INTERP (3), by the ELF-64 layout of elf(5).
fn dynamic_headers(elf: &[u8]) -> usize {
    let number = |at: usize, size: usize| {
        elf[at..at + size]
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    };
    let (start, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    (0..count)
        .filter(|index| [2, 3].contains(&number(start + index * size, 4)))
        .count()
}

#[test]
fn it_has_no_dynamic_section_and_no_interpreter() {
    let agent = std::fs::read(Agent::built().unwrap().program()).unwrap();
    assert_eq!(&agent[..4], b"\x7fELF");
    assert_eq!(dynamic_headers(&agent), 0);
    assert!(
        dynamic_headers(&std::fs::read("/bin/sleep").unwrap()) > 0,
        "the check can fail"
    );
}

/// A root with nothing but the agent, `/proc` and `/sys`.
fn empty_root() -> Option<(tempfile::TempDir, Unmount)> {
    let root = tempfile::tempdir().unwrap();
    let program = root.path().join("agent");
    std::fs::copy(Agent::built().unwrap().program(), &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut mounted = Unmount(Vec::new());
    for kind in ["proc", "sysfs"] {
        let point = root
            .path()
            .join(if kind == "proc" { "proc" } else { "sys" });
        std::fs::create_dir(&point).unwrap();
        if !Command::new("mount")
            .args(["-t", kind, kind])
            .arg(&point)
            .status()
            .unwrap()
            .success()
        {
            skip_or_fail("proc and sysfs can not be mounted");
            return None;
        }
        mounted.0.push(point);
    }
    Some((root, mounted))
}

struct Unmount(Vec<std::path::PathBuf>);

impl Drop for Unmount {
    fn drop(&mut self) {
        for point in &self.0 {
            let _ = Command::new("umount").arg("-l").arg(point).status();
        }
    }
}

#[test]
fn in_an_empty_root_it_collects_and_finds_the_store_by_its_name() {
    let Some(bucket) = Bucket::start() else {
        return;
    };
    let Some((root, _mounted)) = empty_root() else {
        return;
    };
    let proxy = Proxy::start_tls(bucket.moto.address(), &["store.exhibit.test"]);
    std::fs::write(root.path().join("ca.pem"), proxy.ca_pem()).unwrap();
    let dns = Dns::start(&["store.exhibit.test"]).unwrap();
    let endpoint = format!("https://store.exhibit.test:{}", proxy.address().port());
    let (to, nameserver) = (format!("s3://{BUCKET}/cases"), dns.address().to_string());
    let mut chroot = Command::new(tool("chroot").expect("chroot"));
    chroot.arg(root.path()).args([
        "/agent", "collect", "--quiet", "--to", &to, "--region", REGION,
    ]);
    chroot.args([
        "--endpoint-url",
        &endpoint,
        "--nameserver",
        &nameserver,
        "--ca-bundle",
        "/ca.pem",
    ]);
    chroot.env_clear().env("AWS_EC2_METADATA_DISABLED", "true");
    chroot
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", "s");
    let ended = run(&mut chroot);
    assert!(ended.code == 0 || ended.code == 3, "{ended:?}");
    let asked = dns.queries();
    assert!(
        asked
            .iter()
            .any(|query| query.name.trim_end_matches('.') == "store.exhibit.test"),
        "{asked:?}"
    );
    let manifest = bucket.manifest(&ended.prefix());
    assert_eq!(manifest["store"]["resolved_by"], nameserver);
    let (verified, report) = bucket.verify(&ended.prefix());
    assert_eq!(
        (verified.code, &report["problems"]),
        (ended.code, &serde_json::json!([])),
        "{report}"
    );
}

/// The system calls of a run with these arguments.
fn trace(agent: &Agent, arguments: &[&str], calls: &str) -> Option<(Ended, String)> {
    let Some(strace) = tool("strace") else {
        skip_or_fail("strace is missing");
        return None;
    };
    let log = agent.home().join("strace.log");
    let command = agent.command();
    let program = command.get_program().to_owned();
    let mut traced = Command::new(strace);
    traced
        // Calls that are not looked at cost nothing then, millions of them.
        .args(["--seccomp-bpf", "-f", "-qq", "-s", "256", "-o"])
        .arg(&log)
        .args(["-e", &format!("trace={calls}")])
        .arg(program)
        .args(arguments);
    traced.env_clear().envs(
        command
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let ended = run(&mut traced);
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::remove_file(&log).unwrap();
    Some((ended, text))
}

/// A tree with something for each artifact that reads whole disks.
fn small_disk() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, content) in [
        ("etc/passwd", "ana:x:1000:1000::/home/ana:/bin/sh\n"),
        ("etc/shadow", "ana:$6$x:19000::::::\n"),
        ("home/ana/.bash_history", "id\n"),
        ("usr/bin/tool", "\x7fELF"),
        ("usr/lib/libx.so", "\x7fELF"),
        (
            "var/lib/dpkg/status",
            "Package: x\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n",
        ),
        (
            "var/lib/dpkg/info/x.md5sums",
            "0123456789abcdef0123456789abcdef  usr/lib/libx.so\n",
        ),
        ("var/log/syslog", "a line\n"),
        ("tmp/payload", "x"),
    ] {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    std::os::unix::fs::symlink("tool", root.path().join("usr/bin/alias")).unwrap();
    root
}

#[test]
fn it_runs_nothing_loads_nothing_and_writes_nothing() {
    let Some(bucket) = Bucket::start() else {
        return;
    };
    let agent = Agent::built().unwrap().credentials(ACCESS_KEY);
    let (endpoint, to) = (bucket.proxy.endpoint(), format!("s3://{BUCKET}/cases"));
    let way = [
        "collect",
        "--quiet",
        "--to",
        &to,
        "--endpoint-url",
        &endpoint,
        "--region",
        REGION,
    ];
    // Under strace a walk of a whole disk takes many minutes: what walks is watched on a small one.
    let disk = small_disk();
    let small = ["--root", disk.path().to_str().unwrap()];
    age(disk.path());
    for (more, opens) in [(DISKS, 1000), (small, 50)] {
        let Some((ended, log)) = trace(&agent, &[&way[..], &more].concat(), CALLS) else {
            return;
        };
        assert!(ended.code == 0 || ended.code == 3, "{ended:?}");
        nothing_is_touched(&log, opens);
        let manifest = bucket.manifest(&ended.prefix());
        assert_eq!(manifest["impact"]["changes"], serde_json::json!([]));
        if more == DISKS {
            assert_eq!(manifest["impact"]["disk_write_bytes"], 0);
            let peak = manifest["impact"]["peak_rss_bytes"].as_u64().unwrap();
            assert!(peak < 96 << 20, "{peak}");
        }
    }
    let looked_at = accessed(disk.path());
    assert!(
        looked_at.values().all(|at| *at == LONG_AGO),
        "{looked_at:?}"
    );
}

const LONG_AGO: i64 = 1_000_000_000;

/// Lets everything below `folder` have been read last long ago, so that reading it once more would show.
fn age(folder: &Path) {
    let long_ago = TimeSpec::new(LONG_AGO, 0);
    for path in accessed(folder).keys() {
        utimensat(AT_FDCWD, path, &long_ago, &long_ago, NoFollowSymlink).unwrap();
    }
}

/// When everything below `folder` was last read, which this does not change for anything but directories.
fn accessed(folder: &Path) -> BTreeMap<PathBuf, i64> {
    let mut found = BTreeMap::new();
    let mut left = vec![folder.to_owned()];
    while let Some(path) = left.pop() {
        let metadata = path.symlink_metadata().unwrap();
        if metadata.is_dir() {
            left.extend(path.read_dir().unwrap().map(|entry| entry.unwrap().path()));
        }
        found.insert(path, metadata.atime());
    }
    found
}

const CALLS: &str = "execve,execveat,open,openat,openat2,creat,mkdir,mkdirat,unlink,unlinkat,rename,renameat,renameat2,link,linkat,symlinkat,truncate,ftruncate,fallocate,chmod,fchmodat,utimensat,init_module,finit_module";

/// Fails where a trace of [`CALLS`] has anything but reading, or fewer than `opens` files that were opened.
fn nothing_is_touched(log: &str, opens: usize) {
    let of = |call: &str| {
        log.lines()
            .filter(|line| line.contains(&format!("{call}(")))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        of("execve").len() + of("execveat").len(),
        1,
        "its own start: {:?}",
        of("execve")
    );
    assert!(of("openat").len() > opens, "the trace sees the run");
    let suspicious = |line: &&str| {
        let writes = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"]
            .iter()
            .any(|flag| line.contains(flag));
        writes && !line.contains("\"/dev/null\"")
    };
    let written: Vec<&str> = log.lines().filter(suspicious).collect();
    assert!(written.is_empty(), "{written:?}");
    for call in [
        "mkdir",
        "unlink",
        "rename",
        "link",
        "symlink",
        "truncate",
        "chmod",
        "utimensat",
        "init_module",
        "creat",
    ] {
        let made: Vec<&str> = log
            .lines()
            .filter(|line| line.contains(&format!(" {call}")) && line.contains('('))
            .filter(|line| !line.contains(" resumed"))
            .collect();
        assert!(made.is_empty(), "{call}: {made:?}");
    }
    // Libraries of the host are read as evidence from `/etc` and `/proc`, never from where a loader looks.
    let library = |line: &&str| {
        line.contains(".so")
            && ["\"/lib", "\"/usr/lib", "\"/lib64"]
                .iter()
                .any(|path| line.contains(path))
    };
    let loaded: Vec<&str> = log.lines().filter(library).collect();
    assert!(loaded.is_empty(), "{loaded:?}");
}

#[test]
fn a_name_service_module_of_the_host_is_never_looked_for() {
    // getaddrinfo of a static glibc would open nsswitch.conf and load what stands there, as root.
    let Some(bucket) = Bucket::start() else {
        return;
    };
    let dns = Dns::start(&["store.exhibit.test"]).unwrap();
    let agent = Agent::built().unwrap().credentials(ACCESS_KEY);
    let endpoint = format!(
        "http://store.exhibit.test:{}",
        bucket.proxy.address().port()
    );
    let (nameserver, to) = (dns.address().to_string(), format!("s3://{BUCKET}/cases"));
    let way = [
        "collect",
        "--quiet",
        "--to",
        &to,
        "--endpoint-url",
        &endpoint,
        "--region",
        REGION,
        "--nameserver",
        &nameserver,
    ];
    let Some((ended, log)) = trace(&agent, &[&way[..], &SMALL].concat(), "openat,open") else {
        return;
    };
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(!dns.queries().is_empty());
    let asked = |line: &&str| {
        [
            "libnss",
            "/etc/hosts",
            "/etc/host.conf",
            "/etc/gai.conf",
            "\"/etc/ld.so",
        ]
        .iter()
        .any(|name| line.contains(name))
    };
    let opened: Vec<&str> = log.lines().filter(asked).collect();
    assert!(opened.is_empty(), "{opened:?}");
    assert!(
        Path::new("/etc/nsswitch.conf").exists() || log.contains("openat"),
        "the trace sees opens"
    );
}
