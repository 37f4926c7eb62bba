//! A schedule's last day, or what is known of it, in two lines: the change rate as a sparkline, the backups and what the cron would have done below. Pure.

use jiff::{SignedDuration, Timestamp};

use super::output::{self, Tone, paint};
use crate::serve::ScheduleState;

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// How much is shown before now, at most.
const SPAN: SignedDuration = SignedDuration::from_hours(24);
/// Characters of a line: half an hour each of a whole day.
const WIDTH: usize = 48;

/// The lines; none while the change rate is not known.
pub fn lines(schedule: &ScheduleState, now: Timestamp) -> Vec<String> {
    let day_ago = now.checked_sub(SPAN).unwrap_or(Timestamp::MIN);
    let oldest = schedule.rates.first().map_or(day_ago, |point| point.at);
    let start = oldest.max(day_ago);
    let span = now.duration_since(start);
    if span <= SignedDuration::ZERO {
        return Vec::new();
    }
    let place = |at: Timestamp| {
        let passed = at.duration_since(start).as_secs_f64() / span.as_secs_f64();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and WIDTH"
        )]
        (0.0..=1.0)
            .contains(&passed)
            .then(|| ((passed * WIDTH as f64) as usize).min(WIDTH - 1))
    };
    let mut cells: Vec<(f64, u32)> = vec![(0.0, 0); WIDTH];
    for point in &schedule.rates {
        if let Some(cell) = place(point.at).and_then(|at| cells.get_mut(at)) {
            cell.0 += point.rate.max(0.0);
            cell.1 += 1;
        }
    }
    let means: Vec<Option<f64>> = cells
        .iter()
        .map(|(sum, count)| (*count > 0).then(|| sum / f64::from(*count)))
        .collect();
    let peak = means.iter().flatten().copied().fold(0.0, f64::max);
    if peak <= 0.0 || means.iter().flatten().count() < 2 {
        return Vec::new();
    }
    let rates: String = means
        .iter()
        .map(|mean| mean.map_or(' ', |mean| bar(mean / peak)))
        .collect();
    let mut marks = [' '; WIDTH];
    let mut put = |at: Option<Timestamp>, mark: char| {
        if let Some(cell) = at.and_then(place).and_then(|at| marks.get_mut(at)) {
            *cell = mark;
        }
    };
    for slot in &schedule.cron_slots {
        put(Some(*slot), '·');
    }
    for backup in schedule.backups.iter().rev() {
        put(backup.time, if backup.error.is_some() { '✗' } else { '●' });
    }
    let marks: String = marks
        .iter()
        .map(|mark| match mark {
            '✗' => paint(Tone::Bad, "✗"),
            '●' => paint(Tone::Good, "●"),
            other => other.to_string(),
        })
        .collect();
    vec![
        format!(
            "{rates}  changes, last {}, at most {} a second",
            output::span(span),
            rounded(peak)
        ),
        format!("{marks}  ● backup  ✗ failed  · the cron"),
    ]
}

fn bar(share: f64) -> char {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and 8"
    )]
    let place = (share.clamp(0.0, 1.0) * 8.0) as usize;
    BARS.get(place.min(7)).copied().unwrap_or('█')
}

fn rounded(rate: f64) -> String {
    if rate >= 10.0 {
        format!("{rate:.0}")
    } else {
        format!("{rate:.2}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::serve::{BackupState, RatePoint};

    #[test]
    fn a_day_is_two_lines_of_equal_length_with_the_peak_where_it_was() {
        let now = Timestamp::from_second(1_790_000_000).unwrap();
        let ago = |hours: i64| now - SignedDuration::from_hours(hours);
        let backup = |hours, error: Option<&str>| BackupState {
            time: Some(ago(hours)),
            error: error.map(str::to_owned),
            ..BackupState::default()
        };
        let mut schedule = ScheduleState {
            rates: (0..48)
                .rev()
                .map(|hours| RatePoint {
                    at: ago(hours),
                    rate: if hours == 12 { 8.0 } else { 1.0 },
                })
                .collect(),
            cron_slots: vec![ago(18), ago(12), ago(6)],
            backups: vec![backup(1, None), backup(12, Some("store")), backup(40, None)],
            ..ScheduleState::default()
        };
        let lines = lines(&schedule, now);
        assert_eq!(lines.len(), 2);
        let cells: Vec<char> = lines[0].chars().collect();
        assert_eq!((cells[24], cells[26], cells[47]), ('█', '▂', '▂'));
        let marks: Vec<char> = lines[1].chars().collect();
        assert_eq!(
            (marks[12], marks[24], marks[36], marks[46]),
            ('·', '✗', '·', '●')
        );
        assert_eq!(
            marks.iter().take(48).filter(|mark| **mark != ' ').count(),
            4
        );
        assert!(lines[0].contains("last 1d 0h"), "{}", lines[0]);
        // A schedule that is younger fills the line too.
        schedule.rates.retain(|point| point.at >= ago(6));
        let young = super::lines(&schedule, now);
        assert!(young[0].contains("last 6h 0m"), "{}", young[0]);
        let marks: Vec<char> = young[1].chars().collect();
        assert_eq!((marks[0], marks[40]), ('·', '●'));
        schedule.rates.clear();
        assert!(super::lines(&schedule, now).is_empty());
    }
}
