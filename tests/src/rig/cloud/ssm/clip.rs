//! Output is cut as the SSM agent cuts it.

const OUT: &str = "\n---Output truncated---";
const ERROR: &str = "\n---Error truncated----";
const TITLE: &str = "\n----------ERROR-------\n";
const FILE: &str = "--output truncated--";

/// What one stream shows: at most so many characters, the notice of the cut included.
pub(super) fn stream(text: &str, most: usize) -> String {
    cut(text, most, FILE)
}

/// What a list shows of a step: both streams in at most so many characters.
pub(super) fn both(stdout: &str, stderr: &str, most: usize) -> String {
    if stderr.is_empty() {
        return cut(stdout, most, OUT);
    }
    let room = most - length(TITLE);
    let (out, error) = (length(stdout), length(stderr));
    let half = room / 2;
    let (for_out, for_error) = match (out <= half, error <= half) {
        _ if out + error <= room => (out, error),
        (true, _) => (out, room - out),
        (_, true) => (room - error, error),
        _ => (half, half),
    };
    let (stdout, stderr) = (cut(stdout, for_out, OUT), cut(stderr, for_error, ERROR));
    format!("{stdout}{TITLE}{stderr}")
}

fn length(text: &str) -> usize {
    text.chars().count()
}

fn cut(text: &str, most: usize, notice: &str) -> String {
    if length(text) <= most {
        return text.into();
    }
    let kept = most.saturating_sub(length(notice));
    text.chars().take(kept).chain(notice.chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_whole_and_what_does_not_says_so() {
        let (short, long) = ("s".repeat(10), "l".repeat(5000));
        assert_eq!(stream(&short, 10), short);
        assert_eq!(stream(&long, 24), format!("llll{FILE}"));
        assert_eq!(both(&short, "", 2500), short);
        assert_eq!(both(&short, "e", 2500), format!("{short}{TITLE}e"));
        for (stdout, stderr) in [(&long, ""), (&long, "e"), (&long, &*long), (&short, &long)] {
            assert_eq!(length(&both(stdout, stderr, 2500)), 2500);
        }
        assert!(both(&long, "", 2500).ends_with("l\n---Output truncated---"));
    }
}
