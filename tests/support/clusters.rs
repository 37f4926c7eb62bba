//! A second set of change-rate histories on which no rule of the schedule was chosen, and of its constants only how far under the target
//! to aim: other shapes than in [`super::traces`], made in other ways. Rates are changes a second in cells of five minutes.

use super::traces::{DAY, Dice, Family};

/// The families.
pub const REPORTED: [Family; 12] = [
    Family::new("self-exciting", self_exciting),
    Family::new("pipelines", pipelines),
    Family::new("quarter-days", quarter_days),
    Family::new("autoscaler", autoscaler),
    Family::new("tenants", tenants),
    Family::new("migration", migration),
    Family::new("summer-time", summer_time),
    Family::new("half-days", half_days),
    Family::new("idle", idle),
    Family::new("maintenance", maintenance),
    Family::new("outages", outages),
    Family::new("school-year", school_year),
];

fn hour(cell: usize) -> f64 {
    (cell % DAY) as f64 * 24.0 / DAY as f64
}

fn is_weekend(cell: usize) -> bool {
    (cell / DAY) % 7 >= 5
}

/// Work from eight to eighteen with a dip at noon, soft at its edges.
fn working(hour: f64) -> f64 {
    let edge = |at: f64| 1.0 / (1.0 + (-(hour - at) / 0.4).exp());
    let lunch = 0.5 * (-((hour - 12.5) / 0.6).powi(2)).exp();
    (edge(8.0) * (1.0 - edge(18.0)) - lunch).max(0.0)
}

/// Every change makes others likely for a while: bursts of bursts, no clock.
fn self_exciting(dice: &mut Dice, cells: usize) -> Vec<f64> {
    let mut heat = 0.0;
    (0..cells)
        .map(|_| {
            if dice.unit() < 0.012 + 0.1 * heat / (heat + 4.0) {
                heat += dice.exponential(5.0);
            }
            heat *= 0.78;
            (0.3 + heat) * dice.noise(0.3)
        })
        .collect()
}

/// Pipelines of a monorepo: started at random in working hours, ten minutes to an hour each, several at once.
fn pipelines(dice: &mut Dice, cells: usize) -> Vec<f64> {
    let mut rates = vec![0.2; cells];
    for cell in 0..cells {
        let busy = if is_weekend(cell) {
            0.03
        } else {
            0.04 + working(hour(cell))
        };
        if dice.unit() < 0.25 * busy {
            let length = 2 + dice.exponential(5.0) as usize;
            let weight = dice.exponential(2.0);
            for rate in rates.iter_mut().skip(cell).take(length.min(36)) {
                *rate += weight;
            }
        }
    }
    rates.iter().map(|rate| rate * dice.noise(0.2)).collect()
}

/// Jobs of an hour or so at 0, 6, 12 and 18 o'clock, one in ten left out.
fn quarter_days(dice: &mut Dice, cells: usize) -> Vec<f64> {
    let mut job = false;
    (0..cells)
        .map(|cell| {
            let place = cell % (DAY / 4);
            if place == 0 {
                job = dice.unit() > 0.1;
            }
            let level = if job && place < 14 { 9.0 } else { 0.7 };
            level * dice.noise(0.25)
        })
        .collect()
}

/// Up and down every three hours, out of step with the day.
fn autoscaler(dice: &mut Dice, cells: usize) -> Vec<f64> {
    let mut angle = 0.0;
    (0..cells)
        .map(|_| {
            angle += std::f64::consts::TAU / 36.0 * (1.0 + 0.3 * (dice.unit() - 0.5));
            4.0 * (1.05 + f64::sin(angle)) * dice.noise(0.3)
        })
        .collect()
}

/// Eight tenants, each on or off for hours, each of another weight.
fn tenants(dice: &mut Dice, cells: usize) -> Vec<f64> {
    let mut rates = vec![0.3; cells];
    for _ in 0..8 {
        let weight = dice.exponential(1.5);
        let (on, off) = (
            12.0 + dice.exponential(40.0),
            40.0 + dice.exponential(200.0),
        );
        let mut at = 0;
        while at < cells {
            at += dice.exponential(off) as usize + 1;
            let until = (at + dice.exponential(on) as usize + 1).min(cells);
            for rate in rates.iter_mut().take(until).skip(at) {
                *rate += weight;
            }
            at = until;
        }
    }
    rates.iter().map(|rate| rate * dice.noise(0.25)).collect()
}

/// An office whose cluster takes over another's work for two weeks.
fn migration(dice: &mut Dice, cells: usize) -> Vec<f64> {
    let (from, to) = (20 * DAY, 34 * DAY);
    (0..cells)
        .map(|cell| {
            let day = if is_weekend(cell) {
                0.1
            } else {
                0.1 + working(hour(cell))
            };
            let level = if (from..to).contains(&cell) { 3.0 } else { 1.0 };
            3.0 * level * day * dice.noise(0.3)
        })
        .collect()
}

/// Users of one country; an hour is lost in the middle.
fn summer_time(dice: &mut Dice, cells: usize) -> Vec<f64> {
    (0..cells)
        .map(|cell| {
            let local = hour(cell + if cell > cells / 2 { 12 } else { 0 });
            let evening = (-((local - 20.0) / 2.0).powi(2)).exp();
            5.0 * (0.1 + 0.6 * working(local) + evening) * dice.noise(0.3)
        })
        .collect()
}

/// A level that wanders over half a day, by a factor of three or so.
fn half_days(dice: &mut Dice, cells: usize) -> Vec<f64> {
    let mut level = 0.0;
    (0..cells)
        .map(|_| {
            level += -level / 144.0 + 0.13 * dice.normal();
            2.0 * f64::exp(level) * dice.noise(0.4)
        })
        .collect()
}

/// Hardly anything: a few changes an hour, a rollout twice a week.
fn idle(dice: &mut Dice, cells: usize) -> Vec<f64> {
    let mut left = 0;
    (0..cells)
        .map(|cell| {
            if !is_weekend(cell) && (9.0..17.0).contains(&hour(cell)) && dice.unit() < 0.004 {
                left = 4 + (8.0 * dice.unit()) as usize;
            }
            let rollout = if left > 0 { 0.8 } else { 0.0 };
            left = left.saturating_sub(1);
            0.004 * dice.noise(0.8) + rollout * dice.noise(0.4)
        })
        .collect()
}

/// An even load, and four hours of upgrades on Saturday nights.
fn maintenance(dice: &mut Dice, cells: usize) -> Vec<f64> {
    (0..cells)
        .map(|cell| {
            let window = (cell / DAY) % 7 == 5 && (1.0..5.0).contains(&hour(cell));
            let level = if window { 30.0 } else { 2.0 };
            level * dice.noise(0.35)
        })
        .collect()
}

/// An office whose API server is away for an hour or two now and then.
fn outages(dice: &mut Dice, cells: usize) -> Vec<f64> {
    let mut away = 0;
    (0..cells)
        .map(|cell| {
            if dice.unit() < 0.002 {
                away = 12 + (12.0 * dice.unit()) as usize;
            }
            let day = if is_weekend(cell) {
                0.15
            } else {
                0.15 + working(hour(cell))
            };
            let rate = if away > 0 {
                0.0
            } else {
                4.0 * day * dice.noise(0.3)
            };
            away = away.saturating_sub(1);
            rate
        })
        .collect()
}

/// Mornings of working days only, busier from week to week until a break.
fn school_year(dice: &mut Dice, cells: usize) -> Vec<f64> {
    (0..cells)
        .map(|cell| {
            let week = (cell / DAY / 7) % 6;
            let morning = !is_weekend(cell) && (7.5..13.5).contains(&hour(cell)) && week < 5;
            let level = if morning { 2.0 + week as f64 } else { 0.25 };
            level * dice.noise(0.35)
        })
        .collect()
}
