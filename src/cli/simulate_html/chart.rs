//! A plot's frame: values to places, axes with round numbers, lines and areas as SVG text. Colours are classes of the page.

use std::fmt::Write as _;

use crate::schedule::history::instant_of;

/// The width that all plots are drawn at; the page scales them.
pub const WIDTH: f64 = 960.0;
/// Points that a line may have: two a pixel or so.
const POINTS: usize = 1000;
const DAY: f64 = 86_400.0;

/// A rectangle with two scales. Times are Unix seconds.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    /// Left, right, in the drawing.
    pub left: f64,
    /// The right edge.
    pub right: f64,
    /// The upper edge.
    pub upper: f64,
    /// The lower edge.
    pub lower: f64,
    /// The value at the left edge.
    pub from: f64,
    /// The value at the right edge.
    pub to: f64,
    /// The value at the upper edge; 0 is at the lower.
    pub top: f64,
}

impl Frame {
    /// The place of a value on the horizontal axis.
    pub fn x(&self, value: f64) -> f64 {
        let part = (value - self.from) / (self.to - self.from).max(1e-9);
        self.left + part.clamp(0.0, 1.0) * (self.right - self.left)
    }

    /// The place of a value on the vertical axis.
    pub fn y(&self, value: f64) -> f64 {
        let part = value / self.top.max(1e-12);
        self.lower - part.clamp(0.0, 1.0) * (self.lower - self.upper)
    }

    /// Grid lines with their values, at round numbers.
    pub fn values(&self, out: &mut String, unit: &str) {
        let step = round_step(self.top, 4.0);
        let mut value = 0.0;
        while value <= self.top * 1.0001 {
            let y = self.y(value);
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}{}</text>",
                self.left,
                self.right,
                self.left - 6.0,
                y + 4.0,
                number(value),
                unit
            );
            value += step;
        }
    }

    /// Days below the frame: each one for a week or two, else every seventh.
    pub fn days(&self, out: &mut String) {
        let span = (self.to - self.from) / DAY;
        let every = if span <= 2.0 {
            DAY / 4.0
        } else if span <= 15.0 {
            DAY
        } else {
            7.0 * DAY
        };
        let mut at = (self.from / every).ceil() * every;
        // Weeks begin on Monday: the epoch was a Thursday.
        if every > DAY {
            at = ((self.from - 4.0 * DAY) / every).ceil() * every + 4.0 * DAY;
        }
        let format = if span <= 2.0 {
            "%H:%M"
        } else if span <= 15.0 {
            "%a %-d %b"
        } else {
            "%-d %b"
        };
        while at <= self.to {
            let x = self.x(at);
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>",
                self.upper, self.lower
            );
            if x + 34.0 < self.right {
                let _ = write!(
                    out,
                    "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                    x + 3.0,
                    self.lower + 15.0,
                    instant_of(at).strftime(format)
                );
            }
            at += every;
        }
    }

    /// A line through equally spaced values, the first at the left edge.
    pub fn line(&self, out: &mut String, class: &str, values: &[f64]) {
        let _ = write!(out, "<path class=\"{class}\" d=\"{}\"/>", self.path(values));
    }

    /// The area below such a line.
    pub fn area(&self, out: &mut String, class: &str, values: &[f64]) {
        let (left, right, lower) = (self.left, self.right, self.lower);
        let _ = write!(
            out,
            "<path class=\"{class}\" d=\"{}L{right:.1} {lower:.1}L{left:.1} {lower:.1}Z\"/>",
            self.path(values)
        );
    }

    fn path(&self, values: &[f64]) -> String {
        let last = values.len().saturating_sub(1).max(1) as f64;
        let mut path = String::new();
        for (index, value) in thinned(values) {
            let x = self.left + (self.right - self.left) * index as f64 / last;
            let letter = if path.is_empty() { 'M' } else { 'L' };
            let _ = write!(path, "{letter}{x:.1} {:.1}", self.y(value));
        }
        path
    }
}

/// At most about [`POINTS`] of the values, lows and highs kept.
fn thinned(values: &[f64]) -> Vec<(usize, f64)> {
    let width = (2 * values.len()).div_ceil(POINTS).max(1);
    if width <= 2 {
        return values.iter().copied().enumerate().collect();
    }
    let mut points = Vec::with_capacity(POINTS);
    for (bucket, chunk) in values.chunks(width).enumerate() {
        let by = |a: &(usize, f64), b: &(usize, f64)| a.1.total_cmp(&b.1);
        let cells = || chunk.iter().copied().enumerate();
        let (Some(low), Some(high)) = (cells().min_by(by), cells().max_by(by)) else {
            continue;
        };
        let mut pair = [low, high];
        pair.sort_by_key(|(place, _)| *place);
        points.extend(pair.map(|(place, value)| (bucket * width + place, value)));
    }
    points
}

/// A step of 1, 2 or 5 times a power of ten that cuts `top` into about `parts`.
fn round_step(top: f64, parts: f64) -> f64 {
    let rough = (top / parts).max(1e-12);
    let power = 10f64.powf(rough.log10().floor());
    let digit = rough / power;
    let round = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|round| digit <= *round)
        .unwrap_or(10.0);
    round * power
}

/// The next round number above the highest value, so that nothing touches the upper edge.
pub fn ceiling(highest: f64) -> f64 {
    let step = round_step(highest.max(1e-9), 4.0);
    (highest.max(1e-9) / step).ceil() * step
}

/// A number for people: at most three figures, thousands apart.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 10_000.0 {
        let whole = format!("{value:.0}");
        let mut text = String::new();
        for (place, digit) in whole.chars().enumerate() {
            let left = whole.len() - place;
            if place > 0 && left % 3 == 0 && !text.ends_with('-') {
                text.push('\u{202f}');
            }
            text.push(digit);
        }
        text
    } else if size >= 100.0 || (size - size.round()).abs() < 1e-9 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 0.01 {
        let text = format!("{value:.2}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        format!("{value:.1e}")
    }
}

/// Text as it may stand in markup.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            letter if letter.is_control() => out.push(' '),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_round_where_people_read_them() {
        assert_eq!(number(0.0), "0");
        assert_eq!(number(0.25), "0.25");
        assert_eq!(number(12.0), "12");
        assert_eq!(number(1234.4), "1234");
        assert_eq!(number(-12_345.0), "-12\u{202f}345");
        assert!((ceiling(6.3) - 8.0).abs() < 1e-9);
        assert!((ceiling(0.0)) > 0.0);
    }

    #[test]
    fn a_thinned_line_keeps_its_peaks() {
        let mut values = vec![1.0; 50_000];
        values[33_333] = 9.0;
        values[44_444] = -3.0;
        let points = thinned(&values);
        assert!(points.len() <= POINTS + 2, "{}", points.len());
        assert!(points.contains(&(33_333, 9.0)) && points.contains(&(44_444, -3.0)));
    }

    #[test]
    fn markup_in_a_name_is_text() {
        assert_eq!(
            escaped("<b a=\"1\">&\u{7}"),
            "&lt;b a=&quot;1&quot;&gt;&amp; "
        );
    }
}
