//! The learned floor of raw counters: what lease renewals and other housekeeping write all the time, taken off so that the rest can
//! be seen. Used only where nothing tells the two apart. Pure, and causal: a cell's floor is learned from the day before it.

use super::series::Series;

const DAY: f64 = 86_400.0;
/// The floor is this quantile of a day.
const QUANTILE: f64 = 0.05;
/// Less of the mean than this is no floor worth taking off: what lies above it is most of the signal (scheduling.md §2).
const WORTH: f64 = 0.7;
/// At least this share of a day must be known.
const KNOWN: f64 = 0.25;

/// The series less its floor, and the newest floor in changes a second; `None` when the floor is a small part of the whole.
#[must_use]
pub fn less_floor(series: &Series) -> Option<(Series, f64)> {
    let step = f64::from(series.step_seconds());
    let window = ((DAY / step) as usize).max(2);
    let least = ((window as f64 * KNOWN) as usize).max(2);
    let writes = series.writes();
    // The known cells of the day before, in order of size.
    let mut day: Vec<f64> = Vec::with_capacity(window);
    let mut above = Vec::with_capacity(writes.len());
    let (mut floors, mut total) = (0.0, 0.0);
    let mut newest = 0.0;
    for (cell, rate) in writes.iter().enumerate() {
        if let Some(old) = cell.checked_sub(window).and_then(|old| writes.get(old))
            && old.is_finite()
        {
            let place = day.partition_point(|other| other < old);
            if place < day.len() {
                day.remove(place);
            }
        }
        if !rate.is_finite() {
            above.push(f64::NAN);
            continue;
        }
        let place = day.partition_point(|other| other < rate);
        day.insert(place, *rate);
        // Before a quarter of a day is known the least so far stands for the floor.
        let quantile = if day.len() < least { 0.0 } else { QUANTILE };
        newest = day
            .get((day.len() as f64 * quantile) as usize)
            .copied()
            .unwrap_or(0.0);
        above.push((rate - newest).max(0.0));
        floors += newest.min(*rate);
        total += rate;
    }
    (total > 0.0 && floors > WORTH * total)
        .then(|| (series.clone().with_significant(above), newest))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jiff::Timestamp;

    use super::*;
    use crate::signals::series::Point;

    fn series(rate: impl Fn(usize) -> f64) -> Series {
        let mut series = Series::empty(Timestamp::UNIX_EPOCH, 300).unwrap();
        for cell in 0..6 * 288 {
            series.push(&Point {
                writes: Some(rate(cell)),
                ..Point::at(Timestamp::UNIX_EPOCH)
            });
        }
        series
    }

    #[test]
    fn lease_renewals_are_taken_off_and_what_people_do_stays() {
        let work = |cell: usize| if cell % 288 / 96 == 1 { 2.0 } else { 0.0 };
        let raw = series(|cell| 20.0 + work(cell));
        let (above, floor) = less_floor(&raw).unwrap();
        assert!((floor - 20.0).abs() < 1e-9);
        for cell in 0..raw.len() {
            assert!((above.rates()[cell] - work(cell)).abs() < 1e-9, "{cell}");
        }
        assert_eq!(above.writes(), raw.writes());
    }

    #[test]
    fn a_signal_that_stands_on_no_floor_is_left_alone() {
        let uneven = series(|cell| 1.0 + 5.0 * (cell as f64 / 40.0).sin().abs());
        assert!(less_floor(&uneven).is_none());
        assert!(less_floor(&series(|_| f64::NAN)).is_none());
        assert!(less_floor(&series(|_| 0.0)).is_none());
    }

    #[test]
    fn a_floor_is_learned_from_the_past_alone() {
        let raw = series(|cell| 20.0 + (cell % 7) as f64 * 0.1);
        let later = series(|cell| {
            let rate = 20.0 + (cell % 7) as f64 * 0.1;
            if cell < 900 { rate } else { 1.3 * rate }
        });
        let (first, second) = (less_floor(&raw).unwrap().0, less_floor(&later).unwrap().0);
        assert_eq!(first.rates()[..900], second.rates()[..900]);
    }
}
