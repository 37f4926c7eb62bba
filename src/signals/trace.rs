//! Trace files: the CSV `timestamp,writes_per_s,db_size_bytes[,load][,significant_writes_per_s]`, read into a
//! [`Series`] and written from one. Columns are found by name; an empty field is a gap.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::series::{Point, Series, SeriesError};

/// Why a trace could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// The header lacks a column.
    #[error(
        "the trace has no column `{column}`; its first line must read \
         timestamp,writes_per_s,db_size_bytes[,load][,significant_writes_per_s]"
    )]
    MissingColumn {
        /// Its name.
        column: &'static str,
    },
    /// A field could not be understood.
    #[error("line {line} of the trace: `{value}` is not a {wanted}; correct it or leave it empty")]
    BadField {
        /// Counted from 1, the header included.
        line: usize,
        /// What stands there.
        value: String,
        /// What should.
        wanted: &'static str,
    },
    /// Fewer than two readings.
    #[error("the trace has {rows} readings; at least two are needed to know its step")]
    TooShort {
        /// How many there are.
        rows: usize,
    },
    /// The readings do not fit a grid.
    #[error("the trace does not fit a regular grid")]
    Grid(#[from] SeriesError),
}

/// Reads a trace. The step is the median distance between neighbouring timestamps.
///
/// # Errors
/// When a column is missing, a field is not a number or a time, or there are too few rows or too many.
pub fn read(text: &str) -> Result<Series, TraceError> {
    let mut lines = text.lines().enumerate();
    let header = lines
        .next()
        .map_or("", |(_, line)| line.trim_start_matches('\u{feff}'));
    let columns = Columns::find(header)?;
    let mut points = Vec::new();
    for (index, line) in lines {
        if !line.trim().is_empty() {
            points.push(columns.point(line, index + 1)?);
        }
    }
    let step = median_step(&points).ok_or(TraceError::TooShort { rows: points.len() })?;
    Ok(Series::from_points(step, points)?)
}

/// Writes a trace that [`read`] gives back.
#[must_use]
pub fn write(series: &Series) -> String {
    let mut text = String::from("timestamp,writes_per_s,db_size_bytes,load");
    if series.significant().is_some() {
        text.push_str(",significant_writes_per_s");
    }
    text.push('\n');
    for point in (0..series.len()).filter_map(|index| series.point(index)) {
        let field = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
        let _ = write!(
            text,
            "{},{},{},{}",
            point.at,
            field(point.writes),
            field(point.db_size),
            field(point.load)
        );
        if series.significant().is_some() {
            let _ = write!(text, ",{}", field(point.significant));
        }
        text.push('\n');
    }
    text
}

/// Where each column stands.
struct Columns {
    timestamp: usize,
    writes: usize,
    db_size: usize,
    load: Option<usize>,
    significant: Option<usize>,
}

impl Columns {
    fn find(header: &str) -> Result<Self, TraceError> {
        let names: Vec<&str> = header.split(',').map(str::trim).collect();
        let place = |name: &str| names.iter().position(|candidate| *candidate == name);
        let need = |column: &'static str| place(column).ok_or(TraceError::MissingColumn { column });
        Ok(Self {
            timestamp: need("timestamp")?,
            writes: need("writes_per_s")?,
            db_size: need("db_size_bytes")?,
            load: place("load"),
            significant: place("significant_writes_per_s"),
        })
    }

    fn point(&self, line: &str, number: usize) -> Result<Point, TraceError> {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let field = |index: usize| fields.get(index).copied().unwrap_or("");
        let bad = |value: &str, wanted| TraceError::BadField {
            line: number,
            value: value.chars().take(40).collect(),
            wanted,
        };
        let at = field(self.timestamp);
        let at: Timestamp = at.parse().map_err(|_| bad(at, "RFC 3339 time"))?;
        let value = |index: Option<usize>| -> Result<Option<f64>, TraceError> {
            match index.map(field) {
                None | Some("") => Ok(None),
                Some(text) => text.parse().map(Some).map_err(|_| bad(text, "number")),
            }
        };
        Ok(Point {
            at,
            writes: value(Some(self.writes))?,
            significant: value(self.significant)?,
            db_size: value(Some(self.db_size))?,
            load: value(self.load)?,
        })
    }
}

fn median_step(points: &[Point]) -> Option<u32> {
    let mut seconds: Vec<i64> = points.iter().map(|point| point.at.as_second()).collect();
    seconds.sort_unstable();
    let mut steps: Vec<i64> = seconds
        .windows(2)
        .filter_map(|pair| Some(pair.last()? - pair.first()?))
        .filter(|step| *step > 0)
        .collect();
    steps.sort_unstable();
    steps
        .get(steps.len() / 2)
        .and_then(|step| u32::try_from(*step).ok())
}
