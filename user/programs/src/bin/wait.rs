//! Sleeps for ever: for tests of time-outs with an idle machine.

fn main() {
    println!("wait: sleeping for ever");
    loop {
        std::thread::sleep(std::time::Duration::from_secs(3600));
    }
}
