//! Prints its arguments and its environment, one per line.

fn main() {
    println!("Hello from EL0.");
    for (index, argument) in std::env::args_os().enumerate() {
        println!("arg {index}: {}", argument.to_string_lossy());
    }
    for (name, value) in std::env::vars_os() {
        println!("env {}={}", name.to_string_lossy(), value.to_string_lossy());
    }
}
