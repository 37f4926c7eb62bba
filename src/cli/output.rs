//! How results are printed: aligned tables for people, JSON or YAML for tools. Data on stdout, words on stderr.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::CliError;
use crate::api::ErrorClass;

/// The form of what is printed on stdout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For tools.
    Json,
    /// For tools and `kubectl apply`.
    Yaml,
    /// A page to read and hand on; `schedule simulate` only.
    Html,
}

/// Prints `value` as JSON or YAML, or what `table` renders of it.
pub fn print<T: Serialize>(
    format: Format,
    value: &T,
    table: impl FnOnce(&T) -> String,
) -> Result<(), CliError> {
    let failed = |error: &dyn std::error::Error| CliError::from_error(ErrorClass::Failed, error);
    let mut text = match format {
        Format::Table => table(value),
        Format::Json => serde_json::to_string_pretty(value).map_err(|error| failed(&error))?,
        Format::Yaml => serde_saphyr::to_string(value).map_err(|error| failed(&error))?,
        Format::Html => {
            return Err(CliError::new(
                ErrorClass::Usage,
                "this verb has no HTML form, only `schedule simulate` has; use -o table, json or yaml",
            ));
        }
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    write_out(text.as_bytes())
}

/// Prints several values as YAML documents.
pub fn documents<T: Serialize>(values: &[T]) -> Result<(), CliError> {
    let mut text = String::new();
    for value in values {
        if !text.is_empty() {
            text.push_str("---\n");
        }
        let yaml = serde_saphyr::to_string(value)
            .map_err(|error| CliError::from_error(ErrorClass::Failed, &error))?;
        text.push_str(yaml.trim_end_matches('\n'));
        text.push('\n');
    }
    write_out(text.as_bytes())
}

/// Writes bytes to stdout; a reader that went away is not an error.
pub fn write_out(bytes: &[u8]) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Says something to a person on stderr.
pub fn say(words: impl AsRef<str>) {
    let mut err = io::stderr().lock();
    // Nobody listens on a closed stderr; there is nothing better to do.
    let _ = writeln!(err, "{}", words.as_ref());
}

/// Whether stderr is a terminal that wants colours.
pub fn colours() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Whether stdout is a terminal: what is drawn is for people alone.
pub fn is_screen() -> bool {
    io::stdout().is_terminal()
}

/// Whether stdout is a terminal that wants colours.
pub fn coloured_out() -> bool {
    static WANTED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *WANTED.get_or_init(|| {
        io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none()
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
    })
}

/// What a word means, as a colour says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Look at it.
    Warn,
    /// Act.
    Bad,
    /// Less important.
    Quiet,
    /// A heading.
    Strong,
}

/// The text in a colour, on a terminal that wants one.
pub fn paint(tone: Tone, text: &str) -> String {
    if !coloured_out() {
        return text.to_owned();
    }
    let code = match tone {
        Tone::Good => "32",
        Tone::Warn => "33",
        Tone::Bad => "1;31",
        Tone::Quiet => "2",
        Tone::Strong => "1",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// The characters that a text takes on a screen: colours take none.
fn width(text: &str) -> usize {
    let mut count = 0;
    let mut escaped = false;
    for letter in text.chars() {
        match (escaped, letter) {
            (false, '\x1b') => escaped = true,
            (true, 'm') => escaped = false,
            (true, _) => {}
            (false, _) => count += 1,
        }
    }
    count
}

/// The level of a backup in its colour.
pub fn level(level: &str) -> String {
    paint(
        if level == "Stored" {
            Tone::Warn
        } else {
            Tone::Good
        },
        level,
    )
}

/// A table with aligned columns; rows shorter than the header are padded.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|name| name.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(self::width(cell));
        }
    }
    let mut text = String::new();
    let header_cells: Vec<String> = header.iter().map(|name| paint(Tone::Quiet, name)).collect();
    for row in std::iter::once(&header_cells).chain(rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let padding = width - self::width(cell);
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', padding + 3));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Pairs of a label and a value, one a line, values aligned.
pub fn fields(pairs: &[(&str, String)]) -> String {
    let width = pairs
        .iter()
        .map(|(label, _)| label.len())
        .max()
        .unwrap_or_default();
    pairs
        .iter()
        .map(|(label, value)| format!("{label:width$}   {value}\n"))
        .collect()
}

/// Bytes as people read them: `12.3 MiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    // Precision is lost only beyond 2^53 bytes, where one decimal is printed.
    #[expect(clippy::cast_precision_loss, reason = "one decimal is printed")]
    let mut value = count as f64 / 1024.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// So many of them: `1 backup`, `3 backups`.
pub fn count(number: usize, one: &str) -> String {
    let more = if number == 1 { "" } else { "s" };
    format!("{number} {one}{more}")
}

/// The revision up to which history was forgotten, `never` when it was not.
pub fn compacted(revision: i64) -> String {
    if revision < 0 {
        "never".to_owned()
    } else {
        revision.to_string()
    }
}

/// A length of time as people read it: `42s`, `3m 5s`, `2h 10m`, `4d 3h`.
pub fn span(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A moment relative to now: `3m 5s ago`, `in 42s`.
pub fn relative(moment: Timestamp, now: Timestamp) -> String {
    if now.duration_since(moment).abs() < SignedDuration::from_secs(1) {
        "now".to_owned()
    } else if moment <= now {
        format!("{} ago", span(now.duration_since(moment)))
    } else {
        format!("in {}", span(moment.duration_since(now)))
    }
}

/// A moment to the second, in UTC.
pub fn moment(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// Asks for a yes. Without a terminal, `--yes` must have been given.
pub fn confirm(question: &str, yes: bool) -> Result<(), CliError> {
    if yes {
        return Ok(());
    }
    let refused = |words: &str| Err(CliError::new(ErrorClass::Refused, words));
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return refused("not confirmed: nothing was changed; read the plan above and add --yes");
    }
    say(format!("{question} [y/N]"));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        refused("not confirmed: nothing was changed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_say_them() {
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(10 * 1024 * 1024 * 1024), "10.0 GiB");
        assert_eq!(bytes(u64::MAX), "16384.0 PiB");
        assert_eq!(count(1, "backup"), "1 backup");
        assert_eq!(count(0, "backup"), "0 backups");
        assert_eq!(span(SignedDuration::from_secs(42)), "42s");
        assert_eq!(span(SignedDuration::from_secs(7800)), "2h 10m");
        assert_eq!(span(SignedDuration::from_hours(99)), "4d 3h");
    }

    #[test]
    fn columns_are_aligned_and_nothing_trails() {
        let rows = vec![
            vec!["a".to_owned(), "bb".to_owned()],
            vec!["cccc".to_owned()],
        ];
        assert_eq!(table(&["X", "Y"], &rows), "X      Y\na      bb\ncccc\n");
        assert_eq!(width("\x1b[1;31mNO\x1b[0m yes"), 6);
    }
}
