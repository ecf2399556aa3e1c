//! Preconditions: whether a request proceeds or is answered 304 or 412, and whether its Range field applies (RFC 9110,
//! section 13).
//!
//! The caller must evaluate only if the answer would otherwise be a success (section 13.2.1), and must choose the
//! representation first: the validators are those of the representation that it would send, content coding included.
//! The caller also writes the fields of a 304.

use crate::http::date;
use crate::http::etag::{ETag, Member, Tag, members};

/// The validators of the current representation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    pub etag: Option<ETag>,
    /// Seconds since 1970, as sent in `Last-Modified`.
    pub last_modified: Option<u64>,
}

/// A request's conditional fields: for each, an iterator over its field lines, empty if the request has none.
#[derive(Clone, Debug)]
pub struct Conditions<L> {
    pub if_match: L,
    pub if_none_match: L,
    pub if_modified_since: L,
    pub if_unmodified_since: L,
    pub if_range: L,
}

/// What the caller does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Proceed,
    /// The caller answers 304. Only for GET and HEAD.
    NotModified,
    /// The caller answers 412 and changes nothing.
    PreconditionFailed,
}

impl<'a, L: Iterator<Item = &'a [u8]> + Clone> Conditions<L> {
    /// Evaluates in the order of section 13.2.2, whose steps are numbered below.
    ///
    /// `current`: None if there is no representation yet, as for an upload that creates one. `now_unix` is only needed
    /// for two-digit years: a date in the future is compared like any other. (RFC 2616 called it invalid for
    /// If-Modified-Since. Section 13.1.3 no longer says so, and lists what makes the field ignored.)
    pub fn evaluate(&self, get_or_head: bool, current: Option<&Validators>, now_unix: u64) -> Outcome {
        // A resource without a modification date ignores conditions on it (sections 13.1.3 and 13.1.4).
        let last_modified = current.and_then(|current| current.last_modified);

        // 1. and 2.
        if is_present(&self.if_match) {
            if !any_listed(&self.if_match, current, |own, tag| own.strong_eq(tag)) {
                return Outcome::PreconditionFailed;
            }
        } else if let Some(last_modified) = last_modified
            && let Some(since) = only_date(&self.if_unmodified_since, now_unix)
            && last_modified > since
        {
            return Outcome::PreconditionFailed;
        }

        // 3. and 4. If-None-Match disables If-Modified-Since, even if its own value is malformed.
        if is_present(&self.if_none_match) {
            if any_listed(&self.if_none_match, current, |own, tag| own.weak_eq(tag)) {
                return if get_or_head { Outcome::NotModified } else { Outcome::PreconditionFailed };
            }
        } else if get_or_head
            && let Some(last_modified) = last_modified
            && let Some(since) = only_date(&self.if_modified_since, now_unix)
            && last_modified <= since
        {
            return Outcome::NotModified;
        }

        Outcome::Proceed
    }

    /// Step 5: whether a Range field applies. Without If-Range it does. With several If-Range fields, which is
    /// malformed, it does not: the whole representation is always a valid answer.
    pub fn range_applies(&self, current: &Validators, now_unix: u64) -> bool {
        let mut lines = self.if_range.clone();
        match (lines.next(), lines.next()) {
            (None, _) => true,
            (Some(value), None) => if_range_holds(value, current, now_unix),
            (Some(_), Some(_)) => false,
        }
    }
}

/// Whether an If-Range value matches the current representation (section 13.1.5): an entity tag by strong comparison; a
/// date if it equals the Last-Modified and that is a strong validator.
pub fn if_range_holds(value: &[u8], current: &Validators, now_unix: u64) -> bool {
    if let Some(tag) = Tag::parse(value) {
        return current.etag.is_some_and(|own| own.tag().strong_eq(&tag));
    }
    let Some(last_modified) = current.last_modified else {
        return false;
    };
    // A file may change again within the second that its Last-Modified names. Only after that second does the date
    // distinguish two contents (section 8.8.2.2, with the Date of this response).
    let is_strong = last_modified < now_unix;
    is_strong && date::parse(value, now_unix) == Some(last_modified)
}

fn is_present<'a>(lines: &(impl Iterator<Item = &'a [u8]> + Clone)) -> bool {
    lines.clone().next().is_some()
}

/// Whether one of the listed tags matches the current one. All lines of the field are one list.
///
/// `*` matches any current representation, but only if it is the only element: the grammar is `"*" / #entity-tag`. A
/// malformed element matches nothing. So a malformed If-Match gives 412, and a malformed If-None-Match gives the whole
/// answer: neither changes a state or confirms a cache entry by a guess.
fn any_listed<'a>(
    lines: &(impl Iterator<Item = &'a [u8]> + Clone),
    current: Option<&Validators>,
    same: fn(&Tag, &Tag) -> bool,
) -> bool {
    let Some(current) = current else {
        return false;
    };
    let own = current.etag.as_ref().map(ETag::tag);
    let mut all_any = None;
    for member in lines.clone().flat_map(members) {
        if let (Member::Tag(tag), Some(own)) = (member, &own)
            && same(own, &tag)
        {
            return true;
        }
        all_any = Some(all_any.unwrap_or(true) && member == Member::Any);
    }
    all_any == Some(true)
}

/// The date of a field that may occur once. If it occurs twice it is invalid, and therefore ignored.
fn only_date<'a>(lines: &(impl Iterator<Item = &'a [u8]> + Clone), now_unix: u64) -> Option<u64> {
    let mut lines = lines.clone();
    let value = lines.next()?;
    match lines.next() {
        None => date::parse(value, now_unix),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome::{NotModified, PreconditionFailed, Proceed};
    use super::*;

    const SINCE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const FUTURE: &str = "Fri, 31 Dec 9999 23:59:59 GMT";
    const MODIFIED: u64 = 784_111_777;
    const NOW: u64 = 1_795_248_000;

    fn file() -> Validators {
        Validators { etag: Some(ETag::strong(&[1, 2, 3])), last_modified: Some(MODIFIED) }
    }

    /// `head`: lines such as `If-Match: "x"`.
    fn evaluate(get_or_head: bool, current: Option<Validators>, head: &[&str]) -> Outcome {
        with(head, |conditions| conditions.evaluate(get_or_head, current.as_ref(), NOW))
    }

    fn with<T>(head: &[&str], test: impl Fn(Conditions<std::vec::IntoIter<&[u8]>>) -> T) -> T {
        let field = |name: &str| {
            let lines = head.iter().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            lines.map(str::as_bytes).collect::<Vec<_>>().into_iter()
        };
        test(Conditions {
            if_match: field("If-Match"),
            if_none_match: field("If-None-Match"),
            if_modified_since: field("If-Modified-Since"),
            if_unmodified_since: field("If-Unmodified-Since"),
            if_range: field("If-Range"),
        })
    }

    fn get(head: &[&str]) -> Outcome {
        evaluate(true, Some(file()), head)
    }

    fn put(head: &[&str]) -> Outcome {
        evaluate(false, Some(file()), head)
    }

    fn create(head: &[&str]) -> Outcome {
        evaluate(false, None, head)
    }

    #[test]
    fn without_conditions_a_request_proceeds() {
        assert_eq!(get(&[]), Proceed);
        assert_eq!(put(&[]), Proceed);
        assert_eq!(create(&[]), Proceed);
    }

    #[test]
    fn if_match_compares_strongly() {
        assert_eq!(get(&[r#"If-Match: "1-2-3""#]), Proceed);
        assert_eq!(get(&[r#"If-Match: W/"1-2-3""#]), PreconditionFailed);
        assert_eq!(put(&[r#"If-Match: "x", "1-2-3""#]), Proceed);
        assert_eq!(put(&[r#"If-Match: "x""#, r#"If-Match: "1-2-3""#]), Proceed);
        assert_eq!(put(&[r#"If-Match: "x""#]), PreconditionFailed);
        assert_eq!(put(&["If-Match: "]), PreconditionFailed);
        assert_eq!(put(&["If-Match: 1-2-3"]), PreconditionFailed);
    }

    #[test]
    fn a_star_stands_for_any_current_representation() {
        assert_eq!(put(&["If-Match: *"]), Proceed);
        assert_eq!(create(&["If-Match: *"]), PreconditionFailed);
        assert_eq!(create(&[r#"If-Match: "x""#]), PreconditionFailed);
        assert_eq!(create(&["If-None-Match: *"]), Proceed);
        assert_eq!(put(&["If-None-Match: *"]), PreconditionFailed);
        assert_eq!(get(&["If-None-Match: *"]), NotModified);
        let untagged = Validators { etag: None, last_modified: None };
        assert_eq!(evaluate(false, Some(untagged), &["If-Match: *"]), Proceed);
    }

    #[test]
    fn a_star_in_a_list_is_no_star() {
        assert_eq!(put(&[r#"If-Match: "x", *"#]), PreconditionFailed);
        assert_eq!(get(&[r#"If-None-Match: "x", *"#]), Proceed);
        assert_eq!(get(&["If-None-Match: *", "If-None-Match: *"]), NotModified);
    }

    #[test]
    fn if_none_match_compares_weakly() {
        assert_eq!(get(&[r#"If-None-Match: W/"1-2-3""#]), NotModified);
        assert_eq!(get(&[r#"If-None-Match: "x","1-2-3""#]), NotModified);
        assert_eq!(get(&[r#"If-None-Match: "1-2-3-gzip""#]), Proceed);
        assert_eq!(put(&[r#"If-None-Match: "1-2-3""#]), PreconditionFailed);
        assert_eq!(get(&["If-None-Match: 1-2-3"]), Proceed);
    }

    #[test]
    fn if_modified_since_is_for_get_and_alone() {
        let line = |date| format!("If-Modified-Since: {date}");
        assert_eq!(get(&[&line(SINCE)]), NotModified);
        assert_eq!(get(&[&line(AFTER)]), NotModified);
        assert_eq!(get(&[&line(FUTURE)]), NotModified);
        assert_eq!(get(&[&line(BEFORE)]), Proceed);
        assert_eq!(get(&[&line("yesterday")]), Proceed);
        assert_eq!(get(&[&line(SINCE), &line(SINCE)]), Proceed);
        assert_eq!(put(&[&line(SINCE)]), Proceed);
        assert_eq!(get(&[&line(SINCE), r#"If-None-Match: "x""#]), Proceed);
        assert_eq!(get(&[&line(BEFORE), r#"If-None-Match: "1-2-3""#]), NotModified);
        let undated = Validators { last_modified: None, ..file() };
        assert_eq!(evaluate(true, Some(undated), &[&line(FUTURE)]), Proceed);
    }

    #[test]
    fn if_unmodified_since_counts_without_if_match() {
        let line = |date| format!("If-Unmodified-Since: {date}");
        assert_eq!(put(&[&line(SINCE)]), Proceed);
        assert_eq!(get(&[&line(BEFORE)]), PreconditionFailed);
        assert_eq!(put(&[&line("Mon, 01 Jan 1900 00:00:00 GMT")]), PreconditionFailed);
        assert_eq!(put(&[&line("garbage")]), Proceed);
        assert_eq!(put(&[&line(BEFORE), r#"If-Match: "1-2-3""#]), Proceed);
        assert_eq!(create(&[&line(BEFORE)]), Proceed);
    }

    #[test]
    fn a_failed_precondition_comes_before_not_modified() {
        assert_eq!(get(&[r#"If-Match: "x""#, r#"If-None-Match: "1-2-3""#]), PreconditionFailed);
        assert_eq!(get(&[r#"If-Match: *"#, r#"If-None-Match: *"#]), NotModified);
        let (unmodified, modified) = (format!("If-Unmodified-Since: {SINCE}"), format!("If-Modified-Since: {SINCE}"));
        assert_eq!(get(&[&unmodified, &modified]), NotModified);
    }

    #[test]
    fn if_range_takes_strong_validators_only() {
        let holds = |value: &str| if_range_holds(value.as_bytes(), &file(), NOW);
        assert!(holds(r#""1-2-3""#));
        assert!(!holds(r#"W/"1-2-3""#));
        assert!(!holds(r#""1-2-3", "x""#));
        assert!(!holds("*"));
        assert!(!holds(""));
        assert!(holds(SINCE));
        assert!(holds("Sunday, 06-Nov-94 08:49:37 GMT"));
        assert!(!holds(BEFORE));
        assert!(!holds(AFTER));
    }

    #[test]
    fn a_last_modified_is_weak_until_its_second_is_over() {
        assert!(!if_range_holds(SINCE.as_bytes(), &file(), MODIFIED));
        assert!(if_range_holds(SINCE.as_bytes(), &file(), MODIFIED + 1));
    }

    #[test]
    fn a_range_applies_without_if_range() {
        assert!(with(&[], |conditions| conditions.range_applies(&file(), NOW)));
        let line = r#"If-Range: "1-2-3""#;
        assert!(with(&[line], |conditions| conditions.range_applies(&file(), NOW)));
        assert!(!with(&[line, line], |conditions| conditions.range_applies(&file(), NOW)));
    }
}
