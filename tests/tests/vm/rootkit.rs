//! A rootkit in a real kernel hides a process, a thread, a file and itself, and comparing views finds all.

use serde_json::Value;

use super::lab::Lab;

#[allow(dead_code, reason = "the flows read more of a collection")]
#[path = "../flow/collection.rs"]
mod collection;

const HIDDEN: &str = "
    sleep 3600 &
    hidden=$!
    echo $hidden >pid
    guest thread tid &
    process=$!
    echo $process >process
    while [ ! -s tid ]; do sleep 0.1; done
    mkdir -p /tmp/nest
    cp $(command -v guest) /tmp/nest/evil
    /tmp/nest/evil thread evil-tid &
    echo $! >evil
    while [ ! -s evil-tid ]; do sleep 0.1; done
    include=first_sweep,processes,hidden,kernel,modules,tracing,security,last_sweep
    guest watch /host/pid planted-key
    collect before
    insmod hide.ko pid=$hidden,$(cat tid) name=evil
    ls /proc | grep -qx $hidden && { echo 'it is not hidden'; exit 9; }
    ls /proc/$process/task | grep -qx $(cat tid) && { echo 'the thread is not hidden'; exit 9; }
    ls /tmp/nest | grep -q evil && { echo 'the name is not hidden'; exit 9; }
    grep -q '^hide ' /proc/modules && { echo 'the module is listed'; exit 9; }
    collect after
";

#[test]
fn a_process_a_thread_a_file_and_a_module_that_a_rootkit_hides_are_found() {
    let Some(lab) = Lab::start() else { return };
    let guest = lab.small_guest();
    std::fs::write(guest.share().join("hide.ko"), lab.rootkit()).unwrap();
    let ended = lab.run(guest, HIDDEN);
    let pid: i64 = ended.text("pid").trim().parse().unwrap();
    let findings = |name: &str| {
        let run = lab.of(&ended, name);
        assert!(run.code == 0 || run.code == 3, "{run:?}");
        let members = collection::members(&run.folder);
        let listed = collection::table(&members, "live_response/process/processes.jsonl");
        let is_listed = listed.iter().any(|row| row["process"]["pid"] == pid);
        let findings = collection::table(&members, "findings.jsonl");
        (findings, is_listed, members)
    };
    let (before, listed, members) = findings("before");
    let rules = collection::table(&members, "live_response/kernel/audit_rules.jsonl");
    let fields = serde_json::json!(["path = /host/pid", "perm = 6", "key = planted-key"]);
    let watched = rules.iter().any(|rule| rule["fields"] == fields);
    assert!(watched, "a rule that is loaded: {rules:?}");
    let status = collection::table(&members, "live_response/kernel/audit.jsonl");
    assert_eq!(status.len(), 1, "{status:?}");
    let of = |findings: &[Value], rule: &str| {
        let mut found = findings.iter().filter(|finding| finding["rule"] == rule);
        found.next().cloned()
    };
    assert!(listed);
    for rule in [
        "hidden-process",
        "hidden-thread",
        "hidden-name",
        "hidden-module",
        "kprobe-on-what-shows-things",
    ] {
        assert_eq!(of(&before, rule), None);
    }
    let (after, listed, members) = findings("after");
    assert!(!listed, "the rootkit does not do what it is for");
    let process = of(&after, "hidden-process").unwrap_or_else(|| panic!("{after:#?}"));
    assert_eq!(process["pid"], pid);
    let number = |name: &str| ended.text(name).trim().parse::<i64>().unwrap();
    let thread = of(&after, "hidden-thread").unwrap_or_else(|| panic!("{after:#?}"));
    assert_eq!(thread["pid"], number("process"));
    let named = format!("thread {} (guest)", number("tid"));
    assert!(
        thread["reason"].as_str().unwrap().starts_with(&named),
        "{thread}"
    );
    let name = of(&after, "hidden-name").unwrap_or_else(|| panic!("{after:#?}"));
    assert_eq!(
        (&name["path"], &name["pid"]),
        (&"/tmp/nest/evil".into(), &number("evil").into())
    );
    let content = members.get(b"[root]/tmp/nest/evil".as_slice());
    assert!(content.is_some_and(|content| content.starts_with(b"\x7fELF")));
    let module = of(&after, "hidden-module").unwrap_or_else(|| panic!("{after:#?}"));
    assert_eq!(module["module"], "hide");
    for probed in ["proc_fill_cache", "filldir64"] {
        let told = |finding: &Value| {
            let function = finding["function"].as_str().unwrap_or_default();
            finding["rule"] == "kprobe-on-what-shows-things" && function.starts_with(probed)
        };
        assert!(after.iter().any(told), "{probed}: {after:#?}");
    }
}
