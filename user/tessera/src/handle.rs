//! Handles: what a process may do, and to what.

use std::mem::ManuallyDrop;

use abi::{Kind, Rights, calls};

use crate::Error;
use crate::sys::{self, Frame};

/// A handle of this process's table, closed when it is dropped.
#[derive(Debug, PartialEq, Eq)]
pub struct Handle(u64);

/// What [`Handle::info`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Of what it is a handle.
    pub kind: Kind,
    /// What may be done through it.
    pub rights: Rights,
    /// What a server sees of messages that were sent through it; 0 for none.
    pub badge: u64,
}

impl Handle {
    /// The handle that this process was given in a slot. From then on it is the value's own: take
    /// each slot once.
    ///
    /// # Errors
    /// There is none.
    pub fn at(slot: u64) -> Result<Self, Error> {
        info(slot)?;
        Ok(Self(slot))
    }

    /// A copy of the handle in a slot, with all its rights.
    pub(crate) fn copy_of(slot: u64) -> Result<Self, Error> {
        let original = ManuallyDrop::new(Self::at(slot)?);
        original.duplicate(Rights::from_bits_retain(Rights::SAME))
    }

    /// A handle that the kernel has just made.
    pub(crate) const fn made(number: u64) -> Self {
        Self(number)
    }

    /// Its number in the table. As long as it is less than 2³¹ it is a file descriptor, too.
    pub const fn number(&self) -> u64 {
        self.0
    }

    /// Gives the handle up without closing it.
    pub(crate) const fn into_number(self) -> u64 {
        let number = self.0;
        std::mem::forget(self);
        number
    }

    /// What it is.
    ///
    /// # Errors
    /// It has been revoked.
    pub fn info(&self) -> Result<Info, Error> {
        info(self.0)
    }

    /// Another handle of the same object, with these rights.
    ///
    /// # Errors
    /// The original has fewer rights, or must not be duplicated; the table is full.
    pub fn duplicate(&self, rights: Rights) -> Result<Self, Error> {
        self.copy(rights, 0, false)
    }

    /// Another handle that [`Handle::revoke`] ends, together with all copies of it.
    ///
    /// # Errors
    /// As [`Handle::duplicate`].
    pub fn revocable(&self, rights: Rights) -> Result<Self, Error> {
        self.copy(rights | Rights::REVOKE, 0, true)
    }

    pub(crate) fn copy(&self, rights: Rights, badge: u64, revocable: bool) -> Result<Self, Error> {
        let arguments = [
            self.0,
            u64::from(rights.bits()),
            badge,
            u64::from(revocable),
        ];
        sys::control(calls::HANDLE_DUPLICATE, arguments).map(Self)
    }

    /// Ends a handle of [`Handle::revocable`] and all copies of it, wherever they are.
    ///
    /// # Errors
    /// It was not made to be revoked.
    pub fn revoke(self) -> Result<(), Error> {
        sys::control(calls::HANDLE_REVOKE, [self.0]).map(drop)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // One that has been revoked is closed already.
        let _ = sys::control(calls::HANDLE_CLOSE, [self.0]);
    }
}

impl AsRef<Self> for Handle {
    fn as_ref(&self) -> &Self {
        self
    }
}

fn info(number: u64) -> Result<Info, Error> {
    const KINDS: [Kind; 9] = [
        Kind::Console,
        Kind::Memory,
        Kind::Endpoint,
        Kind::Reply,
        Kind::Process,
        Kind::Thread,
        Kind::Machine,
        Kind::Interrupt,
        Kind::Device,
    ];
    let mut frame = Frame::new([number]);
    sys::call(calls::HANDLE_INFO, &mut frame)?;
    let [_, kind, rights, badge, ..] = frame.x;
    let kind = KINDS.into_iter().find(|&known| known as u64 == kind);
    Ok(Info {
        kind: kind.ok_or(Error::Invalid)?,
        rights: Rights::from_bits_retain(rights as u32),
        badge,
    })
}

/// A type for handles of one kind. The kernel looks at the kind at each call, so that a handle may be
/// taken for one of a kind that it is not, and is of no use then.
macro_rules! kind_of_handle {
    ($($name:ident)*) => {$(
        impl From<$crate::Handle> for $name {
            fn from(handle: $crate::Handle) -> Self {
                Self(handle)
            }
        }

        impl From<$name> for $crate::Handle {
            fn from(of_kind: $name) -> Self {
                of_kind.0
            }
        }

        impl AsRef<$crate::Handle> for $name {
            fn as_ref(&self) -> &$crate::Handle {
                &self.0
            }
        }
    )*};
}

pub(crate) use kind_of_handle;
