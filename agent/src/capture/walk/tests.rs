use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use super::*;

fn host(files: &[&str]) -> (tempfile::TempDir, Host) {
    let root = tempfile::tempdir().unwrap();
    for file in files {
        let path = root.path().join(file.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, file).unwrap();
    }
    let host = Host::open(root.path()).unwrap();
    (root, host)
}

fn found(host: &Host, glob: &str) -> (Vec<PathBuf>, usize) {
    let mut failed = 0;
    let paths = matches(host, &[glob], &mut |failure| {
        failed += usize::from(failure.is_some());
        Ok(())
    });
    (paths.unwrap().into_iter().collect(), failed)
}

/// Every name that the walk of everything comes by for the first time, in its order, and what each owner gets.
fn walked(
    host: &Host,
    wants: &[Want<'_>],
    names: u64,
) -> (Vec<String>, Vec<(Owner, String)>, Option<Stopped>) {
    let (mut all, mut owned) = (Vec::new(), Vec::new());
    let plan = Plan::new(host, wants, true);
    let result = walk(host, &plan, names, &mut |seen| {
        if let Seen::Entry {
            folder,
            found,
            owners,
            first,
        } = seen
        {
            let path = folder.join(&found.name).display().to_string();
            owned.extend(owners.iter().map(|owner| (*owner, path.clone())));
            all.extend(first.then_some(path));
        }
        Ok(())
    });
    (all, owned, result.err())
}

#[test]
fn globs_match_whole_components_and_hidden_names() {
    let (_root, host) = host(&[
        "/var/log/a.log",
        "/var/log/deep/er/b.log",
        "/var/log/.hidden",
        "/var/logs/no",
    ]);
    assert_eq!(
        found(&host, "/var/log/*.log").0,
        [Path::new("/var/log/a.log")]
    );
    assert_eq!(
        found(&host, "/var/log/**").0.len(),
        5,
        "three files and two directories"
    );
    assert_eq!(
        found(&host, "/var/*/a.log").0,
        [Path::new("/var/log/a.log")]
    );
    assert_eq!(found(&host, "/nowhere/**"), (Vec::new(), 0));
}

#[test]
fn links_below_the_start_are_found_and_never_followed() {
    let (root, host) = host(&["/etc/real/secret"]);
    symlink("real", root.path().join("etc/link")).unwrap();
    symlink("/etc", root.path().join("etc/loop")).unwrap();
    let (paths, _) = found(&host, "/etc/**");
    let names: Vec<&str> = paths.iter().map(|path| path.to_str().unwrap()).collect();
    assert_eq!(
        names,
        ["/etc/link", "/etc/loop", "/etc/real", "/etc/real/secret"]
    );
}

#[test]
fn a_start_that_is_a_link_is_resolved_below_the_root_and_told_of() {
    let (root, host) = host(&["/data/home/ana/.bash_history", "/secret"]);
    symlink("data/home", root.path().join("home")).unwrap();
    let (paths, failed) = found(&host, "~/.*_history");
    assert!(
        paths.contains(&PathBuf::from("/home")) && failed == 0,
        "{paths:?}"
    );
    let history = PathBuf::from("/data/home/ana/.bash_history");
    assert!(paths.contains(&history), "{paths:?}");
    symlink("../../../../data", root.path().join("up")).unwrap();
    assert!(found(&host, "/up/**").0.contains(&history));
    symlink("round", root.path().join("round")).unwrap();
    assert_eq!(found(&host, "/round/*").1, 1, "a loop is a loss");
}

#[test]
fn a_link_on_the_way_inside_a_home_is_followed_for_what_was_asked_and_no_further() {
    let (root, host) = host(&["/home/ana/x", "/data/ssh/authorized_keys", "/data/other/y"]);
    symlink("/data/ssh", root.path().join("home/ana/.ssh")).unwrap();
    symlink("/data/other", root.path().join("home/ana/.other")).unwrap();
    let (paths, _) = found(&host, "~/.ssh/**");
    assert!(
        paths.contains(&PathBuf::from("/data/ssh/authorized_keys")),
        "{paths:?}"
    );
    assert!(
        paths.contains(&PathBuf::from("/home/ana/.ssh")),
        "{paths:?}"
    );
    let (paths, _) = found(&host, "~/**");
    assert!(
        !paths.iter().any(|path| path.starts_with("/data")),
        "{paths:?}"
    );
}

#[test]
fn what_lies_too_deep_is_a_loss() {
    let deep = format!("/etc/{}payload", "d/".repeat(MAX_DEPTH + 5));
    let (_root, host) = host(&[&deep]);
    let (paths, failed) = found(&host, "/etc/**");
    assert_eq!((paths.len(), failed), (MAX_DEPTH, 1));
}

#[test]
fn homes_of_any_name_are_looked_at() {
    let (root, host) = host(&["/srv/a[1]/.bash_history", "/srv/b}/.bash_history"]);
    let odd = root.path().join(OsStr::from_bytes(b"home/us\xe9r"));
    std::fs::create_dir_all(&odd).unwrap();
    std::fs::write(odd.join(".bash_history"), "").unwrap();
    std::fs::create_dir_all(root.path().join("etc")).unwrap();
    let passwd = "a:x:1:1::/srv/a[1]/:/bin/sh\nb:x:2:2::/srv/b}:/bin/sh\nevil:x:3:3::../../etc:/\n";
    std::fs::write(root.path().join("etc/passwd"), passwd).unwrap();
    assert_eq!(found(&host, "~/.*_history").0.len(), 3);
}

#[test]
fn each_name_is_seen_once_and_what_families_ask_for_comes_first() {
    let (_root, host) = host(&[
        "/data/a/huge",
        "/data/x.log",
        "/etc/passwd",
        "/proc/1/comm",
        "/sys/x",
        "/var/log/y.log",
    ]);
    let wants = [
        Want {
            owner: 0,
            glob: "/etc/**",
            tree: true,
        },
        Want {
            owner: 1,
            glob: "/**/*.log",
            tree: true,
        },
        Want {
            owner: 2,
            glob: "/var/log",
            tree: true,
        },
        Want {
            owner: 3,
            glob: "/sys/*",
            tree: true,
        },
    ];
    let (all, owned, stopped) = walked(&host, &wants, 100);
    assert_eq!(stopped, None);
    let mut once = all.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), all.len(), "{all:?}");
    assert!(
        !all.iter()
            .any(|path| path.starts_with("/proc/") || path.starts_with("/sys/")),
        "{all:?}"
    );
    let at = |path: &str| all.iter().position(|one| one == path).unwrap();
    assert!(
        at("/etc/passwd") < at("/data/a") && at("/var/log/y.log") < at("/data/a"),
        "{all:?}"
    );
    for (owner, path) in [
        (0, "/etc/passwd"),
        (1, "/data/x.log"),
        (1, "/var/log/y.log"),
        (2, "/var/log"),
        (2, "/var/log/y.log"),
        (3, "/sys/x"),
    ] {
        assert!(
            owned.contains(&(owner, path.to_owned())),
            "{path}: {owned:?}"
        );
    }
}

#[test]
fn a_walk_that_runs_out_of_names_says_whether_what_was_wanted_was_seen() {
    let files: Vec<String> = (0..50).map(|number| format!("/data/{number}")).collect();
    let mut files: Vec<&str> = files.iter().map(String::as_str).collect();
    files.push("/etc/passwd");
    let (_root, host) = host(&files);
    let wants = [Want {
        owner: 0,
        glob: "/etc/**",
        tree: true,
    }];
    let (_, owned, stopped) = walked(&host, &wants, 20);
    assert_eq!(
        stopped,
        Some(Stopped {
            halt: Halt::Names(20),
            wanted_seen: true
        })
    );
    assert_eq!(owned.len(), 2, "the directory and its file");
    let (_, _, stopped) = walked(&host, &wants, 2);
    assert!(!stopped.unwrap().wanted_seen);
}

#[test]
fn a_directory_that_can_not_be_read_is_told_to_those_who_wanted_it() {
    let (root, host) = host(&["/etc/ok", "/mnt/nfs/file"]);
    std::fs::create_dir_all(root.path().join("proc/1")).unwrap();
    std::fs::write(
        root.path().join("proc/1/mountinfo"),
        "9 1 0:9 / /mnt/nfs rw - nfs4 s:/ rw\n",
    )
    .unwrap();
    drop(host);
    let host = Host::open(root.path()).unwrap();
    let wants = [
        Want {
            owner: 0,
            glob: "/mnt/nfs/**",
            tree: true,
        },
        Want {
            owner: 1,
            glob: "/**/file",
            tree: true,
        },
    ];
    let plan = Plan::new(&host, &wants, true);
    let mut told = Vec::new();
    walk(&host, &plan, 100, &mut |seen| {
        if let Seen::Failed {
            path,
            error,
            owners,
        } = seen
        {
            told.push((path.to_owned(), error, owners.to_vec()));
        }
        Ok(())
    })
    .unwrap();
    let foreign = HostError::Foreign("nfs4".to_owned());
    assert!(
        told.iter()
            .all(|(path, error, _)| path.starts_with("/mnt/nfs") && *error == foreign),
        "{told:?}"
    );
    assert!(
        told.iter().any(|(_, _, owners)| owners.contains(&0)),
        "{told:?}"
    );
    assert!(
        !told.iter().any(|(_, _, owners)| owners.contains(&1)),
        "what lies anywhere is not missed by name: {told:?}"
    );
}
