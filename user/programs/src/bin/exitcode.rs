//! Ends with the status given as its argument (0 to 255; 0 without one).

use programs::check;

fn main() {
    check::start("exitcode");
    let status = check::number_argument(1, 0);
    match u8::try_from(status) {
        Ok(status) => std::process::exit(i32::from(status)),
        Err(_) => check::usage("a status is a number from 0 to 255"),
    }
}
