//! The built program, asked about itself.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails to say what went wrong, and runs the program"
)]

use std::process::Command;

fn answer(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exhibit"));
    // Else the terminal's, or the test's.
    let output = command
        .args(arguments)
        .env("COLUMNS", "100")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn help_manual_and_completions_know_each_command() {
    let (code, help) = answer(&["--help"]);
    assert!(
        code == Some(0) && help.contains("Examples:") && help.contains("Exit codes:"),
        "{help}"
    );
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    // Further lines of a description stand farther to the right.
    let commands: Vec<&str> = listed
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(
        commands.contains(&"case") && commands.len() > 5,
        "{commands:?}"
    );
    let ((_, manual), (_, completions)) = (answer(&["man"]), answer(&["completions", "bash"]));
    for command in commands.iter().filter(|command| **command != "help") {
        assert!(
            manual
                .to_lowercase()
                .contains(&format!(".sh exhibit {command}")),
            "man: {command}"
        );
        assert!(completions.contains(command), "completions: {command}");
    }
}

#[test]
fn a_command_line_that_means_nothing_ends_with_2() {
    for wrong in [&[][..], &["--no-such-option"], &["no-such-command"]] {
        assert_eq!(answer(wrong).0, Some(2), "{wrong:?}");
    }
}

#[test]
fn each_argument_says_what_it_is_and_no_line_is_wider_than_a_hundred() {
    for command in [
        "doctor",
        "case open",
        "case show",
        "case export",
        "case release",
        "collect",
        "snapshot",
        "resume",
        "cancel",
        "status",
        "verify",
        "seal",
        "fetch",
    ] {
        let mut arguments: Vec<&str> = command.split(' ').collect();
        arguments.push("--help");
        let (code, help) = answer(&arguments);
        assert_eq!(code, Some(0), "{help}");
        assert!(
            help.contains("\nOptions of every command:\n"),
            "{command}: {help}"
        );
        let described = |line: &str| {
            let (_, rest) = line.trim_start().split_once("  ").unwrap_or_default();
            !rest.trim().is_empty()
        };
        let starts = ["  <CASE>", "  [CASE]", "      --", "  -h"];
        let text = help.split("\nExamples:").next().unwrap_or_default();
        for line in text.lines() {
            let is_argument = starts.iter().any(|start| line.starts_with(start));
            assert!(!is_argument || described(line), "{command}: {line}");
        }
        // The usage is not broken.
        let mut wide = help.lines().filter(|line| !line.starts_with("Usage:"));
        assert!(wide.all(|line| line.len() <= 100), "{command}: {help}");
    }
}
