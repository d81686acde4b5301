//! The calls, as numbers and as the table that the documentation is made from.

use crate::Rights;

/// A call, for people.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// In `x8`.
    pub number: u64,
    /// Name of the constant.
    pub name: &'static str,
    /// Arguments, from `x0` on.
    pub arguments: &'static str,
    /// What `x0` is at success.
    pub result: &'static str,
    /// Rights that the first handle has to have.
    pub rights: Rights,
    /// Errors, beside those of a bad first handle: `EBADF` for none, `EACCES` for one of another kind or
    /// without the rights.
    pub errors: &'static str,
    /// What it does.
    pub what: &'static str,
}

macro_rules! calls {
    ($($number:literal $name:ident($arguments:literal) -> $result:literal
        [$($right:ident)*] $errors:literal $what:literal)*) => {
        $(#[doc = $what] pub const $name: u64 = $number;)*

        /// All calls, by number.
        pub const TABLE: &[Call] = &[$(Call {
            number: $number,
            name: stringify!($name),
            arguments: $arguments,
            result: $result,
            rights: Rights::empty()$(.union(Rights::$right))*,
            errors: $errors,
            what: $what,
        }),*];
    };
}

calls! {
    0 INFO("kind, buffer, length, machine") -> "bytes" []
        "EINVAL unknown kind; ENOMEM; EFAULT"
        "Writes a text about the calling process: 0 its figures, 1 its areas, 3 its first fault; about the machine, which takes its handle: 2 memory, 4 the kernel's tables."
    1 MEM_ONLINE("machine") -> "bytes" [CONTROL]
        "ENODEV none is held back; ENOMEM"
        "Brings held-back memory online."
    2 WATCH("addr, length, modes") -> "0" []
        "EINVAL; ENOMEM"
        "Watches areas as a userfaultfd would: 1 missing pages, 2 writes to marked pages, 4 unmapped pages of objects."
    3 MARK("addr, length, on") -> "0" []
        "EINVAL"
        "Marks pages of a range that is watched for writes, or takes the marks away."
    4 POLICY("what, value, machine") -> "what it was" []
        "EINVAL"
        "Sets a policy of the machine: 0 is `fault_around_bytes`."

    8 HANDLE_DUPLICATE("handle, rights, badge, flags") -> "handle" [DUPLICATE]
        "EINVAL unknown rights or flags, or a badge for what has one or is no endpoint; EACCES more rights than the original; EMFILE; EDQUOT"
        "Makes another handle of the same object. Flag 1: one that can be revoked, together with all copies of it."
    9 HANDLE_CLOSE("handle") -> "0" []
        ""
        "Closes a handle."
    10 HANDLE_INFO("handle") -> "0; x1 kind, x2 rights, x3 badge" []
        ""
        "Tells what a handle is."
    11 HANDLE_REVOKE("handle") -> "0" [REVOKE]
        "EINVAL it was not made to be revoked"
        "Ends a handle and all copies of it, wherever they are. An endpoint from which nobody may receive any more is closed: who waits at it gets EPIPE. What was mapped through a handle stays mapped."
    12 HANDLE_GIVE("process, slot, handle, rights") -> "slot" [CONTROL]
        "EACCES the handle may not be transferred or has fewer rights; EBADF no such handle or slot; EBUSY the slot is taken; ESRCH the process has ended; EMFILE; EDQUOT"
        "Puts a copy of a handle into another process's table: into `slot`, or with -1 into a free one."

    16 ENDPOINT_CREATE("") -> "handle" []
        "EMFILE; EDQUOT; ENOMEM"
        "Makes an endpoint."
    17 ENDPOINT_SEND("message, x9 time-out") -> "0" [SEND]
        "ETIMEDOUT; EPIPE nobody can receive any more; EBADF, EACCES a handle in the message"
        "Sends a message, and waits until it is received. A handle that is to be moved leaves the sender then, and not before. One that the receiver has no room for arrives as -1; it has left all the same."
    18 ENDPOINT_CALL("message, x9 time-out") -> "0; the answer" [SEND]
        "ETIMEDOUT; EPIPE nobody can receive any more, or the receiver went away without an answer; EBADF, EACCES a handle in the message"
        "Sends a message and waits for the answer."
    19 ENDPOINT_RECEIVE("endpoint, x9 time-out") -> "0; a message" [RECEIVE]
        "ETIMEDOUT; EPIPE the last right to receive has ended meanwhile"
        "Waits for a message. An answer that is owed and was not saved is given up: whoever waits for it gets EPIPE."
    20 REPLY("answer") -> "0" []
        "EPERM no answer is owed; ESRCH nobody waits for it any more"
        "Answers who was received last."
    21 REPLY_RECEIVE("answer, with the endpoint in x0; x9 time-out") -> "0; a message" [RECEIVE]
        "EPERM no answer is owed; ETIMEDOUT; EPIPE as above. That nobody waits for the answer any more is no error"
        "Answers who was received last and waits for the next message."
    22 REPLY_SAVE("") -> "handle" []
        "EPERM no answer is owed; EMFILE; EDQUOT"
        "Makes the answer that is owed a handle, to be given later, or by somebody else."
    23 REPLY_SEND("answer, with the handle in x0") -> "0" []
        "ESRCH nobody waits for it any more"
        "Answers through a saved handle, which is closed by that."
    24 ENDPOINT_NOTIFY("endpoint, bits") -> "0" [NOTIFY]
        "EINVAL no bits; EPIPE nobody can receive any more"
        "Sets notification bits. Who receives next gets all that are set, and they are cleared."
    25 ENDPOINT_TIMER("endpoint, bits, deadline") -> "0" [NOTIFY]
        "ENOMEM"
        "Sets notification bits at a time of CLOCK_MONOTONIC, in nanoseconds; in place of what was set before. 0: never."

    32 PROCESS_CREATE("process, pages, handles, threads") -> "handle" [CONTROL]
        "EDQUOT more than what the process has left; EMFILE; ENOMEM"
        "Makes an empty process below one that is there. Pages of memory, handles and threads are limits for it and all below it, and part of those of the process above; 0: whatever that has."
    33 PROCESS_BIND("process, binding, endpoint") -> "0" [CONTROL]
        "EINVAL; EBADF, EACCES the endpoint, which needs SEND"
        "Binds an endpoint: 0 exceptions, 1 Linux calls that the kernel does not own, 2 every page fault, 3 the end (notification bit 63). With -1 nothing is bound any more."
    34 PROCESS_KILL("process, signal") -> "0" [CONTROL]
        "EINVAL"
        "Ends a process, and all below it, as if by that signal."
    35 PROCESS_WAIT("process, x9 time-out") -> "0; x1 0 exited or 1 killed, x2 status or signal, x3 address, x4 pc" [READ]
        "ETIMEDOUT"
        "Waits until a process has come to its end."
    36 PROCESS_INFO("process") -> "number; x1 threads, x2 pages, x3 handles, x4 page faults" [READ]
        ""
        "Tells about a process."
    37 MEMORY_MAP("process, addr, length, prot, flags, object, offset") -> "address" [CONTROL]
        "as mmap; EACCES the object does not allow it"
        "As mmap for another process, with an object of the caller's."
    38 MEMORY_UNMAP("process, addr, length") -> "0" [CONTROL]
        "as munmap"
        "As munmap for another process."
    39 MEMORY_PROTECT("process, addr, length, prot") -> "0" [CONTROL]
        "as mprotect"
        "As mprotect for another process."
    40 MEMORY_READ("process, address there, address here, length") -> "bytes" [READ]
        "EFAULT nothing could be copied"
        "Copies from a process's memory; fewer bytes where there is no more."
    41 MEMORY_WRITE("process, address there, address here, length") -> "bytes" [WRITE]
        "EFAULT nothing could be copied"
        "Copies to a process's memory, where it may be written."

    42 MEMORY_BRK("process, addr") -> "0" [CONTROL]
        "EINVAL not in the space; EBUSY"
        "Says where the heap of a process begins that has none yet."

    48 THREAD_CREATE("process, pc, sp, x0") -> "handle" [CONTROL]
        "EAGAIN too many threads, or the process has ended; EMFILE; EDQUOT; ENOMEM"
        "Makes a thread, suspended."
    49 THREAD_OPEN("process, number") -> "handle" [CONTROL]
        "ESRCH; EMFILE; EDQUOT"
        "A handle of a thread of the process."
    50 THREAD_SUSPEND("thread") -> "0" [CONTROL]
        "ESRCH it has ended"
        "Stops a thread before it next runs at EL0. When the call returns it does not run."
    51 THREAD_RESUME("thread") -> "0" [CONTROL]
        "ESRCH it has ended"
        "Lets a suspended thread go on."
    52 THREAD_READ("thread, set, address, length") -> "bytes" [READ]
        "EINVAL; EBUSY it is not suspended, and no answer is owed to it; EFAULT"
        "Reads registers: 0 general, 1 vector, 2 thread pointer."
    53 THREAD_WRITE("thread, set, address, length") -> "bytes" [WRITE]
        "EINVAL; EBUSY as above; EFAULT"
        "Writes registers. Of PSTATE what belongs to programs."
    54 THREAD_PRIORITY("thread, priority") -> "what it was" [CONTROL]
        "EINVAL; EPERM more than the caller's own"
        "Sets a thread's priority, 0 to 3; 1 is usual, 2 for servers."

    64 PAGER_CREATE("endpoint, size, key, window, x9 time-out") -> "handle" [SEND]
        "EINVAL the window is no power of two from one page to 64 KiB; EMFILE; EDQUOT; ENOMEM"
        "Makes a memory object whose pages are asked for at the endpoint. Whoever waits for a page longer than the time-out gets a bus error."
    65 PAGER_SUPPLY("object, offset, addr, length") -> "bytes" [SUPPLY]
        "EINVAL; EEXIST the first page is there already; EFAULT; ENOMEM"
        "Moves pages of the caller's memory into the object; up to the first place where there is one already."
    66 PAGER_DIRTY("object, offset, length, bitmap") -> "dirty pages" [SUPPLY]
        "EINVAL more than 32 MiB; EFAULT"
        "Tells which pages have been written, one bit each, and makes them clean. Pages that were supplied as one folio are told together, since the CPU may note a write at any of them."
    67 PAGER_DROP("object, offset, length") -> "pages dropped" [SUPPLY]
        "EINVAL"
        "Drops pages that are clean: they are asked for again when they are wanted."

    80 INTERRUPT_OPEN("machine, number, endpoint, bits") -> "handle" [CONTROL]
        "EINVAL no such shared peripheral interrupt; EBUSY it is in use; EBADF, EACCES the endpoint, which needs NOTIFY; EMFILE; EDQUOT"
        "Sets notification bits when an interrupt comes, which then stays masked until it is acknowledged."
    81 INTERRUPT_ACK("interrupt") -> "0" [CONTROL]
        ""
        "Lets the interrupt come again."
    82 DEVICE_OPEN("machine, base, length") -> "handle" [CONTROL]
        "EINVAL not of whole pages, beyond the CPUs' addresses, or memory; EACCES the kernel's own registers; EBUSY a part is open; EMFILE; EDQUOT"
        "Opens registers of a device at a physical address, which is open once at a time. They are mapped by MEMORY_MAP or mmap, MAP_SHARED and never executable."
}
