//! Address-space identifiers by generations: more spaces than identifiers, and no invalidation when
//! a space ends.
//!
//! A space does not own an identifier. Its [`AsidCell`] holds the one it was given last together
//! with the *generation* it was given in, and that holds for as long as the generation is the
//! current one. When none is left a new generation begins (a *rollover*): every identifier is free
//! again but those in use at that moment on some CPU, and every CPU drops its whole TLB before it
//! next changes to another space. So within a generation an identifier belongs to one space, and
//! whatever a TLB holds from the generation before is gone before the CPU uses a new owner.
//!
//! What a CPU runs is in its *active* word; a rollover takes it (exchange with zero) into the CPU's
//! *reserved* word. A CPU at EL0 notices nothing: it keeps its identifier, which stays allocated,
//! and its space finds it again by its reserved word, on every CPU the same.
//!
//! The active word may claim more than is true, never less. It stays as it is while the CPU has the
//! reserved root loaded (idle) or a private root under an identifier set aside (a window on
//! protected tables, D16): translations of the last space may still be in the TLB and are good
//! ones, so coming back to it must cost no lock, and its identifier must outlive a rollover
//! meanwhile. Zeroing it would say "this CPU has been rolled over", which is what sends the next
//! change into the slow path.
//!
//! # Against a concurrent invalidation
//!
//! An invalidation stores to the tables, waits for that (`Machine::before_invalidate`, DSB ISHST)
//! and only then reads the cell ([`AsidCell::current`]). A change to a space ends in a full barrier
//! after the cell was read or written. Either the invalidation reads the identifier that the CPU is
//! about to use, and drops what it names; or it read an older one, then the tables were complete
//! before the new one was published, and the CPU's walks, which come after the barrier, do not see
//! what was torn out (store buffering with a full barrier on both sides; `tests/loom_asid.rs`).

use sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};
use sync::planted::{self, Fault};
use sync::rank;
use sync::{CachePadded, MAX_CPUS, SpinLock};

/// Bits below the generation in a word: as many as an identifier can have.
const ASID_BITS: u32 = 16;
const ASID_MASK: u64 = (1 << ASID_BITS) - 1;
/// What the generation grows by; the first one, so that no valid word is zero.
const GENERATION: u64 = 1 << ASID_BITS;
/// Most bits that there is room for: under loom, whose stacks are small, toy sizes only.
const MAX_BITS: u32 = if cfg!(loom) { 6 } else { ASID_BITS };
const WORDS: usize = 1 << (MAX_BITS - 6);

/// Fewest bits that a machine is asked to get by with (`tessera.asid_bits`).
pub const MIN_BITS: u8 = 4;
/// Identifiers that the kernel sets aside: 0 for the reserved root, 1 for roots of its own.
pub const SET_ASIDE: u16 = 2;

/// What the CPUs' TLBs may know a space by: the identifier that it was given last, and when (zero
/// before its first change), and with how many levels each CPU had it last.
#[derive(Debug)]
pub struct AsidCell {
    word: AtomicU64,
    levels: [AtomicU8; MAX_CPUS],
}

impl AsidCell {
    /// Of a space that no CPU has had yet.
    pub fn new() -> Self {
        Self {
            word: AtomicU64::new(0),
            levels: core::array::from_fn(|_| AtomicU8::new(0)),
        }
    }

    /// The identifier that an invalidation of this space must name. Read after the barrier that
    /// completes the stores to the tables (see the module's notes). 0, an identifier of no user
    /// translation, as long as no CPU has had the space.
    ///
    /// It may be of an earlier generation. Then it is either still the one in use (reserved), or no
    /// CPU has changed to the space since, and what their TLBs hold of it is dropped before they
    /// do; invalidating for its new owner costs that one some misses.
    #[inline]
    pub fn current(&self) -> u16 {
        asid(self.word.load(Ordering::Acquire))
    }

    /// Gives the space an identifier of no generation: for machines that hand them out otherwise
    /// (tests). A change to the space by [`Asids::switch_to`] replaces it.
    pub fn set(&self, asid: u16) {
        self.word.store(asid.into(), Ordering::Release);
    }

    /// CPU `cpu`, the caller's, is about to load the space with that many levels: whether it had
    /// it with another number before, so that its TLB may hold translations of the identifier that
    /// were made under another T0SZ. Each CPU keeps its own, so growing has nobody to tell.
    #[inline]
    pub fn changes_levels(&self, cpu: usize, levels: u8) -> bool {
        let before = self.levels[cpu].load(Ordering::Relaxed);
        if before != levels {
            self.levels[cpu].store(levels, Ordering::Relaxed);
        }
        before != 0 && before != levels
    }
}

impl Default for AsidCell {
    fn default() -> Self {
        Self::new()
    }
}

#[inline(always)]
const fn asid(word: u64) -> u16 {
    (word & ASID_MASK) as u16
}

/// What a CPU has to load for a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Switched {
    /// The identifier.
    pub asid: u16,
    /// This call gave it to the space: the store to the cell must be complete before a table is
    /// walked under it (DSB ISH).
    pub assigned: bool,
    /// The first change of this CPU in a generation: it must drop all translations it has before it
    /// loads the space's root.
    pub flush_local: bool,
}

/// Why there cannot be identifiers of that many bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsidError {
    /// More bits than the architecture has.
    TooManyBits,
    /// After a rollover every CPU may keep one: there must be one more than that beside those set
    /// aside.
    TooFew,
}

/// The bits to construct with: those asked for, within what the hardware has, and at least as many
/// as `cpus` CPUs and the identifiers set aside need.
pub fn usable_bits(hardware: u8, wanted: Option<u8>, cpus: usize) -> u8 {
    let mut bits = wanted.unwrap_or(hardware).clamp(MIN_BITS, hardware);
    while bits < hardware && check(bits, cpus, SET_ASIDE).is_err() {
        bits += 1;
    }
    bits
}

const fn check(bits: u8, cpus: usize, set_aside: u16) -> Result<(), AsidError> {
    if bits as u32 > MAX_BITS {
        return Err(AsidError::TooManyBits);
    }
    match 1usize << bits > set_aside as usize + cpus {
        true => Ok(()),
        false => Err(AsidError::TooFew),
    }
}

/// The identifiers of a machine with at most `CPUS` CPUs.
pub struct Asids<const CPUS: usize> {
    limit: usize,
    set_aside: u16,
    /// The current generation, a multiple of [`GENERATION`]. Changed under the lock.
    generation: AtomicU64,
    /// What each CPU runs; zero from a rollover to the CPU's next change. A word that is not zero
    /// is stored by its CPU only.
    active: [CachePadded<AtomicU64>; CPUS],
    state: SpinLock<State<CPUS>, rank::Leaf>,
    rollovers: AtomicU64,
    local_flushes: AtomicU64,
}

struct State<const CPUS: usize> {
    used: [u64; WORDS],
    /// Where the last search ended, so that identifiers are reused late.
    next: usize,
    /// What each CPU ran at the last rollover that found its active word set.
    reserved: [u64; CPUS],
    /// CPUs that have not dropped their translations since the last rollover, one bit each.
    flush_pending: u64,
}

impl<const CPUS: usize> Asids<CPUS> {
    /// Identifiers of `bits` bits for `cpus` CPUs, the lowest `set_aside` never handed out: 0
    /// belongs to the reserved root, so that is at least one.
    ///
    /// # Errors
    /// [`AsidError`].
    pub fn new(bits: u8, cpus: usize, set_aside: u16) -> Result<Self, AsidError> {
        debug_assert!(CPUS <= 64 && cpus <= CPUS && set_aside >= 1);
        check(bits, cpus, set_aside)?;
        let mut state = State {
            used: [0; WORDS],
            next: 0,
            reserved: [0; CPUS],
            flush_pending: 0,
        };
        state.free_all(1 << bits, set_aside);
        Ok(Self {
            limit: 1 << bits,
            set_aside,
            generation: AtomicU64::new(GENERATION),
            active: core::array::from_fn(|_| CachePadded::new(AtomicU64::new(0))),
            state: SpinLock::new(state),
            rollovers: AtomicU64::new(0),
            local_flushes: AtomicU64::new(0),
        })
    }

    /// CPU `cpu`, the caller's, changes to the space of `cell`: records that, and says under which
    /// identifier and what has to come before. Until the CPU's next change no other space gets
    /// that identifier.
    ///
    /// Called before the space's root is loaded, with the flush (if one is asked for) and the load
    /// following before anything else on this CPU. The root that is still loaded meanwhile keeps
    /// its identifier to the end of the generation, since it was active at its beginning or was
    /// given it since; and a rollover meanwhile leaves another flush pending.
    #[inline]
    pub fn switch_to(&self, cell: &AsidCell, cpu: usize) -> Switched {
        let switched = match self.fast(cell, cpu) {
            Some(asid) => Switched {
                asid,
                assigned: false,
                flush_local: false,
            },
            None => self.slow(cell, cpu),
        };
        // The full barrier of the module's notes: what was read of or written to the cell comes
        // before the walks of this CPU under that identifier.
        fence(Ordering::SeqCst);
        switched
    }

    /// Without the lock: the generation is the cell's, and no rollover has begun to take this CPU's
    /// active word. A rollover that comes to it later finds the new word: exchanges of one word are
    /// ordered, and only this CPU makes it anything but zero. One that came before left zero, so
    /// that the exchange here fails; the lock then waits for it, and what it did is seen.
    #[inline]
    fn fast(&self, cell: &AsidCell, cpu: usize) -> Option<u16> {
        let word = cell.word.load(Ordering::Acquire);
        let active = &self.active[cpu];
        let before = active.load(Ordering::Relaxed);
        if before == 0 || word & !ASID_MASK != self.generation.load(Ordering::Relaxed) {
            return None;
        }
        active
            .compare_exchange(before, word, Ordering::Relaxed, Ordering::Relaxed)
            .ok()
            .map(|_| asid(word))
    }

    #[cold]
    fn slow(&self, cell: &AsidCell, cpu: usize) -> Switched {
        let mut state = self.state.lock();
        // Relaxed: both change under the lock only.
        let old = cell.word.load(Ordering::Relaxed);
        let assigned = old & !ASID_MASK != self.generation.load(Ordering::Relaxed);
        let word = match assigned {
            true => self.assign(&mut state, old),
            false => old,
        };
        if assigned {
            // Release: a CPU that takes the fast path with this word has seen what this one has.
            cell.word.store(word, Ordering::Release);
        }
        let flush_local = state.flush_pending & 1 << cpu != 0;
        state.flush_pending &= !(1 << cpu);
        // Under the lock, so that no rollover comes between the choice and this record of it.
        self.active[cpu].store(word, Ordering::Relaxed);
        drop(state);
        if flush_local {
            self.local_flushes.fetch_add(1, Ordering::Relaxed);
        }
        Switched {
            asid: asid(word),
            assigned,
            flush_local,
        }
    }

    /// A word of the current generation for the space whose last one is `old`: the same identifier
    /// if that is kept for it, or is free; else the next free one; else after a rollover.
    fn assign(&self, state: &mut State<CPUS>, old: u64) -> u64 {
        let generation = self.generation.load(Ordering::Relaxed);
        if old != 0 {
            let renewed = generation | old & ASID_MASK;
            // On every CPU that has it reserved: else two CPUs would run the space under
            // different identifiers after the next rollover. All of them flush before they change.
            if state.renew(old, renewed) || state.take(asid(old)) {
                return renewed;
            }
        }
        if let Some(asid) = state.take_next(self.limit) {
            return generation | asid;
        }
        let generation = self.roll_over(state);
        match state.take_next(self.limit) {
            Some(asid) => generation | asid,
            None => panic!("more CPUs keep an identifier than there were said to be"),
        }
    }

    /// Begins a generation and returns it.
    #[cold]
    fn roll_over(&self, state: &mut State<CPUS>) -> u64 {
        let generation = self.generation.load(Ordering::Relaxed) + GENERATION;
        // Relaxed: who misses it and takes the fast path is found in its active word below; the
        // lock orders the rest.
        self.generation.store(generation, Ordering::Relaxed);
        self.rollovers.fetch_add(1, Ordering::Relaxed);
        state.free_all(self.limit, self.set_aside);
        for (cpu, active) in self.active.iter().enumerate() {
            let word = active.swap(0, Ordering::Relaxed);
            if planted::is(Fault::ForgetReservedAsids) {
                continue;
            }
            // Zero: no change since the last rollover, so what it kept then is still in use.
            if word != 0 {
                state.reserved[cpu] = word;
            }
            let kept = state.reserved[cpu];
            if kept != 0 {
                state.use_up(asid(kept));
            }
        }
        if !planted::is(Fault::NoRolloverFlush) {
            state.flush_pending = u64::MAX;
        }
        generation
    }

    /// How many generations have been begun after the first.
    pub fn rollovers(&self) -> u64 {
        self.rollovers.load(Ordering::Relaxed)
    }

    /// How many times a CPU was told to drop its translations.
    pub fn local_flushes(&self) -> u64 {
        self.local_flushes.load(Ordering::Relaxed)
    }

    /// How many identifiers can be in use at once.
    pub fn capacity(&self) -> usize {
        self.limit - usize::from(self.set_aside)
    }
}

impl<const CPUS: usize> core::fmt::Debug for Asids<CPUS> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Asids")
            .field("capacity", &self.capacity())
            .field("rollovers", &self.rollovers())
            .finish_non_exhaustive()
    }
}

impl<const CPUS: usize> State<CPUS> {
    /// All free, but those set aside.
    fn free_all(&mut self, limit: usize, set_aside: u16) {
        self.used[..limit.div_ceil(64)].fill(0);
        (0..set_aside).for_each(|asid| self.use_up(asid));
        self.next = usize::from(set_aside);
    }

    fn use_up(&mut self, asid: u16) {
        self.used[usize::from(asid) / 64] |= 1 << (asid % 64);
    }

    /// Takes that one, if it is free.
    fn take(&mut self, asid: u16) -> bool {
        let free = self.used[usize::from(asid) / 64] & 1 << (asid % 64) == 0;
        self.use_up(asid);
        free
    }

    /// Takes the next free one in this generation.
    fn take_next(&mut self, limit: usize) -> Option<u64> {
        while self.next < limit {
            let (word, bit) = (self.next / 64, self.next % 64);
            let free = (!self.used[word] >> bit).trailing_zeros() as usize;
            // No higher bit of this word is free: on to the next word.
            self.next = if free < 64 {
                self.next + free
            } else {
                (word + 1) * 64
            };
            if free < 64 && self.next < limit {
                let asid = self.next;
                self.use_up(asid as u16);
                self.next += 1;
                return Some(asid as u64);
            }
        }
        None
    }

    /// Renews what CPUs keep of a space: whether any does.
    fn renew(&mut self, old: u64, renewed: u64) -> bool {
        let mut any = false;
        for kept in self.reserved.iter_mut().filter(|kept| **kept == old) {
            *kept = renewed;
            any = true;
        }
        any
    }
}
