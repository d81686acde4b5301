//! What things cost, by the cycle counter.

use std::fmt;

use programs::pmu;

/// Costs that were measured, one by one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Costs {
    /// How many.
    pub count: u64,
    /// All together.
    pub sum: u64,
    /// The smallest.
    pub least: u64,
    /// The largest.
    pub most: u64,
}

impl Costs {
    /// Adds one.
    pub fn add(&mut self, cost: u64) {
        self.least = match self.count {
            0 => cost,
            _ => self.least.min(cost),
        };
        self.most = self.most.max(cost);
        self.count += 1;
        self.sum += cost;
    }

    /// Does something and adds what it cost.
    pub fn measure<T>(&mut self, action: impl FnOnce() -> T) -> T {
        let start = pmu::now();
        let result = action();
        self.add(pmu::now().wrapping_sub(start));
        result
    }

    /// The average; 0 of none.
    pub const fn mean(&self) -> u64 {
        match self.sum.checked_div(self.count) {
            Some(mean) => mean,
            None => 0,
        }
    }
}

/// What the counter counts, for people.
pub fn unit() -> impl fmt::Display {
    match pmu::unit() {
        pmu::Unit::Instruction => "instructions",
        pmu::Unit::Clock | pmu::Unit::Nothing => "cycles",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn least_most_and_mean_are_of_all_that_was_added() {
        let mut costs = Costs::default();
        assert_eq!(costs.mean(), 0);
        for cost in [7, 3, 11] {
            costs.add(cost);
        }
        assert_eq!((costs.least, costs.most, costs.mean()), (3, 11, 7));
    }
}
