//! Counters of one address space. Relaxed: exact when the space is at rest.

use core::sync::atomic::Ordering;
use sync::atomic::AtomicU64;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// What happened in a space since it was made.
        #[derive(Debug, Default)]
        pub struct Counters { $($(#[$doc])* pub $name: Counter,)+ }

        impl Counters {
            /// Calls `see` with the name and value of each counter.
            pub fn each(&self, mut see: impl FnMut(&'static str, u64)) {
                $(see(stringify!($name), self.$name.get());)+
            }

            /// Adds what `other` has counted.
            pub fn absorb(&self, other: &Self) {
                $(self.$name.add(other.$name.get());)+
            }
        }
    };
}

/// One event counter.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    #[inline]
    pub fn bump(&self) {
        self.add(1);
    }

    /// `n` more.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

counters! {
    /// Faults answered with zeroed memory of the program's own.
    faults_anon,
    /// Faults answered with the page of zeros that all share.
    faults_zero,
    /// Faults answered with a page of a program image.
    faults_image,
    /// Faults answered with a page of shared memory, mapped shared.
    faults_shared,
    /// Write faults that copied.
    faults_cow,
    /// Write faults that found nobody else using the page.
    faults_reuse,
    /// Faults that set the access flag or the dirty state.
    faults_access,
    /// Faults that gave an entry the rights of its area.
    faults_reprotect,
    /// Faults that gave a mapped page its tags.
    faults_tag,
    /// Faults that found nothing to do.
    faults_spurious,
    /// Faults refused: no area, or no right.
    faults_segv,
    /// Faults refused: beyond the end of the object.
    faults_bus,
    /// Faults that a userfaultfd decides about.
    faults_asked,
    /// Faults that need a page which a pager is asked for.
    faults_paged,
    /// Faults refused: no memory.
    faults_oom,
    /// Faults met while another change owned their part of the map.
    faults_parked,
    /// Of all faults, those taken by the kernel on a program's behalf.
    faults_kernel,
    /// Of all faults, those that mapped 64 KiB at once.
    faults_64k,
    /// Of all faults, those that mapped 2 MiB at once.
    faults_2m,
    /// Of all faults, those that also mapped neighbours of the page.
    faults_around,
    /// Neighbours that faults mapped.
    pages_around,
    /// Pages that got tags after they were mapped, or were an object's.
    pages_tagged,
    /// Of all pages that got access with their tags, those that a fault on a neighbour gave it.
    pages_tagged_around,
    /// Growths of a stack area.
    stack_growths,
    /// Pages unmapped.
    pages_unmapped,
    /// Pages moved by a remap.
    pages_moved,
    /// Pages moved into objects by a pager, without a copy.
    pages_supplied_moved,
    /// Pages copied into objects by a pager.
    pages_supplied_copied,
    /// Pages put together into blocks of 2 MiB.
    pages_collapsed,
    /// Of the faults answered with zeros, those that mapped a folio of sixteen pages.
    faults_folio,
    /// Folios wished for and not to be had: single pages were mapped.
    folios_missed,
    /// Folios that took the places of single pages which had been mapped for want of one.
    folios_reformed,
    /// Invalidations because a CPU may hold fewer rights than the entry gives by now.
    flushes_stale,
    /// Changes of the map.
    map_changes,
    /// Times a CPU found that it had loaded the space with fewer levels.
    root_reloads,
    /// Pages pinned without a lock.
    gup_fast,
    /// Pages for which a pin took the fault path.
    gup_slow,
    /// Pins without a lock that stopped where nothing is mapped.
    gup_declined_not_present,
    /// The same at a page that nobody may access.
    gup_declined_no_access,
    /// The same at an entry without the right.
    gup_declined_no_right,
    /// The same at an entry that was not accessed yet.
    gup_declined_not_young,
    /// The same at a page to be written that was not written yet.
    gup_declined_not_dirty,
    /// The same at a page that is not counted, or a mark.
    gup_declined_special,
    /// The same at an entry that changed meanwhile.
    gup_declined_raced_leaf,
    /// The same in a table that was unlinked meanwhile.
    gup_declined_raced_parent,
    /// The same at a page without references.
    gup_declined_reference_refused,
    /// The same beyond the space.
    gup_declined_beyond_range,
}

impl Counters {
    /// Faults that mapped a single page.
    pub fn faults_4k(&self) -> u64 {
        let mapping = [
            &self.faults_anon,
            &self.faults_zero,
            &self.faults_image,
            &self.faults_shared,
            &self.faults_cow,
        ];
        let larger = self.faults_64k.get() + self.faults_2m.get();
        let all: u64 = mapping.iter().map(|counter| counter.get()).sum();
        all.saturating_sub(larger)
    }

    /// All faults that were taken and resolved, `ru_minflt`.
    pub fn minor_faults(&self) -> u64 {
        [
            &self.faults_anon,
            &self.faults_zero,
            &self.faults_image,
            &self.faults_shared,
            &self.faults_cow,
            &self.faults_reuse,
            &self.faults_access,
            &self.faults_reprotect,
        ]
        .iter()
        .map(|counter| counter.get())
        .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn counters_are_added_up_field_by_field() {
        let (one, sum) = (Counters::default(), Counters::default());
        one.faults_cow.add(3);
        one.root_reloads.bump();
        sum.absorb(&one);
        sum.absorb(&one);
        let mut seen = Vec::new();
        sum.each(|name, value| seen.extend((value > 0).then_some((name, value))));
        assert_eq!(seen, [("faults_cow", 6), ("root_reloads", 2)]);
    }

    #[test]
    fn faults_that_map_are_of_one_size_each() {
        let counters = Counters::default();
        counters.faults_anon.add(10);
        counters.faults_image.add(4);
        counters.faults_access.add(100);
        counters.faults_64k.add(3);
        counters.faults_2m.add(1);
        assert_eq!(counters.faults_4k(), 10);
    }
}
