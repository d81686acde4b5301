//! Computes for ever: for tests of time-outs with a busy machine. `spin N` uses N threads.

use programs::check;

fn main() {
    check::start("spin");
    let threads = check::number_argument(1, 1);
    println!("spin: {threads} threads, for ever");
    for _ in 1..threads {
        std::thread::spawn(spin);
    }
    spin();
}

fn spin() {
    let mut value = 0u64;
    loop {
        value = std::hint::black_box(value.wrapping_mul(3).wrapping_add(1));
    }
}
