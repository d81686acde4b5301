//! What happens to memory, as it happens, for whoever listens: each event is a few plain numbers.
//!
//! Events belong to categories, and only those of the chosen categories are made: where nobody
//! listens an event costs a load, a test and a branch that is not taken. What becomes of an event is
//! the listener's affair (the kernel keeps a ring for each CPU); it is called on the CPU where the
//! thing happened, perhaps under the lock of a table, and so may neither wait nor allocate.

use core::fmt;
use core::sync::atomic::Ordering;

use sync::atomic::{AtomicU32, AtomicU64};
use sync::{MAX_CPUS, cpu_index};

use pgtable::Machine;

use crate::fault::facts::Access;
use crate::fault::{FaultInput, Mode};
use crate::space::Space;

macro_rules! categories {
    ($($(#[$doc:meta])* $name:ident = $word:literal),+ $(,)?) => {
        /// A group of events that is listened to or not.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Category { $($(#[$doc])* $name),+ }

        impl Category {
            /// All of them, with the words that people choose them by.
            pub const ALL: &'static [(Self, &'static str)] = &[$((Self::$name, $word)),+];
        }
    };
}

categories! {
    /// Faults, by what became of them.
    Fault = "fault",
    /// Steps of the verbs that change a map.
    Map = "map",
    /// Ranges taken out of the tables.
    Zap = "zap",
    /// Contiguous blocks and blocks of 2 MiB made and taken apart.
    Fold = "fold",
    /// Neighbours that a read fault mapped.
    Around = "around",
    /// Pages copied on write, or used on by their last owner.
    Cow = "cow",
    /// Objects: pages that came and went.
    Object = "object",
    /// Invalidations of TLBs.
    Flush = "flush",
    /// Tables made and freed.
    Tables = "tables",
    /// Threads put on a CPU.
    Sched = "sched",
    /// System calls.
    Syscall = "syscall",
}

/// A set of categories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Categories(u32);

impl Categories {
    /// No category.
    pub const NONE: Self = Self(0);
    /// Every category.
    pub const ALL: Self = Self((1 << Category::ALL.len()) - 1);

    /// One category.
    pub const fn of(category: Category) -> Self {
        Self(1 << category as u32)
    }

    /// Those of both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the sets share a category.
    #[inline(always)]
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// As a word, one bit for each category.
    #[inline(always)]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether it has none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Reads words with commas between them; `all` is every category, nothing at all is none.
    ///
    /// # Errors
    /// The first word that names no category.
    pub fn parse(text: &str) -> Result<Self, &str> {
        let words = text.split(',').filter(|word| !word.is_empty());
        words
            .map(|word| Self::named(word).ok_or(word))
            .try_fold(Self::NONE, |all, next| Ok(all.and(next?)))
    }

    fn named(word: &str) -> Option<Self> {
        if word == "all" {
            return Some(Self::ALL);
        }
        let mut all = Category::ALL.iter();
        all.find(|(_, name)| *name == word)
            .map(|(category, _)| Self::of(*category))
    }
}

/// The words, with commas between them.
impl fmt::Display for Categories {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (category, word) in Category::ALL {
            if self.meets(Self::of(*category)) {
                write!(f, "{comma}{word}")?;
                comma = ",";
            }
        }
        Ok(())
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $word:literal in $($category:ident)|+),+ $(,)?) => {
        /// What happened. The list is closed: a listener knows them all.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Kind { $($(#[$doc])* $name),+ }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Its word. That of a fault is `fault_X` where the counter is `faults_X`.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => $word),+ }
            }

            /// The categories that it belongs to.
            pub const fn categories(self) -> Categories {
                match self {
                    $(Self::$name => Categories::NONE$(.and(Categories::of(Category::$category)))+),+
                }
            }
        }
    };
}

kinds! {
    /// A fault answered with zeroed memory of the program's own. `va` is the address of the access,
    /// `arg` the bytes that were mapped, `cost` that of the whole fault: so for all faults.
    FaultAnon = "fault_anon" in Fault,
    /// A fault answered with the page of zeros that all share.
    FaultZero = "fault_zero" in Fault,
    /// A fault answered with a page of a program image.
    FaultImage = "fault_image" in Fault,
    /// A fault answered with a page of shared memory, mapped shared.
    FaultShared = "fault_shared" in Fault,
    /// A write fault that copied.
    FaultCow = "fault_cow" in Fault | Cow,
    /// A write fault that found nobody else using the page.
    FaultReuse = "fault_reuse" in Fault | Cow,
    /// A fault that set the access flag or the dirty state.
    FaultAccess = "fault_access" in Fault,
    /// A fault that gave an entry the rights of its area.
    FaultReprotect = "fault_reprotect" in Fault,
    /// A fault that gave a mapped page its tags.
    FaultTag = "fault_tag" in Fault,
    /// A fault that found nothing to do.
    FaultSpurious = "fault_spurious" in Fault,
    /// A fault refused: no area, or no right.
    FaultSegv = "fault_segv" in Fault,
    /// A fault refused: beyond the end of the object.
    FaultBus = "fault_bus" in Fault,
    /// A fault that a userfaultfd decides about.
    FaultAsked = "fault_asked" in Fault,
    /// A fault that needs a page which a pager is asked for.
    FaultPaged = "fault_paged" in Fault,
    /// A fault refused: no memory.
    FaultOom = "fault_oom" in Fault,
    /// A fault met while a change owned its part of the map.
    FaultParked = "fault_parked" in Fault,
    /// A read fault mapped resident neighbours: `arg` of them.
    Around = "around" in Around,
    /// A step of `mmap`: `va` and `arg` are the first two arguments, `cost` that of this step; so
    /// for all verbs.
    Mmap = "mmap" in Map,
    /// A step of `munmap`.
    Munmap = "munmap" in Map,
    /// A step of `mprotect`.
    Mprotect = "mprotect" in Map,
    /// A step of `mremap`.
    Mremap = "mremap" in Map,
    /// A step of `brk`.
    Brk = "brk" in Map,
    /// A step of `madvise`.
    Madvise = "madvise" in Map,
    /// A step of another memory call.
    OtherVerb = "verb" in Map,
    /// A range from `va` on was taken out of the tables: `arg` pages were mapped in it.
    Zap = "zap" in Zap,
    /// A contiguous block was made at `va`, of `arg` bytes.
    Fold = "fold" in Fold,
    /// A contiguous block was taken apart.
    Unfold = "unfold" in Fold,
    /// A table was replaced by a block.
    Collapse = "collapse" in Fold,
    /// A block was replaced by a table.
    Split = "split" in Fold,
    /// A fault gave an object memory: `va` is the offset of the page touched, `arg` the bytes given.
    ObjectFill = "object_fill" in Object,
    /// A step of `fallocate` that gives memory: `va` is the offset, `arg` the bytes.
    ObjectAllocate = "object_allocate" in Object,
    /// A step of `fallocate` that makes a hole.
    ObjectPunch = "object_punch" in Object,
    /// A step of `ftruncate`: `arg` is the size wanted.
    ObjectResize = "object_resize" in Object,
    /// Translations of a range were invalidated: `arg` bytes from `va` on. An invalidation knows its
    /// space by the identifier, which is the detail.
    FlushRange = "flush_range" in Flush,
    /// All translations of a space were invalidated.
    FlushSpace = "flush_space" in Flush,
    /// A table of level `arg` was made; `va` is its physical address.
    TableMade = "table_made" in Tables,
    /// A table of level `arg` was freed.
    TableFreed = "table_freed" in Tables,
    /// Thread `arg` was put on the CPU.
    Switch = "switch" in Sched,
    /// System call `arg` was made, with first argument `va`.
    Call = "call" in Syscall,
}

/// One event. The listener adds when and on which CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: Kind,
    /// A detail: of a fault, [`fault_detail`]; of a step, 1 if more steps follow; of a flush, the
    /// identifier.
    pub detail: u16,
    /// The number of the space; 0 where none is concerned.
    pub space: u32,
    /// An address.
    pub va: u64,
    /// A number, as the kind says.
    pub arg: u64,
    /// Instructions (or ticks of the machine's clock) that it took; 0 where that is not measured.
    pub cost: u64,
}

impl Event {
    /// An event of a space, without detail and cost.
    pub const fn new(kind: Kind, space: u32, va: u64, arg: u64) -> Self {
        Self {
            kind,
            detail: 0,
            space,
            va,
            arg,
            cost: 0,
        }
    }
}

/// The detail of a fault: bits 0 and 1 are the access (0 read, 1 write, 2 instruction fetch), bit 2
/// says that the kernel wanted it on the program's behalf.
pub const fn fault_detail(access: Access, kernel: bool) -> u16 {
    let access = match access {
        Access::Read => 0,
        Access::Write => 1,
        Access::Exec => 2,
    };
    access | (kernel as u16) << 2
}

/// Who is told.
pub type Listener = fn(&Event);

/// Which events are told, and to whom.
pub struct Tracer {
    wanted: AtomicU32,
    listener: Listener,
    /// When each CPU began what it is at. Written by that CPU only.
    began: [AtomicU64; MAX_CPUS],
}

impl Tracer {
    /// Tells nothing until categories are chosen.
    pub fn new(listener: Listener) -> Self {
        Self {
            wanted: AtomicU32::new(0),
            listener,
            began: core::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// Chooses the categories from now on.
    pub fn choose(&self, categories: Categories) {
        let faults = match categories.meets(FAULTS) {
            true => FAULTS_BIT,
            false => 0,
        };
        self.wanted.store(categories.0 | faults, Ordering::Relaxed);
    }

    /// The categories chosen.
    #[inline(always)]
    pub fn chosen(&self) -> Categories {
        Categories(self.wanted.load(Ordering::Relaxed) & Categories::ALL.0)
    }

    /// Whether any fault is told.
    #[inline(always)]
    fn wants_faults(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) & FAULTS_BIT != 0
    }

    /// Whether events of this kind are told.
    #[inline(always)]
    pub fn wants(&self, kind: Kind) -> bool {
        self.wanted.load(Ordering::Relaxed) & kind.categories().0 != 0
    }

    /// Tells the event that `event` makes, if its kind is wanted. `kind` must be a constant where
    /// it matters what this costs when it is not.
    #[inline(always)]
    pub fn tell(&self, kind: Kind, event: impl FnOnce() -> Event) {
        if self.wants(kind) {
            self.pass_on(event);
        }
    }

    #[cold]
    #[inline(never)]
    fn pass_on(&self, event: impl FnOnce() -> Event) {
        (self.listener)(&event());
    }

    /// This CPU begins something that an event will tell the cost of.
    #[cold]
    pub fn begin(&self, now: Clock) {
        if let Some(place) = self.began.get(cpu_index()) {
            place.store(now(), Ordering::Relaxed);
        }
    }

    /// The cost since this CPU's last [`Self::begin`].
    pub fn since(&self, now: Clock) -> u64 {
        let began = self.began.get(cpu_index());
        began.map_or(0, |place| now().wrapping_sub(place.load(Ordering::Relaxed)))
    }
}

/// A clock: what costs are measured with.
pub type Clock = fn() -> u64;

impl<M: Machine> Space<M> {
    /// Tells of something that happened in this space.
    #[inline(always)]
    pub fn tell(&self, kind: Kind, va: u64, arg: u64) {
        let tracer = self.context().tracer();
        tracer.tell(kind, || Event::new(kind, self.id(), va, arg));
    }

    /// A fault begins: the cost that is told of it counts from here.
    #[inline(always)]
    pub fn begin_fault(&self) {
        let tracer = self.context().tracer();
        if tracer.wants_faults() {
            tracer.begin(self.context().clock());
        }
    }

    /// Tells how a fault ended, with the bytes that it mapped and what it cost since this CPU's
    /// last [`Self::begin_fault`]. The kind need not be a constant.
    #[inline(always)]
    pub fn tell_fault(&self, kind: Kind, input: FaultInput, bytes: u64) {
        if self.context().tracer().wants_faults() {
            self.tell_wanted_fault(kind, input, bytes);
        }
    }

    #[cold]
    #[inline(never)]
    fn tell_wanted_fault(&self, kind: Kind, input: FaultInput, bytes: u64) {
        let tracer = self.context().tracer();
        tracer.tell(kind, || Event {
            detail: fault_detail(input.access, input.mode != Mode::User),
            cost: tracer.since(self.context().clock()),
            ..Event::new(kind, self.id(), input.va, bytes)
        });
    }
}

/// Set beside the categories where any of [`FAULTS`] is: one bit is tested in one instruction.
const FAULTS_BIT: u32 = 1 << 31;

/// The categories that faults are in.
pub const FAULTS: Categories = Categories::of(Category::Fault).and(Categories::of(Category::Cow));

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tracer({})", self.chosen())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    std::thread_local! {
        static HEARD: RefCell<Vec<Event>> = const { RefCell::new(Vec::new()) };
    }

    fn tracer() -> Tracer {
        HEARD.with_borrow_mut(Vec::clear);
        Tracer::new(|event| HEARD.with_borrow_mut(|heard| heard.push(*event)))
    }

    fn heard() -> Vec<Event> {
        HEARD.with_borrow(Vec::clone)
    }

    #[test]
    fn words_are_read_and_written_back() {
        assert_eq!(Categories::parse(""), Ok(Categories::NONE));
        assert_eq!(Categories::parse("all"), Ok(Categories::ALL));
        let two = Categories::of(Category::Zap).and(Categories::of(Category::Fault));
        assert_eq!(Categories::parse("zap,fault,zap"), Ok(two));
        assert_eq!(two.to_string(), "fault,zap");
        assert_eq!(
            Categories::parse(&Categories::ALL.to_string()),
            Ok(Categories::ALL)
        );
    }

    #[test]
    fn a_word_that_names_nothing_is_given_back() {
        assert_eq!(Categories::parse("zap,zip,zop"), Err("zip"));
        assert_eq!(Categories::parse("Fault"), Err("Fault"));
        assert_eq!(Categories::parse("fault "), Err("fault "));
    }

    #[test]
    fn every_kind_has_a_word_of_its_own_and_a_category() {
        for (index, kind) in Kind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, index);
            assert!(!kind.categories().is_empty(), "{kind:?}");
            let same = |other: &&Kind| other.word() == kind.word();
            assert_eq!(Kind::ALL.iter().filter(same).count(), 1, "{kind:?}");
        }
        for (category, word) in Category::ALL {
            let of = Categories::of(*category);
            assert!(
                Kind::ALL.iter().any(|kind| kind.categories().meets(of)),
                "{word}"
            );
        }
    }

    /// So that what a trace says can be compared with what was counted.
    #[test]
    fn every_kind_of_fault_has_its_counter() {
        let mut counters = Vec::new();
        crate::Counters::default().each(|name, _| counters.push(name));
        for kind in Kind::ALL {
            if let Some(rest) = kind.word().strip_prefix("fault_") {
                assert!(
                    counters.contains(&format!("faults_{rest}").as_str()),
                    "{kind:?}"
                );
            }
        }
    }

    #[test]
    fn only_what_was_chosen_is_told() {
        let tracer = tracer();
        let tell = |kind| tracer.tell(kind, || Event::new(kind, 17, 0x1000, 3));
        tell(Kind::Zap);
        assert_eq!(heard(), []);
        tracer.choose(Categories::of(Category::Cow).and(Categories::of(Category::Zap)));
        let kinds = [Kind::Zap, Kind::Fold, Kind::FaultCow, Kind::FaultAnon];
        kinds.into_iter().for_each(tell);
        let kinds: Vec<_> = heard().iter().map(|event| event.kind).collect();
        assert_eq!(kinds, [Kind::Zap, Kind::FaultCow]);
        tracer.choose(Categories::NONE);
        tell(Kind::Zap);
        assert_eq!(heard().len(), 2);
    }

    #[test]
    fn an_event_that_nobody_wants_is_not_even_made() {
        tracer().tell(Kind::Zap, || panic!("made"));
    }

    #[test]
    fn every_kind_of_fault_is_in_a_category_of_faults() {
        let all = Kind::ALL
            .iter()
            .filter(|kind| kind.word().starts_with("fault_"));
        assert!(all.clone().all(|kind| kind.categories().meets(FAULTS)));
        assert_eq!(all.count(), 16);
    }
}
