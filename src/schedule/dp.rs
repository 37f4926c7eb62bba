//! The dynamic programme: the cheapest way to place backups over the coming hours, given a forecast.
//!
//! Cost is K for each backup plus the area under the exposure. Between backups at grid points i < j the area is
//! `S(j) − S(i) − R(i)·(j − i)` with R the changes summed up to a point and S the sum of R, so each pair costs O(1). That area
//! has the Monge property, hence the best next backup never moves earlier as i grows and the search stays short.

use super::forecast::OutlookView;
use super::timescale::Timescale;

/// What the programme is asked.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The forecast.
    pub outlook: OutlookView<'a>,
    /// Unix seconds.
    pub now: f64,
    /// Changes at risk now.
    pub changes: f64,
    /// Seconds since the last good backup.
    pub elapsed: f64,
    /// K: the area that a backup is worth.
    pub budget: f64,
    /// The shortest interval, seconds.
    pub min: f64,
    /// The longest interval, seconds.
    pub max: f64,
}

/// What it answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answer {
    /// The cost of a backup now and the best plan after it.
    pub cost_now: f64,
    /// The cost of the best plan that waits.
    pub cost_wait: f64,
    /// How long that plan waits, seconds.
    pub best_wait: f64,
}

/// Prices a backup now against the best later one.
#[must_use]
pub fn solve(question: &Question<'_>, scale: &Timescale) -> Answer {
    let grid = Grid::new(question, scale);
    let tail = grid.tail_costs();
    let first_tail = tail.first().copied().unwrap_or(0.0);
    let mut answer = Answer {
        cost_now: question.budget + first_tail,
        cost_wait: f64::INFINITY,
        best_wait: grid.step,
    };
    let earliest = ((question.min - question.elapsed) / grid.step)
        .ceil()
        .max(1.0) as usize;
    let latest = (((question.max - question.elapsed) / grid.step).floor() as usize).max(earliest);
    let reach = latest.min(grid.last());
    let points = grid.areas.iter().zip(&tail).enumerate();
    for (point, (area, tail)) in points.take(reach + 1).skip(earliest) {
        let ahead = point as f64 * grid.step;
        let cost = question.changes * ahead + area + question.budget + tail;
        if cost < answer.cost_wait {
            answer.cost_wait = cost;
            answer.best_wait = ahead;
        }
    }
    answer
}

/// The forecast on the programme's grid.
struct Grid {
    step: f64,
    shortest: usize,
    longest: usize,
    budget: f64,
    /// R: changes from now to each point.
    changes: Vec<f64>,
    /// S: the area under R.
    areas: Vec<f64>,
}

impl Grid {
    fn new(question: &Question<'_>, scale: &Timescale) -> Self {
        let step = scale.plan_step;
        let points = (scale.plan_horizon / step).ceil().max(2.0) as usize;
        let mut changes = Vec::with_capacity(points + 1);
        let mut areas = Vec::with_capacity(points + 1);
        let (mut sum, mut area) = (0.0, 0.0);
        let mut walk = question.outlook.walk(question.now + 0.5 * step, step);
        for _ in 0..=points {
            changes.push(sum);
            areas.push(area);
            let rate = walk.next_rate();
            area += (sum + 0.5 * rate * step) * step;
            sum += rate * step;
        }
        let shortest = (question.min / step).ceil().max(1.0) as usize;
        let longest = ((question.max / step).floor() as usize).max(shortest);
        Self {
            step,
            shortest,
            longest,
            budget: question.budget,
            changes,
            areas,
        }
    }

    fn last(&self) -> usize {
        self.changes.len() - 1
    }

    /// The area of an interval between two points.
    fn area(&self, from: usize, to: usize) -> f64 {
        let ahead = (to - from) as f64 * self.step;
        self.areas[to] - self.areas[from] - self.changes[from] * ahead
    }

    /// For each point, the least cost from a backup there to the end (that backup itself not counted).
    fn tail_costs(&self) -> Vec<f64> {
        let end = self.last();
        let rate = self.changes[end] / (end as f64 * self.step);
        let mut cost = vec![0.0; end + 1];
        // S(j) + the cost from j on: what a pair (i, j) costs, less what depends on i alone or on the distance.
        let mut later = vec![f64::INFINITY; end + 1];
        let mut best_next = end;
        for from in (0..end).rev() {
            let mut best = f64::INFINITY;
            let mut next = end;
            if end - from <= self.longest {
                best = self.area(from, end) + self.open_end((end - from) as f64 * self.step, rate);
            }
            let first = from + self.shortest;
            let last = (from + self.longest).min(best_next).min(end - 1);
            if first <= last {
                let slope = self.changes[from] * self.step;
                let (least, place) = least_slanted(&later[first..=last], slope);
                let candidate =
                    least - self.areas[from] - slope * self.shortest as f64 + self.budget;
                if candidate < best {
                    best = candidate;
                    next = first + place;
                }
            }
            best_next = next;
            cost[from] = best;
            later[from] = self.areas[from] + best;
        }
        cost
    }

    /// What an interval still open at the end owes: the relative value of its age at a constant rate λ,
    /// √(2Kλ)·x − λx²/2 up to the best interval √(2K/λ), where it is K.
    fn open_end(&self, age: f64, rate: f64) -> f64 {
        if rate <= 0.0 || age >= (2.0 * self.budget / rate).sqrt() {
            return if rate <= 0.0 { 0.0 } else { self.budget };
        }
        (2.0 * self.budget * rate).sqrt() * age - 0.5 * rate * age * age
    }
}

/// How many candidates are compared at once: independent chains keep the processor busy.
const LANES: usize = 4;

/// The least of `values[i] − i·slope` and its index; the whole cost of the programme lies here.
fn least_slanted(values: &[f64], slope: f64) -> (f64, usize) {
    let mut least = [f64::INFINITY; LANES];
    let mut slant: [f64; LANES] = std::array::from_fn(|lane| lane as f64 * slope);
    let stride = LANES as f64 * slope;
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for ((least, slant), value) in least.iter_mut().zip(&mut slant).zip(chunk) {
            let candidate = value - *slant;
            *least = if candidate < *least {
                candidate
            } else {
                *least
            };
            *slant += stride;
        }
    }
    for ((least, slant), value) in least.iter_mut().zip(&slant).zip(rest) {
        *least = least.min(value - slant);
    }
    let best = least.into_iter().fold(f64::INFINITY, f64::min);
    // Found again by its value, with a tolerance for the other order of additions.
    let near = best + 1e-9 * best.abs().max(slope * values.len() as f64);
    let place = values
        .iter()
        .enumerate()
        .position(|(index, value)| value - index as f64 * slope <= near);
    (best, place.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_of_a_slanted_row_is_the_least_of_all() {
        for length in 1..40 {
            let values: Vec<f64> = (0..length)
                .map(|index| 50.0 * (f64::from(index) * 2.3).sin() + f64::from(index))
                .collect();
            for slope in [0.0, 0.5, 3.0, 1e6] {
                let slanted = |index: usize| values[index] - index as f64 * slope;
                let wanted = (0..values.len()).map(slanted).fold(f64::INFINITY, f64::min);
                let (least, place) = least_slanted(&values, slope);
                let near = 1e-6 * wanted.abs().max(1.0);
                assert!((least - wanted).abs() <= near, "{length} {slope}");
                assert!((slanted(place) - wanted).abs() <= near, "{length} {slope}");
            }
        }
    }
}
