//! What a route decides for itself.

use crate::config::proxy::ProxyRules;
use crate::config::responses::ResponseRules;
use crate::config::site::SiteRules;

/// The rules that a route or a host may have of its own. The flags fill those that hold where it has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRules {
    pub site: SiteRules,
    pub responses: ResponseRules,
    pub proxy: ProxyRules,
    /// Whether DELETE removes files of a store.
    pub delete: bool,
    /// Bytes of a request's content. `u64::MAX` means no limit.
    pub body_size: u64,
}
