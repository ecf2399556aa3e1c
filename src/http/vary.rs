//! The request fields that a response depends on, for its `Vary` field (RFC 9110, section 12.5.5).

/// A set of request fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vary(u8);

impl Vary {
    pub const NOTHING: Vary = Vary(0);
    pub const ACCEPT: Vary = Vary(1);
    pub const ACCEPT_ENCODING: Vary = Vary(2);
    pub const ORIGIN: Vary = Vary(4);
    pub const USER_AGENT: Vary = Vary(8);
    pub const COOKIE: Vary = Vary(16);

    pub const fn and(self, other: Vary) -> Vary {
        Vary(self.0 | other.0)
    }

    /// The names of the fields, each once.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        const NAMES: [(Vary, &str); 5] = [
            (Vary::ACCEPT, "Accept"),
            (Vary::ACCEPT_ENCODING, "Accept-Encoding"),
            (Vary::ORIGIN, "Origin"),
            (Vary::USER_AGENT, "User-Agent"),
            (Vary::COOKIE, "Cookie"),
        ];
        NAMES.into_iter().filter(move |(field, _)| self.0 & field.0 != 0).map(|(_, name)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_named_once_however_often_it_is_added() {
        let set = Vary::ORIGIN.and(Vary::ACCEPT_ENCODING).and(Vary::ORIGIN).and(Vary::NOTHING);
        assert_eq!(set.names().collect::<Vec<_>>(), ["Accept-Encoding", "Origin"]);
        assert_eq!(Vary::NOTHING.names().next(), None);
    }
}
