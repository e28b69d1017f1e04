//! The rig itself: a guest boots, its network and share work, LiME loads where it should and not where it should not,
//! and the judges of the other cases know a good image from a bad one.

use std::os::unix::fs::FileExt;
use std::time::Duration;

use exhibit_tests::rig::{or_skip, volatility};

use super::image::Image;
use super::lab::{Lab, planted};

#[test]
fn the_agent_in_a_guest_reaches_the_bucket_on_the_host() {
    let Some(lab) = Lab::start() else { return };
    let ended = lab.run(lab.guest().memory(256), "collect plain\n");
    let run = lab.of(&ended, "plain");
    assert_eq!(lab.verdict(&run).0, run.code, "{run:?}");
    assert_eq!(
        run.manifest["host"]["kernel_release"],
        lab.release(),
        "{}",
        run.manifest
    );
}

#[test]
fn a_good_image_is_known_from_a_bad_one() {
    let Some(lab) = Lab::start() else { return };
    let guest = lab.small_guest();
    let ended = lab.run(
        guest,
        "pages=12 plant
         mkfifo /tmp/fifo
         dd if=/tmp/fifo of=image bs=256k iflag=fullblock 2>/dev/null &
         insmod $lime path=/tmp/fifo format=lime timeout=0
         wait $!; sync; rmmod lime",
    );
    let planted = planted(&ended);
    let iomem = ended.text("iomem");
    let path = ended.path("image");
    Image::open(&path).judge(&iomem, &planted);

    if let Some(banners) = or_skip(volatility::banners(&path)) {
        let release = format!("Linux version {} ", lab.release());
        assert!(
            banners.iter().any(|banner| banner.starts_with(&release)),
            "volatility finds {banners:?}"
        );
    }

    let file = std::fs::File::options().write(true).open(&path).unwrap();
    let refused = |what: &str| {
        let judged = std::panic::catch_unwind(|| Image::open(&path).judge(&iomem, &planted));
        assert!(judged.is_err(), "an image with {what} passes");
    };
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    refused("a byte less");
    file.set_len(file.metadata().unwrap().len() + 1).unwrap();
    Image::open(&path).judge(&iomem, &planted);
    // The last quarter as zeros: what LiME makes of a reader that stalls.
    let length = file.metadata().unwrap().len();
    let zeros = vec![0; (length / 4) as usize];
    file.write_all_at(&zeros, length - length / 4).unwrap();
    refused("a tail of zeros");
}

#[test]
fn a_guest_that_hangs_or_dies_is_told_from_one_that_ends() {
    let Some(lab) = Lab::start() else { return };
    let patience = Duration::from_secs(15);
    let hung = lab
        .guest()
        .memory(256)
        .patience(patience)
        .run("echo here; sleep 1000");
    let said = hung.expect_err("it never ends").to_string();
    assert!(
        said.contains("was ended after") && said.contains("here"),
        "{said}"
    );

    let died = lab
        .guest()
        .memory(256)
        .run("echo c >/proc/sysrq-trigger")
        .unwrap();
    assert_eq!(died.code, None, "{died}");
    assert!(died.console.contains("sysrq triggered crash"), "{died}");
}
