//! Request methods (RFC 9110, section 9) and sets of them, for `Allow` and for routes.

/// A method this server knows by name. Anything else is `Unknown` and answered 501.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Trace,
    Connect,
    Patch,
    /// A well-formed token that is none of the methods above.
    Unknown,
}

impl Method {
    /// The method a token names. Methods are case-sensitive: `get` is not `GET`.
    pub fn from_token(token: &[u8]) -> Method {
        match token {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"OPTIONS" => Method::Options,
            b"TRACE" => Method::Trace,
            b"CONNECT" => Method::Connect,
            b"PATCH" => Method::Patch,
            _ => Method::Unknown,
        }
    }

    /// Whether a request changes nothing (RFC 9110, section 9.2.1), as far as its method tells.
    pub fn is_safe(self) -> bool {
        matches!(self, Method::Get | Method::Head | Method::Options | Method::Trace)
    }

    /// GET and HEAD: the methods that ask for a representation.
    pub fn is_get_or_head(self) -> bool {
        matches!(self, Method::Get | Method::Head)
    }
}

/// A set of methods: what a route allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Methods(u16);

impl Methods {
    pub const NONE: Methods = Methods(0);
    /// What every readable resource allows.
    pub const READ: Methods = Methods::NONE.with(Method::Get).with(Method::Head).with(Method::Options);

    pub const fn with(self, method: Method) -> Methods {
        Methods(self.0 | 1 << method as u16)
    }

    pub const fn and(self, other: Methods) -> Methods {
        Methods(self.0 | other.0)
    }

    pub fn contains(self, method: Method) -> bool {
        self.0 & (1 << method as u16) != 0
    }

    /// Writes the set as the value of an `Allow` field: `GET, HEAD, OPTIONS`.
    pub fn write(self, out: &mut Vec<u8>) {
        const NAMES: [(&str, Method); 9] = [
            ("GET", Method::Get),
            ("HEAD", Method::Head),
            ("POST", Method::Post),
            ("PUT", Method::Put),
            ("PATCH", Method::Patch),
            ("DELETE", Method::Delete),
            ("OPTIONS", Method::Options),
            ("TRACE", Method::Trace),
            ("CONNECT", Method::Connect),
        ];
        let start = out.len();
        for (name, method) in NAMES {
            if self.contains(method) {
                if out.len() > start {
                    out.extend_from_slice(b", ");
                }
                out.extend_from_slice(name.as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_case_sensitive() {
        assert_eq!(Method::from_token(b"GET"), Method::Get);
        assert_eq!(Method::from_token(b"get"), Method::Unknown);
        assert_eq!(Method::from_token(b"BREW"), Method::Unknown);
    }

    #[test]
    fn a_set_is_written_as_an_allow_value() {
        let mut out = Vec::new();
        Methods::READ.with(Method::Put).with(Method::Post).write(&mut out);
        assert_eq!(out, b"GET, HEAD, POST, PUT, OPTIONS");
    }
}
