//! The whole decision table.

use super::*;

const RIGHTS: [Prot; 3] = [Prot::READ, Prot::WRITE, Prot::EXEC];
const CONTENTS: [Content; 5] = [
    Content::Resident,
    Content::Absent,
    Content::Paged,
    Content::Refused,
    Content::BeyondEnd,
];
const SIZES: [Size; 3] = [Size::Page, Size::Folio, Size::Block];
const OWNERS: [Owner; 4] = [Owner::Zero, Owner::Own, Owner::Lent, Owner::Object];

fn every_prot() -> impl Iterator<Item = Prot> + Clone {
    (0..8).map(|bits| {
        let set = RIGHTS.into_iter().enumerate();
        let set = set.filter(move |(i, _)| bits >> i & 1 == 1);
        set.fold(Prot::empty(), |all, (_, bit)| all | bit)
    })
}

fn every_area() -> Vec<AreaFacts> {
    let mut kinds = vec![AreaKind::Anon, AreaKind::Device];
    kinds.extend(CONTENTS.map(AreaKind::Private));
    kinds.extend(CONTENTS.map(AreaKind::Shared));
    let mut areas = Vec::new();
    for prot in every_prot() {
        for &kind in &kinds {
            // Registers are never watched.
            let modes = if kind == AreaKind::Device { 1 } else { 8 };
            areas.extend((0..modes).map(|modes| AreaFacts {
                prot,
                kind,
                uffd: UffdFacts {
                    missing: modes & 1 != 0,
                    wp: modes & 2 != 0,
                    minor: modes & 4 != 0,
                },
            }));
        }
    }
    areas
}

fn every_entry() -> Vec<EntryFacts> {
    let mut entries = vec![
        EntryFacts::None,
        EntryFacts::Marker { wp: true },
        EntryFacts::Marker { wp: false },
        EntryFacts::ProtNone,
        EntryFacts::NoTags,
        EntryFacts::Foreign,
    ];
    for prot in every_prot() {
        for flags in 0..8 {
            let wp = flags & 4 != 0;
            // Law 10: an entry that is marked is not writable.
            if wp && prot.contains(Prot::WRITE) {
                continue;
            }
            entries.extend(OWNERS.map(|owner| EntryFacts::Page {
                prot: prot | Prot::USER,
                young: flags & 1 != 0,
                dirty: flags & 2 != 0,
                wp,
                owner,
            }));
        }
    }
    entries
}

fn every_fact() -> impl Iterator<Item = FaultFacts> {
    let mut all = Vec::new();
    let entries = every_entry();
    for area in every_area() {
        for &entry in &entries {
            for access in [Access::Read, Access::Write, Access::Exec] {
                for (i, size) in SIZES.into_iter().enumerate() {
                    all.push(FaultFacts {
                        area,
                        entry,
                        access,
                        size,
                        around: i & 1 == 0,
                        kernel: i & 2 == 0,
                    });
                }
            }
        }
    }
    // A sample is enough for an interpreter.
    all.into_iter().step_by(if cfg!(miri) { 997 } else { 1 })
}

/// What the entry looks like after the plan was carried out.
fn carry_out(facts: &FaultFacts, plan: Plan) -> EntryFacts {
    let area = facts.area.prot;
    let write = facts.access == Access::Write;
    let made = |prot: Prot, wp, owner| EntryFacts::Page {
        prot: prot | Prot::USER,
        young: true,
        dirty: write,
        wp,
        owner,
    };
    let readable = area.difference(Prot::WRITE);
    match (plan, facts.entry) {
        (Plan::Fill(_) | Plan::Copy | Plan::CopyObject { .. }, _) => made(area, false, Owner::Own),
        (Plan::Device, _) => EntryFacts::Page {
            prot: area | Prot::USER,
            young: true,
            dirty: true,
            wp: false,
            owner: Owner::Zero,
        },
        (Plan::Zero { mark }, _) => made(readable, mark, Owner::Zero),
        (Plan::Map { private, mark, .. }, _) => {
            let prot = if private || mark { readable } else { area };
            made(prot, mark, Owner::Object)
        }
        (
            Plan::SetAccess { dirty: set },
            EntryFacts::Page {
                prot,
                dirty,
                wp,
                owner,
                ..
            },
        ) => EntryFacts::Page {
            prot,
            young: true,
            dirty: dirty || set,
            wp,
            owner,
        },
        (
            Plan::Reprotect | Plan::Reuse,
            EntryFacts::Page {
                young,
                dirty,
                owner,
                wp,
                ..
            },
        ) => {
            let watched = facts.area.uffd.wp;
            let wp = wp && watched;
            let shared = matches!(facts.area.kind, AreaKind::Shared(_));
            let own = owner == Owner::Own
                || owner == Owner::Object && shared
                || facts.area.kind == AreaKind::Device;
            EntryFacts::Page {
                prot: if own && !wp { area } else { readable } | Prot::USER,
                young,
                dirty,
                wp,
                owner,
            }
        }
        (Plan::Reprotect, _) => EntryFacts::Page {
            prot: readable | Prot::USER,
            young: false,
            dirty: false,
            wp: false,
            owner: Owner::Own,
        },
        // It may be anything then that is mapped with rights.
        (Plan::Tag, _) => EntryFacts::Page {
            prot: readable | Prot::USER,
            young: false,
            dirty: false,
            wp: false,
            owner: Owner::Lent,
        },
        (_, entry) => entry,
    }
}

#[test]
fn the_whole_decision_table_refuses_exactly_what_the_area_forbids() {
    for facts in every_fact() {
        let allowed = facts.area.prot.contains(facts.access.right());
        let refused = plan(&facts) == Plan::Refuse(Refusal::NoRight);
        assert_eq!(refused, !allowed, "{facts:?}");
    }
}

#[test]
fn carrying_the_plan_out_makes_the_access_possible_within_four_faults() {
    for mut facts in every_fact() {
        let start = facts;
        for _ in 0..4 {
            facts.entry = carry_out(&facts, plan(&facts));
        }
        let end = plan(&facts);
        assert!(
            matches!(end, Plan::Spurious | Plan::Refuse(_) | Plan::Ask(_)),
            "{start:?} ended in {end:?}"
        );
    }
}

#[test]
fn no_plan_maps_a_page_that_gives_more_than_the_area() {
    for facts in every_fact() {
        let (before, chosen) = (facts.entry, plan(&facts));
        let after = carry_out(&facts, chosen);
        if let EntryFacts::Page { prot, .. } = after
            && after != before
            && !matches!(chosen, Plan::SetAccess { .. })
        {
            assert!((facts.area.prot | Prot::USER).contains(prot), "{facts:?}");
        }
    }
}

/// TAG-05: an entry that lacks nothing but tags gets them whoever wants what; one that nobody may access
/// is another matter, and so is an access that the area forbids.
#[test]
fn only_what_lacks_tags_is_tagged() {
    for facts in every_fact() {
        let allowed = facts.area.prot.contains(facts.access.right());
        let registers = facts.area.kind == AreaKind::Device && facts.kernel;
        let lacks = facts.entry == EntryFacts::NoTags;
        let expected = lacks && allowed && !registers;
        assert_eq!(plan(&facts) == Plan::Tag, expected, "{facts:?}");
    }
}

/// Law 10.
#[test]
fn no_plan_makes_a_page_writable_that_is_marked_and_watched() {
    for facts in every_fact() {
        let uffd = facts.area.uffd;
        let marked = matches!(
            facts.entry,
            EntryFacts::Marker { wp: true } | EntryFacts::Page { wp: true, .. }
        );
        if !(marked && uffd.wp) {
            continue;
        }
        let chosen = plan(&facts);
        if let EntryFacts::Page { prot, wp, .. } = carry_out(&facts, chosen) {
            assert!(!prot.contains(Prot::WRITE) && wp, "{facts:?}: {chosen:?}");
        }
        let keeps = match chosen {
            Plan::Zero { mark } | Plan::Map { mark, .. } => mark,
            Plan::Fill(_) | Plan::Copy | Plan::CopyObject { .. } | Plan::Reuse => false,
            _ => true,
        };
        assert!(keeps, "{facts:?}: {chosen:?}");
    }
}

/// UF-19: what is missing is asked about before it is filled, marked or not.
#[test]
fn a_watched_page_is_asked_about_in_all_eight_combinations() {
    for facts in every_fact() {
        let AreaFacts { uffd, kind, prot } = facts.area;
        let empty = matches!(
            facts.entry,
            EntryFacts::None | EntryFacts::Marker { wp: true }
        );
        if !empty || !prot.contains(facts.access.right()) {
            continue;
        }
        let marked = facts.entry == (EntryFacts::Marker { wp: true }) && uffd.wp;
        let write = facts.access == Access::Write;
        let expected = match kind {
            AreaKind::Private(Content::BeyondEnd) | AreaKind::Shared(Content::BeyondEnd) => {
                continue;
            }
            AreaKind::Anon
            | AreaKind::Private(Content::Absent | Content::Paged | Content::Refused)
            | AreaKind::Shared(Content::Absent | Content::Paged | Content::Refused)
                if uffd.missing =>
            {
                Some(Question::Missing)
            }
            AreaKind::Private(Content::Resident) | AreaKind::Shared(Content::Resident)
                if uffd.minor =>
            {
                Some(Question::Minor)
            }
            _ if marked && write => Some(Question::WriteProtected),
            AreaKind::Private(Content::Paged) | AreaKind::Shared(Content::Paged) => {
                Some(Question::Page)
            }
            _ => None,
        };
        let asked = match plan(&facts) {
            Plan::Ask(question) => Some(question),
            _ => None,
        };
        assert_eq!(asked, expected, "{facts:?}");
    }
}

/// No plan makes a page that only a pager can give; one that it refuses is a bus error, unless a
/// userfaultfd has the word first.
#[test]
fn what_only_a_pager_has_is_asked_for_or_refused() {
    for facts in every_fact() {
        let content = match facts.area.kind {
            AreaKind::Private(content) | AreaKind::Shared(content) => content,
            AreaKind::Anon | AreaKind::Device => continue,
        };
        let empty = matches!(
            facts.entry,
            EntryFacts::None | EntryFacts::Marker { wp: true }
        );
        let chosen = plan(&facts);
        if !empty || !matches!(content, Content::Paged | Content::Refused) {
            let pagers = [
                Plan::Ask(Question::Page),
                Plan::Refuse(Refusal::NotSupplied),
            ];
            assert!(!pagers.contains(&chosen), "{facts:?}");
            continue;
        }
        let expected = match (chosen, content) {
            (Plan::Refuse(Refusal::NoRight), _) => true,
            (Plan::Ask(Question::Missing), _) => facts.area.uffd.missing,
            (Plan::Ask(Question::WriteProtected), _) => facts.area.uffd.wp,
            (Plan::Ask(Question::Page), Content::Paged) => true,
            (Plan::Refuse(Refusal::NotSupplied), Content::Refused) => true,
            _ => false,
        };
        assert!(expected, "{facts:?}: {chosen:?}");
    }
}

#[test]
fn a_folio_is_planned_where_memory_is_made_and_nowhere_else() {
    for facts in every_fact() {
        match plan(&facts) {
            Plan::Fill(size) => assert_eq!(size, facts.size),
            Plan::Map { supply, .. } => {
                let absent = matches!(
                    facts.area.kind,
                    AreaKind::Private(Content::Absent) | AreaKind::Shared(Content::Absent)
                );
                assert_eq!(supply, absent.then_some(facts.size), "{facts:?}");
            }
            _ => {}
        }
    }
}

#[test]
fn neighbours_are_mapped_for_reads_of_objects_where_that_is_allowed() {
    for facts in every_fact() {
        if let Plan::Map { around, .. } = plan(&facts) {
            let read = facts.access != Access::Write;
            assert_eq!(around, facts.around && read, "{facts:?}");
        }
    }
}

#[test]
fn a_page_that_somebody_else_has_is_never_written_in_place() {
    for facts in every_fact() {
        let EntryFacts::Page { owner, .. } = facts.entry else {
            continue;
        };
        let lent = match facts.area.kind {
            AreaKind::Shared(_) => matches!(owner, Owner::Zero | Owner::Lent),
            _ => owner != Owner::Own,
        };
        if lent {
            assert_ne!(plan(&facts), Plan::Reuse, "{facts:?}");
        }
    }
}

#[test]
fn the_kernel_gets_the_same_answer_as_the_program() {
    let facts = every_fact().filter(|facts| facts.area.kind != AreaKind::Device);
    for facts in facts {
        let other = FaultFacts {
            kernel: !facts.kernel,
            ..facts
        };
        assert_eq!(plan(&facts), plan(&other));
    }
}

/// D4: no access of the kernel's, and no page ahead of its use.
#[test]
fn the_kernel_touches_no_registers() {
    for facts in every_fact().filter(|facts| facts.area.kind == AreaKind::Device) {
        let chosen = plan(&facts);
        let refused = matches!(chosen, Plan::Refuse(Refusal::Registers | Refusal::NoRight));
        assert!(refused || !facts.kernel, "{facts:?}: {chosen:?}");
        let copies = matches!(chosen, Plan::Copy | Plan::Reuse | Plan::Zero { .. });
        assert!(!copies, "{facts:?}: {chosen:?}");
    }
}
