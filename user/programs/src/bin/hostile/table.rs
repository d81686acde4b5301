//! Each call of the table with first handles that it must refuse.

use abi::calls::{self, Call, TABLE};
use abi::{Rights, slot};
use programs::native::{self, Registers, control, failed};
use programs::sys::errno;

use super::{close, copy, endpoint, fails, kill, made, process};

/// A handle of each kind that first arguments can be of, harmless whatever is done to it.
struct Handles {
    process: u64,
    thread: u64,
    endpoint: u64,
    object: u64,
    revocable: u64,
}

impl Handles {
    fn new() -> Self {
        let process = process(0, 0);
        let thread = control(calls::THREAD_CREATE, &[process, 0x1000, 0x1000, 0]);
        let endpoint = endpoint();
        let object = [endpoint, 4096, 0, 4096];
        let revocable = [endpoint, Rights::SAME.into(), 0, 1];
        Self {
            process,
            thread: made("a thread", thread),
            endpoint,
            object: made("an object", control(calls::PAGER_CREATE, &object)),
            revocable: made("a copy", control(calls::HANDLE_DUPLICATE, &revocable)),
        }
    }

    /// What a call takes first. `None`: no handle, or one that cannot be had with fewer rights; or the
    /// kernel has no such call, and no reason to look at handles.
    fn first(&self, call: &Call) -> Option<u64> {
        let first = match (call.number, call.arguments.split([',', ' ']).next()?) {
            (calls::HANDLE_REVOKE, _) => self.revocable,
            (calls::ENDPOINT_SEND | calls::ENDPOINT_CALL | calls::REPLY_RECEIVE, _) => {
                self.endpoint
            }
            (_, "handle" | "endpoint") => self.endpoint,
            (_, "process") => self.process,
            (_, "thread") => self.thread,
            (_, "object") => self.object,
            (_, "machine") => slot::MACHINE,
            _ => return None,
        };
        let is_known = with(call, slot::COUNT - 1) != failed(errno::ENOSYS);
        is_known.then_some(first)
    }

    fn close(self) {
        for handle in [self.thread, self.endpoint, self.object, self.revocable] {
            close(handle);
        }
        kill(self.process);
    }
}

/// Makes a call with this handle and zeros, without waiting.
fn with(call: &Call, handle: u64) -> i64 {
    let mut x = Registers::default();
    x[0] = handle;
    native::call(call.number, &mut x)
}

/// Without one of the rights that the table names, a call is refused, whatever its other arguments are.
pub fn rights() {
    let handles = Handles::new();
    for call in TABLE {
        let Some(first) = handles.first(call) else {
            continue;
        };
        let mut info = Registers::default();
        info[0] = first;
        native::call(calls::HANDLE_INFO, &mut info);
        let all = Rights::from_bits_retain(info[2] as u32);
        for right in call.rights {
            if right == Rights::DUPLICATE {
                continue;
            }
            let less = made("a copy", copy(first, all.difference(right), 0));
            fails(call.name, with(call, less), errno::EACCES);
            close(less);
        }
    }
    let fixed = made("a copy", copy(handles.endpoint, Rights::SEND, 0));
    fails("a copy", copy(fixed, Rights::SEND, 0), errno::EACCES);
    let more = Rights::SEND | Rights::RECEIVE;
    fails(
        "more rights",
        copy(handles.endpoint, Rights::all(), 0),
        errno::EACCES,
    );
    let client = made(
        "a copy",
        copy(handles.endpoint, Rights::SEND | Rights::DUPLICATE, 0),
    );
    fails("more rights", copy(client, more, 0), errno::EACCES);
    close(client);
    close(fixed);
    handles.close();
}

/// Numbers that are no handles, and handles of a kind that the call is not for.
pub fn handles() {
    let handles = Handles::new();
    for call in TABLE {
        let Some(first) = handles.first(call) else {
            continue;
        };
        for none in [
            63,
            slot::COUNT - 1,
            slot::COUNT,
            u64::from(u32::MAX),
            1 << 31,
        ] {
            fails(call.name, with(call, none), errno::EBADF);
        }
        if call.arguments.starts_with("handle") {
            continue;
        }
        let others = [
            handles.process,
            handles.thread,
            handles.endpoint,
            handles.object,
            slot::MACHINE,
        ];
        for other in others.into_iter().filter(|&other| other != first) {
            fails(call.name, with(call, other), errno::EACCES);
        }
    }
    handles.close();
}
