//! `memory info`: the ranges of an image, checked.

use std::io::Read;

use clap::Args;
use evidence::Exit;
use evidence::lime::{Range, Walker};
use evidence::verify::{Report, Verdict};
use indicatif::HumanBytes;
use serde::Serialize;

use super::image::{Image, open};
use crate::cli::store::S3Arguments;
use crate::cli::verify::verified;
use crate::cli::{Failure, json_line, print, printable};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A collection (a directory, or s3://...), or a file in LiME's format
    image: String,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    s3: S3Arguments,
}

/// What is told of an image.
#[derive(Serialize)]
struct Info {
    /// Whether the ranges are whole, in order and apart.
    whole: bool,
    bytes: u64,
    ranges: Vec<Range>,
    problems: Vec<String>,
    /// The verdict on the collection that it is in.
    verdict: Option<Verdict>,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let info = match Image::at(&arguments.image, &arguments.s3)? {
        Image::Collection(objects) => {
            let report = verified(&arguments.image, &*objects, &mut ())?;
            of_collection(report)
        }
        Image::File(path) => of_file(open(&path)?)?,
    };
    if info.ranges.is_empty()
        && info
            .verdict
            .is_some_and(|verdict| verdict != Verdict::Altered)
    {
        let message = format!("{} has no memory", arguments.image);
        return Err(Failure::new(Exit::NotACollection, message));
    }
    let exit = match info.verdict {
        None if info.ranges.is_empty() => Exit::NotACollection,
        Some(verdict) => verdict.exit(),
        None if info.whole => Exit::Complete,
        None => Exit::Altered,
    };
    let text = if arguments.json {
        json_line(&info)?
    } else {
        human(&info)
    };
    print(&text)?;
    Ok(exit)
}

fn of_collection(report: Report) -> Info {
    let mut problems: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    let of_memory = |reason: &&String| reason.starts_with("memory: ");
    problems.extend(report.reasons.iter().filter(of_memory).cloned());
    if report.verdict == Verdict::Interrupted {
        problems.push("the run was cut: nothing says how much memory there was".to_owned());
    }
    if report.memory_missing > 0 {
        problems.push(format!(
            "the last range lacks {} bytes",
            report.memory_missing
        ));
    }
    let begun: u64 = report.memory.iter().map(Range::len).sum();
    Info {
        whole: problems.is_empty(),
        bytes: begun - report.memory_missing,
        problems,
        ranges: report.memory,
        verdict: Some(report.verdict),
    }
}

fn of_file(mut file: impl Read) -> Result<Info, Failure> {
    let mut walker = Walker::default();
    let mut buffer = vec![0; 1 << 20];
    let mut wrong = None;
    while wrong.is_none() {
        let length = file
            .read(&mut buffer)
            .map_err(|error| Failure::new(Exit::NotACollection, error))?;
        if length == 0 {
            break;
        }
        let mut bytes = buffer.get(..length).unwrap_or_default();
        while let Some(step) = walker.step(&mut bytes).transpose() {
            if let Err(error) = step {
                wrong = Some(error);
                break;
            }
        }
    }
    let ranges = walker.ranges().to_vec();
    let problem = wrong.or_else(|| walker.finish().err());
    Ok(Info {
        whole: problem.is_none(),
        bytes: ranges.iter().map(Range::len).sum(),
        ranges,
        problems: problem.iter().map(ToString::to_string).collect(),
        verdict: None,
    })
}

fn human(info: &Info) -> String {
    let mut text = format!(
        "{}: {} in {} ranges\n",
        if info.whole { "WHOLE" } else { "NOT WHOLE" },
        HumanBytes(info.bytes),
        info.ranges.len()
    );
    for range in &info.ranges {
        let (first, last) = (range.first(), range.last());
        text.push_str(&format!(
            "{first:#018x}-{last:#018x}  {}\n",
            HumanBytes(range.len())
        ));
    }
    for problem in &info.problems {
        text.push_str(&format!("problem      {problem}\n"));
    }
    printable(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_no_images_or_are_cut_are_told() {
        let range = Range::new(0x1000, 0x1fff).unwrap();
        let image = [range.header().as_slice(), &[7; 4096]].concat();
        let whole = of_file(image.as_slice()).unwrap();
        assert!(whole.whole && whole.bytes == 4096 && whole.ranges == [range]);
        let cut = of_file(&image[..4000]).unwrap();
        assert!(!cut.whole && cut.problems[0].contains("128 bytes before the end"));
        let none = of_file(b"no image at all, but text of some length".as_slice()).unwrap();
        assert!(none.ranges.is_empty() && none.problems[0].contains("no LiME header"));
    }
}
