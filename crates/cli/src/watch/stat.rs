//! The end of the story: what a task changed, in a few lines.

use boatyard_api::{
    model::event::{DiffFile, FileChange, Usage},
    task::TaskResult,
};

use crate::{
    output::Look,
    text::{clean_line, count},
};

/// The widest bar of plus and minus signs.
const BAR: u64 = 30;
/// More files are counted, not listed.
const FILES_SHOWN: usize = 20;

/// The files with a bar each, and the sum.
pub(crate) fn diffstat(files: &[DiffFile], look: Look) -> Vec<String> {
    let mut lines = Vec::new();
    let names: Vec<String> = files.iter().map(name).collect();
    let shown = files.len().min(FILES_SHOWN);
    let widest = names[..shown].iter().map(|name| console::measure_text_width(name)).max();
    let widest = widest.unwrap_or(0).min(look.width.saturating_sub(BAR as usize + 12).max(20));
    let lines_of = |file: &DiffFile| {
        (u64::from(file.added.unwrap_or(0)), u64::from(file.removed.unwrap_or(0)))
    };
    let most = files.iter().map(|file| lines_of(file).0 + lines_of(file).1).max().unwrap_or(0);
    for (file, name) in files.iter().zip(&names).take(shown) {
        let name = console::truncate_str(name, widest, "…");
        let fill = " ".repeat(widest.saturating_sub(console::measure_text_width(&name)));
        let amount = match (file.added, file.removed) {
            (None, None) => look.dim("binary"),
            _ => {
                let (added, removed) = lines_of(file);
                // Never nothing for something, and in proportion beyond the widest bar.
                let scaled = |n: u64| if most > BAR && n > 0 { (n * BAR / most).max(1) } else { n };
                let bar = |sign: &str, n: u64| sign.repeat(usize::try_from(scaled(n)).unwrap_or(0));
                let plus = look.good(bar("+", added));
                format!("{:>4} {plus}{}", added + removed, look.bad(bar("-", removed)))
            }
        };
        lines.push(format!(" {name}{fill} | {amount}").trim_end().to_owned());
    }
    if files.len() > shown {
        let more = count((files.len() - shown) as u64, "more file");
        lines.push(look.dim(format!(" … {more}")));
    }
    lines
}

fn name(file: &DiffFile) -> String {
    let path = clean_line(&file.path);
    match (file.change, &file.old_path) {
        (FileChange::Renamed, Some(old)) => format!("{} → {path}", clean_line(old)),
        (FileChange::Added, _) => format!("{path} (new)"),
        (FileChange::Deleted, _) => format!("{path} (gone)"),
        _ => path,
    }
}

/// `3 files changed, 12 lines added, 4 removed`.
pub(crate) fn sum(result: &TaskResult) -> String {
    if result.files.is_empty() {
        return "nothing changed".to_owned();
    }
    format!(
        "{} changed, {} added, {} removed",
        count(result.files.len() as u64, "file"),
        count(result.added, "line"),
        result.removed
    )
}

/// `12,300 tokens in, 450 out, $0.12`; none where the agent told nothing.
pub(crate) fn usage(usage: &Usage) -> Option<String> {
    let mut parts = Vec::new();
    let input = usage.input_tokens + usage.cached_tokens;
    if input + usage.output_tokens > 0 {
        parts.push(format!("{input} tokens in, {} out", usage.output_tokens));
    }
    if let Some(cost) = usage.cost_usd.filter(|cost| *cost > 0.0) {
        parts.push(format!("${cost:.2}"));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_in_proportion() {
        let file = |path: &str, change, added, removed| DiffFile {
            path: path.into(),
            old_path: None,
            change,
            added,
            removed,
        };
        let files = [
            file("hello.txt", FileChange::Added, Some(1), Some(0)),
            file("src/main.rs", FileChange::Modified, Some(90), Some(30)),
            file("logo.png", FileChange::Modified, None, None),
        ];
        let look = Look { color: false, terminal: false, width: 80 };
        let expected = " hello.txt (new) |    1 +\n \
                        src/main.rs     |  120 ++++++++++++++++++++++-------\n \
                        logo.png        | binary";
        assert_eq!(diffstat(&files, look).join("\n"), expected);
    }
}
