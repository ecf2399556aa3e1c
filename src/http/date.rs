//! HTTP dates: read in the three forms of RFC 9110, section 5.6.7; written in the preferred form and in that of Common
//! Log Format.
//!
//! The calendar is the httpdate crate's. The caller passes the time: nothing here reads a clock.

use std::io::Write;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// `Sun, 06 Nov 1994 08:49:37 GMT`
pub const IMF_LEN: usize = 29;
/// `06/Nov/1994:08:49:37 +0000`
pub const CLF_LEN: usize = 26;

/// The last second of the year 9999. httpdate panics on later ones.
const LAST_SECOND: u64 = 253_402_300_799;
const FIFTY_YEARS: u64 = 50 * 31_556_952;
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// Reads an HTTP-date into seconds since 1970; None if it is not valid. Names of days and months are case-sensitive.
/// Dates before 1970 are valid and count as 0, older than every file we send.
///
/// The day name must be valid, but need not match the date: day, month and year determine it without the name. If such
/// a date were refused, the condition that it states would be ignored (RFC 9110, section 13.1.4), and an upload with
/// If-Unmodified-Since could replace what it must not replace. nginx, Apache and Go accept such a date too.
///
/// `now_unix` is only needed for the two-digit years of the rfc850 form.
///
/// All forms are converted to IMF-fixdate first. That excludes httpdate's leniencies (it trims any white space) and its
/// fixed pivot for two-digit years.
pub fn parse(value: &[u8], now_unix: u64) -> Option<u64> {
    // Each form has lengths of its own.
    match value.len() {
        IMF_LEN => parse_imf(value.try_into().ok()?),
        24 => parse_imf(&from_asctime(value.try_into().ok()?)?),
        30..=33 => parse_rfc850(value, now_unix),
        _ => None,
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, from year 0000 to 9999, with any day name.
fn parse_imf(form: &[u8; IMF_LEN]) -> Option<u64> {
    parse_exactly(form).or_else(|| {
        DAYS.iter().find(|day| day.as_bytes() == &form[..3])?;
        // httpdate compares the day name with the date, so all seven are tried.
        let mut form = *form;
        DAYS.iter().find_map(|day| {
            form[..3].copy_from_slice(day.as_bytes());
            parse_exactly(&form)
        })
    })
}

/// Like `parse_imf`, but the day name must match the date.
fn parse_exactly(form: &[u8; IMF_LEN]) -> Option<u64> {
    if !form[0].is_ascii_alphabetic() || !form[12..16].iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut form = *form;

    // The grammar allows a leap second, at this time of the day only. Unix time has no number for it.
    let leap_second = form[17..25] == *b"23:59:60";
    if leap_second {
        form[23..25].copy_from_slice(b"59");
    }

    // httpdate does not accept a year before 1970. The calendar, day names included, repeats after 400 years: validate
    // the date in a later year.
    let year = form[12..16].iter().fold(0, |year, digit| year * 10 + u32::from(digit - b'0'));
    let before_1970 = year < 1970;
    if before_1970 {
        let same_calendar = year + 400 * (1970 - year).div_ceil(400);
        write!(&mut form[12..16], "{same_calendar}").ok()?;
    }

    let time = httpdate::parse_http_date(str::from_utf8(&form).ok()?).ok()?;
    let unix = time.duration_since(UNIX_EPOCH).ok()?.as_secs();
    Some(if before_1970 { 0 } else { unix + u64::from(leap_second) })
}

/// `Sun Nov  6 08:49:37 1994`
fn from_asctime(value: &[u8; 24]) -> Option<[u8; IMF_LEN]> {
    if value[3] != b' ' || value[7] != b' ' || value[10] != b' ' || value[19] != b' ' {
        return None;
    }
    let mut form = *b"Ddd, 00 Mmm 0000 00:00:00 GMT";
    form[..3].copy_from_slice(&value[..3]);
    form[5..7].copy_from_slice(&value[8..10]);
    if form[5] == b' ' {
        form[5] = b'0'; // the day is padded with a space here
    }
    form[8..11].copy_from_slice(&value[4..7]);
    form[12..16].copy_from_slice(&value[20..]);
    form[17..25].copy_from_slice(&value[11..19]);
    Some(form)
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
///
/// "Recipients MUST interpret a timestamp that appears to be more than 50 years in the future as representing the most
/// recent year in the past that had the same last two digits." Within these 50 years two centuries are possible. The
/// day name decides if it matches one of them (it never matches both). Otherwise the sentence above alone decides.
fn parse_rfc850(value: &[u8], now_unix: u64) -> Option<u64> {
    const NAMES: [&[u8]; 7] = [b"Monday", b"Tuesday", b"Wednesday", b"Thursday", b"Friday", b"Saturday", b"Sunday"];

    let (day_name, rest) = value.split_at_checked(value.len().checked_sub(24)?)?;
    if !NAMES.contains(&day_name) || !rest.starts_with(b", ") || rest[4] != b'-' || rest[8] != b'-' {
        return None;
    }
    let mut form = *b"Ddd, 00 Mmm 0000 00:00:00 GMT";
    form[..3].copy_from_slice(&day_name[..3]);
    form[5..7].copy_from_slice(&rest[2..4]);
    form[8..11].copy_from_slice(&rest[5..8]);
    form[16..].copy_from_slice(&rest[11..]);

    let [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] = rest[9..11] else {
        return None;
    };
    let digits = u32::from(tens - b'0') * 10 + u32::from(ones - b'0');
    let mut now = [0; IMF_LEN];
    write_imf(now_unix, &mut now);
    let this_year = now[12..16].iter().fold(0, |year, digit| year * 10 + u32::from(digit - b'0'));
    let most_recent = this_year - (this_year + 100 - digits) % 100;
    let mut read = |parse: fn(&[u8; IMF_LEN]) -> Option<u64>| {
        [most_recent + 100, most_recent].into_iter().find_map(|year| {
            write!(&mut form[12..16], "{year}").ok()?; // fails in the year 10000
            parse(&form).filter(|&unix| unix <= now_unix.saturating_add(FIFTY_YEARS))
        })
    };
    read(parse_exactly).or_else(|| read(parse_imf))
}

/// Writes IMF-fixdate, the only form that a sender may generate. A year past 9999 is written as the last second of
/// 9999.
pub fn write_imf(unix: u64, out: &mut [u8; IMF_LEN]) {
    let time = UNIX_EPOCH + Duration::from_secs(unix.min(LAST_SECOND));
    // httpdate always writes 29 bytes, and a slice of 29 takes them.
    let written = write!(&mut out[..], "{}", httpdate::HttpDate::from(time));
    debug_assert!(written.is_ok());
}

/// Writes a time in UTC as Common Log Format has it: `06/Nov/1994:08:49:37 +0000`.
pub fn write_clf(unix: u64, out: &mut [u8; CLF_LEN]) {
    let mut imf = [0; IMF_LEN];
    write_imf(unix, &mut imf);
    *out = clf_of(&imf);
}

/// Both forms have the same parts in the same widths, so the digits are copied.
fn clf_of(imf: &[u8; IMF_LEN]) -> [u8; CLF_LEN] {
    let mut clf = *b"00/Mmm/0000:00:00:00 +0000";
    clf[..2].copy_from_slice(&imf[5..7]);
    clf[3..6].copy_from_slice(&imf[8..11]);
    clf[7..11].copy_from_slice(&imf[12..16]);
    clf[12..20].copy_from_slice(&imf[17..25]);
    clf
}

/// The time of one turn of an engine, with the two renderings that every response and log line needs.
///
/// The engine passes in the time that it has read from the clock. A thousand responses in one second render the date
/// once.
#[derive(Clone, Debug)]
pub struct Now {
    /// For deadlines.
    pub instant: Instant,
    /// For dates: seconds since 1970. Invariant: `imf` and `clf` show this second.
    pub unix: u64,
    imf: [u8; IMF_LEN],
    clf: [u8; CLF_LEN],
}

impl Now {
    pub fn new(instant: Instant, time: SystemTime) -> Now {
        let mut now = Now { instant, unix: unix_secs(time), imf: [0; IMF_LEN], clf: [0; CLF_LEN] };
        now.render();
        now
    }

    pub fn update(&mut self, instant: Instant, time: SystemTime) {
        self.instant = instant;
        let unix = unix_secs(time);
        if unix == self.unix {
            return;
        }
        self.unix = unix;
        self.render();
    }

    /// The value of a `Date` field.
    pub fn imf(&self) -> &[u8] {
        &self.imf
    }

    /// The time between the brackets of an access-log line.
    pub fn clf(&self) -> &[u8] {
        &self.clf
    }

    fn render(&mut self) {
        write_imf(self.unix, &mut self.imf);
        self.clf = clf_of(&self.imf);
    }
}

/// If the clock is set before 1970 (a machine without a clock battery), the time is 0: not a reason to stop.
fn unix_secs(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RFC_EXAMPLE: u64 = 784_111_777;
    /// 21 November 2026.
    const NOW: u64 = 1_795_248_000;

    fn at(value: &str) -> Option<u64> {
        parse(value.as_bytes(), NOW)
    }

    #[test]
    fn the_three_forms_of_the_rfc_are_one_time() {
        assert_eq!(at("Sun, 06 Nov 1994 08:49:37 GMT"), Some(RFC_EXAMPLE));
        assert_eq!(at("Sunday, 06-Nov-94 08:49:37 GMT"), Some(RFC_EXAMPLE));
        assert_eq!(at("Sun Nov  6 08:49:37 1994"), Some(RFC_EXAMPLE));
        assert_eq!(at("Wed Nov 16 08:49:37 1994"), Some(RFC_EXAMPLE + 10 * 86_400));
    }

    #[test]
    fn anything_else_is_no_date() {
        for bad in [
            "",
            "0",
            "now",
            "784111777",
            " Sun, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT ",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "  Sun Nov  6 08:49:37 1994  ",
            "     Sun Nov  6 08:49:37 1994", // 29 bytes, and httpdate would trim them
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 gmt",
            "sun, 06 nov 1994 08:49:37 GMT",
            "Nov, 06 Nov 1994 08:49:37 GMT",
            "Sux, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:60:37 GMT",
            "Sun, 06 Nov 1994 08:49:60 GMT", // no leap second at this time of day
            "Sun, 06 Nov 1994 08:49:+7 GMT",
            "Sun, 06 Nov +994 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Thu, 31 Feb 1994 08:49:37 GMT",
            "Wed, 29 Feb 2023 00:00:00 GMT",
            "Sun, 06-Nov-1994 08:49:37 GMT",
            "Sun, 06-Nov-94 08:49:37 GMT",
            "Sunday, 06 Nov 94 08:49:37 GMT",
            "Someday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov 06 08:49:37 1994 GMT",
            "Sun Nov   08:49:37 1994",
            "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(at(bad), None, "{bad:?}");
        }
        assert_eq!(parse(b"Sun, 06 Nov 1994 08:49:37 GM\xff", NOW), None);
    }

    #[test]
    fn a_day_name_that_is_not_the_dates_changes_nothing() {
        // 6 November 1994 was a Sunday.
        for (day, name) in DAYS.iter().zip(["Mon", "Tues", "Wednes", "Thurs", "Fri", "Satur", "Sun"]) {
            for date in [
                format!("{day}, 06 Nov 1994 08:49:37 GMT"),
                format!("{name}day, 06-Nov-94 08:49:37 GMT"),
                format!("{day} Nov  6 08:49:37 1994"),
            ] {
                assert_eq!(at(&date), Some(RFC_EXAMPLE), "{date}");
            }
            assert_eq!(at(&format!("{day}, 29 Feb 2023 00:00:00 GMT")), None, "no such date on any day");
        }
    }

    #[test]
    fn two_digit_years_look_back_past_fifty_years_ahead() {
        // 2076-01-01 is a Wednesday and less than 50 years away, 1976-01-01 was a Thursday.
        assert_eq!(at("Wednesday, 01-Jan-76 00:00:00 GMT"), at("Wed, 01 Jan 2076 00:00:00 GMT"));
        assert_eq!(at("Thursday, 01-Jan-76 00:00:00 GMT"), at("Thu, 01 Jan 1976 00:00:00 GMT"));
        assert_eq!(at("Thursday, 01-Jan-70 00:00:00 GMT"), Some(0));
        // 2010-01-01 was a Friday. 1910-01-01 was a Saturday, but is not the most recent such year.
        assert_eq!(at("Saturday, 01-Jan-10 00:00:00 GMT"), at("Fri, 01 Jan 2010 00:00:00 GMT"));
        // 2077-01-01 is a Friday, but too far ahead to be meant.
        assert_eq!(at("Friday, 01-Jan-77 00:00:00 GMT"), at("Sat, 01 Jan 1977 00:00:00 GMT"));
        // A Monday in neither century: 2076 is less than 50 years away.
        assert_eq!(at("Monday, 01-Jan-76 00:00:00 GMT"), at("Wed, 01 Jan 2076 00:00:00 GMT"));
        assert_eq!(at("Saturday, 01-Jan-77 00:00:00 GMT"), at("Sat, 01 Jan 1977 00:00:00 GMT"));
        // Late in a century, the next one is near: seen from 2090-01-01, `05` is 2105.
        let late = at("Sun, 01 Jan 2090 00:00:00 GMT").unwrap_or(0);
        assert_eq!(parse(b"Thursday, 01-Jan-05 00:00:00 GMT", late), at("Thu, 01 Jan 2105 00:00:00 GMT"));
    }

    #[test]
    fn dates_before_1970_are_valid_and_oldest() {
        assert_eq!(at("Wed, 31 Dec 1969 23:59:59 GMT"), Some(0));
        assert_eq!(at("Mon, 01 Jan 1900 00:00:00 GMT"), Some(0));
        assert_eq!(at("Sun, 01 Jan 1900 00:00:00 GMT"), Some(0));
        assert_eq!(at("Sat, 01 Jan 0000 00:00:00 GMT"), Some(0));
    }

    #[test]
    fn a_leap_second_is_the_next_second() {
        assert_eq!(at("Sat, 31 Dec 2016 23:59:60 GMT"), at("Sun, 01 Jan 2017 00:00:00 GMT"));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut out = [0; IMF_LEN];
        for unix in [0, 1, RFC_EXAMPLE, 951_782_400, NOW, 4_107_542_400, LAST_SECOND] {
            write_imf(unix, &mut out);
            assert_eq!(parse(&out, NOW), Some(unix), "{unix}");
        }
        write_imf(u64::MAX, &mut out);
        assert_eq!(&out, b"Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn the_log_form_is_utc() {
        let mut out = [0; CLF_LEN];
        write_clf(971_186_136, &mut out);
        assert_eq!(&out, b"10/Oct/2000:13:55:36 +0000");
    }

    #[test]
    fn now_renders_when_the_second_changes() {
        let start = Instant::now();
        let time = UNIX_EPOCH + Duration::from_secs(RFC_EXAMPLE);
        let mut now = Now::new(start, time);
        assert_eq!(now.imf(), b"Sun, 06 Nov 1994 08:49:37 GMT");
        let later = start + Duration::from_millis(999);
        now.update(later, time + Duration::from_millis(999));
        assert_eq!((now.instant, now.unix), (later, RFC_EXAMPLE));
        now.update(later, time + Duration::from_secs(1));
        assert_eq!(now.imf(), b"Sun, 06 Nov 1994 08:49:38 GMT");
        assert_eq!(now.clf(), b"06/Nov/1994:08:49:38 +0000");
        now.update(later, UNIX_EPOCH - Duration::from_secs(1));
        assert_eq!(now.unix, 0);
    }
}
