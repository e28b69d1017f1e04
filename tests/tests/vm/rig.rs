//! The rig itself: a guest boots, its network and share work, LiME loads where it should and not where it should not.

use std::path::Path;
use std::time::Duration;

use exhibit_tests::rig::or_skip;
use exhibit_tests::rig::vm::{Guest, Kernel, Modules, plant};

/// The program of `src/bin/guest.rs`.
pub const GUEST: &str = env!("CARGO_BIN_EXE_guest");

#[test]
fn a_guest_runs_a_script_and_gives_back_what_it_wrote() {
    let Some(kernel) = or_skip(Kernel::ensure()) else {
        return;
    };
    let modules = tempfile::tempdir().unwrap();
    let modules = Modules::new(&kernel, modules.path()).unwrap();
    let guest = Guest::new(&kernel)
        .unwrap()
        .low_memory(256)
        .program("guest", Path::new(GUEST));
    let release = kernel.release().to_string();
    let other = release.replace("6.1.0-5", "6.1.0-4");
    modules.write(&guest.share().join("good"), |_| ()).unwrap();
    modules
        .write(&guest.share().join("crc"), |entry| entry.break_versions())
        .unwrap();
    modules
        .write(&guest.share().join("other"), |entry| {
            entry.set_release(&release, &other)
        })
        .unwrap();
    let ended = guest
        .run(
            "cat /proc/iomem > iomem; uname -r
             guest plant 16 /host/planted & while [ ! -e planted ]; do usleep 100000; done
             for s in good crc other; do insmod $s/*/x86_64/lime.ko path=/tmp/$s.lime format=lime timeout=0; echo $s $?; ls -l /tmp; rmmod lime; rm -f /tmp/*.lime; done
             dmesg | tail -5
             cat /sys/kernel/security/lockdown /sys/module/module/parameters/sig_enforce
             exit 7",
        )
        .unwrap();
    eprintln!(
        "{ended}\n{}\n{}",
        ended.text("iomem"),
        ended.text("planted")
    );
    assert_eq!(ended.code, Some(7), "{ended}");
    assert_eq!(plant::parse(&ended.text("planted")).len(), 16);
    let _ = Duration::ZERO;
}
