//! Objects whose pages come from a pager: a program that is asked for those that are not there.
//!
//! This crate says what is to be asked ([`Ask`]); who is asked, and how, is the kernel's.

use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::Ordering;

use arm64::addr::PAGE_SIZE;
use frame::UserFrame;
use frame::slab::Ref;
use pgtable::Machine;
use sync::atomic::AtomicU64;

use super::mem::MemObject;
use super::tree::LEAF_PAGES;
use crate::asks::Ask;
use crate::context::MmContext;
use crate::fault::facts::Access;
use crate::uaccess::CopyStop;

/// What the kernel keeps with an object of a pager, for as long as the object is there.
pub type PagerLink = Arc<dyn Any + Send + Sync>;

/// Who gives the pages of an object.
#[derive(Debug)]
pub(super) struct Pager {
    key: u64,
    link: Option<PagerLink>,
    /// Where the next reclaim goes on: a hint.
    hand: AtomicU64,
    /// Pages that it is asked for at once: a power of two, at most those of a leaf.
    window: u64,
}

impl Pager {
    pub(super) fn new(key: u64, window: u32) -> Self {
        let window = u64::from(window).clamp(1, LEAF_PAGES);
        Self {
            key,
            link: None,
            hand: AtomicU64::new(0),
            window: 1 << window.ilog2(),
        }
    }

    pub(super) fn with_link(self, link: PagerLink) -> Self {
        Self {
            link: Some(link),
            ..self
        }
    }

    pub(super) fn hand(&self) -> u64 {
        self.hand.load(Ordering::Relaxed)
    }

    pub(super) fn set_hand(&self, index: u64) {
        self.hand.store(index, Ordering::Relaxed);
    }
}

impl MemObject {
    /// Whether pages that are not there come from a pager.
    #[inline(always)]
    pub fn is_paged(&self) -> bool {
        self.pager().is_some()
    }

    /// What the kernel knows the pager by.
    pub fn pager_key(&self) -> Option<u64> {
        self.pager().map(|pager| pager.key)
    }

    /// What the kernel keeps with it.
    pub fn pager_link(&self) -> Option<&PagerLink> {
        self.pager()?.link.as_ref()
    }

    /// The question for page `index`, with the absent pages around it that lie in the pager's window.
    pub fn ask(this: &Ref<Self>, index: u64, access: Access, va: u64) -> Ask {
        let window = this.pager().map_or(1, |pager| pager.window);
        let low = index & !(window - 1);
        let high = (low + window).min(this.pages()).max(index + 1);
        let (first, end) = this.tree().absent_around(index, low, high);
        Ask {
            object: this.clone(),
            index,
            first,
            pages: (end - first) as u32,
            access,
            va,
        }
    }

    /// Whether a write of `len` bytes to page `index`, which is not there, needs the rest of it from the
    /// pager. What is behind the end is not the pager's to give.
    #[inline]
    pub(super) fn waits_for_pager(&self, index: u64, len: usize) -> bool {
        self.is_paged() && len < PAGE_SIZE as usize && index < self.pages()
    }

    /// Remembers a write that no entry tells of, if anybody is going to ask.
    #[inline]
    pub(super) fn note_written(&self, page: &UserFrame) {
        if self.is_paged() {
            page.set_written();
        }
    }
}

impl<M: Machine> MmContext<M> {
    /// Page `index` of an object, for an access by the object and not by an address. None: it is not
    /// there and reads as zeros.
    ///
    /// # Errors
    /// [`CopyStop::Busy`]: the pager is to be asked, and the question is left in [`Self::asks`].
    /// [`CopyStop::Fault`]: it has refused.
    pub fn object_page(
        &self,
        object: &Ref<MemObject>,
        index: u64,
        access: Access,
    ) -> Result<Option<UserFrame>, CopyStop> {
        match object.resident(index) {
            None if object.is_paged() && index < object.pages() => {
                Err(self.ask_for_page(object, index, access))
            }
            page => Ok(page),
        }
    }

    /// Leaves the question for page `index` of an object to its pager.
    pub fn ask_for_page(&self, object: &Ref<MemObject>, index: u64, access: Access) -> CopyStop {
        if self.asks().is_refused(object.number(), index) {
            return CopyStop::Fault;
        }
        self.asks().put(MemObject::ask(object, index, access, 0));
        CopyStop::Busy
    }
}
