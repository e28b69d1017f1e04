//! What people see while a collection runs: a line that moves on a terminal, plain lines elsewhere, JSON on request.

use std::io::IsTerminal;
use std::time::Duration;

use evidence::manifest::ArtifactReport;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use super::{printable, tell};
use crate::capture::Step;
use crate::run::Event;
use crate::ship::ShipError;

/// How to show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Human,
    Json,
    Quiet,
}

/// Shows the events of a run on standard error.
pub(super) struct Progress {
    mode: Mode,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(super) fn new(mode: Mode) -> Self {
        let moving = mode == Mode::Human && std::io::stderr().is_terminal();
        let bar = moving.then(|| {
            let bar = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner} [{elapsed_precise}] {msg}");
            if let Ok(style) = style {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { mode, bar }
    }

    pub(super) fn show(&self, event: &Event<'_>) {
        match self.mode {
            Mode::Quiet => {
                if let Event::Failed(error) = event {
                    self.line(&failed(error));
                }
            }
            Mode::Json => self.json(event),
            Mode::Human => self.human(event),
        }
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn line(&self, line: &str) {
        let line = printable(line);
        match &self.bar {
            Some(bar) => bar.println(line),
            None => tell(&line),
        }
    }

    fn human(&self, event: &Event<'_>) {
        match event {
            Event::Ready(readiness) => readiness
                .warnings
                .iter()
                .for_each(|line| self.line(&format!("warning: {line}"))),
            Event::Started {
                artifact,
                number,
                of,
            } => {
                if let Some(bar) = &self.bar {
                    bar.set_message(format!("{number}/{of} {artifact}"));
                }
            }
            Event::Progress { artifact, step } => {
                let text = match step {
                    Step::Bytes { done, of } => {
                        format!("{artifact} {} of {}", HumanBytes(*done), HumanBytes(*of))
                    }
                    Step::Items { items, bytes } => {
                        format!("{artifact} {items} items, {}", HumanBytes(*bytes))
                    }
                };
                match &self.bar {
                    Some(bar) => bar.set_message(text),
                    None => self.line(&text),
                }
            }
            Event::Ended(report) => self.line(&ended(report)),
            Event::Shipped { bytes } => {
                if let Some(bar) = &self.bar {
                    bar.set_message(format!("{} shipped", HumanBytes(*bytes)));
                }
            }
            Event::Closing => {
                if let Some(bar) = &self.bar {
                    bar.set_message("sealing");
                }
            }
            Event::Failed(error) => self.line(&failed(error)),
        }
    }

    fn json(&self, event: &Event<'_>) {
        let value = match event {
            Event::Ready(readiness) => {
                serde_json::json!({ "event": "ready", "object_lock": readiness.object_lock, "warnings": readiness.warnings })
            }
            Event::Started {
                artifact,
                number,
                of,
            } => {
                serde_json::json!({ "event": "started", "artifact": artifact, "number": number, "of": of })
            }
            Event::Progress { artifact, step } => match step {
                Step::Bytes { done, of } => {
                    serde_json::json!({ "event": "progress", "artifact": artifact, "bytes": done, "of": of })
                }
                Step::Items { items, bytes } => {
                    serde_json::json!({ "event": "progress", "artifact": artifact, "items": items, "bytes": bytes })
                }
            },
            Event::Ended(report) => serde_json::json!({ "event": "ended", "report": report }),
            Event::Shipped { bytes } => serde_json::json!({ "event": "shipped", "bytes": bytes }),
            Event::Closing => serde_json::json!({ "event": "closing" }),
            Event::Failed(error) => {
                serde_json::json!({ "event": "failed", "message": error.to_string() })
            }
        };
        tell(&value.to_string());
    }
}

fn failed(error: &ShipError) -> String {
    format!("exhibit-agent: the store failed for good: {error}")
}

fn ended(report: &ArtifactReport) -> String {
    let seconds = (report.ended.monotonic_ns - report.started.monotonic_ns) as f64 / 1e9;
    let reason = report
        .reason
        .as_ref()
        .map_or_else(String::new, |reason| format!("  {reason}"));
    format!(
        "{:<21} {:<9} {:>7} items {:>10} {seconds:>6.2} s{reason}",
        report.name,
        report.outcome.word(),
        report.items,
        HumanBytes(report.bytes).to_string(),
    )
}
