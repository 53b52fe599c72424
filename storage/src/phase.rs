//! Tells on standard error what the storage is doing, for tests that stop it in the middle.

use std::sync::OnceLock;

/// The environment variable that asks for it.
const VARIABLE: &str = "MILLSTREAM_LOG_PHASES";

/// Says `phase`, if that was asked for.
pub(crate) fn say(phase: &str) {
    static IS_ASKED_FOR: OnceLock<bool> = OnceLock::new();
    if *IS_ASKED_FOR.get_or_init(|| std::env::var_os(VARIABLE).is_some_and(|value| value == "1")) {
        eprintln!("millstream phase {phase}");
    }
}
