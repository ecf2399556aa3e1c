//! The rules of routes, made ready at start. A request has those of its route. One whose head is refused before its route
//! is known has the server's own.

use crate::app::reply::{cors, page};
use crate::config::responses::HeaderField;
use crate::config::route::RouteRules;
use crate::proto::responder::{Common, SERVER};
use crate::start_error::StartError;
use std::path::Path;

/// What holds for the requests of a route, whatever answers them.
#[derive(Debug)]
pub struct Rules {
    pub common: Common,
    /// Bytes of a request's content. `u64::MAX` means no limit.
    pub body_size: u64,
    /// Whether scripts of other sites may ask: preflights are answered.
    pub cors: bool,
}

/// Names the rules of a route in the table of routes. The default names the server's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RulesId(u16);

/// All rules, at most 65,536. The server's own are the first.
#[derive(Debug)]
pub struct RulesTable(Vec<Rules>);

impl Rules {
    /// `root`: where pages of errors are looked for beside the current directory.
    ///
    /// # Errors
    /// The page of an error cannot be read.
    pub fn new(rules: &RouteRules, root: Option<&Path>) -> Result<Rules, StartError> {
        let responses = &rules.responses;
        let mut common = Common::new(SERVER);
        for HeaderField { name, value } in &responses.headers {
            common.add(name, value);
        }
        if let Some(origin) = &responses.cors {
            cors::add_fields(origin, &mut common);
        }
        // Of two pages for one status the last counts, as with every flag: it is found first.
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
