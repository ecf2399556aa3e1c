//! The settings that can differ between routes.

use crate::config::proxy::ProxyRules;
use crate::config::responses::ResponseRules;
use crate::config::site::SiteRules;

/// The rules of a route. A route or a host may have its own. Those from the flags hold for all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRules {
    pub site: SiteRules,
    pub responses: ResponseRules,
    pub proxy: ProxyRules,
    /// Whether DELETE removes files of a store.
    pub delete: bool,
    /// Most bytes of a request's content. `u64::MAX` means no limit.
    pub body_size: u64,
}
