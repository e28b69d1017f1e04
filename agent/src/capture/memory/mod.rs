//! *memory*: physical memory, in whichever way this kernel allows.
//!
//! Ways are tried in order, and each that fails says why: LiME, when a module for exactly this kernel is vouched for by
//! the operator's key; `/proc/kcore`, which most kernels have; `/dev/crash`, which the RHEL family has.

mod image;
pub mod iomem;
pub mod kcore;
pub mod lime;
pub mod module;
pub mod physical;
mod prospect;
pub mod risks;
mod zeros;

use std::borrow::Cow;
use std::collections::VecDeque;

use evidence::lime::Range;

use super::{Artifact, CaptureError, Sink, Spec, Volatility};
use crate::host::{Host, HostError, SMALL, trim_heap};
use image::Image;
use physical::{OpenError, Physical};
pub use prospect::{Prospect, WayProspect};

/// Which ways may be tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// LiME where a trusted module is there, else the kernel's own files.
    #[default]
    Auto,
    Lime,
    /// The kernel's own files alone: nothing of the host is changed.
    Kcore,
    Off,
}

/// How memory is captured.
#[derive(Clone, Default)]
pub struct Plan {
    pub mode: Mode,
    /// Where LiME's module comes from; without one LiME is not tried.
    pub modules: Option<module::Source>,
    /// LiME over a port of 127.0.0.1 instead of a pipe.
    pub over_port: bool,
    /// Why memory must not be captured, such as no room for it.
    pub refused: Option<String>,
}

/// Physical memory.
pub struct Memory {
    plan: Plan,
}

/// Pieces that are read at the same time: free memory is read more slowly than it is compressed.
const READS: usize = 2;
/// Pieces in a row that may not come in time.
const MAX_LATE: u32 = 3;

static SPEC: Spec = Spec {
    name: "memory",
    volatility: Volatility::Memory,
    what: "physical memory by LiME, /proc/kcore or /dev/crash, as ranges in LiME's format in a stream of its own",
    why: "injected code, keys, deleted files and hidden processes are there and nowhere else, and die with the next boot",
    deadline_s: 86_400,
    max_bytes: u64::MAX,
};

/// Why there is nothing by one way, and whether a policy of the kernel's is the reason.
#[derive(Debug)]
struct Refusal {
    why: String,
    denied: bool,
}

impl Refusal {
    fn new(why: impl std::fmt::Display, denied: bool) -> Self {
        Self {
            why: why.to_string(),
            denied,
        }
    }
}

impl Memory {
    /// Memory, captured as `plan` says.
    pub fn new(plan: Plan) -> Self {
        Self { plan }
    }

    fn ways(&self) -> &'static [Way] {
        match self.plan.mode {
            Mode::Auto => &[Way::Lime, Way::Kcore, Way::Crash],
            Mode::Lime => &[Way::Lime],
            Mode::Kcore => &[Way::Kcore, Way::Crash],
            Mode::Off => &[],
        }
    }
}

#[derive(Clone, Copy)]
enum Way {
    Lime,
    Kcore,
    Crash,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Lime => "lime",
            Self::Kcore => "/proc/kcore",
            Self::Crash => "/dev/crash",
        }
    }
}

impl Artifact for Memory {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn left_out(&self) -> Option<Cow<'static, str>> {
        (self.plan.mode == Mode::Off).then_some("--memory off".into())
    }

    fn capture(&self, host: &Host, sink: &mut Sink<'_>) -> Result<(), CaptureError> {
        if let Some(why) = &self.plan.refused {
            return Err(CaptureError::Impossible(why.clone()));
        }
        if !host.is_live() && host.root().stat("proc/iomem").is_err() {
            return Err(CaptureError::Absent("a file tree has no memory".to_owned()));
        }
        let map = map_of_memory(host);
        if map.as_ref().is_err_and(covered) {
            sink.loss("failed:iomem_covered");
        }
        let ranges = map.or_else(|error| shown_by_kcore(host, error))?;
        // What was captured before leaves the host before this long one starts.
        sink.flush()?;
        trim_heap();
        let captured = self.by_some_way(host, &ranges, sink);
        // What was read leaves the host now, also when it is only a part.
        let sent = sink.memory_cut();
        captured?;
        // Memory may have been plugged in or out meanwhile.
        if ram(host)? != ranges {
            sink.loss("changed:memory_map");
        }
        Ok(sent?)
    }
}

impl Memory {
    fn by_some_way(
        &self,
        host: &Host,
        ranges: &[Range],
        sink: &mut Sink<'_>,
    ) -> Result<(), CaptureError> {
        let mut denied = false;
        for way in self.ways() {
            let tried = match way {
                Way::Lime => self.lime(host, ranges, sink)?,
                Way::Kcore => file(Physical::kcore(host), host, way.name(), ranges, sink)?,
                Way::Crash => file(Physical::crash(host), host, way.name(), ranges, sink)?,
            };
            match tried {
                Ok(()) => {
                    sink.note(format!("captured by {}", way.name()));
                    return Ok(());
                }
                Err(refusal) => {
                    denied |= refusal.denied;
                    sink.note(format!("{}: {}", way.name(), refusal.why));
                }
            }
        }
        Err(match denied {
            true => CaptureError::Denied("no way to physical memory is allowed".to_owned()),
            false => CaptureError::Impossible("there is no way to physical memory".to_owned()),
        })
    }

    fn lime(
        &self,
        host: &Host,
        ranges: &[Range],
        sink: &mut Sink<'_>,
    ) -> Result<Result<(), Refusal>, CaptureError> {
        let module = match self.module(host) {
            Ok(module) => module,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if risks::leftover(host) == Some(true) {
            // Of a run that was killed: the kernel loads no second one.
            host.unload_module(lime::NAME);
        }
        let mut image = Image::new(sink, "lime", sum(ranges));
        let result = lime::capture(host, &module.bytes, self.plan.over_port, ranges, &mut image)?;
        match result {
            // What came before is in the stream: a second image can not follow it.
            Err(failure) if image.written() > 0 => {
                Err(CaptureError::Impossible(format!("lime: {failure}")))
            }
            result => Ok(result.map_err(|failure| Refusal::new(&failure, failure.is_denied()))),
        }
    }

    /// The module that may be loaded, or why none may; and whether that is the kernel's doing.
    fn module(&self, host: &Host) -> Result<module::Module, Refusal> {
        let Some(source) = &self.plan.modules else {
            let why = "no module store was given (--lime-modules, --lime-key)";
            return Err(Refusal::new(why, false));
        };
        if let Some(risk) = risks::of_the_host(host, self.plan.over_port) {
            return Err(Refusal::new(&risk, risk.is_policy()));
        }
        let release = host.release().unwrap_or_default();
        let module = source
            .find(&release, std::env::consts::ARCH)
            .map_err(|error| Refusal::new(error, false))?;
        match risks::of_the_module(host, &module.entry) {
            Some(risk) => Err(Refusal::new(risk, false)),
            None => Ok(module),
        }
    }
}

/// The ranges of System RAM. Where `/proc/iomem` is not the kernel's own, those that kcore shows: a loss, because nothing
/// says that they are all.
///
/// # Errors
/// When neither shows addresses.
fn ram(host: &Host) -> Result<Vec<Range>, CaptureError> {
    map_of_memory(host).or_else(|error| shown_by_kcore(host, error))
}

/// The ranges that kcore shows, when the map was refused with `error` because it is covered.
fn shown_by_kcore(host: &Host, error: CaptureError) -> Result<Vec<Range>, CaptureError> {
    let core = covered(&error).then(|| Physical::kcore(host).ok());
    let shown = core.flatten().and_then(|physical| physical.ram());
    shown.ok_or(error)
}

/// Whether something is mounted over `/proc/iomem`.
fn covered(error: &CaptureError) -> bool {
    matches!(error, CaptureError::Host { source, .. } if *source == HostError::Covered)
}

/// What `/proc/iomem` says.
fn map_of_memory(host: &Host) -> Result<Vec<Range>, CaptureError> {
    let unreadable = CaptureError::host("/proc/iomem");
    let text = host
        .kernels_own("proc/iomem")
        .and_then(|file| file.whole(SMALL));
    let text = text.map_err(unreadable)?;
    iomem::ram(&String::from_utf8_lossy(&text)).map_err(|error| match error {
        iomem::IomemError::Zeroed => CaptureError::Denied(error.to_string()),
        error => CaptureError::Impossible(error.to_string()),
    })
}

fn sum(ranges: &[Range]) -> u64 {
    ranges.iter().map(Range::len).sum()
}

/// Captures from a file of the kernel's.
fn file(
    opened: Result<Physical<'_>, OpenError>,
    host: &Host,
    source: &'static str,
    ranges: &[Range],
    sink: &mut Sink<'_>,
) -> Result<Result<(), Refusal>, CaptureError> {
    // Lockdown refuses the reading, not always the opening.
    let opened = opened.and_then(|physical| physical.probe(ranges).map(|()| physical));
    let physical = match opened {
        Ok(physical) => physical,
        Err(error) => return Ok(Err(refused(host, &error))),
    };
    let mut image = Image::new(sink, source, sum(ranges));
    let read = ranges
        .iter()
        .try_for_each(|range| read_range(&physical, source, *range, &mut image));
    // What was read of a range is told, also when it ends early.
    image.end()?;
    read.map(Ok)
}

/// Reads one range into the image. While a piece goes into it, the next ones are being read.
fn read_range(
    physical: &Physical<'_>,
    source: &str,
    range: Range,
    image: &mut Image<'_, '_>,
) -> Result<(), CaptureError> {
    let failed = CaptureError::host(source);
    image.start(range)?;
    let mut spare = vec![image.write(range.header().to_vec())?];
    let (mut asked, mut holes, mut late) = (VecDeque::new(), Vec::new(), 0);
    let (mut address, mut left) = (range.first(), range.len());
    loop {
        while left > 0 && asked.len() < READS {
            let want = physical::piece(left);
            let piece = physical.ask(address, want, spare.pop().unwrap_or_default());
            asked.push_back(piece.map_err(&failed)?);
            (address, left) = (address.wrapping_add(want as u64), left - want as u64);
        }
        let Some(piece) = asked.pop_front() else {
            return Ok(());
        };
        let hole = piece.as_hole();
        let bytes = match piece.answer(&mut holes) {
            // A busy host may keep us waiting for one piece; one that never answers again is given up.
            Err(HostError::TimedOut) if late < MAX_LATE => {
                late += 1;
                holes.push(hole);
                vec![0; physical::piece(hole.bytes)]
            }
            read => {
                late = 0;
                read.map_err(&failed)?
            }
        };
        holes.drain(..).for_each(|hole| image.hole(hole));
        image.content(&bytes);
        spare.push(image.write(bytes)?);
    }
}

/// Why a file of the kernel's can not be read, with what explains it.
fn refused(host: &Host, error: &OpenError) -> Refusal {
    let OpenError::Host(host_error) = error else {
        return Refusal::new(error, false);
    };
    let denied = host_error.status() == evidence::inventory::Status::Denied;
    let lockdown = host
        .line("sys/kernel/security/lockdown")
        .unwrap_or_default();
    let why = match host_error {
        HostError::NotAFile(_) => "something else is in its place, as in a container".to_owned(),
        error if error.is_gone() => "this kernel has no such file".to_owned(),
        error if denied => match risks::chosen(&lockdown) {
            Some(level @ "confidentiality") => format!("lockdown is `{level}`: {error}"),
            _ if !risks::has_capability(host, CAP_SYS_RAWIO) => {
                format!("CAP_SYS_RAWIO is missing: {error}")
            }
            _ => error.to_string(),
        },
        error => error.to_string(),
    };
    Refusal { why, denied }
}

/// Bit of CAP_SYS_RAWIO (include/uapi/linux/capability.h).
const CAP_SYS_RAWIO: u32 = 17;
