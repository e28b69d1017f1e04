//! Hosts with each runtime, built from the layouts that the runtimes publish, and state files that want to hurt.
//!
//! A host is a folder of `tests/fixtures/containers/`: `root/` has its files, `processes` a line for each process, and
//! `mountinfo/PID` what some see mounted. `expected` is what must come of it; `BLESS=1` writes it anew, to be read before it
//! is committed.

use std::fmt::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use evidence::manifest::Outcome;
use serde_json::Value;

use super::*;
use crate::capture::rehearsal::{Rehearsed, rehearse};

const TABLES: &[&str] = &["sources", "containers", "members", "namespaces", "mounts"];
const ID: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// A root that is made for a test.
struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        let root = Self(tempfile::tempdir().unwrap());
        root.process("1 1 systemd 0::/init.scope 1 2 3 4 5");
        root
    }

    fn of(fixture: &Path) -> Self {
        let root = Self(tempfile::tempdir().unwrap());
        root.copy(&fixture.join("root"), Path::new(""));
        let processes = std::fs::read_to_string(fixture.join("processes")).unwrap();
        for line in processes.lines().filter(|line| !line.starts_with('#')) {
            root.process(line);
        }
        for entry in std::fs::read_dir(fixture.join("mountinfo"))
            .into_iter()
            .flatten()
        {
            let entry = entry.unwrap();
            let text = std::fs::read(entry.path()).unwrap();
            root.write(
                &format!("proc/{}/mountinfo", entry.file_name().to_str().unwrap()),
                text,
            );
        }
        root
    }

    fn copy(&self, from: &Path, to: &Path) {
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                self.copy(&entry.path(), &to);
            } else {
                self.write(to.to_str().unwrap(), std::fs::read(entry.path()).unwrap());
            }
        }
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.path(path);
        std::fs::write(path, content).unwrap();
        self
    }

    fn path(&self, path: &str) -> PathBuf {
        let path = self.0.path().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    /// `PID START NAME CGROUP MNT PID NET IPC UTS`, with semicolons between the lines of the cgroup.
    fn process(&self, line: &str) -> &Self {
        let fields: Vec<&str> = line.split(' ').collect();
        let [pid, start, name, cgroup, namespaces @ ..] = &fields[..] else {
            panic!("{line}")
        };
        let zeros = "0 ".repeat(17);
        self.write(
            &format!("proc/{pid}/stat"),
            format!("{pid} ({name}) S 1 {zeros}{start} 0 0\n"),
        );
        self.write(
            &format!("proc/{pid}/cgroup"),
            cgroup.replace(';', "\n") + "\n",
        );
        for (kind, inode) in KINDS.iter().zip([0, 1, 2, 3, 4]) {
            symlink(
                format!("{kind}:[{}]", namespaces[inode]),
                self.path(&format!("proc/{pid}/ns/{kind}")),
            )
            .unwrap();
        }
        self
    }

    fn capture(&self, environment: Policy) -> Rehearsed {
        rehearse(&Contained(environment), self.0.path())
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/containers")
        .join(name)
}

/// All that came of it, in one text.
fn told(rehearsed: &Rehearsed) -> String {
    let mut text = format!(
        "# {:?} {:?}\n",
        rehearsed.report.outcome, rehearsed.report.losses
    );
    for table in TABLES {
        writeln!(text, "# {table}").unwrap();
        for row in rehearsed.table(&format!("containers/{table}")) {
            writeln!(text, "{row}").unwrap();
        }
    }
    writeln!(text, "# findings").unwrap();
    for finding in rehearsed.findings() {
        writeln!(text, "{finding}").unwrap();
    }
    text
}

fn rules(rehearsed: &Rehearsed) -> Vec<String> {
    let mut rules: Vec<String> = rehearsed
        .findings()
        .iter()
        .map(|row| row["rule"].as_str().unwrap().to_owned())
        .collect();
    rules.sort();
    rules
}

/// `PID how ID` of each member, ids cut short.
fn membership(rehearsed: &Rehearsed) -> Vec<String> {
    let line = |row: &Value| {
        let id = row["container"]["id"].as_str().unwrap();
        let how = row["exhibit"]["how"].as_str().unwrap();
        format!(
            "{} {how} {}",
            row["process"]["pid"],
            id.get(..8).unwrap_or(id)
        )
    };
    rehearsed
        .table("containers/members")
        .iter()
        .map(line)
        .collect()
}

/// Error of each source that has one, by path.
fn errors(rehearsed: &Rehearsed) -> Vec<(String, String)> {
    let text = |row: &Value, name: &str| row[name].as_str().map(str::to_owned);
    let rows = rehearsed.table("containers/sources");
    rows.iter()
        .filter_map(|row| Some((text(row, "path")?, text(row, "error")?)))
        .collect()
}

#[test]
fn each_runtime_is_told_of_as_expected() {
    for name in ["docker", "containerd", "podman", "crio", "ecs"] {
        let told = told(&Root::of(&fixture(name)).capture(Policy::Hash));
        let expected = fixture(name).join("expected");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&expected, &told).unwrap();
        }
        let expected = std::fs::read_to_string(expected).unwrap();
        for (number, (got, want)) in told.lines().zip(expected.lines()).enumerate() {
            assert_eq!(got, want, "{name}, line {}", number + 1);
        }
        assert_eq!(told.lines().count(), expected.lines().count(), "{name}");
    }
}

#[test]
fn environments_are_what_the_policy_says() {
    let root = Root::of(&fixture("docker"));
    for (policy, want) in [
        (Policy::Collect, true),
        (Policy::Mask, false),
        (Policy::Hash, false),
    ] {
        let told = told(&root.capture(policy));
        assert_eq!(told.contains("hunter2"), want, "{policy:?}");
        assert!(told.contains("DB_PASSWORD"));
    }
}

#[test]
fn a_host_without_containers_has_no_such_thing() {
    let root = Root::new();
    root.process("7 9 bash 0::/user.slice/user-0.slice/session-1.scope 1 2 3 4 5");
    let report = root.capture(Policy::Collect).report;
    assert_eq!(report.outcome, Outcome::Absent, "{report:?}");
}

#[test]
fn a_state_file_that_is_odd_costs_itself_alone() {
    let root = Root::new();
    let docker = |id: &str| format!("/var/lib/docker/containers/{id}/config.v2.json");
    let bundle =
        |id: &str| format!("/run/containerd/io.containerd.runtime.v2.task/k8s.io/{id}/config.json");
    root.write(
        &docker("good"),
        r#"{"ID":"good","Name":"/good","State":{"Running":true,"Pid":50}}"#,
    );
    root.write(&docker("cut"), r#"{"ID":"cut","Name":"/x"#);
    root.write(&docker("other"), r#"{"ID":"../../../etc"}"#);
    root.write(
        &docker("kinds"),
        r#"{"ID":7,"Name":["/x"],"State":"up","Config":[],"MountPoints":[1,{}],"Args":{"a":1}}"#,
    );
    root.write(&docker("deep"), "[".repeat(100_000));
    root.write(&docker("bytes"), [0xFF; 64]);
    root.write(&docker("a b"), "{}");
    root.write("/etc/shadow", "root:secret");
    symlink("/etc/shadow", root.path(&docker("link"))).unwrap();
    std::fs::create_dir_all(root.path(&docker("folder"))).unwrap();
    let sparse = std::fs::File::create(root.path(&bundle("sparse"))).unwrap();
    sparse.set_len(100 << 20).unwrap();
    root.write(&bundle("list"), "[]");
    root.write(
        "/var/lib/containers/storage/overlay-containers/containers.json",
        r#"[{"id":"../x"}]"#,
    );
    root.write(
        "/run/runc/state/state.json",
        r#"{"id":"state","init_process_pid":-1,"init_process_start":"x"}"#,
    );
    root.write("/run/crun/status/status", "null");
    root.process("50 9 app 0::/x 10 11 12 13 14");
    let rehearsed = root.capture(Policy::Collect);
    assert_eq!(rehearsed.report.outcome, Outcome::Partial);
    let named: Vec<String> = errors(&rehearsed)
        .into_iter()
        .map(|(path, why)| format!("{}: {why}", path.rsplit('/').nth(1).unwrap()))
        .collect();
    for want in [
        "a b: its folder has no id for a name",
        "cut: no JSON: EOF",
        "bytes: no JSON",
        "deep: no JSON: recursion limit",
        "other: it says that it is of the container \"../../../etc\"",
        "link: not a regular file",
        "folder: not a regular file",
        "sparse: larger than",
        "list: no object",
        "status: no object",
        "overlay-containers: an entry without an id",
    ] {
        assert!(
            named.iter().any(|line| line.starts_with(want)),
            "{want}: {named:#?}"
        );
    }
    assert_eq!(named.len(), 11, "{named:#?}");
    let ids: Vec<Value> = rehearsed
        .table("containers/containers")
        .iter()
        .map(|row| row["container"]["id"].clone())
        .collect();
    assert_eq!(ids, ["good", "kinds", "state"]);
    assert_eq!(membership(&rehearsed), ["50 state good"]);
    let losses: Vec<&str> = rehearsed.report.losses.keys().map(String::as_str).collect();
    assert_eq!(losses, ["malformed", "no regular file", "truncated"]);
    assert!(!told(&rehearsed).contains("secret"));
}

#[test]
fn a_number_that_is_used_again_is_no_first_process() {
    let root = Root::new();
    root.process("60 500 sshd 0::/system.slice/ssh.service 1 2 3 4 5");
    let state = |start: u32| {
        format!(r#"{{"id":"old","init_process_pid":60,"init_process_start":{start}}}"#)
    };
    root.write("/run/runc/old/state.json", state(400));
    assert!(membership(&root.capture(Policy::Collect)).is_empty());
    root.write("/run/runc/old/state.json", state(500));
    assert_eq!(membership(&root.capture(Policy::Collect)), ["60 state old"]);
}

#[test]
fn a_state_file_can_not_claim_the_hosts_first_process_or_its_namespaces() {
    let root = Root::new();
    root.write(
        "/run/runc/init.scope/state.json",
        r#"{"id":"init.scope","init_process_pid":1,"init_process_start":1}"#,
    );
    root.process("70 9 bash 0::/init.scope 1 2 3 4 5");
    assert!(membership(&root.capture(Policy::Collect)).is_empty());
    root.write(
        "/run/runc/x/state.json",
        r#"{"id":"x","init_process_pid":70,"init_process_start":9}"#,
    );
    root.process("71 9 bash 0::/user.slice 1 2 3 4 5");
    assert_eq!(membership(&root.capture(Policy::Collect)), ["70 state x"]);
}

#[test]
fn without_the_hosts_namespaces_none_tells_of_a_container() {
    let root = Root::new();
    std::fs::remove_dir_all(root.path("proc/1/ns/x").parent().unwrap()).unwrap();
    root.process(&format!("80 9 app 0::/docker/{ID} 1 2 3 4 5"));
    root.process("81 9 sshd 0::/system.slice/ssh.service 1 2 3 4 5");
    let rehearsed = root.capture(Policy::Collect);
    assert_eq!(membership(&rehearsed), ["80 cgroup aaaaaaaa"]);
    assert_eq!(rules(&rehearsed), ["container-without-state"]);
}

#[test]
fn a_container_in_a_container_is_the_one_that_is_known() {
    let root = Root::new();
    let inner = ID.replace('a', "b");
    root.write(
        &format!("/var/lib/docker/containers/{ID}/config.v2.json"),
        "{}",
    );
    root.process(&format!("90 9 dockerd 0::/docker/{ID} 10 11 12 13 14"));
    root.process(&format!(
        "91 9 inner 0::/docker/{ID}/docker/{inner} 20 21 22 23 24"
    ));
    let rehearsed = root.capture(Policy::Collect);
    assert_eq!(
        membership(&rehearsed),
        ["90 cgroup aaaaaaaa", "91 cgroup aaaaaaaa"]
    );
    assert!(rules(&rehearsed).is_empty());
}

#[test]
fn machines_of_systemd_are_containers_and_virtual_ones_are_not() {
    let root = Root::new();
    root.write("/run/systemd/machines/deb", "NAME=deb\nSCOPE=systemd-nspawn@deb.service\nSERVICE=systemd-nspawn\nROOT=/var/lib/machines/deb\nCLASS=container\nLEADER=95\n");
    root.write(
        "/run/systemd/machines/vm",
        "NAME=vm\nSERVICE=libvirt-qemu\nCLASS=vm\nLEADER=96\n",
    );
    symlink(
        "deb",
        root.path("/run/systemd/machines/unit:systemd-nspawn@deb.service"),
    )
    .unwrap();
    root.process("95 9 systemd 0::/machine.slice/systemd-nspawn@deb.service/payload/init.scope 10 11 12 13 14");
    root.process("96 9 qemu 0::/machine.slice/machine-qemu\\x2d1\\x2dvm.scope 1 2 3 4 5");
    root.process("97 9 app 0::/lxc.payload.web/app 20 21 22 23 24");
    let rehearsed = root.capture(Policy::Collect);
    assert!(errors(&rehearsed).is_empty());
    let members = membership(&rehearsed);
    assert!(
        members.contains(&"95 cgroup deb".to_owned())
            && members.contains(&"97 cgroup web".to_owned()),
        "{members:?}"
    );
    let rows = rehearsed.table("containers/containers");
    let runtime = |id: &str| {
        rows.iter()
            .find(|row| row["container"]["id"] == id)
            .map(|row| row["container"]["runtime"].clone())
    };
    assert_eq!(
        (runtime("deb"), runtime("web")),
        (Some("nspawn".into()), Some("lxc".into()))
    );
    assert_eq!(runtime("vm"), None);
}
