//! Change-rate histories of clusters that nobody tuned the schedule on: families of shapes, each from a seed, always the
//! same. Rates are changes a second in cells of five minutes.

/// Cells of a day.
pub const DAY: usize = 288;

/// A family: its name and the history of `cells` cells.
pub struct Family {
    /// What kind of cluster it is.
    pub name: &'static str,
    make: fn(&mut Dice, usize) -> Vec<f64>,
}

impl Family {
    /// A family whose histories `make` makes.
    pub const fn new(name: &'static str, make: fn(&mut Dice, usize) -> Vec<f64>) -> Self {
        Self { name, make }
    }

    /// The history of `days` days that belongs to `seed`.
    pub fn history(&self, seed: u64, days: usize) -> Vec<f64> {
        (self.make)(
            &mut Dice::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
            days * DAY,
        )
    }
}

/// The families that the schedule's rules were chosen without.
pub const UNSEEN: [Family; 12] = [
    Family::new("web", web),
    Family::new("gitops", gitops),
    Family::new("drifting", drifting),
    Family::new("night-jobs", night),
    Family::new("zones", zones),
    Family::new("release-trains", trains),
    Family::new("storms", storms),
    Family::new("growing", growing),
    Family::new("holidays", holidays),
    Family::new("steady", steady),
    Family::new("weekend-games", weekends),
    Family::new("hourly-jobs", hourly),
];

/// A small generator of random numbers (splitmix64): the same on every machine.
pub struct Dice(u64);

impl Dice {
    /// A generator that starts from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Between 0 and 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Evenly between two numbers.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Standard normal, to three standard deviations or so.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    /// Around one, never negative.
    pub fn noise(&mut self, spread: f64) -> f64 {
        (spread * self.normal() - 0.5 * spread * spread).exp()
    }

    /// Exponentially distributed.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }
}

fn hour(cell: usize) -> f64 {
    (cell % DAY) as f64 / 12.0
}

fn weekday(cell: usize) -> usize {
    (cell / DAY) % 7
}

/// A smooth hump of the day around `peak` hours, `width` hours wide.
fn hump(hour: f64, peak: f64, width: f64) -> f64 {
    let apart = (hour - peak).abs();
    let apart = apart.min(24.0 - apart);
    (-0.5 * (apart / width).powi(2)).exp()
}

fn office(cell: usize) -> f64 {
    if weekday(cell) >= 5 {
        0.08
    } else {
        0.08 + hump(hour(cell), 10.5, 2.0) + hump(hour(cell), 15.0, 2.0)
    }
}

/// Users all day, few at night, a little less at weekends.
fn web(dice: &mut Dice, cells: usize) -> Vec<f64> {
    let depth = dice.between(0.75, 0.95);
    (0..cells)
        .map(|cell| {
            let day = 1.0
                - depth * (0.5 + 0.5 * ((hour(cell) - 4.0) / 24.0 * std::f64::consts::TAU).cos());
            let week = if weekday(cell) >= 5 { 0.7 } else { 1.0 };
            8.0 * day * week * dice.noise(0.25)
        })
        .collect()
}

/// A quiet floor; a commit now and then in working hours writes hundreds of objects for a quarter of an hour.
fn gitops(dice: &mut Dice, cells: usize) -> Vec<f64> {
    let mut rates: Vec<f64> = (0..cells).map(|_| 0.15 * dice.noise(0.4)).collect();
    let mut at = 0.0;
    while (at as usize) < cells {
        let cell = at as usize;
        let busy = office(cell);
        let size = dice.between(100.0, 900.0);
        let length = 1 + dice.between(1.0, 4.0) as usize;
        for rate in rates.iter_mut().skip(cell).take(length) {
            *rate += size / 300.0 / length as f64;
        }
        at += dice.exponential(6.0 / busy.max(0.02)).min(60.0) + 1.0;
    }
    rates
}

/// A level that wanders without any clock.
fn drifting(dice: &mut Dice, cells: usize) -> Vec<f64> {
    let mut level = 0.0;
    (0..cells)
        .map(|_| {
            level += -level / 60.0 + 0.17 * dice.normal();
            3.0 * f64::exp(level) * dice.noise(0.2)
        })
        .collect()
}

/// Batch jobs from two to five at night, and a long one on Sundays.
fn night(dice: &mut Dice, cells: usize) -> Vec<f64> {
    let mut late = 0.0;
    (0..cells)
        .map(|cell| {
            if cell % DAY == 0 {
                late = dice.between(0.0, 1.5);
            }
            let hour = hour(cell);
            let batch = (2.0 + late..5.0 + late).contains(&hour)
                || (weekday(cell) == 6 && (8.0..16.0).contains(&hour));
            dice.noise(0.35) * if batch { 14.0 } else { 0.8 }
        })
        .collect()
}

/// Offices of three time zones in one cluster.
fn zones(dice: &mut Dice, cells: usize) -> Vec<f64> {
    let weights = [
        dice.between(0.5, 1.5),
        dice.between(0.5, 1.5),
        dice.between(0.5, 1.5),
    ];
    (0..cells)
        .map(|cell| {
            let sum: f64 = [0, 8 * 12, 15 * 12]
                .iter()
                .zip(weights)
                .map(|(shift, weight)| weight * office(cell + shift))
                .sum();
            4.0 * sum * dice.noise(0.3)
        })
        .collect()
}

/// Two deployments a working day at about the same hours, each an hour of heavy writing.
fn trains(dice: &mut Dice, cells: usize) -> Vec<f64> {
    let mut rates: Vec<f64> = (0..cells)
        .map(|cell| 0.5 * (0.4 + office(cell)) * dice.noise(0.3))
        .collect();
    for day in 0..cells / DAY {
        for start in [10.0, 16.0] {
            if weekday(day * DAY) < 5 {
                let cell = day * DAY + (12.0 * (start + 0.5 * dice.normal())) as usize;
                let size = 6.0 * dice.noise(0.5);
                for rate in rates.iter_mut().skip(cell).take(12) {
                    *rate += size * dice.noise(0.3);
                }
            }
        }
    }
    rates
}

/// Calm, busy and storm, each for hours, in no order.
fn storms(dice: &mut Dice, cells: usize) -> Vec<f64> {
    let mut rates = Vec::with_capacity(cells);
    while rates.len() < cells {
        let (level, length) = match (dice.unit() * 10.0) as u32 {
            0..6 => (0.4, 96.0),
            6..9 => (3.0, 48.0),
            _ => (25.0, 10.0),
        };
        for _ in 0..(dice.exponential(length) as usize + 1) {
            rates.push(level * dice.noise(0.4));
        }
    }
    rates.truncate(cells);
    rates
}

/// Days and nights of a cluster that grows to twice its size.
fn growing(dice: &mut Dice, cells: usize) -> Vec<f64> {
    (0..cells)
        .map(|cell| {
            let grown = 1.0 + cell as f64 / cells as f64;
            2.0 * grown * (0.3 + office(cell)) * dice.noise(0.3)
        })
        .collect()
}

/// An office that is shut for ten days in the middle.
fn holidays(dice: &mut Dice, cells: usize) -> Vec<f64> {
    let shut = (cells / 2, cells / 2 + 10 * DAY);
    (0..cells)
        .map(|cell| {
            let busy = if (shut.0..shut.1).contains(&cell) {
                0.08
            } else {
                office(cell)
            };
            5.0 * busy * dice.noise(0.3)
        })
        .collect()
}

/// The same all the time.
fn steady(dice: &mut Dice, cells: usize) -> Vec<f64> {
    (0..cells).map(|_| 5.0 * dice.noise(0.3)).collect()
}

/// Evenings, and whole weekends.
fn weekends(dice: &mut Dice, cells: usize) -> Vec<f64> {
    (0..cells)
        .map(|cell| {
            let play = if weekday(cell) >= 5 {
                0.3 + hump(hour(cell), 17.0, 4.0)
            } else {
                0.1 + 0.7 * hump(hour(cell), 20.5, 1.5)
            };
            7.0 * play * dice.noise(0.3)
        })
        .collect()
}

/// A job at every full hour, five to ten minutes long, and a busier afternoon.
fn hourly(dice: &mut Dice, cells: usize) -> Vec<f64> {
    (0..cells)
        .map(|cell| {
            let job = if cell % 12 < 2 { 6.0 } else { 0.5 };
            job * (0.6 + hump(hour(cell), 14.0, 3.0)) * dice.noise(0.3)
        })
        .collect()
}
