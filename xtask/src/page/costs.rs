//! What faults of each kind cost: how many instructions, in bins of powers of two.

use std::collections::BTreeMap;

use crate::trace::Trace;

/// The costs of one kind of fault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Costs {
    /// Each cost, in ascending order.
    sorted: Vec<u64>,
}

impl Costs {
    fn new(mut costs: Vec<u64>) -> Self {
        costs.sort_unstable();
        Self { sorted: costs }
    }

    /// How many were measured.
    #[must_use]
    pub fn count(&self) -> usize {
        self.sorted.len()
    }

    /// The smallest, the middle and the largest one.
    #[must_use]
    pub fn spread(&self) -> Option<[u64; 3]> {
        let [first, last] = [self.sorted.first()?, self.sorted.last()?];
        Some([*first, self.sorted[self.sorted.len() / 2], *last])
    }

    /// The mean, rounded down.
    #[must_use]
    pub fn mean(&self) -> u64 {
        let sum: u64 = self.sorted.iter().sum();
        sum.checked_div(self.sorted.len() as u64).unwrap_or(0)
    }

    /// The bins that are not empty: bin `n` counts costs from 2ⁿ up to 2ⁿ⁺¹ − 1.
    #[must_use]
    pub fn bins(&self) -> BTreeMap<u32, u64> {
        let mut bins = BTreeMap::new();
        for cost in &self.sorted {
            *bins.entry(cost.max(&1).ilog2()).or_default() += 1;
        }
        bins
    }
}

/// The costs of all faults by kind. A cost of 0 was not measured.
#[must_use]
pub fn of(trace: &Trace) -> BTreeMap<&str, Costs> {
    let mut all: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for event in &trace.events {
        if let (Some(kind), 1..) = (event.fault(), event.cost) {
            all.entry(kind).or_default().push(event.cost);
        }
    }
    let costs = all.into_iter();
    costs
        .map(|(kind, costs)| (kind, Costs::new(costs)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Line;

    #[test]
    fn costs_are_binned_by_powers_of_two() {
        let text = "trace cpu=0 text=1,fault_anon,0,0,0,0,1 2,fault_anon,0,0,0,0,100 \
                    3,fault_anon,0,0,0,0,1ff 4,fault_cow,0,0,0,0,0 5,zap,0,0,0,0,9 \
                    6,fault_anon,0,0,0,0,200";
        let lines = [Line::parse(text), Line::parse("traced cpu=0 kept=6 lost=0")];
        let trace = Trace::of(&lines).unwrap();
        let costs = of(&trace);
        assert_eq!(costs.keys().collect::<Vec<_>>(), [&"anon"]);
        let anon = &costs["anon"];
        assert_eq!(anon.bins(), BTreeMap::from([(0, 1), (8, 2), (9, 1)]));
        assert_eq!(anon.spread(), Some([1, 0x1ff, 0x200]));
        assert_eq!((anon.count(), anon.mean()), (4, 320));
        let binned: u64 = anon.bins().values().sum();
        assert_eq!(binned, 4);
    }

    #[test]
    fn nothing_has_no_spread() {
        let none = Costs::default();
        assert_eq!((none.spread(), none.mean(), none.count()), (None, 0, 0));
    }
}
