//! The request's content: decoded from the input and passed to the exchange. Content that no exchange wants is dropped.

use crate::app::App;
use crate::app::exchange::Exchange;
use crate::app::forward::Failure;
use crate::cost;
use crate::http::date::Now;
use crate::http::violation::Violation;
use crate::proto::conn::DRAIN_LIMIT;
use crate::proto::responder::Responder;
use crate::session::{Scratch, Session};
use std::io;

impl Session {
    /// Sends 100 (Continue) to a client that waits for it and has not begun to send its content.
    pub(super) fn invite_content(&mut self) {
        if std::mem::take(&mut self.conn.wants_continue) && self.input.is_empty() {
            self.output.push(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
    }

    pub(super) fn read_content(&mut self, app: &App, now: &Now, scratch: &mut Scratch) -> bool {
        let decoded = match self.conn.decode(self.input.filled()) {
            Ok(decoded) => decoded,
            Err(violation) => {
                self.refuse(violation, app, now, scratch);
                return true;
            }
        };
        if decoded.consumed == 0 && !decoded.end {
            if self.input_closed {
                self.refuse(Violation::Truncated, app, now, scratch);
                return true;
            }
            return false;
        }
        let wanted = matches!(self.exchange, Exchange::Receive(_) | Exchange::Forward(_));
        let too_large = match wanted {
            true => self.conn.received_and_announced() > app.rules(self.rules).body_size,
            // The bytes of the framing count too: a chunk of one byte may have an extension of 4 KiB.
            false => self.conn.received_and_announced().max(self.conn.taken) > DRAIN_LIMIT,
        };
        scratch.work += cost::PIECE;
        if too_large {
            self.refuse(Violation::BodyTooLarge, app, now, scratch);
            return true;
        }
        let data = &self.input.filled()[decoded.data];
        let result = match &mut self.exchange {
            _ if data.is_empty() => Ok(()),
            Exchange::Receive(receive) => receive.write(data),
            Exchange::Forward(forward) => forward.push(data),
            _ => Ok(()),
        };
        self.input.consume(decoded.consumed);
        match result {
            Err(error) => self.fail_receiving(error, app, now, scratch),
            Ok(()) if decoded.end && wanted => self.finish_receiving(app, now, scratch),
            Ok(()) => {}
        }
        true
    }

    pub(super) fn finish_receiving(&mut self, app: &App, now: &Now, scratch: &mut Scratch) {
        let format = self.format();
        if let Exchange::Forward(forward) = &mut self.exchange {
            return forward.on_content_end();
        }
        if let Exchange::Receive(receive) = std::mem::take(&mut self.exchange) {
            let responder = Responder::new(&mut self.conn, &mut self.output, now.imf(), &app.rules(self.rules).common);
            let next = receive.finish(format, responder, now);
            self.follow(next.into(), app, now, scratch);
        }
    }

    pub(super) fn fail_receiving(&mut self, error: io::Error, app: &App, now: &Now, scratch: &mut Scratch) {
        let format = self.format();
        if let Exchange::Forward(_) = self.exchange {
            self.conn.refuse();
            return self.fail_upstream(&Failure::of_disk(error), app, now, scratch);
        }
        if let Exchange::Receive(receive) = std::mem::take(&mut self.exchange) {
            self.conn.refuse();
            let responder = Responder::new(&mut self.conn, &mut self.output, now.imf(), &app.rules(self.rules).common);
            let next = receive.fail(error, format, responder);
            self.follow(next.into(), app, now, scratch);
        }
    }
}
