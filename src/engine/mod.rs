//! The engines: how connections wait. All run the same session, the same driver, the same app.

pub mod event;
pub mod timers;
