//! Runs that end before their time, stores that stall or go away: what is there stays usable, what is missing is named,
//! and the kernel is left as it was found.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use exhibit_tests::rig::proxy::Fault;

use super::image::Image;
use super::lab::{Lab, left_over, planted};

/// Starts a run in the background and waits until LiME is at work in it.
const UNDER_WAY: &str = "
    # under_way NAME: a run that is in the middle of memory; its process is $agent.
    under_way() {
        exhibit-agent collect --quiet --include accounts,memory,symbols --to s3://$bucket/$1 --endpoint-url $endpoint \\
            --region us-east-1 --memory lime $modules >$1.receipt 2>$1.err &
        agent=$!
        tries=0
        until grep -q '^lime .*Loading' /proc/modules; do
            tries=$((tries + 1))
            [ $tries -lt 600 ] || { echo \"$1: lime never loads\"; cat $1.err; exit 8; }
            usleep 50000
        done
        sleep 1
        grep -q '^lime .*Loading' /proc/modules || { echo \"$1: lime is done already\"; exit 8; }
    }
    # ended NAME: its exit code, once it is gone.
    ended() {
        code=0
        wait $agent || code=$?
        echo $code >$1.code
    }
";

/// Stalls as many uploads as are sent at once: then nothing moves, down to the module.
fn stall_uploads(lab: &Lab) {
    let pause = Duration::from_secs(5);
    lab.proxy
        .fault_puts(4, "memory/0000", Fault::Stall { after: 1000, pause });
}

#[test]
fn a_run_that_is_killed_does_not_stand_in_the_way_of_the_next() {
    let Some(lab) = Lab::start() else { return };
    stall_uploads(&lab);
    let script = UNDER_WAY.to_string()
        + "pages=12 plant
           under_way killed
           kill -9 $agent
           ended killed
           collect next --memory lime $modules";
    let ended = lab.run(lab.small_guest(), &script);
    let killed = lab.of(&ended, "killed");
    assert_eq!(killed.code, 137, "{killed:?}");
    assert!(
        killed.manifest.is_null(),
        "the run was not killed in the middle"
    );
    let next = lab.of(&ended, "next");
    assert_eq!((next.code, next.outcome()), (0, "captured"), "{next:?}");
    Image::open(&lab.image(&next)).judge(&ended.text("iomem"), &planted(&ended));
    assert_eq!(left_over(&ended), "");
}

#[test]
fn a_run_that_is_told_to_end_seals_what_it_has_and_takes_the_module_away() {
    let Some(lab) = Lab::start() else { return };
    stall_uploads(&lab);
    let script = UNDER_WAY.to_string()
        + "under_way told
           kill -TERM $agent
           ended told
           grep '^lime ' /proc/modules >>leftovers";
    let ended = lab.run(lab.small_guest(), &script);
    let told = lab.of(&ended, "told");
    assert_eq!((told.code, told.outcome()), (3, "partial"), "{told:?}");
    assert_eq!(lab.verdict(&told), (3, "partial".into()));
    assert_eq!(left_over(&ended), "");
}

#[test]
fn a_store_that_stalls_costs_time_and_nothing_else() {
    let Some(lab) = Lab::start() else { return };
    stall_uploads(&lab);
    let ended = lab.run(
        lab.small_guest(),
        "pages=12 plant
         collect stalled --memory lime $modules",
    );
    let stalled = lab
        .proxy
        .requests()
        .into_iter()
        .filter(|seen| seen.fault.is_some());
    assert_eq!(stalled.count(), 4, "the store stalled");
    let run = lab.of(&ended, "stalled");
    assert_eq!((run.code, run.outcome()), (0, "captured"), "{run:?}");
    Image::open(&lab.image(&run)).judge(&ended.text("iomem"), &planted(&ended));
}

#[test]
fn a_store_that_goes_away_in_the_middle_is_named_and_the_spool_has_the_rest() {
    let Some(lab) = Lab::start() else { return };
    let taken = AtomicUsize::new(0);
    let gone = move |head: &exhibit_tests::rig::http::Head| {
        let memory = head.path.contains("/memory/");
        let late = taken.fetch_add(usize::from(memory), Ordering::Relaxed) >= 2;
        head.method == "PUT" && late
    };
    lab.proxy.fault(usize::MAX, gone, Fault::Reset { after: 0 });
    // The spool lies in the share: in the guest's own memory it would grow what is captured.
    let ended = lab.run(
        lab.small_guest(),
        "pages=12 plant
         collect cut --memory lime $modules --attempts 2 --spool /host/spool",
    );
    assert_eq!(left_over(&ended), "");
    let cut = lab.of(&ended, "cut");
    assert_eq!(cut.code, 16, "{cut:?}");
    assert!(
        cut.manifest.is_null(),
        "the manifest went to the store that was gone"
    );

    lab.proxy.heal();
    lab.ship(&ended, "cut");
    let shipped = lab.of(&ended, "cut");
    assert_eq!(lab.verdict(&shipped), (3, "partial".into()));
    assert_eq!(shipped.outcome(), "captured", "{}", shipped.reason());
    Image::open(&lab.image(&shipped)).judge(&ended.text("iomem"), &planted(&ended));
}
