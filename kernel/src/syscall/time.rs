//! Clocks and sleeping.

use linux_raw_sys::general as linux;

use super::{Answer, Call, Handler, done, user};
use crate::arch::time as clock;
use crate::errno::Errno;
use crate::sched::wait::{self, Limit};
use crate::thread::Step;

/// The family.
pub const CALLS: &[(u32, Handler)] = &[
    (linux::__NR_nanosleep, nanosleep),
    (linux::__NR_clock_gettime, clock_gettime),
    (linux::__NR_clock_getres, clock_getres),
    (linux::__NR_clock_nanosleep, clock_nanosleep),
    (linux::__NR_gettimeofday, gettimeofday),
    (linux::__NR_times, times),
];

const NANOS: u64 = 1_000_000_000;
/// Resolution of the coarse clocks, that of Linux's tick at 250 Hz.
const COARSE: u64 = 4_000_000;

/// The tick `nanos` from now.
pub fn after(nanos: u64) -> u64 {
    clock::now().saturating_add(clock::ns_to_ticks(nanos))
}

/// The tick of a moment on the monotonic or the real-time clock. The latter is never set while the
/// machine runs, so the moment does not move.
pub fn moment(nanos: u64, realtime: bool) -> u64 {
    let since_boot = match realtime {
        true => nanos.saturating_sub(clock::realtime_offset()),
        false => nanos,
    };
    clock::ns_to_ticks(since_boot)
}

/// Nanoseconds of a clock.
fn read_clock(call: &Call<'_>, id: u32) -> Result<u64, Errno> {
    let now = clock::now();
    let monotonic = clock::ticks_to_ns(now);
    match id {
        linux::CLOCK_MONOTONIC | linux::CLOCK_MONOTONIC_RAW | linux::CLOCK_BOOTTIME => {
            Ok(monotonic)
        }
        linux::CLOCK_REALTIME => Ok(monotonic + clock::realtime_offset()),
        linux::CLOCK_MONOTONIC_COARSE => Ok(monotonic / COARSE * COARSE),
        linux::CLOCK_REALTIME_COARSE => {
            Ok((monotonic + clock::realtime_offset()) / COARSE * COARSE)
        }
        linux::CLOCK_THREAD_CPUTIME_ID => Ok(clock::ticks_to_ns(call.thread.runtime(now))),
        linux::CLOCK_PROCESS_CPUTIME_ID => Ok(clock::ticks_to_ns(process_time(call, now))),
        _ => Err(Errno::EINVAL),
    }
}

/// Ticks that the process has run: exact for the current thread, up to their last switch for the
/// others.
fn process_time(call: &Call<'_>, now: u64) -> u64 {
    call.thread.process().runtime() + call.thread.current_run(now)
}

/// Ticks that the caller's process has run.
pub fn process_ticks(call: &Call<'_>) -> u64 {
    process_time(call, clock::now())
}

/// Ticks that the caller has run.
pub fn thread_ticks(call: &Call<'_>) -> u64 {
    call.thread.runtime(clock::now())
}

fn timespec(nanos: u64) -> [u8; 16] {
    user::bytes_of([nanos / NANOS, nanos % NANOS])
}

fn clock_gettime(call: &Call<'_>) -> Answer {
    let nanos = read_clock(call, call.uint(0))?;
    user::complete_at(call, call.user(1), &timespec(nanos), 0)
}

fn clock_getres(call: &Call<'_>) -> Answer {
    let id = call.uint(0);
    read_clock(call, id)?;
    let resolution = match id {
        linux::CLOCK_REALTIME_COARSE | linux::CLOCK_MONOTONIC_COARSE => COARSE,
        _ => 1,
    };
    user::complete(call, call.user(1), &timespec(resolution), 0)
}

fn gettimeofday(call: &Call<'_>) -> Answer {
    if call.arg(1) != 0 {
        // The zone has been meaningless since Unix left the kernel's clock in UTC: all zero.
        return zone_and_time(call);
    }
    user::complete(call, call.user(0), &timeval(realtime()), 0)
}

fn zone_and_time(call: &Call<'_>) -> Answer {
    if call.arg(0) != 0 {
        let space = call.thread.process().space();
        user::write(space, call.user(0), &timeval(realtime()))?;
    }
    user::complete(call, call.user(1), &[0; 8], 0)
}

fn realtime() -> u64 {
    clock::ticks_to_ns(clock::now()) + clock::realtime_offset()
}

fn timeval(nanos: u64) -> [u8; 16] {
    user::bytes_of([nanos / NANOS, nanos % NANOS / 1000])
}

/// Times in hundredths of a second: all of it counts as user time.
fn times(call: &Call<'_>) -> Answer {
    let now = clock::now();
    let hundredths = |ticks: u64| clock::ticks_to_ns(ticks) / (NANOS / 100);
    let user_time = hundredths(process_time(call, now));
    let bytes: [u8; 32] = user::bytes_of([user_time, 0, 0, 0]);
    user::complete(call, call.user(0), &bytes, hundredths(now))
}

fn nanosleep(call: &Call<'_>) -> Answer {
    let nanos = user::read_timespec(call.thread.process().space(), call.user(0))?;
    sleep(call, after(nanos))
}

fn clock_nanosleep(call: &Call<'_>) -> Answer {
    let (id, flags) = (call.uint(0), call.uint(1));
    let sleepable = [
        linux::CLOCK_REALTIME,
        linux::CLOCK_MONOTONIC,
        linux::CLOCK_BOOTTIME,
    ];
    if !sleepable.contains(&id) {
        return Err(Errno::EINVAL.into());
    }
    let nanos = user::read_timespec(call.thread.process().space(), call.user(2))?;
    match flags & linux::TIMER_ABSTIME {
        0 => sleep(call, after(nanos)),
        _ => sleep(call, moment(nanos, id == linux::CLOCK_REALTIME)),
    }
}

/// Sleeps until the tick `deadline`. Nothing interrupts a sleep but the end of the process, so
/// the time left over is never written.
fn sleep(call: &Call<'_>, deadline: u64) -> Answer {
    if deadline <= clock::now() {
        return done(0);
    }
    wait::reserve_timer()?;
    call.thread.set_result(Ok(0));
    wait::for_time(
        call.thread,
        Some(Limit {
            deadline,
            result: None,
        }),
    );
    Ok(Step::Gone)
}
