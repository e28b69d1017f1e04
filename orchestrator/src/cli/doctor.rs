//! `doctor`: one table, one verdict, what to do for each red line.

use clap::Args;
use evidence::Exit;
use serde_json::json;

use super::Global;
use super::place::Place;
use crate::failure::Failure;
use crate::preflight::{self, Check, Light};

const EXAMPLES: &str = "\
Examples:
  The bucket, the keys, and every account:
    exhibit doctor
  And whether a collection on an instance would work, and what it would take:
    exhibit doctor --account production --instance i-0123456789abcdef0";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Look at these instances too
    #[arg(long, value_name = "ID")]
    instance: Vec<String>,
}

pub(super) async fn run(global: &Global, arguments: &Arguments) -> Result<Exit, Failure> {
    let mut config = global.read_config()?;
    // Without a choice all accounts are looked at; an instance or a region belongs to one.
    let place = &arguments.place;
    let one = place.account.is_some() || place.region.is_some() || !arguments.instance.is_empty();
    let account = match one {
        true => Some(place.choose(&mut config)?.0),
        false => None,
    };
    let checks = preflight::check(
        &config,
        account.as_deref(),
        preflight::by_id(&arguments.instance).as_ref(),
    )
    .await?;
    let ready = checks.iter().all(|check| check.light != Light::Red);
    global.print(&json!({"ready": ready, "checks": checks}), |_| {
        text(&checks, ready)
    })?;
    Ok(if ready {
        Exit::Complete
    } else {
        Exit::NotReady
    })
}

fn text(checks: &[Check], ready: bool) -> String {
    let width = checks
        .iter()
        .map(|check| check.what.chars().count())
        .max()
        .unwrap_or_default();
    let mut lines = Vec::new();
    for check in checks {
        let word = match check.light {
            Light::Green => "ok",
            Light::Amber => "warn",
            Light::Red => "FAIL",
        };
        lines.push(format!("{word:4}  {:width$}  {}", check.what, check.found));
        if !check.to_do.is_empty() {
            lines.push(format!("{:4}  {:width$}  -> {}", "", "", check.to_do));
        }
    }
    lines.push(if ready {
        "ready".to_owned()
    } else {
        "not ready: see the lines with FAIL".to_owned()
    });
    lines.join("\n") + "\n"
}
