//! The fault decision: a pure function over a finite value (D6).

use arm64::attrs::Prot;

use super::facts::{Access, AreaFacts, Content, EntryFacts, FaultFacts};

/// What is to be done about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// The entry allows the access already: another CPU was faster, or a stale translation.
    Spurious,
    /// Set the access flag, and the dirty state for a write.
    SetAccess {
        /// For a write.
        dirty: bool,
    },
    /// Give the entry the rights of its area.
    Reprotect,
    /// Map a fresh page.
    Fill {
        /// From an image; else zeros.
        image: bool,
    },
    /// Map a fresh folio of sixteen pages of zeros, around the address.
    FillBlock,
    /// Not allowed.
    Refuse(Refusal),
}

/// Why an access is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing is mapped at the address (`SEGV_MAPERR`).
    NoArea,
    /// The area does not allow it (`SEGV_ACCERR`).
    NoRight,
    /// The object ends before the page (`SIGBUS`).
    BeyondEnd,
    /// The entry is not of this kernel's making (`SIGBUS`).
    Foreign,
}

/// Decides.
pub fn plan(facts: &FaultFacts) -> Plan {
    let AreaFacts::Area { prot, content } = facts.area else {
        return Plan::Refuse(Refusal::NoArea);
    };
    if !prot.contains(facts.access.right()) {
        return Plan::Refuse(Refusal::NoRight);
    }
    match facts.entry {
        EntryFacts::None => fill(content, facts.block),
        EntryFacts::ProtNone => Plan::Reprotect,
        EntryFacts::Foreign => Plan::Refuse(Refusal::Foreign),
        EntryFacts::Page {
            prot: has,
            young,
            dirty,
        } => {
            if !has.contains(facts.access.right() | Prot::USER) {
                Plan::Reprotect
            } else if !young || (facts.access == Access::Write && !dirty) {
                Plan::SetAccess {
                    dirty: facts.access == Access::Write,
                }
            } else {
                Plan::Spurious
            }
        }
    }
}

fn fill(content: Content, block: bool) -> Plan {
    match content {
        Content::Zero if block => Plan::FillBlock,
        Content::Zero => Plan::Fill { image: false },
        Content::Image => Plan::Fill { image: true },
        Content::BeyondEnd => Plan::Refuse(Refusal::BeyondEnd),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_fact() -> impl Iterator<Item = FaultFacts> {
        let prots = (0..8).map(|bits| {
            [Prot::READ, Prot::WRITE, Prot::EXEC]
                .into_iter()
                .enumerate()
                .filter(|(i, _)| bits >> i & 1 == 1)
                .fold(Prot::empty(), |all, (_, bit)| all | bit)
        });
        let prots: Vec<Prot> = prots.collect();
        let contents = [Content::Zero, Content::Image, Content::BeyondEnd];
        let mut areas = vec![AreaFacts::Hole];
        let mut entries = vec![EntryFacts::None, EntryFacts::ProtNone, EntryFacts::Foreign];
        for &prot in &prots {
            areas.extend(contents.map(|content| AreaFacts::Area { prot, content }));
            for flags in 0..4 {
                let (young, dirty) = (flags & 1 == 1, flags & 2 == 2);
                entries.push(EntryFacts::Page {
                    prot: prot | Prot::USER,
                    young,
                    dirty,
                });
            }
        }
        let mut all = Vec::new();
        for &area in &areas {
            for &entry in &entries {
                for access in [Access::Read, Access::Write, Access::Exec] {
                    for flags in 0..4 {
                        all.push(FaultFacts {
                            area,
                            entry,
                            access,
                            block: flags & 1 == 1,
                            kernel: flags & 2 == 2,
                        });
                    }
                }
            }
        }
        // A sample is enough for an interpreter.
        all.into_iter().step_by(if cfg!(miri) { 37 } else { 1 })
    }

    /// What the entry looks like after the plan was carried out.
    fn carry_out(facts: &FaultFacts, plan: Plan) -> EntryFacts {
        let AreaFacts::Area { prot: area, .. } = facts.area else {
            return facts.entry;
        };
        let write = facts.access == Access::Write;
        match (plan, facts.entry) {
            (Plan::Fill { .. } | Plan::FillBlock, _) => EntryFacts::Page {
                prot: area | Prot::USER,
                young: true,
                dirty: write,
            },
            (Plan::SetAccess { dirty: set }, EntryFacts::Page { prot, dirty, .. }) => {
                EntryFacts::Page {
                    prot,
                    young: true,
                    dirty: dirty || set,
                }
            }
            (Plan::Reprotect, EntryFacts::Page { young, dirty, .. }) => EntryFacts::Page {
                prot: area | Prot::USER,
                young,
                dirty,
            },
            (Plan::Reprotect, _) => EntryFacts::Page {
                prot: area | Prot::USER,
                young: false,
                dirty: false,
            },
            (_, entry) => entry,
        }
    }

    #[test]
    fn the_whole_decision_table_refuses_exactly_what_the_area_forbids() {
        for facts in every_fact() {
            let allowed = match facts.area {
                AreaFacts::Hole => false,
                AreaFacts::Area { prot, .. } => prot.contains(facts.access.right()),
            };
            let refused = matches!(
                plan(&facts),
                Plan::Refuse(Refusal::NoArea) | Plan::Refuse(Refusal::NoRight)
            );
            assert_eq!(refused, !allowed, "{facts:?}");
        }
    }

    #[test]
    fn carrying_the_plan_out_makes_the_access_possible_within_three_faults() {
        for mut facts in every_fact() {
            let start = facts;
            for _ in 0..3 {
                facts.entry = carry_out(&facts, plan(&facts));
            }
            let end = plan(&facts);
            assert!(
                matches!(end, Plan::Spurious | Plan::Refuse(_)),
                "{start:?} ended in {end:?}"
            );
        }
    }

    #[test]
    fn no_plan_maps_a_page_that_gives_more_than_the_area() {
        for facts in every_fact() {
            let before = facts.entry;
            let after = carry_out(&facts, plan(&facts));
            if let (AreaFacts::Area { prot: area, .. }, EntryFacts::Page { prot, .. }) =
                (facts.area, after)
                && after != before
                && !matches!(plan(&facts), Plan::SetAccess { .. })
            {
                assert_eq!(prot, area | Prot::USER, "{facts:?}");
            }
        }
    }

    #[test]
    fn a_folio_is_planned_for_zeros_where_there_is_room_and_nowhere_else() {
        for facts in every_fact() {
            let zeros = matches!(
                facts.area,
                AreaFacts::Area { prot, content: Content::Zero } if prot.contains(facts.access.right())
            );
            let wanted = zeros && facts.block && facts.entry == EntryFacts::None;
            assert_eq!(plan(&facts) == Plan::FillBlock, wanted, "{facts:?}");
        }
    }

    #[test]
    fn the_kernel_gets_the_same_answer_as_the_program() {
        for facts in every_fact() {
            assert_eq!(
                plan(&facts),
                plan(&FaultFacts {
                    kernel: !facts.kernel,
                    ..facts
                })
            );
        }
    }
}
