//! The `log` facade on the console: `[tessera] LEVEL text`.

use log::{LevelFilter, Log, Metadata, Record};

use crate::console;
use crate::control::OneLine;

struct ConsoleLogger;

static LOGGER: ConsoleLogger = ConsoleLogger;

impl Log for ConsoleLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            console::print(format_args!(
                "[tessera] {} {}\n",
                record.level(),
                OneLine(*record.args())
            ));
        }
    }

    fn flush(&self) {}
}

/// Installs the logger with `level`; a second call only changes the level.
pub fn init(level: LevelFilter) {
    // The only error is that the logger is installed already, and it is ours.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(level);
}
