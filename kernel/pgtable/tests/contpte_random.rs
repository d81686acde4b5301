//! Any sequence of changes to the pages of four contiguous blocks, against a model that knows
//! single pages only: what folds and unfolds underneath must not be seen (laws 5 to 7, XC-01, XC-02).

mod common;

use arm64::attrs::{Attrs, Prot};
use arm64::geometry::Level;
use arm64::pte::{Entry, Pte};
use common::{
    BLOCK, MIB2, PAGE, PLAIN, RW, Space, each_leaf, end, entry, folio, protect, raw, touch, user,
    zap,
};
use frame::UserFrame;
use model::HostMachine;
use pgtable::{Accessed, Graveyard, Machine, Marking, Walked};
use proptest::prelude::*;

/// Two of the blocks end a table, two begin the next one.
const AT: u64 = 0x12_3440_0000 + MIB2 - 2 * BLOCK;
const PAGES: usize = 64;
const IN_BLOCK: usize = 16;
const IN_TABLE: usize = PAGES / 2;

/// What the model knows of one page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Page {
    folio: usize,
    page: usize,
    prot: Prot,
    young: bool,
    dirty: bool,
    marked: bool,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Zap,
    Protect(Prot),
    WriteProtect,
    ClearYoung,
    Mark(bool),
}

#[derive(Clone, Copy, Debug)]
enum Op {
    /// Pages of a folio, in one batch or (`singly`) one after the other; slot `i` gets the page
    /// `i + shift` of it. In a batch, one page may be the only one that is born young.
    Install {
        part: (usize, usize),
        folio: usize,
        shift: usize,
        attrs: Attrs,
        singly: bool,
        touched: Option<usize>,
    },
    Change {
        part: (usize, usize),
        change: Change,
    },
    Record {
        slot: usize,
        write: bool,
    },
    Move {
        from: usize,
        to: usize,
    },
    Hardware {
        slot: usize,
        write: bool,
    },
}

/// Slots `.0` to `.1`: blocks, or whatever.
fn part() -> impl Strategy<Value = (usize, usize)> {
    prop_oneof![
        3 => (0..4usize, 1..4usize).prop_map(|(block, count)| {
            (block * IN_BLOCK, ((block + count) * IN_BLOCK).min(PAGES))
        }),
        2 => (0..PAGES, 1..24usize).prop_map(|(slot, count)| (slot, (slot + count).min(PAGES))),
        1 => (0..PAGES).prop_map(|slot| (slot, slot + 1)),
    ]
}

fn attrs() -> impl Strategy<Value = Attrs> {
    let prot = prop_oneof![4 => Just(RW), 1 => Just(Prot::READ)];
    (prot, any::<bool>(), any::<bool>())
        .prop_map(|(prot, young, dirty)| Attrs::user(prot).with_young(young).with_dirty(dirty))
}

fn change() -> impl Strategy<Value = Change> {
    let prot = prop_oneof![
        Just(RW),
        Just(Prot::READ),
        Just(Prot::RX),
        Just(Prot::empty())
    ];
    prop_oneof![
        2 => Just(Change::Zap),
        3 => prot.prop_map(Change::Protect),
        1 => Just(Change::WriteProtect),
        2 => Just(Change::ClearYoung),
        1 => any::<bool>().prop_map(Change::Mark),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let shift = prop_oneof![4 => Just(0usize), 1 => Just(IN_BLOCK), 1 => Just(1usize)];
    let touched = prop::option::weighted(0.2, 0..PAGES);
    let install = (part(), 0..2usize, shift, attrs(), any::<bool>(), touched).prop_map(
        |(part, folio, shift, attrs, singly, touched)| Op::Install {
            part,
            folio,
            shift,
            attrs,
            singly,
            touched,
        },
    );
    prop_oneof![
        4 => install,
        6 => (part(), change()).prop_map(|(part, change)| Op::Change { part, change }),
        2 => (0..PAGES, any::<bool>()).prop_map(|(slot, write)| Op::Record { slot, write }),
        1 => (0..PAGES, 0..PAGES).prop_map(|(from, to)| Op::Move { from, to }),
        3 => (0..PAGES, any::<bool>()).prop_map(|(slot, write)| Op::Hardware { slot, write }),
    ]
}

fn va(slot: usize) -> u64 {
    AT + slot as u64 * PAGE
}

/// The first slot of the block around `slot`.
fn block_of(slot: usize) -> usize {
    slot & !(IN_BLOCK - 1)
}

struct World {
    machine: &'static HostMachine,
    space: Space,
    graves: Graveyard,
    folios: Vec<UserFrame>,
    pages: [Option<Page>; PAGES],
}

impl World {
    fn new() -> Self {
        let machine = HostMachine::new(512, PLAIN, 1);
        Self {
            machine,
            space: user(machine),
            graves: Graveyard::new(),
            folios: (0..2).map(|_| folio(machine, 6)).collect(),
            pages: [None; PAGES],
        }
    }

    fn is_folded(&self, slot: usize) -> bool {
        raw(&self.space, va(slot)).is_contiguous()
    }

    fn pa(&self, page: &Page) -> u64 {
        (self.folios[page.folio].pfn().raw() + page.page as u64) * PAGE
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Install {
                part,
                folio,
                shift,
                attrs,
                singly: true,
                ..
            } => (part.0..part.1.min(PAGES - shift))
                .for_each(|slot| self.install((slot, slot + 1), (folio, shift), attrs, None)),
            Op::Install {
                part,
                folio,
                shift,
                attrs,
                touched,
                ..
            } => {
                // A batch stays within its table, and its folio.
                let table = (part.0 / IN_TABLE + 1) * IN_TABLE;
                let part = (part.0, part.1.min(table).min(PAGES - shift));
                if part.0 < part.1 {
                    let touched = touched.map(|nth| part.0 + nth % (part.1 - part.0));
                    self.install(part, (folio, shift), attrs, touched);
                }
            }
            Op::Change { part, change } => self.change(part, change),
            Op::Record { slot, write } => self.record(slot, write),
            Op::Move { from, to } => self.relocate(from, to),
            Op::Hardware { slot, write } => {
                let allowed = touch(&self.space, va(slot), write);
                assert_eq!(
                    allowed,
                    self.allows(slot, write),
                    "an access to page {slot}"
                );
                self.see_access(slot, write && allowed, allowed);
            }
        }
    }

    fn install(
        &mut self,
        (first, end): (usize, usize),
        (folio, shift): (usize, usize),
        attrs: Attrs,
        touched: Option<usize>,
    ) {
        let stay = ();
        let section = self.machine.read_side(&stay);
        let leaf = self.space.lock_leaf(va(first), &section, || true);
        let leaf = leaf.expect("a table");
        let frame = self.folios[folio].page((first + shift) as u64);
        let done = match (end - first, touched) {
            (1, None) => leaf.install(va(first), frame, attrs),
            (count, _) => leaf.install_folio(va(first), frame, count, attrs, touched.map(va)),
        };
        let empty = self.pages[first..end].iter().all(Option::is_none);
        assert_eq!(done.is_ok(), empty, "pages {first} to {end}");
        for slot in (first..end).filter(|_| empty) {
            let born = touched.is_none_or(|touched| touched == slot);
            self.pages[slot] = Some(Page {
                folio,
                page: slot + shift,
                prot: attrs.prot - Prot::USER,
                young: attrs.young && born,
                dirty: attrs.dirty && born,
                marked: false,
            });
        }
    }

    fn change(&mut self, (first, end): (usize, usize), change: Change) {
        let (space, graves, part) = (&self.space, &self.graves, (va(first), va(end)));
        let pages = first..end;
        match change {
            Change::Zap => {
                zap(space, graves, part.0, part.1);
                self.pages[pages].fill(None);
            }
            Change::Protect(prot) => {
                // Law 10 binds the caller: what is marked does not become writable.
                let marked = self.pages[pages.clone()]
                    .iter()
                    .flatten()
                    .any(|page| page.marked);
                let prot = if marked { prot - Prot::WRITE } else { prot };
                protect(space, graves, part, prot);
                self.each(pages, |page| page.prot = prot);
            }
            Change::WriteProtect => {
                each_leaf(space, graves, part, |leaf, gather| {
                    leaf.write_protect(gather)
                });
                self.each(pages, |page| page.prot -= Prot::WRITE);
            }
            Change::Mark(on) => {
                each_leaf(space, graves, part, |leaf, gather| {
                    leaf.mark_uffd_wp(if on { Marking::Present } else { Marking::Clear }, gather)
                });
                self.each(pages, |page| {
                    page.marked = on;
                    page.prot -= if on { Prot::WRITE } else { Prot::empty() };
                });
            }
            Change::ClearYoung => self.clear_young(first, end),
        }
    }

    /// A folded block becomes old as a whole; what the hardware cannot use does not become old.
    fn clear_young(&mut self, first: usize, end: usize) {
        let mut any = false;
        let folded: Vec<_> = (0..PAGES).map(|slot| self.is_folded(slot)).collect();
        each_leaf(
            &self.space,
            &self.graves,
            (va(first), va(end)),
            |leaf, gather| {
                any |= leaf.clear_young(gather);
            },
        );
        let meant = |slot: usize| {
            let block = block_of(slot);
            (first..end).contains(&slot) || folded[slot] && first < block + IN_BLOCK && block < end
        };
        let mut had = false;
        for slot in (0..PAGES).filter(|&slot| meant(slot)) {
            self.each(slot..slot + 1, |page| {
                if !page.prot.is_no_access() {
                    had |= page.young;
                    page.young = false;
                }
            });
        }
        assert_eq!(any, had, "what was young in pages {first} to {end}");
    }

    fn record(&mut self, slot: usize, write: bool) {
        let before = (0..PAGES).map(|slot| raw(&self.space, va(slot)));
        let before: Vec<Pte> = before.collect();
        let stay = ();
        let section = self.machine.read_side(&stay);
        let Some(leaf) = self.space.lock_existing(va(slot), &section) else {
            return;
        };
        let told = leaf.mark_accessed(va(slot), write);
        drop(leaf);
        let together = match before[slot].is_contiguous() {
            true => block_of(slot)..block_of(slot) + IN_BLOCK,
            false => slot..slot + 1,
        };
        let recorded = |pte: Pte| pte.young() && (pte.dirty() || !write);
        let expected = if !self.allows(slot, write) {
            Accessed::NotAllowed
        } else if before[together.clone()].iter().all(|&pte| recorded(pte)) {
            Accessed::Already
        } else {
            let (start, end) = (va(together.start), va(together.end));
            Accessed::Recorded { start, end }
        };
        assert_eq!(told, expected, "page {slot}");
        if expected != Accessed::NotAllowed {
            for slot in together {
                assert!(recorded(raw(&self.space, va(slot))), "law 7: page {slot}");
                self.see_access(slot, write, true);
            }
        }
    }

    fn relocate(&mut self, from: usize, to: usize) {
        let mut moved = None;
        let (space, part) = (&self.space, (va(from), va(from + 1)));
        each_leaf(space, &self.graves, part, |leaf, gather| {
            moved = leaf.take_moved(va(from), gather);
        });
        assert_eq!(moved.is_some(), self.pages[from].is_some(), "page {from}");
        let Some(moved) = moved else { return };
        let page = self.pages[from].take();
        let stay = ();
        let section = self.machine.read_side(&stay);
        let put = |slot, moved| {
            let leaf = space.lock_leaf(va(slot), &section, || true);
            leaf.expect("a table").put_moved(va(slot), moved)
        };
        match put(to, moved) {
            Ok(()) => {
                assert_eq!(self.pages[to], None);
                self.pages[to] = page;
            }
            Err(back) => {
                assert!(self.pages[to].is_some(), "an empty slot takes it");
                put(from, back).expect("it has just been emptied");
                self.pages[from] = page;
            }
        }
    }

    fn each(&mut self, slots: std::ops::Range<usize>, mut act: impl FnMut(&mut Page)) {
        self.pages[slots].iter_mut().flatten().for_each(&mut act);
    }

    fn allows(&self, slot: usize, write: bool) -> bool {
        let wanted = if write { Prot::WRITE } else { Prot::READ };
        self.pages[slot].is_some_and(|page| page.prot.contains(wanted))
    }

    fn see_access(&mut self, slot: usize, write: bool, read: bool) {
        self.each(slot..slot + 1, |page| {
            page.young |= read;
            page.dirty |= write;
        });
    }

    /// Compares every page with the model, by every way of looking at it.
    fn check(&mut self) {
        (0..PAGES)
            .step_by(IN_BLOCK)
            .for_each(|first| self.check_block(first));
        let stay = ();
        let section = self.machine.read_side(&stay);
        let mut seen = Vec::new();
        self.space
            .walk_range(AT, va(PAGES), &section, |va, walked| {
                seen.push((va, walked))
            });
        let mut next = seen.into_iter().peekable();
        for slot in 0..PAGES {
            let walked = self.space.walk(va(slot), &section);
            self.check_page(slot, walked);
            let locked = self.space.lock_existing(va(slot), &section);
            let got = locked.map(|leaf| leaf.get(va(slot)));
            let (Walked::Seen { value, level, .. } | Walked::Miss { value, level }) = walked;
            assert!(got.is_none_or(|got| got == value), "page {slot}: {got:?}");
            // Where a table is missing, a range walk says so once.
            if level == Level::L3 || next.peek().is_some_and(|(at, _)| *at == va(slot)) {
                assert_eq!(next.next(), Some((va(slot), walked)), "page {slot}");
            }
        }
        assert_eq!(next.next(), None);
        for (index, folio) in self.folios.iter().enumerate() {
            let mapped = self
                .pages
                .iter()
                .flatten()
                .filter(|page| page.folio == index);
            let meta = self.machine.frames().meta(folio.pfn()).expect("a frame");
            assert_eq!(
                meta.references() as usize,
                1 + mapped.count(),
                "folio {index}"
            );
        }
    }

    /// Law 6 in memory; what one page of a folded block recorded, the others have in the model then.
    fn check_block(&mut self, first: usize) {
        let slots = first..first + IN_BLOCK;
        let folded: Vec<_> = slots.clone().map(|slot| self.is_folded(slot)).collect();
        assert!(
            folded.iter().all(|&page| page == folded[0]),
            "block at {first}: {folded:?}"
        );
        if !folded[0] {
            return;
        }
        let start = self.pages[first].expect("a folded page is mapped");
        assert!(
            !start.prot.is_no_access(),
            "an invalid entry is in no block"
        );
        assert_eq!(
            self.pa(&start) % BLOCK,
            0,
            "the frame of a block is aligned"
        );
        let (mut young, mut dirty) = (false, false);
        for (i, slot) in slots.clone().enumerate() {
            let page = self.pages[slot].expect("a folded page is mapped");
            let alike = Page {
                page: start.page + i,
                young: page.young,
                dirty: page.dirty,
                ..start
            };
            assert_eq!(page, alike, "page {slot} does not belong into a block");
            young |= page.young;
            dirty |= page.dirty;
        }
        self.each(slots, |page| (page.young, page.dirty) = (young, dirty));
    }

    fn check_page(&self, slot: usize, walked: Walked) {
        let (Walked::Seen { value, level, .. } | Walked::Miss { value, level }) = walked;
        let Some(page) = self.pages[slot] else {
            assert!(value.is_none(), "page {slot}: {walked:?}");
            return;
        };
        assert_eq!(level, Level::L3);
        let attrs = Attrs::user(page.prot)
            .with_young(page.young)
            .with_dirty(page.dirty);
        let attrs = attrs.with_uffd_wp(page.marked);
        let (got_pa, got) = match value.decode(self.machine.format(), Level::L3) {
            Entry::Leaf { pa, attrs } if !page.prot.is_no_access() => (pa, attrs),
            Entry::PresentInvalid { pa, attrs, .. } if page.prot.is_no_access() => (pa, attrs),
            other => panic!("page {slot}: {other:?} instead of {page:?}"),
        };
        assert_eq!((got_pa.raw(), got), (self.pa(&page), attrs), "page {slot}");
        if let Walked::Seen { span, .. } = walked {
            let whole = if self.is_folded(slot) { BLOCK } else { PAGE };
            assert_eq!(span, whole, "page {slot}");
        }
        assert_eq!(entry(&self.space, va(slot)).0, Level::L3);
    }

    fn end(self) {
        drop(self.folios);
        end(self.space, &self.graves);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 64 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn pages_are_what_was_made_of_them_however_they_fold(
        ops in prop::collection::vec(op(), 1..if cfg!(miri) { 12 } else { 60 }),
    ) {
        let mut world = World::new();
        let (machine, folios) = (world.machine, 2 << 6);
        let root = world.space.stats().live();
        let free = machine.free_frames() + root + folios;
        for op in ops {
            world.apply(op);
            world.check();
        }
        world.end();
        prop_assert_eq!(machine.free_frames(), free);
    }
}
