//! The running kernel, in namespaces that the tests make.

use std::path::Path;

use nix::sched::{CloneFlags, unshare};

use super::*;

fn live() -> Host {
    Host::open(Path::new("/")).unwrap()
}

#[test]
fn our_own_namespace_is_told() {
    let host = live();
    let (all, _) = namespaces::of_processes(&host).unwrap();
    let found = look(&host, &all[0]).unwrap();
    assert_eq!((found.handle, found.refused), (Handle::Own, None));
    let state = found.state;
    assert!(state.failures.is_empty(), "{:?}", state.failures);
    let lo = state
        .interfaces
        .iter()
        .find(|interface| interface.name == "lo")
        .unwrap();
    assert_eq!(
        (lo.netns, lo.hardware.as_deref()),
        (all[0].inode, Some("loopback"))
    );
    assert!(lo.statistics.is_some() && lo.flags.contains(&"LOOPBACK".to_owned()));
    assert!(
        state
            .addresses
            .iter()
            .all(|address| address.interface_name.is_some()),
        "{:?}",
        state.addresses
    );
}

#[test]
fn another_namespace_is_told_apart() {
    let netns = |path: &str| std::fs::read_link(path).unwrap();
    let ours = netns("/proc/self/ns/net");
    let (ready, is_ready) = std::sync::mpsc::channel();
    let (finish, finished) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        if unshare(CloneFlags::CLONE_NEWNET).is_ok() {
            let _ = ready.send(netns("/proc/thread-self/ns/net"));
            let _ = finished.recv();
        }
    });
    let Ok(theirs) = is_ready.recv() else {
        assert!(std::env::var_os("CI").is_none(), "CI has to run all tests");
        return eprintln!("SKIPPED: a network namespace needs CAP_SYS_ADMIN");
    };
    let host = live();
    let (known, _) = namespaces::of_processes(&host).unwrap();
    let kept = namespaces::kept(&host, &sockets::owners(&host), &known);
    let wanted =
        |namespace: &&Namespace| theirs == Path::new(&format!("net:[{}]", namespace.inode));
    let found = look(&host, kept.iter().find(wanted).unwrap()).unwrap();
    assert_eq!(found.refused, None);
    let [lo] = found.state.interfaces.as_slice() else {
        panic!("{:?}", found.state)
    };
    assert_eq!((lo.index, lo.state.as_deref()), (1, Some("down")));
    assert_ne!(format!("net:[{}]", lo.netns), ours.to_string_lossy());
    assert!(
        found.state.failures.is_empty() && found.state.routes.is_empty(),
        "{:?}",
        found.state
    );
    drop(finish);
    thread.join().unwrap();
}

#[test]
fn a_recorded_tree_is_read_without_asking_this_kernel() {
    let folder = tempfile::tempdir().unwrap();
    let net = folder.path().join("proc/net");
    std::fs::create_dir_all(&net).unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/proc-net");
    std::fs::copy(fixtures.join("dev"), net.join("dev")).unwrap();
    let host = Host::open(folder.path()).unwrap();
    let (all, _) = namespaces::of_processes(&host).unwrap();
    let state = look(&host, &all[0]).unwrap().state;
    assert_eq!(state.interfaces.len(), 4);
    assert!(state.failures.is_empty() && state.rules.is_empty());
}
