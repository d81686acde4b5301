//! What a thread remembers about the page of a pager that it waits for.

use abi::message::Reason;

/// Requests for one page in a row, each answered as if the page were there, before that counts as a
/// failure of the pager.
const TRIES: u32 = 16;

/// A page of a memory object: the object's number and the page's index.
pub type Page = (u32, u64);

/// The page that was asked for last, and what came of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Paging {
    asked: Option<Page>,
    tries: u32,
    refused: Option<Reason>,
}

impl Paging {
    /// `page` is to be asked for.
    ///
    /// # Errors
    /// Why there is no point in that.
    pub fn ask(&mut self, page: Page) -> Result<(), Reason> {
        if self.asked != Some(page) {
            *self = Self {
                asked: Some(page),
                ..Self::default()
            };
        }
        if let Some(reason) = self.refused {
            // Whoever tries once more later may ask once more.
            *self = Self::default();
            return Err(reason);
        }
        self.tries += 1;
        match self.tries > TRIES {
            true => {
                *self = Self::default();
                Err(Reason::Io)
            }
            false => Ok(()),
        }
    }

    /// `page` is not coming, though it may not have been asked for.
    pub fn refuse_again(&mut self, page: Page, reason: Reason) {
        *self = Self {
            asked: Some(page),
            tries: 0,
            refused: Some(reason),
        };
    }

    /// It is not coming.
    pub fn refuse(&mut self, reason: Reason) {
        self.refused = Some(reason);
    }

    /// The page that is not coming, which is forgotten: the operation that needs it fails.
    pub fn take_refused(&mut self) -> Option<Page> {
        self.refused?;
        core::mem::take(self).asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_for_one_page_and_one_access() {
        let mut paging = Paging::default();
        assert_eq!(paging.ask((1, 7)), Ok(()));
        assert_eq!(paging.take_refused(), None);
        paging.refuse(Reason::Gone);
        assert_eq!(paging.take_refused(), Some((1, 7)));
        assert_eq!(paging.take_refused(), None);
        assert_eq!(paging.ask((1, 7)), Ok(()));
        paging.refuse(Reason::Gone);
        assert_eq!(paging.ask((1, 7)), Err(Reason::Gone));
        assert_eq!(paging.ask((1, 7)), Ok(()), "asked once more");
        paging.refuse(Reason::Io);
        assert_eq!(paging.ask((1, 8)), Ok(()), "another page");
    }

    #[test]
    fn a_pager_that_only_says_so_is_not_asked_for_ever() {
        let mut paging = Paging::default();
        let asked = (0..100).take_while(|_| paging.ask((1, 1)).is_ok()).count();
        assert_eq!(asked, TRIES as usize);
    }
}
