//! Before some responses there is a delay, or a listing is prepared in steps. Until then nothing is read from the
//! client, and no timeout runs.

use crate::app::App;
use crate::app::exchange::Exchange;
use crate::http::date::Now;
use crate::proto::responder::Responder;
use crate::session::{Scratch, Session};

impl Session {
    /// Whether the response waits for a delay or for steps of its preparation.
    pub(super) fn prepares(&self) -> bool {
        matches!(self.exchange, Exchange::Delay(_) | Exchange::Prepare(_))
    }

    pub(super) fn finish_waiting(&mut self, app: &App, now: &Now, scratch: &mut Scratch) -> bool {
        let format = self.format();
        let Exchange::Delay(delay) = std::mem::take(&mut self.exchange) else { return false };
        let responder = Responder::new(&mut self.conn, &mut self.output, now.imf(), &app.rules(self.rules).common);
        let next = delay.finish(format, responder, now);
        self.follow(next.into(), app, now, scratch);
        true
    }

    /// Does one step of the preparation. After the last step, answers.
    pub(super) fn prepare(&mut self, app: &App, now: &Now, scratch: &mut Scratch) -> bool {
        let Exchange::Prepare(preparation) = &mut self.exchange else { return false };
        let (cost, is_ready) = preparation.step(now);
        scratch.work += cost;
        if is_ready && let Exchange::Prepare(preparation) = std::mem::take(&mut self.exchange) {
            let format = self.format();
            let responder = Responder::new(&mut self.conn, &mut self.output, now.imf(), &app.rules(self.rules).common);
            let next = preparation.finish(format, responder, now);
            self.follow(next.into(), app, now, scratch);
        }
        true
    }
}
