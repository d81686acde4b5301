//! Endpoints as handles have them.

use abi::Rights;
use frame::slab::Ref;
use ipc::endpoint;
use sync::planted::{self, Fault};
use sync::{Link, SpinLock, rank};

use super::{ENDPOINTS, Endpoint};
use crate::errno::Errno;
use crate::handle::grant::Grant;
use crate::work;

/// Held while rights to receive are counted in grants: what a grant counts when it ends is all that
/// there are.
static RIGHTS: SpinLock<(), rank::Rights> = SpinLock::new(());

/// An endpoint with a badge, and with or without the right to receive. While there is one with it that
/// has not been revoked, senders wait.
#[derive(Debug)]
pub struct Port {
    endpoint: Ref<Endpoint>,
    badge: u64,
    receives: bool,
    /// By whose grace it receives, if that can end.
    grant: Option<Ref<Grant>>,
}

impl Port {
    /// A new endpoint, with the right to receive.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<Self, Errno> {
        let endpoint = Endpoint {
            meeting: endpoint::Endpoint::new(),
            link: Link::new(),
            timer: SpinLock::new(None),
        };
        let endpoint = ENDPOINTS.alloc_ref(endpoint).map_err(|_| Errno::ENOMEM)?;
        endpoint.meeting.add_receiver();
        Ok(Self {
            endpoint,
            badge: 0,
            receives: true,
            grant: None,
        })
    }

    /// Takes away what `rights` do not contain.
    pub fn limit(&mut self, rights: Rights) {
        if !rights.contains(Rights::RECEIVE) {
            self.end_receiving();
        }
    }

    /// Gives it a badge.
    ///
    /// # Errors
    /// `EINVAL` if it has one.
    pub fn set_badge(&mut self, badge: u64) -> Result<(), Errno> {
        if self.badge != 0 {
            return Err(Errno::EINVAL);
        }
        self.badge = badge;
        Ok(())
    }

    /// Its badge.
    pub fn badge(&self) -> u64 {
        self.badge
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &Ref<Endpoint> {
        &self.endpoint
    }

    /// From here on it is there by the grace of `grant`, which is new, and below the one that it had.
    pub fn put_under(&mut self, grant: Ref<Grant>) {
        let rights = RIGHTS.lock();
        if self.receives {
            grant.count_receiver(1);
        }
        let before = self.grant.replace(grant);
        drop(rights);
        drop(before);
    }

    /// Ends `grant`, and with it the rights to receive of all that is there by its grace.
    pub fn revoke(&self, grant: &Grant) {
        let rights = RIGHTS.lock();
        let ended = grant.end_with_receivers();
        drop(rights);
        if !planted::is(Fault::RevokeSilently) {
            self.remove_receivers(ended);
        }
    }

    fn remove_receivers(&self, count: u32) {
        if self.endpoint.meeting.remove_receivers(count) {
            work::close(self.endpoint.clone());
        }
    }

    fn end_receiving(&mut self) {
        if !core::mem::take(&mut self.receives) {
            return;
        }
        let rights = RIGHTS.lock();
        // What has been revoked was taken away then.
        let is_live = match &self.grant {
            None => true,
            Some(grant) if grant.is_live() => {
                grant.count_receiver_upwards(-1);
                true
            }
            Some(_) => false,
        };
        drop(rights);
        self.remove_receivers(is_live.into());
    }

    /// One more right to receive, if this one has it still.
    fn share_receiving(&self) -> bool {
        let _rights = RIGHTS.lock();
        let is_live = self.grant.as_ref().is_none_or(|grant| grant.is_live());
        let receives = self.receives && is_live;
        if receives {
            self.endpoint.meeting.add_receiver();
            if let Some(grant) = &self.grant {
                grant.count_receiver_upwards(1);
            }
        }
        receives
    }
}

impl Clone for Port {
    fn clone(&self) -> Self {
        Self {
            endpoint: self.endpoint.clone(),
            badge: self.badge,
            receives: self.receives && self.share_receiving(),
            grant: self.grant.clone(),
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.end_receiving();
    }
}
