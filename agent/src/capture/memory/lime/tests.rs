//! A stand-in for the module writes, and the reader is judged by what it made of it.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use evidence::Chain;
use evidence::segment::Segment;

use super::*;
use crate::bundle::{Shape, Writer, unpack};
use crate::capture::sink::Budget;
use crate::capture::{Halt, Sink, Tally};
use crate::limits::Throttle;

/// What a dump came to: its result, the tally, and the stream as it was stored.
struct Got {
    result: Result<Result<(), LimeFailure>, CaptureError>,
    tally: Tally,
    stream: Vec<u8>,
}

/// Reads from a stand-in for the module, which is given the path that the kernel would be given.
fn run(
    channel: Channel,
    module: impl FnOnce(String) -> Result<(), Errno> + Send + 'static,
    interrupted: &AtomicBool,
    check: Option<Physical<'_>>,
) -> Got {
    let parameters = channel.parameters();
    assert!(
        parameters.ends_with(" format=lime timeout=0"),
        "{parameters}"
    );
    let path = parameters
        .split(' ')
        .next()
        .unwrap()
        .strip_prefix("path=")
        .unwrap()
        .to_owned();
    let segments = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&segments);
    let shape = Shape {
        level: 1,
        workers: 2,
        memory_segment: 1 << 20,
    };
    let take = Box::new(move |segment| {
        into.lock().unwrap().push(segment);
        true
    });
    let chain = Chain::new("c/h/1".parse().unwrap());
    let mut bundle = Writer::start(chain, shape, take).unwrap();
    let throttle = Throttle::new(None);
    let budget = Budget {
        deadline: Instant::now() + Duration::from_secs(60),
        run_deadline: None,
        max_bytes: u64::MAX,
        max_file_bytes: u64::MAX,
        total_left: u64::MAX,
        interrupted,
        throttle: &throttle,
        watch: &|_, _| {},
        told: std::time::Instant::now().into(),
    };
    let mut sink = Sink::new(&mut bundle, "memory", budget);
    let mut image = Image::new(&mut sink, "lime", 1);
    let loading = Loading::start(move || module(path)).unwrap();
    let session = Session::new(channel, loading);
    let result = session.dump(Dump::new(&ranges(), check, &mut image));
    let tally = sink.tally().clone();
    bundle.finish().unwrap();
    Got {
        result,
        tally,
        stream: {
            let segments = segments.lock().unwrap();
            let of_memory = |s: &&Segment| s.key.starts_with("memory/");
            unpack(segments.iter().filter(of_memory))
        },
    }
}

fn pipe() -> Channel {
    Channel::unnamed().unwrap()
}

fn ranges() -> Vec<Range> {
    let range = |first, last| Range::new(first, last).unwrap();
    vec![range(0x1000, 0x9_fbff), range(0x10_0000, 0x51_2fff)]
}

fn image(used: u64) -> Vec<u8> {
    let content = |range: &Range| {
        let byte = move |n| if n < used { (n % 251) as u8 | 1 } else { 0 };
        (0..range.len()).map(byte).collect::<Vec<u8>>()
    };
    let whole = ranges()
        .into_iter()
        .map(|r| [r.header().to_vec(), content(&r)].concat());
    whole.collect::<Vec<_>>().concat()
}

/// Writes as the module does: opens the path, writes, and closes it before the call returns.
fn writes(bytes: Vec<u8>) -> impl FnOnce(String) -> Result<(), Errno> {
    move |path| {
        let mut file = std::fs::File::options().write(true).open(path).unwrap();
        // A reader that is gone is an error that LiME does not tell either.
        let _ = bytes.chunks(4096).try_for_each(|page| file.write_all(page));
        Ok(())
    }
}

static GO: AtomicBool = AtomicBool::new(false);

#[test]
fn a_whole_dump_comes_through_either_pipe_byte_for_byte() {
    for channel in channels(false) {
        let want = image(u64::MAX);
        let got = run(channel().unwrap(), writes(want.clone()), &GO, None);
        assert!(matches!(got.result, Ok(Ok(()))), "{:?}", got.result);
        assert!(got.stream == want);
        assert!(got.tally.losses.is_empty(), "{:?}", got.tally.losses);
        assert_eq!(got.tally.items, 2, "a record for each range");
    }
}

#[test]
fn a_dump_over_a_port_is_read_from_this_machine_alone() {
    let channel = Channel::port().unwrap();
    assert!(channel.parameters().contains(" localhostonly=1 "));
    let want = image(u64::MAX);
    let bytes = want.clone();
    let listens = move |path: String| {
        let port: u16 = path.strip_prefix("tcp:").unwrap().parse().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        listener.accept().unwrap().0.write_all(&bytes).unwrap();
        Ok(())
    };
    let got = run(channel, listens, &GO, None);
    assert!(matches!(got.result, Ok(Ok(()))), "{:?}", got.result);
    assert!(got.stream == want);
}

#[test]
fn a_dump_that_is_cut_is_a_loss_though_the_module_says_nothing() {
    let whole = image(u64::MAX);
    let got = run(pipe(), writes(whole[..3_000_000].to_vec()), &GO, None);
    assert!(matches!(got.result, Ok(Ok(()))));
    assert!(got.stream == whole[..3_000_000]);
    assert_eq!(got.tally.losses.get("truncated:range"), Some(&1));
    let first = 32 + usize::try_from(ranges()[0].len()).unwrap();
    let got = run(pipe(), writes(whole[..first].to_vec()), &GO, None);
    assert_eq!(got.tally.losses.get("missing:range"), Some(&1));
}

#[test]
fn zeros_that_end_a_range_are_a_loss_unless_the_kernel_says_that_they_are_zeros() {
    let dump = image(2_000_000);
    let got = run(pipe(), writes(dump.clone()), &GO, None);
    assert_eq!(got.tally.losses.get("truncated:zeros_at_the_end"), Some(&1));
    let other = |content: &[u8]| {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("proc")).unwrap();
        let place = ranges()[1].first();
        let path = root.path().join("proc/kcore");
        crate::capture::memory::physical::tests::core_file(&path, &[(place, content)]);
        (Host::open(root.path()).unwrap(), root)
    };
    let length = usize::try_from(ranges()[1].len()).unwrap();
    let got = run(
        pipe(),
        writes(dump.clone()),
        &GO,
        Physical::kcore(&other(&vec![7; length]).0).ok(),
    );
    assert_eq!(
        got.tally.losses.get("truncated:zeros_for_memory_in_use"),
        Some(&1)
    );
    let got = run(
        pipe(),
        writes(dump),
        &GO,
        Physical::kcore(&other(&vec![0; length]).0).ok(),
    );
    assert!(got.tally.losses.is_empty(), "{:?}", got.tally.losses);
}

#[test]
fn what_is_not_its_format_ends_the_dump_at_the_last_byte_that_is() {
    let mut dump = image(u64::MAX);
    let second = 32 + usize::try_from(ranges()[0].len()).unwrap();
    dump[second] = b'X';
    let got = run(pipe(), writes(dump.clone()), &GO, None);
    assert!(matches!(
        got.result,
        Ok(Err(LimeFailure::Format(LimeError::Magic { .. })))
    ));
    assert!(got.stream == dump[..second]);
    let nonsense = run(pipe(), writes(vec![7; 5000]), &GO, None);
    assert!(matches!(nonsense.result, Ok(Err(LimeFailure::Format(_)))));
    assert!(nonsense.stream.is_empty());
}

#[test]
fn refusals_say_what_the_kernel_means() {
    for (errno, words) in [
        (Errno::EKEYREJECTED, "sig_enforce"),
        (Errno::ENOKEY, "Secure Boot"),
        (Errno::ENOEXEC, "built for another kernel"),
        (Errno::EPERM, "lockdown"),
        (Errno::EEXIST, "loaded already"),
        (Errno::EADDRINUSE, "port"),
    ] {
        let got = run(pipe(), move |_| Err(errno), &GO, None);
        let Ok(Err(failure)) = got.result else {
            panic!("{errno}: {:?}", got.result);
        };
        let text = failure.to_string();
        assert!(
            text.contains(words) && text.contains(&format!("{errno:?}")),
            "{text}"
        );
        assert!(got.stream.is_empty());
    }
    let silent = run(pipe(), |_| Ok(()), &GO, None);
    assert!(matches!(silent.result, Ok(Err(LimeFailure::Nothing))));
}

#[test]
fn a_signal_ends_the_dump_and_lets_go_of_the_module() {
    static INTERRUPTED: AtomicBool = AtomicBool::new(false);
    let (ended, end) = mpsc::channel();
    let endless = move |path: String| {
        let mut file = std::fs::File::options().write(true).open(path).unwrap();
        file.write_all(&image(u64::MAX)[..2 << 20]).unwrap();
        INTERRUPTED.store(true, Ordering::Relaxed);
        while file.write_all(&[7; 4096]).is_ok() {}
        ended.send(()).unwrap();
        Ok(())
    };
    let got = run(pipe(), endless, &INTERRUPTED, None);
    assert!(matches!(
        got.result,
        Err(CaptureError::Halt(Halt::Interrupted))
    ));
    end.recv_timeout(Duration::from_secs(30))
        .expect("the writer was let go");
    assert!(got.stream.starts_with(&image(u64::MAX)[..1 << 20]));
    assert_eq!(got.tally.losses.get("truncated:range"), Some(&1));
}

#[test]
fn what_somebody_else_wrote_is_no_dump() {
    let forged = |path: String| {
        writes(image(u64::MAX))(path).unwrap();
        Err(Errno::EADDRINUSE)
    };
    let got = run(pipe(), forged, &GO, None);
    let refused = LimeFailure::Refused(Errno::EADDRINUSE).to_string();
    assert_eq!(got.result.unwrap().unwrap_err().to_string(), refused);
}

#[test]
fn the_start_of_a_header_is_not_stored() {
    for length in [1, 31] {
        let got = run(
            pipe(),
            writes(image(u64::MAX)[..length].to_vec()),
            &GO,
            None,
        );
        assert!(
            matches!(got.result, Ok(Err(LimeFailure::Nothing))),
            "{:?}",
            got.result
        );
        assert!(got.stream.is_empty());
    }
    // A header over the border of two pieces is whole in the stream.
    let first = Range::new(0, (1 << 20) - 32 - 10).unwrap();
    let second = Range::new(1 << 30, (1 << 30) + 99).unwrap();
    let content = |range: &Range| vec![1; usize::try_from(range.len()).unwrap()];
    let dump: Vec<u8> = [first, second]
        .iter()
        .flat_map(|range| [range.header().to_vec(), content(range)].concat())
        .collect();
    let got = run(pipe(), writes(dump.clone()), &GO, None);
    assert!(got.stream == dump);
    assert_eq!(got.tally.losses.get("unknown:range"), Some(&2));
}
