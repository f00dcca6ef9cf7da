//! Text for people: hostile bytes taken out, sizes, durations and times written short.

use std::time::Duration;

use boatyard_api::model::Timestamp;

/// Takes out what would let a text act on the terminal: control characters beside line breaks and
/// tabs (escape sequences begin with one), and marks that turn the direction of writing.
pub(crate) fn clean(text: &str) -> String {
    let plain = console::strip_ansi_codes(text);
    let mut out = String::with_capacity(plain.len());
    for c in plain.chars() {
        match c {
            '\n' => out.push('\n'),
            '\t' => out.push_str("    "),
            // What follows a carriage return is drawn over what stood before it.
            '\r' => {}
            c if c.is_control() || is_direction_mark(c) => {}
            c => out.push(c),
        }
    }
    out
}

/// The same for one line: line breaks become spaces.
pub(crate) fn clean_line(text: &str) -> String {
    clean(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Takes out what is dangerous from a text of ours that quotes others; our own colours stay.
pub(crate) fn clean_lines(text: &str, color: bool) -> String {
    if !color {
        return clean(text);
    }
    // Our own sequences are the only ones that survive: those that set a colour.
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('\x1b') {
        out.push_str(&clean(&rest[..start]));
        rest = &rest[start..];
        let end = rest[1..].find(|c: char| !matches!(c, '[' | ';' | '0'..='9')).map(|end| end + 1);
        match end {
            Some(end) if rest[end..].starts_with('m') && rest[1..].starts_with('[') => {
                out.push_str(&rest[..=end]);
                rest = &rest[end + 1..];
            }
            _ => rest = &rest[1..],
        }
    }
    out.push_str(&clean(rest));
    out
}

const fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `12 ms`, `3.4 s`, `2 min 05 s`, `1 h 20 min`.
pub(crate) fn duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{millis} ms"),
        1..60 => format!("{}.{} s", seconds, millis % 1000 / 100),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..172_800 => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// `12 B`, `3.4 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // One digit after the point: the rounding of a float is of no matter.
    let mut amount = bytes as f64 / 1024.0;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    format!("{amount:.1} {}", UNITS[unit])
}

/// `1 file`, `3 files`.
pub(crate) fn count(n: u64, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

/// `just now`, `5 min ago`.
pub(crate) fn ago(time: Timestamp, now: Timestamp) -> String {
    let seconds = now.since(time).as_secs();
    match seconds {
        0..10 => "just now".to_owned(),
        10..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// `in 5 min`, `over`.
pub(crate) fn until(time: Timestamp, now: Timestamp) -> String {
    if time <= now {
        return "over".to_owned();
    }
    let seconds = time.since(now).as_secs();
    match seconds {
        0..60 => format!("in {seconds} s"),
        60..3600 => format!("in {} min", seconds / 60),
        3600..172_800 => format!("in {} h", seconds / 3600),
        _ => format!("in {} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_acts_on_a_terminal_gets_through() {
        let hostile = "a\x1b[2Jb\x1b]0;title\x07c\rd\u{202e}e\u{9b}31mf\tg\nh";
        let cleaned = clean(hostile);
        assert!(!cleaned.chars().any(|c| c.is_control() && c != '\n'), "{cleaned:?}");
        assert!(cleaned.ends_with("g\nh") && !cleaned.contains('\u{202e}'));
        let ours = "\x1b[31merror:\x1b[0m no \x1b[2J\x1b]52;c;x\x07 thing";
        let kept = clean_lines(ours, true);
        assert!(kept.starts_with("\x1b[31merror:\x1b[0m no "), "{kept:?}");
        assert_eq!(kept.matches('\x1b').count(), 2, "{kept:?}");
        assert!(!clean_lines(ours, false).contains('\x1b'));
    }

    #[test]
    fn figures_are_short() {
        let check =
            |millis, expected| assert_eq!(duration(Duration::from_millis(millis)), expected);
        check(7, "7 ms");
        check(3_450, "3.4 s");
        check(125_000, "2 min 05 s");
        check(4_800_000, "1 h 20 min");
        assert_eq!(bytes(3_565_158), "3.4 MiB");
        assert_eq!(bytes(12), "12 B");
        assert_eq!(ago(Timestamp(0), Timestamp(300_000)), "5 min ago");
    }
}
