//! The rules of routes, prepared at start. A request follows the rules of its route. If its head is refused before the
//! route is known, it follows the server's own rules.

use crate::app::reply::{cors, page};
use crate::config::responses::HeaderField;
use crate::config::route::RouteRules;
use crate::proto::responder::{Common, SERVER};
use crate::start_error::StartError;
use std::path::Path;

/// The rules for the requests of a route, whichever handler answers.
#[derive(Debug)]
pub struct Rules {
    pub common: Common,
    /// Limit of a request's content, in bytes. `u64::MAX` means no limit.
    pub body_size: u64,
    /// Whether scripts of other origins may send requests: then preflights are answered.
    pub cors: bool,
}

/// The position of a route's rules in the table. The default is the server's own rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RulesId(u16);

/// All rules, at most 65,536. The server's own are the first.
#[derive(Debug)]
pub struct RulesTable(Vec<Rules>);

impl Rules {
    /// `root`: error pages are looked for there, besides the current directory.
    ///
    /// # Errors
    /// An error page cannot be read.
    pub fn new(rules: &RouteRules, root: Option<&Path>) -> Result<Rules, StartError> {
        let responses = &rules.responses;
        let mut common = Common::new(SERVER);
        for HeaderField { name, value } in &responses.headers {
            common.add(name, value);
        }
        if let Some(origin) = &responses.cors {
            cors::add_fields(origin, &mut common);
        }
        // The last rule for a status is the one that counts, as with every flag, so it is put first.
        for page in responses.error_pages.iter().rev() {
            common.error_pages.push(page::read_error_page(page, root)?);
        }
        Ok(Rules { common, body_size: rules.body_size, cors: responses.cors.is_some() })
    }
}

impl RulesTable {
    pub fn new(own: Rules) -> RulesTable {
        RulesTable(vec![own])
    }

    pub fn add(&mut self, rules: Rules) -> RulesId {
        self.0.push(rules);
        RulesId(self.0.len() as u16 - 1)
    }

    /// `id` comes from this table, or is the default.
    #[inline]
    pub fn of(&self, id: RulesId) -> &Rules {
        &self.0[id.0 as usize]
    }
}
